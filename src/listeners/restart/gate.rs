//! Which broker may restart now: one at a time, and none while that could cost a record or a partition. Pure.
//!
//! | the cluster | then |
//! |---|---|
//! | no broker needs a restart | done |
//! | a broker does not answer, or one does not find another in its table | blocked: Ready is not registered |
//! | a partition is not fully in sync | blocked: the one that restarted last has not caught up, or another one is ill |
//! | a partition of the broker needs all its replicas (replicas <= min.insync.replicas) | blocked, unless `allowUnavailable` |
//! | the broker votes, and without it fewer than a majority of caught-up voters is left | blocked, unless `allowUnavailable` |
//! | otherwise | the highest ordinal restarts (as a StatefulSet does), the active controller last |
//!
//! Where one broker is blocked, another may go first. What it asks, it asks over the internal listener: through an
//! external one, brokers that do not have it yet look as if they were down.

use std::collections::BTreeMap;

use crate::{
    domain::{NodeId, Ordinal},
    kafka::{BrokerView, ClusterState, Partition},
};

/// One broker of the StatefulSet.
#[derive(Clone, Copy, Debug)]
pub struct Broker<'a> {
    /// What it says; an error: why it says nothing.
    pub view: Result<&'a BrokerView, &'a str>,
    /// It must restart to become as it should be.
    pub due: bool,
}

/// What may happen now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nobody needs a restart.
    Done,
    /// This broker may restart.
    Restart(Ordinal),
    /// Nobody may, and why.
    Blocked(String),
}

/// Decides from one look at all brokers and at the cluster.
pub fn next(
    brokers: &BTreeMap<Ordinal, Broker<'_>>,
    cluster: &ClusterState,
    allow_unavailable: bool,
) -> Next {
    if brokers.values().all(|broker| !broker.due) {
        return Next::Done;
    }
    if let Some(cause) = somebody_is_missing(brokers).or_else(|| somebody_lags(cluster)) {
        return Next::Blocked(cause);
    }
    let active = active_controller(cluster);
    let mut due: Vec<(Ordinal, NodeId)> = brokers
        .iter()
        .filter(|(_, broker)| broker.due)
        .filter_map(|(ordinal, broker)| Some((*ordinal, broker.view.ok()?.node)))
        .collect();
    due.sort_by_key(|(ordinal, node)| (Some(*node) == active, std::cmp::Reverse(*ordinal)));
    let mut blocked = None;
    for (ordinal, node) in due {
        match unavailable_without(node, cluster).filter(|_| !allow_unavailable) {
            None => return Next::Restart(ordinal),
            Some(cause) => blocked = blocked.or(Some(cause)),
        }
    }
    blocked.map_or(Next::Done, Next::Blocked)
}

fn active_controller(cluster: &ClusterState) -> Option<NodeId> {
    match &cluster.quorum {
        // In KRaft mode Metadata names any broker as the controller.
        Some(quorum) => Some(quorum.leader),
        None => cluster.controller,
    }
}

fn somebody_is_missing(brokers: &BTreeMap<Ordinal, Broker<'_>>) -> Option<String> {
    for (ordinal, broker) in brokers {
        if let Err(why) = broker.view {
            return Some(format!("broker {ordinal} does not answer: {why}"));
        }
    }
    let views = || brokers.values().filter_map(|broker| broker.view.ok());
    for view in views() {
        if let Some(other) = views().find(|other| !view.advertised.contains_key(&other.node)) {
            return Some(format!("broker {} is not registered, broker {} says", other.node, view.node));
        }
    }
    None
}

fn somebody_lags(cluster: &ClusterState) -> Option<String> {
    let behind = |partition: &&Partition| {
        partition.replicas.iter().any(|replica| !partition.in_sync.contains(replica))
    };
    let partition = cluster.partitions.iter().find(behind)?;
    let (topic, number) = (&partition.topic, partition.number);
    let behind = partition.replicas.iter().find(|replica| !partition.in_sync.contains(replica))?;
    Some(format!("{topic}-{number} is under-replicated: broker {behind} is not in sync"))
}

