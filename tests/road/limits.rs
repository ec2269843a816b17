//! How much an address may carry.

use kafka_external_access::cloud::CloudFault;
use serde_json::json;

use crate::{tap::Seam, world::World};

fn limits(world: &World) -> Vec<(Option<u32>, Option<u32>)> {
    let told = world.status().brokers.into_iter().filter_map(|broker| broker.bandwidth);
    told.map(|limit| (limit.limit_egress_mbps, limit.limit_ingress_mbps)).collect()
}

#[tokio::test]
async fn an_address_is_limited_by_the_call_that_allocates_it_and_changed_by_one() {
    let world =
        World::with_spec(3, |spec| spec["addresses"]["bandwidth"] = json!({"qosPolicy": "kafka-100"})).await;
    let first = world.cloud.add_policy("kafka-100", Some(100_000), Some(50_000));
    let second = world.cloud.add_policy("kafka-500", Some(500_000), None);
    world.settle_until_ready().await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["create", "create", "create"]);
    assert!(world.addresses().iter().all(|address| address.qos_policy == Some(first.clone())));
    assert_eq!(limits(&world), [(Some(100), Some(50)); 3]);
    world.tap.clear();
    world.edit(|spec| spec["brokers"] = json!([{"ordinal": 1, "bandwidth": {"qosPolicy": "kafka-500"}}]));
    let before = world.address_of(1);
    world.settle_until_ready().await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["update"]);
    let after = world.address_of(1);
    assert_eq!((after.binding, after.description), (before.binding, before.description));
    assert_eq!(after.qos_policy, Some(second));
    assert_eq!(limits(&world), [(Some(100), Some(50)), (Some(500), None), (Some(100), Some(50))]);
}

#[tokio::test]
async fn a_policy_that_does_not_exist_changes_nothing_and_is_told() {
    let world = World::ready().await;
    world.edit(|spec| spec["addresses"]["bandwidth"] = json!({"qosPolicy": "no-such"}));
    world.reconcile().await;
    assert_eq!(world.condition("Programmed"), ("False".into(), "QosPolicyNotFound".into()));
    assert_eq!(world.tap.writes(Seam::Cloud), Vec::<&str>::new());
    assert_eq!(world.brokers.advertising("EXTERNAL"), 3, "what works goes on");
    world.cloud.add_policy("no-such", None, Some(1_000));
    world.settle_until_ready().await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["update", "update", "update"]);
    world.cloud.set_down(Some(CloudFault::Unavailable("no route".into())));
    world.reconcile().await;
    assert_eq!(limits(&world), [(None, Some(1)); 3], "what was told stays told");
}
