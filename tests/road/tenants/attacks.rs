//! What a tenant may try who has every right in his own namespace, forged statuses included, and none elsewhere. Each ends
//! with the victim as it was: the same addresses, bound where they were, not written to.

use std::collections::BTreeSet;

use kafka_external_access::{
    api::{BrokerState, KafkaExternalAccessStatus, REPLACE_ANNOTATION},
    cloud::{FloatingIp, limits::MANAGED},
};
use serde_json::{Value, json};

use super::{ATTACKER, OPERATOR, Tenants, VICTIM, key, pod, public};
use crate::{tap::Seam, world::parsed};

/// The victim's addresses, to be compared with afterwards: identity, binding, description, policy and revision.
struct Before(Vec<FloatingIp>);

impl Before {
    fn of(world: &Tenants) -> Self {
        Self(world.of(VICTIM))
    }

    fn one(&self) -> &FloatingIp {
        &self.0[0]
    }

    fn holds(&self, world: &Tenants) {
        assert_eq!(world.of(VICTIM), self.0, "the victim's addresses");
        assert_eq!(world.ready(VICTIM, "kafka"), ("True".into(), "Ready".into()));
    }
}

fn chosen(address: &FloatingIp) -> Value {
    json!([{"ordinal": 0, "address": address.address.to_string()}])
}

/// With a provider of the attacker's own namespace.
fn own_provider(object: &mut Value, secret: &str) {
    object["spec"]["addresses"] = json!({"provider": {"type": "OpenStack", "openstack": {
        "cloudName": "dev", "credentialsSecretRef": {"name": secret}, "floatingNetwork": "public"}}});
}

fn recorded(address: &FloatingIp) -> KafkaExternalAccessStatus {
    parsed(json!({
        "projectID": "demo", "bootstrapServers": format!("{}:9092", address.address),
        "brokers": [{"ordinal": 0, "state": "Ready", "address": address.address.to_string(),
            "addressID": address.id.as_str(), "adopted": true, "advertised": format!("{}:9092", address.address)}]}))
}

#[tokio::test]
async fn the_address_of_another_namespace_is_not_adopted_although_the_class_lists_it() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    world.put_class(|class| class["adoption"] = json!([{"addresses": "203.0.113.0/24"}]));
    world.apply(ATTACKER, "kafka", |object| object["spec"]["brokers"] = chosen(before.one()));
    world.settle().await;
    before.holds(&world);
    let broker = &world.status(ATTACKER, "kafka").brokers[0];
    assert_eq!((broker.state, broker.reason.as_deref()), (BrokerState::Refused, Some("AddressInUse")));
}

#[tokio::test]
async fn an_unmarked_address_of_the_project_is_not_adopted_without_the_class() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    let shop = world.shared.add_address("demo", "the gateway of the web shop", None).expect("an address");
    world.apply(ATTACKER, "kafka", |object| object["spec"]["brokers"] = chosen(&shop));
    world.settle().await;
    before.holds(&world);
    assert!(world.shared.addresses().contains(&shop), "untouched");
    assert_eq!(world.status(ATTACKER, "kafka").brokers[0].reason.as_deref(), Some("AddressNotAllowed"));
}

#[tokio::test]
async fn an_address_that_the_class_lists_for_another_namespace_is_not_adopted() {
    let world = Tenants::with_victim().await;
    let reserved = world.shared.add_address("demo", "for the victim", None).expect("an address");
    world.put_class(|class| {
        class["adoption"] =
            json!([{"addresses": format!("{}/32", reserved.address), "namespaces": [VICTIM]}]);
    });
    world.apply(ATTACKER, "kafka", |object| object["spec"]["brokers"] = chosen(&reserved));
    world.settle().await;
    assert!(world.shared.addresses().contains(&reserved), "untouched");
    assert_eq!(world.status(ATTACKER, "kafka").brokers[0].reason.as_deref(), Some("AddressNotAllowed"));
}

#[tokio::test]
async fn a_forged_status_does_not_make_somebodys_address_ones_own() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    world.apply(ATTACKER, "kafka", |_| ());
    world.forge("kafka", |object| object.status = Some(recorded(before.one())));
    world.settle().await;
    before.holds(&world);
    let bound: BTreeSet<_> = public(&world.of(ATTACKER));
    assert!(!bound.contains(&before.one().address), "{bound:?}");
}

#[tokio::test]
async fn a_forged_status_does_not_make_the_operator_unbind_or_release_when_the_object_is_deleted() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    world.apply(ATTACKER, "kafka", |_| ());
    world.settle().await;
    world.forge("kafka", |object| object.status = Some(recorded(before.one())));
    world.delete(ATTACKER, "kafka");
    world.settle().await;
    assert!(world.object(ATTACKER, "kafka").is_none());
    before.holds(&world);
}

