//! A platform team's class, on the whole road.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use super::{ATTACKER, OPERATOR, Tenants, VICTIM, pod, public};
use crate::{tap::Seam, world::parsed};

#[tokio::test]
async fn two_namespaces_without_a_credential_of_their_own_share_a_class() {
    let world = Tenants::with_both().await;
    for namespace in [VICTIM, ATTACKER] {
        assert_eq!(world.ready(namespace, "kafka"), ("True".into(), "Ready".into()));
        assert_eq!(world.of(namespace).len(), 2, "{namespace}");
    }
    assert!(world.is_held(OPERATOR, "shared"));
    assert!(!world.is_held(VICTIM, "openstack"), "it is nobody's credential here");
    assert_eq!(world.own.addresses(), []);
}

#[tokio::test]
async fn the_secret_of_a_class_is_held_until_the_last_namespace_has_let_go() {
    let world = Tenants::with_both().await;
    world.delete(VICTIM, "kafka");
    world.settle().await;
    assert!(world.object(VICTIM, "kafka").is_none());
    assert!(world.is_held(OPERATOR, "shared"), "the other namespace needs it");
    world.delete(ATTACKER, "kafka");
    world.settle().await;
    assert!(world.object(ATTACKER, "kafka").is_none());
    assert!(!world.is_held(OPERATOR, "shared"));
    assert_eq!(world.shared.addresses(), []);
}

/// Each of the two would leave the Secret to the other, if they looked at the same moment.
#[tokio::test]
async fn of_two_objects_that_end_at_the_same_moment_the_last_one_lets_the_secret_go() {
    let world = Tenants::with_both().await;
    for namespace in [VICTIM, ATTACKER] {
        world.delete(namespace, "kafka");
    }
    for _ in 0..24 {
        futures::join!(world.reconcile(VICTIM, "kafka"), world.reconcile(ATTACKER, "kafka"));
        world.clock.pass(Duration::from_secs(25));
    }
    for namespace in [VICTIM, ATTACKER] {
        assert!(world.object(namespace, "kafka").is_none());
    }
    assert!(!world.is_held(OPERATOR, "shared"));
}

#[tokio::test]
async fn a_namespace_that_is_not_allowed_any_more_keeps_what_is_bound_and_gets_nothing_new() {
    let world = Tenants::with_victim().await;
    let before = world.of(VICTIM);
    world.put_class(|class| class["namespaces"] = json!({"names": [ATTACKER]}));
    world.tap.clear();
    // A pod moves: it is not followed.
    let mut moved = pod(VICTIM, 0);
    moved["status"]["podIP"] = json!("10.128.0.77");
    world.shared.add_port("demo", [10, 128, 0, 77].into());
    world.server(VICTIM).put_pod(parsed(moved));
    world.settle().await;
    assert_eq!(world.ready(VICTIM, "kafka"), ("False".into(), "NamespaceNotAllowed".into()));
    assert_eq!(world.of(VICTIM), before);
    assert_eq!(world.tap.writes(Seam::Cloud), Vec::<&str>::new());
    assert!(world.status(VICTIM, "kafka").brokers.iter().all(|broker| broker.address_id.is_some()));
    world.put_class(|_| ());
    world.settle().await;
    assert_eq!(world.ready(VICTIM, "kafka"), ("True".into(), "Ready".into()));
    assert_eq!(public(&world.of(VICTIM)), public(&before), "the same addresses");
}

#[tokio::test]
async fn where_the_class_says_so_a_revoked_namespace_is_unbound_within_a_minute_and_nothing_is_released() {
    let world = Tenants::new();
    let selected = |class: &mut serde_json::Value| {
        class["namespaces"] =
            json!({"selector": {"matchLabels": {"kafka": "outside"}}, "whenRevoked": "Unbind"});
    };
    world.put_class(selected);
    world.label(VICTIM, Some(("kafka", "outside")));
    world.apply(VICTIM, "kafka", |_| ());
    world.settle().await;
    let before = world.of(VICTIM);
    assert!(before.len() == 2 && before.iter().all(|address| address.binding.is_some()));
    // No event tells the operator of a label. It comes by itself.
    world.label(VICTIM, None);
    let mut passed = Duration::ZERO;
    while world.of(VICTIM).iter().any(|address| address.binding.is_some()) {
        let next = world.reconcile(VICTIM, "kafka").await.look_again.expect("it is looked at again");
        passed += next;
        world.clock.pass(next);
        assert!(passed <= Duration::from_secs(60), "still bound after {passed:?}");
    }
    world.settle().await;
    assert_eq!(public(&world.of(VICTIM)), public(&before), "nothing is released");
    assert_eq!(world.ready(VICTIM, "kafka"), ("False".into(), "NamespaceNotAllowed".into()));
    world.label(VICTIM, Some(("kafka", "outside")));
    world.settle().await;
    assert_eq!(world.ready(VICTIM, "kafka"), ("True".into(), "Ready".into()));
    assert_eq!(public(&world.of(VICTIM)), public(&before));
}

#[tokio::test]
async fn an_object_of_a_revoked_namespace_gives_its_addresses_back_when_it_is_deleted() {
    let world = Tenants::with_victim().await;
    world.put_class(|class| class["namespaces"] = json!({}));
    world.settle().await;
    assert_eq!(world.of(VICTIM).len(), 2);
    world.delete(VICTIM, "kafka");
    world.settle().await;
    assert!(world.object(VICTIM, "kafka").is_none());
    assert_eq!(world.shared.addresses(), []);
}

#[tokio::test]
async fn a_class_that_is_gone_touches_nothing_and_a_deletion_waits_for_it() {
    let world = Tenants::with_victim().await;
    let before = world.of(VICTIM);
    world.remove_class();
    world.delete(VICTIM, "kafka");
    world.settle().await;
    assert_eq!(world.ready(VICTIM, "kafka"), ("False".into(), "ClassNotFound".into()));
    assert_eq!(world.of(VICTIM), before);
    world.put_class(|_| ());
    world.settle().await;
    assert!(world.object(VICTIM, "kafka").is_none());
    assert_eq!(world.shared.addresses(), []);
}

#[tokio::test]
async fn the_prices_of_a_class_are_shown_instead_of_the_operators() {
    let world = Tenants::new();
    world.put_class(|class| class["prices"] = json!({"currency": "CNY", "addressHour": "0.02"}));
    world.apply(VICTIM, "kafka", |_| ());
    world.settle().await;
    let cost = world.status(VICTIM, "kafka").cost.expect("a cost");
    assert_eq!((cost.currency.as_str(), cost.per_month.as_str()), ("CNY", "29.20"));
}

#[tokio::test]
async fn an_object_that_asks_for_no_bandwidth_gets_that_of_its_class() {
    let world = Tenants::new();
    world.put_class(|class| class["limits"] = json!({"egressMbps": 100, "ingressMbps": 50}));
    world.apply(VICTIM, "kafka", |_| ());
    world.settle().await;
    assert_eq!(world.ready(VICTIM, "kafka"), ("True".into(), "Ready".into()));
    let policies: BTreeSet<_> = world.of(VICTIM).into_iter().map(|address| address.qos_policy).collect();
    assert!(policies.len() == 1 && !policies.contains(&None), "{policies:?}");
}
