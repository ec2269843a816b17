//! The use of bandwidth, from the brokers' counters to the status.

use std::time::Duration;

use kafka_external_access::{kubernetes::stats::PodNetwork, seams::Clock};
use serde_json::json;

use crate::{tap::Seam, world::World};

const MINUTE: Duration = Duration::from_secs(60);

/// Five minutes at so many Mbit/s from broker 0; the other brokers carry nothing. Writes of the status.
async fn five_minutes(world: &World, sent: &mut u64, mbps: u64) -> usize {
    let before = world.tap.writes(Seam::Kubernetes).len();
    for _ in 0..5 {
        *sent += mbps * 60 * 125_000;
        world.brokers.carried(0, *sent, 0);
        world.brokers.carried(1, 0, 0);
        world.brokers.carried(2, 0, 0);
        world.reconcile().await;
        world.clock.pass(MINUTE);
    }
    world.tap.writes(Seam::Kubernetes).len() - before
}

#[tokio::test]
async fn the_use_of_bandwidth_is_told_in_steps_and_written_when_the_step_moves() {
    let world = World::with_spec(3, |spec| spec["metrics"] = json!({"port": 9404})).await;
    world.settle_until_ready().await;
    let mut sent = 0;
    five_minutes(&world, &mut sent, 48).await;
    let status = world.status();
    let used = status.brokers[0].bandwidth.clone().expect("told");
    assert_eq!((used.egress_mbps, used.ingress_mbps), (Some(50), Some(0)));
    assert_eq!(used.source.as_deref(), Some("metrics"));
    assert_eq!(used.window.as_deref(), Some("5m"));
    assert_eq!(status.summary.expect("a summary").egress.as_deref(), Some("50 Mbit/s"));
    assert_eq!(five_minutes(&world, &mut sent, 47).await, 0, "the same step is not written again");
    assert!(five_minutes(&world, &mut sent, 400).await <= 1, "a step moves once in five minutes");
}

#[tokio::test]
async fn counters_that_cannot_be_read_are_told_once_and_hold_nothing_up() {
    let world = World::with_spec(3, |spec| spec["metrics"] = json!({"port": 9404})).await;
    world.settle_until_ready().await;
    world.assert_ready();
    for _ in 0..3 {
        world.clock.pass(MINUTE);
        world.reconcile().await;
    }
    let told: Vec<String> = world
        .events()
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some("MetricsUnreadable"))
        .filter_map(|event| event.note)
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("kafka-0") && told[0].contains("does not answer"), "{told:?}");
    assert!(world.status().brokers.iter().all(|broker| broker.bandwidth.is_none()));
}

#[tokio::test]
async fn the_counters_are_read_once_a_minute_however_often_something_happens() {
    let world = World::with_spec(3, |spec| spec["metrics"] = json!({"port": 9404})).await;
    world.settle_until_ready().await;
    world.clock.pass(MINUTE);
    let before = world.tap.count(Seam::Kafka, "traffic");
    for _ in 0..10 {
        world.reconcile().await;
    }
    assert_eq!(world.tap.count(Seam::Kafka, "traffic") - before, 3, "once for each broker");
}

async fn by_kubelet() -> World {
    let world = World::with_spec(3, |spec| spec["metrics"] = json!({"source": "Kubelet"})).await;
    world.settle_until_ready().await;
    world
}

fn told(world: &World) -> Vec<String> {
    let unreadable = world.events().into_iter().filter(|e| e.reason.as_deref() == Some("MetricsUnreadable"));
    unreadable.filter_map(|event| event.note).collect()
}

#[tokio::test]
async fn a_kubelet_is_asked_once_a_minute_for_all_brokers_of_its_node() {
    let world = by_kubelet().await;
    world.clock.pass(MINUTE);
    let mut sent = 0;
    let before = world.tap.count(Seam::Kubernetes, "node_stats");
    for _ in 0..5 {
        sent += 48 * 60 * 125_000;
        for ordinal in 0..3 {
            let network = PodNetwork { at: world.clock.now(), sent, received: 0 };
            world.kubernetes.put_stats("node-1", &format!("kafka-{ordinal}"), Some(network));
        }
        for _ in 0..3 {
            world.reconcile().await;
        }
        world.clock.pass(MINUTE);
    }
    assert_eq!(world.tap.count(Seam::Kubernetes, "node_stats") - before, 5, "three brokers, one node");
    let status = world.status();
    let used = status.brokers[1].bandwidth.clone().expect("told");
    assert_eq!((used.egress_mbps, used.ingress_mbps), (Some(50), Some(0)));
    assert_eq!((used.source.as_deref(), used.near_limit), (Some("podEgress"), None));
    assert_eq!(status.summary.expect("a summary").egress.as_deref(), Some("150 Mbit/s (pods)"));
    assert_eq!(
        status.cost.expect("a cost").traffic,
        "0.00",
        "what brokers copy from each other is not paid for"
    );
}

#[tokio::test]
async fn a_right_that_is_missing_and_counters_that_are_missing_are_told_in_a_sentence() {
    let world = by_kubelet().await;
    let first = told(&world);
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(
        first[0].contains("node-1") && first[0].contains("grant the operator the verb get on nodes/proxy"),
        "{first:?}"
    );
    for ordinal in 0..3 {
        world.kubernetes.put_stats("node-1", &format!("kafka-{ordinal}"), None);
    }
    world.clock.pass(MINUTE);
    world.reconcile().await;
    let second = told(&world);
    assert_eq!(second.len(), 2, "{second:?}");
    assert!(second[1].contains("its container runtime does not report them"), "{second:?}");
    world.assert_ready();
}