fn unavailable_without(node: NodeId, cluster: &ClusterState) -> Option<String> {
    let needs_all = |partition: &&Partition| {
        partition.replicas.contains(&node)
            && u32::try_from(partition.replicas.len()).unwrap_or(u32::MAX) <= partition.min_in_sync
    };
    if let Some(partition) = cluster.partitions.iter().find(needs_all) {
        return Some(format!(
            "{}-{} has {} replicas and needs {} in sync, so it takes no records while broker {node} restarts; add replicas, lower min.insync.replicas, or set listener.allowUnavailable",
            partition.topic,
            partition.number,
            partition.replicas.len(),
            partition.min_in_sync
        ));
    }
    let quorum = cluster.quorum.as_ref().filter(|quorum| quorum.voters.contains_key(&node))?;
    let left = quorum.voters.iter().filter(|(voter, caught_up)| **voter != node && **caught_up).count();
    let majority = quorum.voters.len() / 2 + 1;
    (left < majority).then(|| {
        format!(
            "without broker {node} {left} of {} controllers are caught up, and {majority} are needed",
            quorum.voters.len()
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::Endpoint,
        kafka::{MetadataMode, Quorum},
    };

    fn view(node: i32, table: &[i32]) -> BrokerView {
        let endpoint = |node: &i32| (NodeId(*node), Endpoint { host: format!("b{node}"), port: 9092 });
        BrokerView {
            node: NodeId(node),
            cluster: "c".to_owned(),
            advertised: table.iter().map(endpoint).collect(),
            settings: BTreeMap::new(),
            mode: MetadataMode::KRaft,
        }
    }

    fn partition(replicas: &[i32], in_sync: &[i32], min_in_sync: u32) -> Partition {
        let nodes = |of: &[i32]| of.iter().copied().map(NodeId).collect();
        Partition {
            topic: "orders".to_owned(),
            number: 3,
            replicas: nodes(replicas),
            in_sync: nodes(in_sync),
            min_in_sync,
        }
    }

    fn three(due: [bool; 3], cluster: &ClusterState, allow: bool) -> Next {
        let views = [0, 1, 2].map(|node| view(node + 100, &[100, 101, 102]));
        let broker = |at: usize| Broker { view: Ok(&views[at]), due: due[at] };
        let brokers = (0..3).map(|at| (Ordinal(u32::try_from(at).unwrap_or_default()), broker(at))).collect();
        next(&brokers, cluster, allow)
    }

    fn healthy() -> ClusterState {
        let quorum =
            Quorum { leader: NodeId(102), voters: [100, 101, 102].map(|id| (NodeId(id), true)).into() };
        ClusterState {
            partitions: vec![partition(&[100, 101, 102], &[102, 100, 101], 2)],
            controller: Some(NodeId(100)),
            quorum: Some(quorum),
        }
    }

    fn cause(next: Next) -> String {
        match next {
            Next::Blocked(cause) => cause,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_highest_goes_first_and_the_active_controller_last() {
        assert_eq!(three([true; 3], &healthy(), false), Next::Restart(Ordinal(1)));
        assert_eq!(three([true, false, true], &healthy(), false), Next::Restart(Ordinal(0)));
        assert_eq!(three([false, false, true], &healthy(), false), Next::Restart(Ordinal(2)));
        assert_eq!(three([false; 3], &healthy(), false), Next::Done);
        let zookeeper = ClusterState { quorum: None, ..healthy() };
        assert_eq!(three([true, false, true], &zookeeper, false), Next::Restart(Ordinal(2)));
        assert_eq!(three([true, false, false], &zookeeper, false), Next::Restart(Ordinal(0)));
    }

    #[test]
    fn a_partition_that_needs_all_its_replicas_blocks_its_brokers_only() {
        let tight = ClusterState { partitions: vec![partition(&[101, 102], &[101, 102], 2)], ..healthy() };
        assert_eq!(three([true; 3], &tight, false), Next::Restart(Ordinal(0)), "another one goes first");
        assert!(cause(three([false, true, true], &tight, false)).starts_with("orders-3 has 2 replicas"));
        assert_eq!(three([false, true, true], &tight, true), Next::Restart(Ordinal(1)));
    }

    #[test]
    fn a_partition_behind_blocks_everybody_whatever_is_allowed() {
        let behind = ClusterState { partitions: vec![partition(&[100, 101], &[100], 1)], ..healthy() };
        for allow in [false, true] {
            let told = cause(three([false, false, true], &behind, allow));
            assert_eq!(told, "orders-3 is under-replicated: broker 101 is not in sync");
        }
    }

    #[test]
    fn a_majority_of_the_controllers_stays() {
        let mut weak = healthy();
        weak.quorum = Some(Quorum {
            leader: NodeId(102),
            voters: [(NodeId(100), true), (NodeId(101), false), (NodeId(102), true)].into(),
        });
        assert!(cause(three([true, false, true], &weak, false)).contains("1 of 3 controllers are caught up"));
        assert_eq!(
            three([false, true, false], &weak, false),
            Next::Restart(Ordinal(1)),
            "the one that lags may"
        );
        let elsewhere = ClusterState {
            quorum: Some(Quorum { leader: NodeId(7), voters: [(NodeId(7), true)].into() }),
            ..healthy()
        };
        assert_eq!(three([true, false, false], &elsewhere, false), Next::Restart(Ordinal(0)));
    }

    #[test]
    fn a_broker_that_is_ready_and_not_registered_blocks() {
        let views = [view(0, &[0, 1]), view(1, &[0])];
        let broker = |at: usize| Broker { view: Ok(&views[at]), due: true };
        let brokers = [(Ordinal(0), broker(0)), (Ordinal(1), broker(1))].into();
        let told = cause(next(&brokers, &ClusterState::default(), true));
        assert_eq!(told, "broker 1 is not registered, broker 1 says");
        let down =
            [(Ordinal(0), Broker { view: Err("connection refused"), due: false }), (Ordinal(1), broker(1))];
        let told = cause(next(&down.into(), &ClusterState::default(), true));
        assert_eq!(told, "broker 0 does not answer: connection refused");
    }

    proptest! {
        /// Whatever the cluster looks like: who restarts leaves every partition above its minimum, and the quorum a majority.
        #[test]
        fn nothing_becomes_unavailable_by_a_restart(
            due in any::<[bool; 3]>(),
            replicas in proptest::collection::vec((1_usize..=3, 0_usize..3, 0_u32..4, any::<bool>()), 0..6),
            caught_up in any::<[bool; 3]>(),
            leader in 0_i32..3,
        ) {
            let partitions: Vec<Partition> = replicas.iter().map(|(count, first, min, lags)| {
                let nodes: Vec<i32> = (0..*count).map(|at| 100 + i32::try_from((first + at) % 3).unwrap_or_default()).collect();
                let in_sync = if *lags { &nodes[..nodes.len() - 1] } else { &nodes[..] };
                partition(&nodes, in_sync, *min)
            }).collect();
            let voters = (0..3).map(|at| (NodeId(100 + at), caught_up[usize::try_from(at).unwrap_or_default()])).collect();
            let cluster = ClusterState { partitions, controller: None, quorum: Some(Quorum { leader: NodeId(100 + leader), voters }) };
            if let Next::Restart(ordinal) = three(due, &cluster, false) {
                prop_assert!(due[usize::try_from(ordinal.0).unwrap_or_default()]);
                let node = NodeId(100 + i32::try_from(ordinal.0).unwrap_or_default());
                for partition in &cluster.partitions {
                    let left = partition.in_sync.iter().filter(|replica| **replica != node).count();
                    let touched = partition.replicas.contains(&node);
                    prop_assert!(!touched || left >= usize::try_from(partition.min_in_sync).unwrap_or_default());
                    prop_assert!(!touched || left >= 1 || partition.min_in_sync == 0);
                }
                let left = (0..3).filter(|at| NodeId(100 + at) != node && caught_up[usize::try_from(*at).unwrap_or_default()]).count();
                prop_assert!(left >= 2);
            }
        }
    }
}
