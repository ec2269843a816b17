//! Metrics in Prometheus' conventions. Labels hold no identifiers, and names only of objects that exist.

use std::{sync::Mutex, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::objects::Objects;
use crate::cloud::openstack::{CallObserver, CallOutcome};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CloudCall {
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: &'static str,
}

/// Every metric of the process.
pub struct Metrics {
    registry: Mutex<Registry>,
    cloud_calls: Family<CloudCall, Counter>,
    cloud_seconds: Histogram,
    reconciles: Family<Result, Counter>,
    reconcile_seconds: Histogram,
    leader: Gauge,
    /// Of each object.
    pub objects: Objects,
}

const SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("kafka_external_access");
        let cloud_calls = Family::default();
        let cloud_seconds = Histogram::new(SECONDS);
        let reconciles = Family::default();
        let reconcile_seconds = Histogram::new(SECONDS);
        let leader = Gauge::default();
        registry.register("cloud_calls", "Calls to the cloud by operation and outcome", cloud_calls.clone());
        let help = "Time of a call to the cloud";
        registry.register_with_unit("cloud_call_duration", help, Unit::Seconds, cloud_seconds.clone());
        registry.register("reconciles", "Reconciles by result", reconciles.clone());
        let help = "Time of a reconcile";
        registry.register_with_unit("reconcile_duration", help, Unit::Seconds, reconcile_seconds.clone());
        let objects = Objects::default();
        registry.register_collector(Box::new(objects.clone()));
        registry.register("leader", "1 while this replica may write", leader.clone());
        Self {
            registry: Mutex::new(registry),
            cloud_calls,
            cloud_seconds,
            reconciles,
            reconcile_seconds,
            leader,
            objects,
        }
    }
}

impl Metrics {
    /// A reconcile ended.
    pub fn reconciled(&self, failed: bool, took: Duration) {
        let result = if failed { "failed" } else { "ok" };
        self.reconciles.get_or_create(&Result { result }).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
        if !leads {
            self.objects.forget_all();
        }
    }

    /// The exposition text.
    pub fn text(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

impl CallObserver for Metrics {
    fn called(&self, operation: &'static str, outcome: CallOutcome, took: Duration) {
        self.cloud_calls.get_or_create(&CloudCall { operation, outcome: outcome.into() }).inc();
        self.cloud_seconds.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documents_list_every_metric_and_no_other() {
        let metrics = Metrics::default();
        metrics.reconciled(false, Duration::ZERO);
        metrics.called("list floating IPs", CallOutcome::Ok, Duration::ZERO);
        let text = metrics.text();
        let shown = text.lines().filter_map(|line| {
            let (name, kind) = line.strip_prefix("# TYPE kafka_external_access_")?.split_once(' ')?;
            Some(if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        });
        let documents = include_str!("../../docs/metrics.md");
        let rows = documents.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
        let listed =
            rows.flat_map(|(names, _)| names.split(", ").map(|name| name.trim_matches('`').to_owned()));
        assert_eq!(listed.collect::<BTreeSet<_>>(), shown.collect::<BTreeSet<_>>());
    }
}