#[tokio::test]
async fn a_forged_status_that_says_adopted_does_not_give_somebodys_address_back_unbound() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    // As if the address had been in the spec and was taken out again.
    world.apply(ATTACKER, "kafka", |object| object["spec"]["brokers"] = json!([{"ordinal": 0}]));
    world.forge("kafka", |object| object.status = Some(recorded(before.one())));
    world.settle().await;
    before.holds(&world);
}

#[tokio::test]
async fn a_forged_status_with_somebodys_policy_does_not_remove_it() {
    let world = Tenants::new();
    world.put_class(|class| class["limits"] = json!({"egressMbps": 100}));
    world.apply(VICTIM, "kafka", |_| ());
    world.settle().await;
    let before = Before::of(&world);
    let policies = world.shared.policies();
    assert!(policies.len() == 1 && policies[0].description == MANAGED);
    world.apply(ATTACKER, "kafka", |object| {
        object["spec"]["addresses"]["bandwidth"] = json!({"egressMbps": 50});
    });
    world.forge("kafka", |object| {
        let managed_policies = vec![policies[0].name.clone()];
        object.status = Some(KafkaExternalAccessStatus { managed_policies, ..Default::default() });
    });
    world.settle().await;
    world.delete(ATTACKER, "kafka");
    world.settle().await;
    assert_eq!(world.shared.policies(), policies);
    before.holds(&world);
}

#[tokio::test]
async fn an_annotation_that_allows_a_replacement_replaces_nothing_that_is_there() {
    let world = Tenants::with_victim().await;
    world.apply(ATTACKER, "kafka", |_| ());
    world.settle().await;
    let (before, own) = (Before::of(&world), public(&world.of(ATTACKER)));
    world.forge("kafka", |object| {
        object.metadata.annotations.get_or_insert_default().insert(REPLACE_ANNOTATION.into(), "0,1,7".into());
    });
    world.settle().await;
    before.holds(&world);
    assert_eq!(public(&world.of(ATTACKER)), own);
}

#[tokio::test]
async fn labels_and_annotations_with_somebodys_marker_widen_no_right() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    world.apply(ATTACKER, "kafka", |object| {
        let marker = &before.one().description;
        object["metadata"]["labels"] = json!({"kafkaaccess.dev/owner": marker, "namespace": VICTIM});
        object["metadata"]["annotations"] =
            json!({"kafkaaccess.dev/marker": marker, "kafkaaccess.dev/class": "shared", "kafkaaccess.dev/before": "{}"});
    });
    world.settle().await;
    before.holds(&world);
}

#[tokio::test]
async fn a_marker_forged_in_ones_own_project_is_nobodys_right_elsewhere() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    let forged = world.own.add_address("demo", &before.one().description, None).expect("an address");
    world.apply(ATTACKER, "kafka", |object| own_provider(object, "openstack"));
    world.settle().await;
    before.holds(&world);
    assert!(world.own.addresses().contains(&forged), "it is only reported");
    world.delete(ATTACKER, "kafka");
    world.settle().await;
    before.holds(&world);
}

#[tokio::test]
async fn the_same_names_in_another_namespace_contest_nothing() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    // Older than the victim's, with the same names of object, StatefulSet and pods.
    world.apply(ATTACKER, "kafka", |object| {
        object["metadata"]["creationTimestamp"] = json!("1970-01-01T00:00:00Z");
    });
    world.settle().await;
    before.holds(&world);
    assert_eq!(world.of(ATTACKER).len(), 2, "and he is served as anybody");
}

#[tokio::test]
async fn the_secret_of_another_namespace_is_not_read_by_any_spelling_of_its_name() {
    for name in [
        "shared",
        "kafka-external-access/shared",
        "victim/openstack",
        "../victim/openstack",
        "victim.openstack",
    ] {
        let world = Tenants::with_victim().await;
        let before = Before::of(&world);
        world.apply(ATTACKER, "kafka", |object| own_provider(object, name));
        world.settle().await;
        assert_eq!(world.ready(ATTACKER, "kafka"), ("False".into(), "SecretNotFound".into()), "{name}");
        before.holds(&world);
        assert_eq!(world.of(ATTACKER), [], "{name}");
    }
}

