//! The brokers' byte counters, read when it is time and not more often.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;

use super::Observer;
use crate::{
    domain::Ordinal,
    kafka::traffic::{Meter, Traffic, TrafficError},
    kubernetes::{KubernetesError, KubernetesFault, stats::NodeStats},
    plan::{
        desired::{Desired, MetricsEndpoint, WantedMetrics},
        observed::{Metering, PodView},
        usage::{Sample, Source},
    },
};

type Readings = BTreeMap<Ordinal, Result<Sample, TrafficError>>;

/// When a kubelet was asked (monotonic), and what it said.
type Asked = Option<(Duration, Result<Arc<NodeStats>, KubernetesError>)>;

/// The last reading of each node's kubelet, for the brokers of all objects.
#[derive(Default)]
pub struct Kubelets(Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<Asked>>>>);

impl Kubelets {
    fn of(&self, node: &str) -> Arc<tokio::sync::Mutex<Asked>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(node.to_owned()).or_default().clone()
    }

    /// Forgets nodes that nobody has asked about since then.
    fn forget_before(&self, then: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = |asked: &Asked| asked.as_ref().is_some_and(|(at, _)| *at < then);
        // One that is locked is being asked.
        all.retain(|_, kubelet| kubelet.try_lock().map_or(true, |asked| !old(&asked)));
    }
}

impl Observer {
    /// Reads the counters of all brokers, where the spec says how and the last time is long enough ago.
    pub(super) async fn meter(&self, desired: &Desired, pods: &BTreeMap<Ordinal, PodView>) -> Metering {
        let interval = self.settings.metrics;
        let Some(metrics) = &desired.metrics else { return Metering::default() };
        let due_in = self.metering_due_in(desired);
        if !due_in.is_zero() {
            return Metering { interval, due_in, readings: BTreeMap::new() };
        }
        let readings = match metrics {
            WantedMetrics::Endpoint(endpoint) => self.by_endpoints(desired, endpoint, pods).await,
            WantedMetrics::Kubelet => self.by_kubelets(pods).await,
        };
        Metering { interval, due_in: interval, readings }
    }

    async fn by_endpoints(
        &self,
        desired: &Desired,
        endpoint: &MetricsEndpoint,
        pods: &BTreeMap<Ordinal, PodView>,
    ) -> Readings {
        let listener =
            desired.listener.as_ref().map_or(&desired.internal_listener, |listener| &listener.name);
        let running = pods.iter().filter(|(_, pod)| !pod.terminating);
        let readings = running.filter_map(|(ordinal, pod)| {
            let meter = Meter {
                at: SocketAddr::new(IpAddr::V4(pod.ip?), endpoint.port),
                path: endpoint.path.clone(),
                sent: endpoint.sent.clone(),
                received: endpoint.received.clone(),
                listener: listener.clone(),
            };
            Some(async move {
                let traffic = self.brokers.traffic(&meter).await;
                let sample = |traffic| Sample {
                    at: self.clock.steady(),
                    pod: pod.identity.uid.clone(),
                    traffic,
                    source: Source::Metrics,
                };
                (*ordinal, traffic.map(sample))
            })
        });
        join_all(readings).await.into_iter().collect()
    }

    async fn by_kubelets(&self, pods: &BTreeMap<Ordinal, PodView>) -> Readings {
        self.kubelets.forget_before(self.clock.monotonic().saturating_sub(self.settings.metrics * 10));
        let running = pods.iter().filter(|(_, pod)| !pod.terminating);
        let readings = running.filter_map(|(ordinal, pod)| {
            let node = pod.node.as_deref()?;
            Some(async move {
                let stats = self.node_stats(node).await;
                (
                    *ordinal,
                    stats.map_err(|error| unread(node, error)).and_then(|stats| sample(node, pod, &stats)),
                )
            })
        });
        join_all(readings).await.into_iter().collect()
    }

    /// One reading an interval and node; who needs it while another one reads waits for that reading.
    async fn node_stats(&self, node: &str) -> Result<Arc<NodeStats>, KubernetesError> {
        let kubelet = self.kubelets.of(node);
        let mut asked = kubelet.lock().await;
        let now = self.clock.monotonic();
        // A little less: objects take their turns a moment earlier or later.
        let fresh = self.settings.metrics.mul_f64(0.9);
        if let Some((_, stats)) = asked.as_ref().filter(|(at, _)| now.saturating_sub(*at) < fresh) {
            return stats.clone();
        }
        let stats = self.kubernetes.node_stats(node).await.map(Arc::new);
        *asked = Some((now, stats.clone()));
        stats
    }

    fn metering_due_in(&self, desired: &Desired) -> Duration {
        let now = self.clock.monotonic();
        let mut metered = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
        let due = metered.get(&desired.key).map_or(now, |last| *last + self.settings.metrics);
        if due <= now {
            metered.insert(desired.key.clone(), now);
        }
        due.saturating_sub(now)
    }
}

fn unread(node: &str, error: KubernetesError) -> TrafficError {
    let reason = match error.fault {
        KubernetesFault::Forbidden(text) => {
            format!(
                "{text}; grant the operator the verb get on nodes/proxy, or set metrics.source to Endpoint"
            )
        }
        fault => fault.to_string(),
    };
    TrafficError::Kubelet { node: node.to_owned(), reason }
}

/// A pod that the kubelet does not know yet is one that it does not count yet.
fn sample(node: &str, pod: &PodView, stats: &NodeStats) -> Result<Sample, TrafficError> {
    let uid = &pod.identity.uid;
    let counted = stats.get(uid).copied().flatten();
    let network = counted.ok_or_else(|| TrafficError::NotCounted { node: node.to_owned() })?;
    let traffic = Traffic { sent: network.sent, received: network.received };
    Ok(Sample { at: network.at, pod: uid.clone(), traffic, source: Source::PodEgress })
}
