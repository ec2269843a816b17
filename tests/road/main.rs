//! The whole road in process: observe, plan, act and report against a simulated Kubernetes, cloud and Kafka.

mod adoption;
mod brokers;
mod confirmed;
mod kubernetes;
mod leadership;
mod limits;
mod log;
mod probes;
mod tap;
mod tenants;
mod traces;
mod usage;
mod vantage;
mod world;

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kafka_external_access::{
    api::BrokerState,
    cloud::{CloudFault, simulated::Fault},
    domain::Marker,
};
use serde_json::json;
use tap::{Cut, Seam};
use world::{DRIFT, World};

#[tokio::test]
async fn from_apply_to_ready_takes_one_post_per_broker_and_three_writes_to_the_api_server() {
    let world = World::of_three_brokers().await;
    world.reconcile().await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["create", "create", "create"]);
    let kubernetes = world.tap.writes(Seam::Kubernetes);
    assert_eq!(kubernetes, ["set_finalizer", "set_secret_finalizer", "write_status"]);
    world.assert_ready();
    let status = world.status();
    let bootstrap = status.bootstrap_servers.expect("bootstrap servers");
    let addresses =
        world.addresses().iter().map(|address| format!("{}:9094", address.address)).collect::<BTreeSet<_>>();
    assert_eq!(bootstrap.split(',').map(str::to_owned).collect::<BTreeSet<_>>(), addresses);
    assert_eq!(status.summary.expect("a summary").ready, "3/3");
    assert_eq!(status.project_id.as_deref(), Some("demo"));
}

#[tokio::test]
async fn a_settled_object_causes_no_write_for_ever() {
    let world = World::ready().await;
    for _ in 0..50 {
        let next = world.reconcile().await;
        assert!(!next.failed);
        let period = next.look_again.expect("a settled object is still looked at");
        assert!(period >= Duration::from_secs(5), "too eager: {period:?}");
        world.clock.pass(period);
    }
    world.restart();
    world.reconcile().await;
    for seam in [Seam::Cloud, Seam::Kafka, Seam::Kubernetes] {
        assert_eq!(world.tap.writes(seam), Vec::<&str>::new(), "{seam:?}");
    }
    assert_eq!(world.tap.events(), 0);
}

#[tokio::test]
async fn a_pod_that_moves_keeps_its_address_by_one_put_after_at_most_two_sequential_reads() {
    let world = World::ready().await;
    let before = world.status().brokers;
    world.move_pod(1);
    world.reconcile().await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["update"]);
    let depth = world.tap.sequential_cloud_reads_before_the_first_write();
    assert!(depth <= 2, "{depth} sequential reads: {:#?}", world.tap.calls());
    world.assert_ready();
    let after = world.status().brokers;
    assert_eq!(before[1].address, after[1].address);
    assert_ne!(before[1].target, after[1].target);
    let leads_to = world.address_of(1).binding.map(|binding| binding.fixed_ip.to_string());
    assert_eq!(leads_to, after[1].target);
    assert!(world.events().iter().any(|event| event.reason.as_deref() == Some("Bound")));
}

#[tokio::test]
async fn an_operator_killed_at_any_call_of_its_first_reconcile_leaves_one_address_per_broker() {
    let whole = World::of_three_brokers().await;
    whole.reconcile().await;
    let cuts = cuts(&whole);
    assert!(cuts.len() > 40, "only {} cuts", cuts.len());
    for cut in cuts {
        let world = World::of_three_brokers().await;
        world.reconcile_until(cut).await;
        world.restart();
        world.settle_until_ready().await;
        let creates = world.addresses();
        let owners = creates.iter().filter_map(|address| match Marker::parse(&address.description) {
            Some(Marker::Owned(owner)) => Some(owner.ordinal.0),
            _ => None,
        });
        assert_eq!(owners.collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2]), "{cut:?}");
        assert_eq!(creates.len(), 3, "{cut:?}: something is left over");
        world.assert_ready();
    }
}