#[tokio::test]
async fn the_secret_of_another_namespace_is_not_held_nor_let_go() {
    let world = Tenants::with_victim().await;
    assert!(world.is_held(OPERATOR, "shared"));
    // A Secret of the same name in his own namespace, with a provider of its own.
    let secret =
        json!({"metadata": {"name": "shared", "namespace": ATTACKER}, "data": {"clouds.yaml": "e30="}});
    world.server(ATTACKER).put_secret(parsed(secret));
    world.apply(ATTACKER, "kafka", |object| own_provider(object, "shared"));
    world.settle().await;
    world.delete(ATTACKER, "kafka");
    world.settle().await;
    assert!(world.is_held(OPERATOR, "shared"), "the victim needs it");
}

#[tokio::test]
async fn a_class_that_does_not_name_the_namespace_gives_it_nothing() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    world.put_class(|class| class["namespaces"] = json!({"names": [VICTIM]}));
    world.apply(ATTACKER, "kafka", |_| ());
    world.settle().await;
    assert_eq!(world.ready(ATTACKER, "kafka"), ("False".into(), "NamespaceNotAllowed".into()));
    assert_eq!(world.of(ATTACKER), []);
    before.holds(&world);
}

#[tokio::test]
async fn a_forged_status_of_a_namespace_that_is_not_allowed_moves_nothing() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    world.put_class(|class| class["namespaces"] = json!({"names": [VICTIM], "whenRevoked": "Unbind"}));
    world.apply(ATTACKER, "kafka", |object| object["spec"]["brokers"] = chosen(before.one()));
    world.forge("kafka", |object| object.status = Some(recorded(before.one())));
    world.settle().await;
    before.holds(&world);
}

#[tokio::test]
async fn many_objects_at_once_get_no_more_addresses_than_the_class_allows() {
    let world = Tenants::with_victim().await;
    world.put_class(|class| class["limits"] = json!({"addressesPerNamespace": 3}));
    let names = ["a", "b", "c", "d"];
    for (number, name) in (0_u8..).zip(names) {
        // Each has a StatefulSet of its own with two pods that have ports.
        let mut set: Value = serde_json::to_value(super::stateful_set(ATTACKER)).expect("a set");
        set["metadata"]["name"] = json!(name);
        set["spec"]["selector"] = json!({"matchLabels": {"app": name}});
        world.server(ATTACKER).put_stateful_set(parsed(set));
        for ordinal in 0..2_u8 {
            let ip = std::net::Ipv4Addr::new(10, 128, 2, number * 10 + ordinal);
            let mut broker = pod(ATTACKER, ordinal);
            broker["metadata"]["name"] = json!(format!("{name}-{ordinal}"));
            broker["metadata"]["labels"] = json!({"app": name});
            broker["metadata"]["ownerReferences"][0]["name"] = json!(name);
            broker["status"]["podIP"] = json!(ip.to_string());
            world.server(ATTACKER).put_pod(parsed(broker));
            world.shared.add_port("demo", ip);
        }
        world.apply(ATTACKER, name, |object| object["spec"]["kafka"]["statefulSet"]["name"] = json!(name));
    }
    let operator = world.operator();
    let keys = names.map(|name| key(ATTACKER, name));
    for _ in 0..10 {
        futures::future::join_all(keys.iter().map(|key| operator.reconcile(key))).await;
        assert!(world.of(ATTACKER).len() <= 3, "{:#?}", world.of(ATTACKER));
        world.clock.pass(std::time::Duration::from_secs(15));
    }
    assert_eq!(world.of(ATTACKER).len(), 3);
    assert_eq!(world.of(VICTIM).len(), 2);
}

#[tokio::test]
async fn a_wiped_status_and_a_new_object_do_not_reset_the_count() {
    let world = Tenants::with_victim().await;
    world.put_class(|class| class["limits"] = json!({"addressesPerNamespace": 2}));
    let retain = |object: &mut Value| {
        object["spec"]["addresses"]["retentionPolicy"] =
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
    };
    world.apply(ATTACKER, "kafka", retain);
    world.settle().await;
    assert_eq!(world.of(ATTACKER).len(), 2);
    world.forge("kafka", |object| object.status = None);
    world.settle().await;
    world.delete(ATTACKER, "kafka");
    world.settle().await;
    assert!(world.object(ATTACKER, "kafka").is_none());
    // Its addresses stay, for an object of that name; this one has another, and his pods' ports are free.
    for address in world.of(ATTACKER) {
        world.shared.by_hand(&address.id, |address| address.binding = None);
    }
    world.apply(ATTACKER, "another", retain);
    world.settle().await;
    assert_eq!(world.of(ATTACKER).len(), 2, "retained ones count");
    assert_eq!(world.status(ATTACKER, "another").brokers[0].reason.as_deref(), Some("AddressLimitReached"));
}

