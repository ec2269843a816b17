//! Metrics of each object, as the last reconcile left it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use strum::IntoEnumIterator;

use super::probes::{self, History};
use crate::{
    api::{BrokerState, BrokerStatus, KafkaExternalAccessStatus, Vantage, conditions::ConditionType},
    domain::{AccessKey, Ordinal},
    kafka::traffic::Traffic,
    plan::{Plan, observed::Observed, probes::judge_one, usage::Source},
};

/// What is shown; only a replica that leads knows anything.
#[derive(Clone, Debug, Default)]
pub struct Objects(Arc<Mutex<All>>);

type All = BTreeMap<AccessKey, Shown>;

#[derive(Debug, Default)]
struct Shown {
    status: KafkaExternalAccessStatus,
    restarts: usize,
    traffic: BTreeMap<Ordinal, (Source, Traffic)>,
    probes: History,
}

impl Objects {
    /// From now on this is shown for the object; `restarts` are outstanding.
    pub fn show(
        &self,
        key: &AccessKey,
        status: &KafkaExternalAccessStatus,
        restarts: usize,
        traffic: BTreeMap<Ordinal, (Source, Traffic)>,
    ) {
        let mut all = self.lock();
        let shown = all.entry(key.clone()).or_default();
        (shown.status, shown.restarts, shown.traffic) = (status.clone(), restarts, traffic);
        shown.probes.keep(&status.brokers.iter().map(|broker| Ordinal(broker.ordinal)).collect());
    }

    /// The spec cannot be served: nothing was looked at, and what was counted stays.
    pub fn rejected(&self, key: &AccessKey, status: &KafkaExternalAccessStatus) {
        let mut all = self.lock();
        let shown = all.entry(key.clone()).or_default();
        (shown.status, shown.restarts) = (status.clone(), 0);
    }

    /// Counts the probes that are new in this look.
    pub fn probed(&self, key: &AccessKey, vantage: Vantage, plan: &Plan, observed: &Observed) {
        let Some(kafka) = &observed.kafka else { return };
        let mut all = self.lock();
        for (ordinal, probe) in &kafka.probed {
            if let Some(verdict) = judge_one(plan, kafka, *ordinal, probe) {
                let history = &mut all.entry(key.clone()).or_default().probes;
                history.add(*ordinal, vantage, &probe.course, &verdict);
            }
        }
    }

    /// The object is gone.
    pub fn forget(&self, key: &AccessKey) {
        self.lock().remove(key);
    }

    /// Another replica leads.
    pub fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    fn is(&self, condition: ConditionType) -> Option<i64> {
        let found = self.status.condition(condition)?;
        Some(i64::from(found.status == "True"))
    }
}

fn reachable(broker: &BrokerStatus) -> Option<i64> {
    match broker.health.as_ref()?.reachable.as_str() {
        "True" => Some(1),
        "False" => Some(0),
        _ => None,
    }
}

impl Collector for Objects {
    /// All of one moment.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shown = self.lock();
        encode_conditions(&mut encoder, &shown)?;
        encode_reasons(&mut encoder, &shown)?;
        encode_states(&mut encoder, &shown)?;
        encode_restarts(&mut encoder, &shown)?;
        encode_reachability(&mut encoder, &shown)?;
        for (source, prefix, whose) in [
            (Source::Metrics, "broker", "the broker's listener, by its own counter"),
            (Source::PodEgress, "pod", "the broker's pod, by the kubelet's counter"),
        ] {
            let sent = (&*format!("{prefix}_sent"), &*format!("Sent by {whose}"));
            encode_counter(&mut encoder, &shown, source, sent, |traffic| traffic.sent)?;
            let received = (&*format!("{prefix}_received"), &*format!("Received by {whose}"));
            encode_counter(&mut encoder, &shown, source, received, |traffic| traffic.received)?;
        }
        encode_certificates(&mut encoder, &shown)?;
        encode_limits(&mut encoder, &shown)?;
        probes::encode(&mut encoder, shown.iter().map(|(key, object)| (key, &object.probes)))?;
        encode_costs(&mut encoder, &shown)
    }
}

/// The labels that say which object, and one more.
fn labels<'a>(key: &'a AccessKey, name: &'a str, value: &'a str) -> [(&'a str, &'a str); 3] {
    [("namespace", &key.namespace), ("name", &key.name), (name, value)]
}