#[tokio::test]
async fn a_quota_of_two_binds_two_brokers_and_the_third_follows_when_it_is_raised() {
    let world = World::of_three_brokers().await;
    world.cloud.set_quota(2);
    world.reconcile().await;
    assert_eq!(world.addresses().len(), 2);
    assert_eq!(world.condition("Programmed"), ("False".into(), "QuotaExceeded".into()));
    assert_eq!(world.brokers.advertising("EXTERNAL"), 2, "the brokers with an address are not held up");
    let states = world.status().brokers.into_iter().map(|broker| broker.state).collect::<Vec<_>>();
    assert_eq!(states, [BrokerState::Ready, BrokerState::Ready, BrokerState::Refused]);
    assert_eq!(world.condition("Progressing"), ("True".into(), "Retrying".into()));
    assert_eq!(world.tap.writes(Seam::Cloud).len(), 3, "two that worked, one that was refused");
    world.tap.clear();
    world.reconcile().await;
    assert_eq!(world.tap.writes(Seam::Cloud), Vec::<&str>::new(), "one POST per slot of the back-off");
    world.cloud.set_quota(10);
    world.settle_until_ready().await;
    assert_eq!(world.addresses().len(), 3);
    world.assert_ready();
}

#[tokio::test]
async fn while_nothing_happens_the_cloud_is_read_once_per_drift_interval() {
    let world = World::ready().await;
    world.reconcile().await;
    world.tap.clear();
    let ticks = 10 * DRIFT.as_secs() / 30;
    for _ in 0..ticks {
        world.clock.pass(Duration::from_secs(30));
        world.reconcile().await;
    }
    let reads = |name: &str| world.tap.calls().iter().filter(|call| call.name == name).count();
    for name in ["list", "ports", "ingress_rules"] {
        assert!((1..=10).contains(&reads(name)), "{} times {name}", reads(name));
    }
    assert_eq!(world.tap.writes(Seam::Kubernetes), Vec::<&str>::new());
    assert_eq!(world.tap.writes(Seam::Cloud), Vec::<&str>::new());
}

#[tokio::test]
async fn who_waits_for_people_reads_the_cloud_once_per_drift_interval() {
    let world = World::with_spec(3, |spec| spec["listener"]["rollout"] = json!("Manual")).await;
    world.settle().await;
    world.reconcile().await;
    world.tap.clear();
    for _ in 0..DRIFT.as_secs() {
        world.clock.pass(Duration::from_secs(1));
        world.reconcile().await;
    }
    for name in ["list", "ports", "ingress_rules"] {
        assert_eq!(world.tap.count(Seam::Cloud, name), 1, "{name}");
    }
    assert_eq!(world.condition("Programmed").1, "ManualStepsOutstanding");
}

#[tokio::test]
async fn an_address_that_stops_working_is_looked_at_with_the_next_probe() {
    let world = World::ready().await;
    let address = world.address_of(0).id;
    world.cloud.by_hand(&address, |address| address.binding = None);
    world.clock.pass(Duration::from_secs(30));
    world.reconcile().await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["update"]);
    world.assert_ready();
}

#[tokio::test]
async fn two_addresses_swapped_by_hand_are_put_right_by_three_puts() {
    let world = World::ready().await;
    let before = world.status().brokers;
    world.swap_addresses(0, 1);
    world.clock.pass(DRIFT);
    world.reconcile().await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["update", "update", "update"]);
    world.assert_ready();
    assert_eq!(world.status().brokers, before);
}

#[tokio::test]
async fn mode_plan_tells_the_steps_in_words_and_writes_nothing_but_the_status() {
    let world = World::with_spec(3, |spec| spec["mode"] = json!("Plan")).await;
    world.reconcile().await;
    assert_eq!(world.tap.writes(Seam::Cloud), Vec::<&str>::new());
    assert_eq!(world.tap.writes(Seam::Kafka), Vec::<&str>::new());
    assert_eq!(world.tap.writes(Seam::Kubernetes), ["write_status"]);
    let plan = world.status().plan;
    assert!(plan.iter().filter(|step| step.contains("allocate")).count() == 3, "{plan:?}");
    world.tap.clear();
    world.reconcile().await;
    assert_eq!(world.tap.writes(Seam::Kubernetes), Vec::<&str>::new());
}

#[tokio::test]
async fn a_pod_that_moves_in_mode_plan_is_not_bound_again() {
    let world = World::ready().await;
    world.edit(|spec| spec["mode"] = json!("Plan"));
    world.move_pod(1);
    world.reconcile().await;
    assert_eq!(world.tap.writes(Seam::Cloud), Vec::<&str>::new());
    let plan = world.status().plan;
    assert!(plan.iter().any(|step| step.contains("kafka-1")), "{plan:?}");
}