#[tokio::test]
async fn a_policy_that_the_class_does_not_list_and_more_bandwidth_than_it_allows_are_refused() {
    for bandwidth in [json!({"qosPolicy": "gold"}), json!({"egressMbps": 1000}), json!({"ingressMbps": 51})] {
        let world = Tenants::with_victim().await;
        world.shared.add_policy("gold", Some(1_000_000), None);
        world.put_class(|class| class["limits"] = json!({"egressMbps": 100, "ingressMbps": 50}));
        world.apply(ATTACKER, "kafka", |object| object["spec"]["addresses"]["bandwidth"] = bandwidth.clone());
        world.settle().await;
        let status = world.status(ATTACKER, "kafka");
        assert_eq!(status.brokers[0].reason.as_deref(), Some("BandwidthNotAllowed"), "{bandwidth}");
        assert_eq!(world.of(ATTACKER), [], "{bandwidth}");
    }
}

#[tokio::test]
async fn a_broker_of_ones_own_does_not_get_more_by_an_override() {
    let world = Tenants::new();
    world.put_class(|class| class["limits"] = json!({"egressMbps": 100}));
    world.apply(ATTACKER, "kafka", |object| {
        object["spec"]["brokers"] = json!([{"ordinal": 1, "bandwidth": {"egressMbps": 900}}]);
    });
    world.settle().await;
    assert_eq!(world.of(ATTACKER).len(), 1, "the other broker is served");
    assert_eq!(world.status(ATTACKER, "kafka").brokers[1].reason.as_deref(), Some("BandwidthNotAllowed"));
}

#[tokio::test]
async fn a_pod_on_the_nodes_network_gets_no_address_outside() {
    let world = Tenants::with_victim().await;
    let mut on_node = pod(ATTACKER, 0);
    on_node["spec"]["hostNetwork"] = json!(true);
    on_node["status"]["podIP"] = json!("10.128.0.2");
    world.shared.add_port("demo", [10, 128, 0, 2].into());
    world.server(ATTACKER).put_pod(parsed(on_node));
    world.apply(ATTACKER, "kafka", |_| ());
    world.settle().await;
    assert!(world.shared.binding_of([10, 128, 0, 2].into()).is_some(), "the node has a port");
    let mut bound = world.shared.addresses().into_iter().filter_map(|address| address.binding);
    assert!(bound.all(|binding| binding.fixed_ip.octets() != [10, 128, 0, 2]), "the node");
}

#[tokio::test]
async fn a_pod_that_claims_the_address_of_the_victims_pod_takes_nothing_from_it() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    let mut liar = pod(ATTACKER, 0);
    liar["status"]["podIP"] = json!("10.128.0.10");
    world.server(ATTACKER).put_pod(parsed(liar));
    world.apply(ATTACKER, "kafka", |_| ());
    world.settle().await;
    before.holds(&world);
    assert_eq!(world.status(ATTACKER, "kafka").brokers[0].reason.as_deref(), Some("PortHasForeignAddress"));
}

#[tokio::test]
async fn a_pod_that_claims_the_machine_itself_or_a_metadata_service_is_not_called() {
    for ip in ["127.0.0.1", "169.254.169.254", "100.100.100.200", "0.0.0.0", "224.0.0.1"] {
        let world = Tenants::new();
        let mut liar = pod(ATTACKER, 0);
        liar["status"]["podIP"] = json!(ip);
        world.server(ATTACKER).put_pod(parsed(liar));
        world.apply(ATTACKER, "kafka", |object| {
            object["spec"]["metrics"] = json!({"port": 80, "path": "/latest/meta-data"});
        });
        world.settle().await;
        let broker = &world.status(ATTACKER, "kafka").brokers[0];
        assert_eq!(
            (broker.reason.as_deref(), broker.target.as_deref()),
            (Some("WaitingForPod"), None),
            "{ip}"
        );
    }
}