fn encode_conditions(encoder: &mut DescriptorEncoder<'_>, shown: &All) -> Result<(), fmt::Error> {
    let help = "1 when the condition Ready of the object is True";
    let mut ready = encoder.encode_descriptor("object_ready", help, None, MetricType::Gauge)?;
    for (key, object) in shown {
        let Some(value) = object.is(ConditionType::Ready) else { continue };
        let labels = [("namespace", &key.namespace), ("name", &key.name)];
        ConstGauge::new(value).encode(ready.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_reasons(encoder: &mut DescriptorEncoder<'_>, shown: &All) -> Result<(), fmt::Error> {
    let help = "1 for the reason of the condition Ready of the object";
    let mut reasons = encoder.encode_descriptor("object_reason", help, None, MetricType::Gauge)?;
    for (key, object) in shown {
        let Some(ready) = object.status.condition(ConditionType::Ready) else { continue };
        let labels = labels(key, "reason", &ready.reason);
        ConstGauge::new(1_i64).encode(reasons.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_states(encoder: &mut DescriptorEncoder<'_>, shown: &All) -> Result<(), fmt::Error> {
    let help = "Brokers of the object, and addresses that wait for theirs, by state";
    let mut brokers = encoder.encode_descriptor("brokers", help, None, MetricType::Gauge)?;
    for (key, object) in shown {
        for state in BrokerState::iter() {
            let count = object.status.brokers.iter().filter(|broker| broker.state == state).count();
            let word: &'static str = state.into();
            let labels = labels(key, "state", word);
            ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
                .encode(brokers.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_restarts(encoder: &mut DescriptorEncoder<'_>, shown: &All) -> Result<(), fmt::Error> {
    let help = "Brokers that restart before nothing is outstanding any more";
    let mut restarts = encoder.encode_descriptor("restarts_outstanding", help, None, MetricType::Gauge)?;
    for (key, object) in shown {
        let labels = [("namespace", &key.namespace), ("name", &key.name)];
        let count = i64::try_from(object.restarts).unwrap_or(i64::MAX);
        ConstGauge::new(count).encode(restarts.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_reachability(encoder: &mut DescriptorEncoder<'_>, shown: &All) -> Result<(), fmt::Error> {
    let help = "1 when the broker is reached through its address, 0 when it is not; none: not known";
    let mut reached = encoder.encode_descriptor("broker_reachable", help, None, MetricType::Gauge)?;
    for (key, object) in shown {
        for broker in &object.status.brokers {
            let Some(value) = reachable(broker) else { continue };
            let ordinal = broker.ordinal.to_string();
            let labels = labels(key, "broker", &ordinal);
            ConstGauge::new(value).encode(reached.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_certificates(encoder: &mut DescriptorEncoder<'_>, shown: &All) -> Result<(), fmt::Error> {
    let help = "When the first certificate ends that the broker's listener shows, since 1970";
    let (name, unit) = ("broker_certificate_expiration_timestamp", Some(&Unit::Seconds));
    let mut ends = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (key, object) in shown {
        for broker in &object.status.brokers {
            let told = broker.health.as_ref().and_then(|health| health.certificate_ends.as_deref());
            let Some(at) = told.and_then(|text| text.parse::<Timestamp>().ok()) else { continue };
            let ordinal = broker.ordinal.to_string();
            let labels = labels(key, "broker", &ordinal);
            ConstGauge::new(at.as_second()).encode(ends.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_counter(
    encoder: &mut DescriptorEncoder<'_>,
    shown: &All,
    source: Source,
    (metric, help): (&str, &str),
    of: fn(&Traffic) -> u64,
) -> Result<(), fmt::Error> {
    let mut bytes = encoder.encode_descriptor(metric, help, Some(&Unit::Bytes), MetricType::Counter)?;
    for (key, object) in shown {
        let counted = object.traffic.iter().filter(|(_, (of, _))| *of == source);
        for (ordinal, (_, traffic)) in counted {
            let ordinal = ordinal.to_string();
            let labels = labels(key, "broker", &ordinal);
            ConstCounter::new(of(traffic)).encode(bytes.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_limits(encoder: &mut DescriptorEncoder<'_>, shown: &All) -> Result<(), fmt::Error> {
    let help = "What the broker's address may carry in a second";
    let mut limit = encoder.encode_descriptor("broker_limit_bits", help, None, MetricType::Gauge)?;
    for (key, object) in shown {
        for broker in &object.status.brokers {
            let Some(told) = &broker.bandwidth else { continue };
            let ordinal = broker.ordinal.to_string();
            for (direction, mbps) in
                [("egress", told.limit_egress_mbps), ("ingress", told.limit_ingress_mbps)]
            {
                let Some(mbps) = mbps else { continue };
                let [namespace, name, broker] = labels(key, "broker", &ordinal);
                let labels = [namespace, name, broker, ("direction", direction)];
                ConstGauge::new(i64::from(mbps) * 1_000_000).encode(limit.encode_family(&labels)?)?;
            }
        }
    }
    Ok(())
}

fn encode_costs(encoder: &mut DescriptorEncoder<'_>, shown: &All) -> Result<(), fmt::Error> {
    let help = "Estimate of what the object's addresses cost in a month";
    let mut cost = encoder.encode_descriptor("cost_per_month", help, None, MetricType::Gauge)?;
    for (key, object) in shown {
        let Some(told) = &object.status.cost else { continue };
        let Ok(amount) = told.per_month.parse::<f64>() else { continue };
        let labels = labels(key, "currency", &told.currency);
        ConstGauge::new(amount).encode(cost.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text::encode, registry::Registry};
    use serde_json::json;

    use super::*;

    fn text(objects: &Objects) -> String {
        let mut registry = Registry::with_prefix("kafka_external_access");
        registry.register_collector(Box::new(objects.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        text
    }

    #[test]
    fn what_is_known_of_an_object_is_shown_until_it_is_gone() {
        let objects = Objects::default();
        let key: AccessKey = "ydata/kafka".parse().expect("a key");
        let status = serde_json::from_value(json!({
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "cost": {"currency": "EUR", "perMonth": "118.26", "addresses": "", "bandwidth": "", "traffic": ""},
            "brokers": [{
                "ordinal": 1, "state": "Ready", "bandwidth": {"limitEgressMbps": 100},
                "health": {"reachable": "False", "from": "here", "certificateEnds": "1970-01-02T00:00:00Z", "lastTransitionTime": ""},
            }],
        }))
        .expect("a status");
        let counted = [
            (Ordinal(1), (Source::Metrics, Traffic { sent: 7, received: 8 })),
            (Ordinal(2), (Source::PodEgress, Traffic { sent: 9, received: 10 })),
        ];
        objects.show(&key, &status, 2, counted.into());
        let shown = text(&objects);
        for line in [
            r#"kafka_external_access_object_ready{namespace="ydata",name="kafka"} 1"#,
            r#"kafka_external_access_object_reason{namespace="ydata",name="kafka",reason="Ready"} 1"#,
            r#"kafka_external_access_brokers{namespace="ydata",name="kafka",state="Ready"} 1"#,
            r#"kafka_external_access_brokers{namespace="ydata",name="kafka",state="Waiting"} 0"#,
            r#"kafka_external_access_restarts_outstanding{namespace="ydata",name="kafka"} 2"#,
            r#"kafka_external_access_broker_reachable{namespace="ydata",name="kafka",broker="1"} 0"#,
            r#"kafka_external_access_broker_certificate_expiration_timestamp_seconds{namespace="ydata",name="kafka",broker="1"} 86400"#,
            r#"kafka_external_access_broker_sent_bytes_total{namespace="ydata",name="kafka",broker="1"} 7"#,
            r#"kafka_external_access_broker_received_bytes_total{namespace="ydata",name="kafka",broker="1"} 8"#,
            r#"kafka_external_access_pod_sent_bytes_total{namespace="ydata",name="kafka",broker="2"} 9"#,
            r#"kafka_external_access_broker_limit_bits{namespace="ydata",name="kafka",broker="1",direction="egress"} 100000000"#,
            r#"kafka_external_access_cost_per_month{namespace="ydata",name="kafka",currency="EUR"} 118.26"#,
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
        }
        objects.forget(&key);
        assert!(!text(&objects).contains("ydata"));
    }
}