#[tokio::test]
async fn provider_static_advertises_the_addresses_of_the_spec_without_a_call_to_a_cloud() {
    let world = World::with_spec(3, |spec| {
        spec["addresses"] = json!({"provider": {"type": "Static"}});
        spec["brokers"] = json!(
            (0..3)
                .map(|n| json!({"ordinal": n, "address": format!("203.0.113.{}", 50 + n)}))
                .collect::<Vec<_>>()
        );
    })
    .await;
    for node in 0..3_u8 {
        world.brokers.lead_by_hand([203, 0, 113, 50 + node].into(), node.into());
    }
    world.reconcile().await;
    assert!(world.tap.calls().iter().all(|call| call.seam != Seam::Cloud), "{:?}", world.tap.calls());
    world.assert_ready();
    assert!(world.status().bootstrap_servers.expect("bootstrap servers").contains("203.0.113.51:9094"));
}

#[tokio::test]
async fn a_deletion_leaves_nothing_in_the_cloud_in_kafka_and_in_kubernetes() {
    let world = World::ready().await;
    world.delete();
    world.settle_until_gone().await;
    assert_eq!(world.addresses(), Vec::new());
    assert_eq!(world.brokers.advertising("EXTERNAL"), 0);
    assert!(!world.secret_is_held());
}

#[tokio::test]
async fn an_address_is_withdrawn_from_kafka_before_it_is_released() {
    let world = World::ready().await;
    world.delete();
    world.settle_until_gone().await;
    let calls = world.tap.calls();
    let last_alter =
        calls.iter().rposition(|call| call.seam == Seam::Kafka && call.write).expect("a withdrawal");
    let first_delete = calls.iter().position(|call| call.name == "delete").expect("a release");
    assert!(last_alter < first_delete);
}

#[tokio::test]
async fn a_replica_that_does_not_lead_writes_nothing() {
    let world = World::of_three_brokers().await;
    world.tap.follow(true);
    let next = world.reconcile().await;
    assert!(next.failed, "it must come back when it leads");
    assert!(world.tap.calls().iter().all(|call| !call.write), "{:?}", world.tap.calls());
    assert_eq!(world.addresses(), Vec::new());
}

#[tokio::test]
async fn what_happened_is_told_once() {
    let world = World::of_three_brokers().await;
    world.settle().await;
    let told = world.events();
    let count = |reason: &str| told.iter().filter(|event| event.reason.as_deref() == Some(reason)).count();
    assert_eq!((count("Allocated"), count("Advertised"), count("Ready")), (3, 3, 1), "{told:#?}");
    let all = told.len();
    for _ in 0..5 {
        world.reconcile().await;
        world.clock.pass(Duration::from_secs(30));
    }
    assert_eq!(world.events().len(), all);
}

#[tokio::test]
async fn a_credential_that_is_missing_is_told_and_nothing_is_touched() {
    let world = World::of_three_brokers().await;
    world.kubernetes.delete_secret("openstack");
    world.settle().await;
    assert_eq!(world.condition("Ready"), ("False".into(), "SecretNotFound".into()));
    assert_eq!(world.tap.writes(Seam::Cloud), Vec::<&str>::new());
    let told = world.events();
    assert_eq!(
        told.iter().filter(|event| event.reason.as_deref() == Some("SecretNotFound")).count(),
        1,
        "{told:#?}"
    );
}

