//! The brokers' byte counters, read when it is time and not more often.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::PoisonError,
};

use futures::future::join_all;

use super::Observer;
use crate::{
    domain::Ordinal,
    kafka::traffic::Meter,
    plan::{
        desired::Desired,
        observed::{Metering, PodView},
        usage::Sample,
    },
};

impl Observer {
    /// Reads the counters of all brokers, where the spec says how and the last time is long enough ago.
    pub(super) async fn meter(&self, desired: &Desired, pods: &BTreeMap<Ordinal, PodView>) -> Metering {
        let interval = self.settings.metrics;
        let Some(endpoint) = &desired.metrics else { return Metering::default() };
        if !self.is_time(desired) {
            return Metering { interval, readings: BTreeMap::new() };
        }
        let listener =
            desired.listener.as_ref().map_or(&desired.internal_listener, |listener| &listener.name);
        let reachable = pods.iter().filter(|(_, pod)| !pod.terminating);
        let readings = reachable.filter_map(|(ordinal, pod)| {
            let meter = Meter {
                at: SocketAddr::new(IpAddr::V4(pod.ip?), endpoint.port),
                path: endpoint.path.clone(),
                sent: endpoint.sent_bytes.clone(),
                received: endpoint.received_bytes.clone(),
                listener: listener.clone(),
            };
            Some(async move {
                let traffic = self.brokers.traffic(&meter).await;
                let sample =
                    |traffic| Sample { at: self.clock.steady(), pod: pod.identity.uid.clone(), traffic };
                (*ordinal, traffic.map(sample))
            })
        });
        Metering { interval, readings: join_all(readings).await.into_iter().collect() }
    }

    fn is_time(&self, desired: &Desired) -> bool {
        let now = self.clock.monotonic();
        let mut metered = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
        let due =
            metered.get(&desired.key).is_none_or(|last| now.saturating_sub(*last) >= self.settings.metrics);
        if due {
            metered.insert(desired.key.clone(), now);
        }
        due
    }
}
