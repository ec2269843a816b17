//! What is looked at once more right before a write, and what is taken away last.

use std::{cell::Cell, net::Ipv4Addr, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::{
    tap::Seam,
    world::{World, parsed},
};

/// One reconcile, with this happening after the pods were read and before an address is allocated.
async fn meanwhile(world: &World, happens: impl FnOnce()) {
    let later = async {
        while world.tap.count(Seam::Cloud, "ports") == 0 {
            tokio::task::yield_now().await;
        }
        happens();
    };
    futures::join!(world.reconcile(), later);
}

#[tokio::test]
async fn a_pod_that_moved_since_it_was_read_gets_its_address_at_its_new_port_by_one_call() {
    let world = World::of_three_brokers().await;
    meanwhile(&world, || world.move_pod(0)).await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["create"; 3]);
    assert_eq!(world.address_of(0).binding.map(|binding| binding.fixed_ip), Some(world.pod_ip(0)));
}

/// A sandbox that is made anew keeps the pod's UID.
#[tokio::test]
async fn a_pod_whose_address_changed_since_it_was_read_gets_an_address_that_leads_to_the_new_one() {
    let world = World::of_three_brokers().await;
    let now = Ipv4Addr::new(10, 128, 0, 200);
    meanwhile(&world, || {
        world.cloud.add_port("demo", now);
        let mut pod = world.kubernetes.pod_now("kafka-0").expect("the pod");
        let status = pod.status.as_mut().expect("a status");
        status.pod_ip = Some(now.to_string());
        status.pod_ips.iter_mut().flatten().for_each(|ip| ip.ip = now.to_string());
        world.kubernetes.put_pod(pod);
        world.brokers.runs_at(0, Some(now));
    })
    .await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["create"; 3]);
    assert_eq!(world.address_of(0).binding.map(|binding| binding.fixed_ip), Some(now));
}

#[tokio::test]
async fn a_pod_that_ends_since_it_was_read_gets_no_address() {
    let world = World::of_three_brokers().await;
    meanwhile(&world, || {
        let mut pod = world.kubernetes.pod_now("kafka-0").expect("the pod");
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        world.kubernetes.put_pod(pod);
    })
    .await;
    assert_eq!(world.tap.writes(Seam::Cloud), ["create"; 2]);
}

#[tokio::test]
async fn the_files_go_with_the_object_where_the_template_is_what_it_was() {
    let world = World::ready().await;
    world.kubernetes.put_config_map(
        "kafka-external-access",
        "kafka-0.properties",
        "# Written by kafka-external-access. The broker reads it when it starts.\nexternal=",
    );
    world.kubernetes.edit_stateful_set("kafka", |set| {
        set.status.get_or_insert_default().observed_generation = set.metadata.generation;
    });
    world.edit(|spec| {
        spec["listener"]["rollout"] = json!("Restart");
        spec["listener"]["onDelete"] = json!("Restore");
    });
    world.delete();
    world.settle_until_gone().await;
    assert!(world.kubernetes.config_map_now("kafka-external-access").is_none());
    assert!(world.addresses().is_empty());
}

#[tokio::test]
async fn the_files_say_nothing_any_more_where_the_template_stays() {
    let world = World::ready().await;
    let file = "kafka-0.properties";
    world.kubernetes.put_config_map(
        "kafka-external-access",
        file,
        "# Written by kafka-external-access. The broker reads it when it starts.\nexternal=,EXTERNAL://203.0.113.10:9094\n",
    );
    let volume =
        parsed(json!({"name": "kafka-external-access", "configMap": {"name": "kafka-external-access"}}));
    world.kubernetes.edit_stateful_set("kafka", |set| {
        let pod = set.spec.get_or_insert_default().template.spec.get_or_insert_default();
        pod.volumes.get_or_insert_default().push(volume);
    });
    world.kubernetes.edit_stateful_set("kafka", |set| {
        set.status.get_or_insert_default().observed_generation = set.metadata.generation;
    });
    world.edit(|spec| spec["listener"]["rollout"] = json!("Restart"));
    world.delete();
    world.settle_until_gone().await;
    let files = world.kubernetes.config_map_now("kafka-external-access").and_then(|map| map.data);
    let text = files.and_then(|mut files| files.remove(file)).expect("the file");
    assert!(text.ends_with("external=\n"), "{text}");
}

/// The last write of all, after which nobody could do what the edit asks for.
#[tokio::test]
async fn an_object_that_was_edited_since_it_was_read_does_not_go() {
    let world = World::ready().await;
    world.tap.clear();
    world.delete();
    let edited = Cell::new(false);
    let operator = async {
        while !edited.get() {
            world.clock.pass(Duration::from_secs(5));
            world.reconcile().await;
        }
    };
    let user = async {
        while world.tap.count(Seam::Kubernetes, "set_secret_finalizer") == 0 {
            tokio::task::yield_now().await;
        }
        world.edit(|spec| spec["addresses"]["retentionPolicy"] = json!({"whenDeleted": "Retain"}));
        edited.set(true);
    };
    futures::join!(operator, user);
    assert_eq!(world.tap.count(Seam::Kubernetes, "set_finalizer"), 0, "{:#?}", world.tap.calls());
    world.settle_until_gone().await;
}

#[tokio::test]
async fn names_that_brokers_advertise_are_told_with_their_addresses() {
    let names = json!("{podName}.kafka.example.com");
    let world = World::with_spec(2, |spec| spec["listener"]["advertisedHostTemplate"] = names).await;
    world.settle().await;
    let wanted = [0, 1].map(|o| format!("{} kafka-{o}.kafka.example.com", world.address_of(o).address));
    assert_eq!(world.status().hosts, wanted);
}

#[tokio::test]
async fn settings_are_changed_and_withdrawn_by_the_user_that_the_object_names() {
    let sasl = json!({"sasl": {"mechanism": "PLAIN", "secretRef": {"name": "kafka-login"}}});
    let world = World::with_spec(1, |spec| spec["kafka"]["client"] = sasl).await;
    world.kubernetes.put_secret(parsed(json!({
        "metadata": {"name": "kafka-login", "namespace": "ydata"},
        "data": {"username": "b3BlcmF0b3I=", "password": "c2VjcmV0"}})));
    world.settle_until_ready().await;
    world.delete();
    world.settle_until_gone().await;
    assert_eq!(world.brokers.users(), [Some("operator".to_owned())].into());
}