#[tokio::test]
async fn an_invalid_edit_keeps_addresses_and_bootstrap_servers() {
    let world = World::ready().await;
    let before = world.status().bootstrap_servers;
    world.edit(|spec| {
        spec["brokers"] =
            json!([{"ordinal": 0, "address": "203.0.113.9"}, {"ordinal": 1, "address": "203.0.113.9"}])
    });
    world.reconcile().await;
    assert_eq!(world.condition("Accepted"), ("False".into(), "InvalidSpec".into()));
    let shown = world.metrics();
    for metric in [
        r#"ready{namespace="ydata",name="kafka"} 0"#,
        r#"reason{namespace="ydata",name="kafka",reason="InvalidSpec"} 1"#,
    ] {
        let line = format!("kafka_external_access_object_{metric}");
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
    assert_eq!(world.status().bootstrap_servers, before);
    assert_eq!(world.tap.writes(Seam::Cloud), Vec::<&str>::new());
    assert_eq!(world.addresses().len(), 3);
}

#[tokio::test]
async fn an_operator_killed_at_any_call_of_a_rebinding_brings_the_address_home() {
    let whole = World::ready().await;
    whole.move_pod(1);
    whole.reconcile().await;
    for cut in cuts(&whole) {
        let world = World::ready().await;
        let before = world.address_of(1).id;
        world.move_pod(1);
        world.reconcile_until(cut).await;
        world.restart();
        world.settle_until_ready().await;
        assert_eq!(world.address_of(1).id, before, "{cut:?}");
        assert_eq!(world.addresses().len(), 3, "{cut:?}");
        let target = world.pod_ip(1);
        assert_eq!(world.address_of(1).binding.map(|binding| binding.fixed_ip), Some(target), "{cut:?}");
    }
}

#[tokio::test]
async fn an_operator_killed_at_any_write_of_a_deletion_leaves_nothing() {
    let whole = World::ready().await;
    whole.delete();
    whole.settle_until_gone().await;
    for cut in cuts_at_writes(&whole) {
        let world = World::ready().await;
        world.delete();
        world.tap.cut_at(Some(cut));
        tokio::select! {
            () = world.settle_until_gone() => {}
            () = world.tap.was_cut() => {}
        }
        world.tap.cut_at(None);
        world.restart();
        world.settle_until_gone().await;
        assert_eq!(world.addresses(), Vec::new(), "{cut:?}");
        assert_eq!(world.brokers.with_stored_settings(), 0, "{cut:?}");
        assert!(!world.secret_is_held(), "{cut:?}");
    }
}

#[tokio::test]
async fn a_lost_reply_to_a_create_call_leads_to_no_second_address() {
    for lost in 0..3 {
        let world = World::of_three_brokers().await;
        let faults = std::iter::repeat_n(None, lost).chain([Some(Fault::LoseReply)]);
        world.cloud.script(faults);
        world.settle_until_ready().await;
        assert_eq!(world.addresses().len(), 3, "reply {lost} lost");
        assert_eq!(world.tap.writes(Seam::Cloud).len(), 3, "reply {lost} lost");
    }
}

#[tokio::test]
async fn a_create_call_that_takes_effect_late_leads_to_no_second_address() {
    for before_arrival in 0..6 {
        let world = World::of_three_brokers().await;
        world.cloud.script([Some(Fault::Late)]);
        for _ in 0..before_arrival {
            let outcome = world.reconcile().await;
            world
                .clock
                .pass(outcome.look_again.unwrap_or(Duration::from_secs(5)).min(Duration::from_secs(5)));
        }
        world.reconcile().await;
        world.cloud.arrive();
        world.settle_until_ready().await;
        assert_eq!(world.addresses().len(), 3, "after {before_arrival} reconciles");
    }
}

#[tokio::test]
async fn a_create_call_that_takes_effect_after_its_pod_moved_leaves_nothing_over() {
    let world = World::of_three_brokers().await;
    world.cloud.script([Some(Fault::Late)]);
    world.reconcile().await;
    world.move_pod(0);
    world.reconcile().await;
    world.cloud.arrive();
    world.settle_until_ready().await;
    assert_eq!(world.addresses().len(), 3);
}

#[tokio::test]
async fn a_port_held_by_an_address_that_the_project_does_not_see_is_not_asked_for_in_a_loop() {
    let world = World::of_three_brokers().await;
    let target = world.cloud.binding_of(world.pod_ip(0));
    world.cloud.add_address("another", "not ours", target).expect("an address");
    world.reconcile().await;
    let creates = world.tap.writes(Seam::Cloud).len();
    assert!(creates <= 4, "{creates} create calls in one reconcile");
    assert_eq!(world.condition("Programmed"), ("False".into(), "PortHasForeignAddress".into()));
    assert_eq!(world.brokers.advertising("EXTERNAL"), 2, "the other brokers are served");
}

#[tokio::test]
async fn a_foreign_address_on_the_pods_port_is_left_alone() {
    let world = World::of_three_brokers().await;
    let target = world.cloud.binding_of(world.pod_ip(0));
    let foreign = world.cloud.add_address("demo", "not ours", target).expect("an address");
    world.settle().await;
    assert_eq!(world.condition("Programmed"), ("False".into(), "PortHasForeignAddress".into()));
    assert!(world.addresses().contains(&foreign));
    assert_eq!(world.brokers.advertising("EXTERNAL"), 2);
    assert_eq!(world.addresses().len(), 3);
}

#[tokio::test]
async fn a_listener_that_the_broker_does_not_open_is_taken_back() {
    let world = World::of_three_brokers().await;
    world.brokers.fail_to_open(1, 9094);
    world.reconcile().await;
    assert_eq!(world.brokers.with_stored_settings(), 2);
    assert_eq!(world.condition("Programmed"), ("False".into(), "ListenerNotApplied".into()));
    world.tap.clear();
    world.clock.pass(Duration::from_secs(60));
    world.reconcile().await;
    assert_eq!(world.tap.writes(Seam::Kafka), Vec::<&str>::new(), "not tried again at once");
}

#[tokio::test]
async fn a_port_that_another_process_holds_stores_nothing() {
    let world = World::of_three_brokers().await;
    world.brokers.hold_port(2, 9094);
    world.settle().await;
    assert_eq!(world.brokers.with_stored_settings(), 2);
    assert_eq!(world.condition("Programmed"), ("False".into(), "ListenerPortTaken".into()));
    assert_eq!(world.addresses().len(), 3);
}

#[tokio::test]
async fn an_address_deleted_by_hand_is_lost_and_not_replaced_unless_the_user_says_so() {
    let world = World::ready().await;
    let lost = world.address_of(0);
    world.cloud.delete_by_hand(&lost.id);
    world.clock.pass(DRIFT);
    world.settle().await;
    assert_eq!(world.condition("Programmed"), ("False".into(), "AddressLost".into()));
    assert_eq!(world.addresses().len(), 2);
    world.annotate("kafkaaccess.dev/replace", "0");
    world.settle_until_ready().await;
    assert_eq!(world.addresses().len(), 3);
    assert!(world.object().metadata.annotations.unwrap_or_default().is_empty(), "the permission is used up");
}

#[tokio::test]
async fn somebody_who_keeps_moving_an_address_away_is_not_fought() {
    let world = World::ready().await;
    world.clock.pass(DRIFT);
    for _ in 0..6 {
        let address = world.address_of(0).id;
        world.cloud.by_hand(&address, |address| address.binding = None);
        world.reconcile().await;
        world.clock.pass(Duration::from_secs(20));
    }
    let updates = world.tap.writes(Seam::Cloud).len();
    assert!((2..=3).contains(&updates), "{updates} bindings");
    assert_eq!(world.condition("Programmed"), ("False".into(), "Contested".into()));
    // The quarrel is over when nobody moves it any more: one try after half an hour.
    world.clock.pass(Duration::from_secs(1800));
    world.tap.clear();
    world.settle_until_ready().await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["update"]);
}

