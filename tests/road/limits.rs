//! How much an address may carry.

use kafka_external_access::cloud::{CloudFault, simulated::Fault};
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

const NAME: &str = "kea-egress-100mbps-ingress-50mbps";

#[tokio::test]
async fn limits_in_mbit_per_s_become_one_policy_that_follows_them_and_goes_with_the_object() {
    let limit = |spec: &mut serde_json::Value| {
        spec["addresses"]["bandwidth"] = json!({"egressMbps": 100, "ingressMbps": 50});
    };
    let world = World::with_spec(3, limit).await;
    world.settle_until_ready().await;
    let writes = ["create_policy", "add_rule", "add_rule", "create", "create", "create"];
    assert_eq!(world.tap.writes(Seam::Cloud), writes);
    assert_eq!(limits(&world), [(Some(100), Some(50)); 3]);
    assert_eq!(world.status().managed_policies, [NAME]);
    let cost = world.status().cost.expect("prices are known");
    assert_eq!((cost.addresses.as_str(), cost.bandwidth.as_str()), ("8.76", "109.50"));
    assert_eq!(world.status().summary.expect("a summary").cost.as_deref(), Some("118.26 EUR"));
    world.tap.clear();
    world.edit(|spec| spec["addresses"]["bandwidth"] = json!({"egressMbps": 200}));
    world.settle_until_ready().await;
    let writes = ["create_policy", "add_rule", "update", "update", "update", "delete_policy"];
    assert_eq!(world.tap.writes(Seam::Cloud), writes);
    assert_eq!(limits(&world), [(Some(200), None); 3]);
    world.reconcile().await;
    assert_eq!(world.status().managed_policies, ["kea-egress-200mbps"]);
    world.delete();
    world.settle_until_gone().await;
    assert_eq!(world.cloud.policies(), vec![], "nothing is left over");
}

#[tokio::test]
async fn a_policy_that_was_cut_off_at_any_call_is_completed_and_not_made_twice() {
    for lost in 0..3 {
        let limit = |spec: &mut serde_json::Value| {
            spec["addresses"]["bandwidth"] = json!({"egressMbps": 100, "ingressMbps": 50});
        };
        let world = World::with_spec(1, limit).await;
        let mut faults = vec![None; lost];
        faults.push(Some(Fault::LoseReply));
        world.cloud.script(faults);
        world.settle_until_ready().await;
        let policies = world.cloud.policies();
        assert_eq!(policies.len(), 1, "call {lost}: {policies:?}");
        assert_eq!((policies[0].egress_kbps, policies[0].ingress_kbps), (Some(100_000), Some(50_000)));
    }
}

#[tokio::test]
async fn who_may_not_make_policies_is_told_whom_to_ask_for_what() {
    let world = World::with_spec(2, |spec| spec["addresses"]["bandwidth"] = json!({"egressMbps": 100})).await;
    world.cloud.permit_policies(false);
    world.reconcile().await;
    assert_eq!(world.condition("Programmed"), ("False".into(), "QosPolicyNotPermitted".into()));
    let conditions = world.status().conditions;
    let told =
        &conditions.iter().find(|condition| condition.type_ == "Programmed").expect("a condition").message;
    for word in ["administrator", "kea-egress-100mbps", "egress 100 Mbit/s", "role manager"] {
        assert!(told.contains(word), "{word} in {told}");
    }
    assert!(world.addresses().is_empty(), "no address without its limit");
    world.cloud.add_policy("kea-egress-100mbps", Some(100_000), None);
    world.settle_until_ready().await;
    assert_eq!(limits(&world), [(Some(100), None); 2]);
}

#[tokio::test]
async fn a_policy_that_somebody_else_uses_is_left() {
    let world = World::with_spec(1, |spec| spec["addresses"]["bandwidth"] = json!({"egressMbps": 100})).await;
    world.settle_until_ready().await;
    world.tap.clear();
    world.cloud.script([None, Some(Fault::Refuse(CloudFault::QosPolicyInUse("a port has it".into())))]);
    world.cloud.add_policy("other", None, None);
    world.edit(|spec| spec["addresses"]["bandwidth"] = json!({"qosPolicy": "other"}));
    world.settle_until_ready().await;
    world.reconcile().await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["update", "delete_policy"], "it is tried once");
    assert_eq!(world.status().managed_policies, Vec::<String>::new());
}