#[tokio::test]
async fn a_pod_of_another_statefulset_or_of_nobody_is_no_broker() {
    let world = Tenants::new();
    let mut stranger = pod(ATTACKER, 0);
    stranger["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "kafka", "uid": "x"}]);
    world.server(ATTACKER).put_pod(parsed(stranger));
    let mut twin = pod(ATTACKER, 1);
    twin["metadata"]["name"] = json!("kafka-01");
    twin["status"]["podIP"] = json!("10.128.0.11");
    world.server(ATTACKER).put_pod(parsed(twin));
    world.apply(ATTACKER, "kafka", |_| ());
    world.settle().await;
    assert_eq!(world.status(ATTACKER, "kafka").brokers[0].reason.as_deref(), Some("WaitingForPod"));
    let bound: Vec<_> = world.of(ATTACKER).into_iter().filter_map(|address| address.binding).collect();
    assert!(bound.len() == 1 && bound[0].fixed_ip.octets() == [10, 128, 1, 11], "{bound:?}");
}

#[tokio::test]
async fn what_other_teams_have_is_not_told() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    let orphan = "kea/v1 c=cluster n=merger-with-acme/kafka u=gone o=0";
    world.shared.add_address("demo", orphan, None).expect("an address");
    let free = world.shared.add_address("demo", "", None).expect("an address");
    world.put_class(|class| class["adoption"] = json!([{"addresses": "203.0.113.0/24"}]));
    world.apply(VICTIM, "secret-project", |object| {
        object["spec"]["kafka"]["statefulSet"]["name"] = json!("other");
        object["spec"]["brokers"] = chosen(&free);
    });
    world.apply(ATTACKER, "kafka", |object| {
        object["spec"]["brokers"] = json!([
            {"ordinal": 0, "address": before.one().address.to_string()},
            {"ordinal": 1, "address": free.address.to_string()}]);
    });
    world.settle().await;
    let told = world.told(ATTACKER, "kafka");
    for secret in ["merger-with-acme", "secret-project", "victim/"] {
        assert!(!told.contains(secret), "{secret}: {told}");
    }
}

#[tokio::test]
async fn an_object_that_is_deleted_gives_back_its_own_addresses_only() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    world.put_class(|class| class["adoption"] = json!([{"addresses": "203.0.113.0/24"}]));
    world.apply(ATTACKER, "kafka", |object| object["spec"]["brokers"] = chosen(before.one()));
    world.settle().await;
    world.tap.clear();
    world.delete(ATTACKER, "kafka");
    world.settle().await;
    assert!(world.object(ATTACKER, "kafka").is_none());
    before.holds(&world);
    assert!(world.tap.writes(Seam::Cloud).len() <= 1, "{:?}", world.tap.writes(Seam::Cloud));
}

#[tokio::test]
async fn a_name_too_long_for_a_marker_is_refused_with_a_sentence_and_allocates_nothing() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    let long = "k".repeat(253);
    world.apply(ATTACKER, &long, |_| ());
    world.settle().await;
    assert_eq!(world.ready(ATTACKER, &long), ("False".into(), "InvalidSpec".into()));
    assert_eq!(world.of(ATTACKER), []);
    before.holds(&world);
}

#[tokio::test]
async fn a_status_full_of_nonsense_is_replaced_and_harms_nobody() {
    let world = Tenants::with_victim().await;
    let before = Before::of(&world);
    world.apply(ATTACKER, "kafka", |_| ());
    let broker = |ordinal: u32| {
        json!({"ordinal": ordinal, "state": "Ready", "address": "x".repeat(64), "addressID": "../../floatingips?".repeat(3),
            "advertised": "a".repeat(320), "target": "::", "health": {"reachable": "Yes", "from": "\u{202e}", "lastTransitionTime": "never"}})
    };
    world.forge("kafka", |object| {
        object.status = Some(parsed(json!({
            "observedGeneration": -1, "projectID": "demo", "bootstrapServers": ",".repeat(1000),
            "hosts": ["a b c", ""], "plan": ["rm -rf /"], "managedPolicies": ["../policies", "kea-egress-1mbps"],
            "brokers": (0..256).map(broker).collect::<Vec<_>>(),
            "conditions": [{"type": "Ready", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z"}]})));
    });
    world.settle().await;
    before.holds(&world);
    assert_ne!(world.ready(ATTACKER, "kafka").1, "X");
}

#[tokio::test]
async fn a_finalizer_that_is_taken_off_by_hand_frees_no_address_of_others() {
    let world = Tenants::with_victim().await;
    world.apply(ATTACKER, "kafka", |_| ());
    world.settle().await;
    let before = Before::of(&world);
    world.forge("kafka", |object| object.metadata.finalizers = None);
    world.delete(ATTACKER, "kafka");
    world.settle().await;
    before.holds(&world);
    assert_eq!(world.of(ATTACKER).len(), 2, "his own are left over, and told to who is of the namespace");
    world.apply(ATTACKER, "kafka", |_| ());
    world.settle().await;
    assert_eq!(
        world.ready(ATTACKER, "kafka"),
        ("True".into(), "Ready".into()),
        "and taken back by the same name"
    );
    assert_eq!(world.of(ATTACKER).len(), 2);
}