#[tokio::test]
async fn a_cloud_that_is_down_is_told_and_what_was_achieved_stays_told() {
    let world = World::ready().await;
    let before = world.status();
    world.cloud.set_down(Some(CloudFault::Unavailable("no route".into())));
    for _ in 0..5 {
        assert!(world.reconcile().await.failed);
        world.clock.pass(Duration::from_secs(10));
    }
    assert_eq!(world.condition("Programmed").1, "CloudUnavailable");
    assert_eq!(world.status().bootstrap_servers, before.bootstrap_servers);
    assert_eq!(world.tap.writes(Seam::Kubernetes), ["write_status"], "said once");
    world.cloud.set_down(None);
    world.settle_until_ready().await;
    assert_eq!(world.tap.writes(Seam::Cloud), Vec::<&str>::new());
}

#[tokio::test]
async fn an_object_of_the_same_name_takes_its_addresses_back_after_retain() {
    let world = World::of_three_brokers().await;
    world.edit(|spec| spec["addresses"]["retentionPolicy"] = json!({"whenDeleted": "Retain"}));
    world.settle_until_ready().await;
    let kept = world.addresses().iter().map(|address| address.address).collect::<BTreeSet<_>>();
    world.delete();
    world.settle_until_gone().await;
    assert_eq!(world.addresses().len(), 3);
    world.apply_again();
    world.settle_until_ready().await;
    assert_eq!(world.addresses().iter().map(|address| address.address).collect::<BTreeSet<_>>(), kept);
    let creates = world.tap.writes(Seam::Cloud).iter().filter(|name| **name == "create").count();
    assert_eq!(creates, 3, "the three of the first object");
}

