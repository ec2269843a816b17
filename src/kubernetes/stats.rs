//! What a kubelet counts of its pods: `stats/summary`, asked for through the API server, which needs the right `get` on
//! `nodes/proxy`. Whether a pod's network is among it is up to the node's container runtime.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::Uid;

/// The pods of one node; `None`: the kubelet does not know the network of the pod.
pub type NodeStats = BTreeMap<Uid, Option<PodNetwork>>;

/// What a pod has carried over its first interface since its network was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// When the node looked.
    pub at: Timestamp,
    /// Bytes from the pod.
    pub sent: u64,
    /// Bytes towards the pod.
    pub received: u64,
}

/// The part of `k8s.io/kubelet/pkg/apis/stats/v1alpha1.Summary` that is needed.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) pods: Vec<PodStats>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodStats {
    pod_ref: PodReference,
    network: Option<NetworkStats>,
}

#[derive(Clone, Debug, Deserialize)]
struct PodReference {
    uid: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NetworkStats {
    time: Timestamp,
    rx_bytes: Option<u64>,
    tx_bytes: Option<u64>,
}

impl From<Summary> for NodeStats {
    fn from(summary: Summary) -> Self {
        let network = |stats: NetworkStats| {
            Some(PodNetwork { at: stats.time, sent: stats.tx_bytes?, received: stats.rx_bytes? })
        };
        let pod = |pod: PodStats| (Uid::new(pod.pod_ref.uid), pod.network.and_then(network));
        summary.pods.into_iter().map(pod).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_without_counters_are_told_apart_from_pods_that_are_not_there() {
        let summary = serde_json::json!({"node": {"nodeName": "n"}, "pods": [
            {"podRef": {"name": "a", "namespace": "b", "uid": "u1"}, "network": {
                "time": "2026-01-01T00:00:00Z", "name": "eth0", "rxBytes": 7, "txBytes": 8,
                "interfaces": [{"name": "eth0", "rxBytes": 7, "txBytes": 8}]}},
            {"podRef": {"name": "c", "namespace": "b", "uid": "u2"}},
            {"podRef": {"name": "d", "namespace": "b", "uid": "u3"}, "network": {"time": "2026-01-01T00:00:00Z", "name": ""}}]});
        let stats = NodeStats::from(serde_json::from_value::<Summary>(summary).expect("a summary"));
        let at = "2026-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(stats[&Uid::new("u1")], Some(PodNetwork { at, sent: 8, received: 7 }));
        assert_eq!((stats[&Uid::new("u2")], stats[&Uid::new("u3")]), (None, None));
        assert!(!stats.contains_key(&Uid::new("u4")));
    }
}