#[tokio::test]
async fn the_road_takes_no_step_after_leadership_is_lost_in_the_middle() {
    let whole = World::of_three_brokers().await;
    whole.reconcile().await;
    let writes = whole.tap.calls().iter().filter(|call| call.write).count();
    for allowed in 0..writes {
        let world = World::of_three_brokers().await;
        world.tap.follow_after(allowed);
        world.reconcile().await;
        let made = world.tap.calls().iter().filter(|call| call.write).count();
        assert!(made <= allowed, "{made} writes with {allowed} permits");
        world.tap.follow(false);
        world.restart();
        world.settle_until_ready().await;
        assert_eq!(world.addresses().len(), 3);
    }
}

#[tokio::test]
async fn a_binding_that_the_cloud_refuses_for_one_broker_holds_no_other_up() {
    let world = World::of_three_brokers().await;
    world.cloud.script([Some(Fault::Refuse(CloudFault::Refused("not this one".into())))]);
    world.settle().await;
    assert!(world.brokers.advertising("EXTERNAL") >= 2, "{:#?}", world.status());
}

#[tokio::test]
async fn nothing_is_written_anywhere_while_the_finalizer_cannot_be_set() {
    let world = World::of_three_brokers().await;
    world.kubernetes.refuse_finalizers(true);
    assert!(world.reconcile().await.failed);
    assert_eq!(world.addresses(), Vec::new());
    assert!(!world.secret_is_held(), "an object without a finalizer would leave it held for ever");
    assert_eq!(world.brokers.with_stored_settings(), 0);
    world.kubernetes.refuse_finalizers(false);
    world.settle_until_ready().await;
}

#[tokio::test]
async fn an_object_stays_while_its_secret_cannot_be_let_go() {
    let world = World::ready().await;
    world.delete();
    world.kubernetes.refuse_finalizers(true);
    for _ in 0..40 {
        world.reconcile().await;
        world.clock.pass(Duration::from_secs(15));
    }
    assert_eq!(world.addresses(), Vec::new());
    assert!(world.kubernetes.access_now(&World::key()).is_some(), "nobody would let the Secret go any more");
    world.kubernetes.refuse_finalizers(false);
    world.settle_until_gone().await;
    assert!(!world.secret_is_held());
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_delays_nothing() {
    let world = World::of_three_brokers().await;
    world.cloud.set_quota(2);
    world.reconcile().await;
    world.cloud.set_quota(10);
    world.clock.jump(Duration::from_secs(7200), false);
    world.settle_until_ready().await;
}

#[tokio::test]
async fn a_wall_clock_that_is_set_forward_cuts_no_wait_for_a_late_create_call_short() {
    let world = World::of_three_brokers().await;
    world.cloud.script([Some(Fault::Late)]);
    world.reconcile().await;
    world.delete();
    for _ in 0..4 {
        world.reconcile().await;
        world.clock.jump(Duration::from_secs(3600), true);
        world.clock.pass(Duration::from_secs(20));
    }
    world.cloud.arrive();
    world.settle_until_gone().await;
    assert_eq!(world.addresses(), Vec::new());
}

#[tokio::test]
async fn a_leader_with_a_slow_clock_does_not_take_a_former_leaders_object_for_untouched() {
    let world = World::of_three_brokers().await;
    world.kubernetes.edit_access(&World::key(), |object| {
        let made = Timestamp::from_second(4_000_000_000).expect("a timestamp");
        object.metadata.creation_timestamp = Some(Time(made));
    });
    world.cloud.script(std::iter::repeat_n(Some(Fault::Late), 3));
    world.reconcile_until(Cut::Before(30)).await;
    world.restart();
    world.delete();
    for _ in 0..6 {
        world.reconcile().await;
        world.clock.pass(Duration::from_secs(20));
    }
    assert!(world.kubernetes.access_now(&World::key()).is_some(), "a create call may still come");
    world.cloud.arrive();
    world.settle_until_gone().await;
    assert_eq!(world.addresses(), Vec::new());
}

/// Before and after each call that was made.
fn cuts(world: &World) -> Vec<Cut> {
    (0..world.tap.calls().len()).flat_map(|index| [Cut::Before(index), Cut::After(index)]).collect()
}

/// Before and after each write, and before every tenth read.
fn cuts_at_writes(world: &World) -> Vec<Cut> {
    let calls = world.tap.calls();
    let writes = calls.iter().enumerate().filter(|(_, call)| call.write).map(|(index, _)| index);
    let reads = (0..calls.len()).step_by(10).map(Cut::Before);
    writes.flat_map(|index| [Cut::Before(index), Cut::After(index)]).chain(reads).collect()
}
