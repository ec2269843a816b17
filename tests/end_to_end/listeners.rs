//! The listener comes into a running broker only where it cannot hurt, and a broker always starts again afterwards.

use kafka_external_access::api::BrokerState;
use kube::api::DeleteParams;
use serde_json::json;

use crate::world::{PORT, READY, World, in_lab};

/// A broker that is restarted comes back: what is stored in Kafka does not keep it from starting. The registration of
/// the former pod outlives it for a while, so that counts only after the new one listens.
pub async fn restart(world: &World, name: &str) {
    let former = world.pods().get(name).await.expect("the pod exists").metadata.uid;
    world.pods().delete(name, &DeleteParams::default()).await.expect("a pod can be deleted");
    world
        .eventually(&format!("another pod {name} is ready"), READY, async || {
            let pod = world.pods().get_opt(name).await.expect("pods can be read").ok_or("no pod")?;
            let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            if pod.metadata.uid != former && ready { Ok(()) } else { Err("not yet") }
        })
        .await;
    world.brokers_registered(3).await;
}

#[test]
fn a_port_that_is_busy_in_the_pod_is_refused_and_nothing_stays_stored() {
    in_lab("busy_port", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let listen = "nc -ll -p 9094 -e /bin/cat >/dev/null 2>&1 </dev/null &";
        world
            .lab
            .kubectl(&["-n", "ydata", "exec", "kafka-1", "--", "sh", "-c", listen])
            .expect("something listens");
        let pod = world.pod_ip("kafka-1").await;
        world
            .eventually("something listens in the pod", READY, async || {
                tokio::net::TcpStream::connect((pod, PORT)).await.map(|_| ())
            })
            .await;
        world.start_operator();
        world.create(|_| {}).await;
        world.broker(1, BrokerState::Refused, "ListenerPortTaken", READY).await;
        world.broker(0, BrokerState::Ready, "", READY).await;
        let stored = world.kafka_configs(1, &["--describe"]).expect("settings");
        assert!(!stored.contains("EXTERNAL"), "{stored}");
        restart(world, "kafka-1").await;
        world.condition("Ready", "True", READY).await;
    });
}

#[test]
fn a_stored_value_that_hides_the_configuration_is_named_and_not_overwritten() {
    in_lab("shadowed", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        // Somebody stores a listener of their own beside ours: the stored value is not `configuration + ours` any more.
        let admin = "listeners=[INTERNAL://:9092,ADMIN://:9099,EXTERNAL://:9094],listener.security.protocol.map=[INTERNAL:PLAINTEXT,ADMIN:PLAINTEXT,EXTERNAL:PLAINTEXT]";
        world.kafka_configs(2, &["--alter", "--add-config", admin]).expect("the value can be stored by hand");
        world.broker(2, BrokerState::Refused, "ListenerShadowed", READY).await;
        restart(world, "kafka-2").await;
        world.delete_stored_listeners(2).await;
        world.condition("Ready", "True", READY).await;
    });
}

#[test]
fn without_a_listener_nothing_in_kafka_changes_and_the_hosts_lines_are_enough() {
    in_lab("no_listener", async |world| {
        world
            .demo
            .add_rule(&world.cloud.facts().security_group_id.clone(), &lab::cloud::SecurityRule::tcp(9092))
            .expect("a rule");
        let table = world.internal_table().expect("the internal table");
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world
            .create(|o| {
                o["spec"].as_object_mut().expect("a spec").remove("listener");
            })
            .await;
        let object = world.condition("Ready", "True", READY).await;
        let hosts = object.status.expect("a status").hosts;
        assert_eq!(hosts.len(), 3, "{hosts:?}");
        let vm = world.lab.vm().expect("the virtual machine");
        vm.write_hosts(&(hosts.join("\n") + "\n")).expect("its hosts file can be written");
        // Under the names that in-cluster clients use.
        let names: Vec<String> = table.values().cloned().collect();
        let seen = world.vm_lists("kafka-0.kafka-headless.ydata.svc:9092", &names).await;
        assert_eq!(seen, table);
        for broker in 0..3 {
            let stored = world.kafka_configs(broker, &["--describe"]).expect("settings");
            assert!(!stored.contains("advertised.listeners"), "{stored}");
        }
    });
}

#[test]
fn brokers_start_again_with_the_listener_and_after_it_was_withdrawn() {
    in_lab("restarts", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        restart(world, "kafka-0").await;
        world.condition("Ready", "True", READY).await;
        let address = world.ledger()[&0].floating_ip_address;
        world
            .eventually("the virtual machine reaches the restarted broker", READY, async || {
                world.vm_table(&format!("{address}:{PORT}")).map(|_| ())
            })
            .await;
        world.delete().await;
        for broker in 0..3 {
            let stored = world.kafka_configs(broker, &["--describe"]).expect("settings");
            assert!(!stored.contains("EXTERNAL"), "{stored}");
        }
        restart(world, "kafka-0").await;
    });
}

#[test]
fn manual_rollout_shows_the_settings_and_goes_on_when_the_user_has_made_them() {
    in_lab("manual", async |world| {
        // As Helm signs what it installs.
        let sign = |manager: serde_json::Value, release: serde_json::Value| {
            json!({"metadata": {
                "labels": {"app.kubernetes.io/managed-by": manager},
                "annotations": {"meta.helm.sh/release-name": release},
            }})
        };
        let signed = kube::api::Patch::Merge(sign(json!("Helm"), json!("streams")));
        let (sets, params) = (world.stateful_sets(), kube::api::PatchParams::default());
        sets.patch("kafka", &params, &signed).await.expect("the StatefulSet is signed");
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|o| o["spec"]["listener"]["rollout"] = json!("Manual")).await;
        let object = world.reason("Programmed", "False", "ManualStepsOutstanding", READY).await;
        let plan = object.status.expect("a status").plan.join("\n");
        assert!(plan.contains("managed by Helm (release streams): change its values"), "{plan}");
        let unsigned = kube::api::Patch::Merge(sign(json!(null), json!(null)));
        sets.patch("kafka", &params, &unsigned).await.expect("the sign is removed");
        for (ordinal, address) in world.ledger() {
            let at = format!("EXTERNAL://{}:{PORT}", address.floating_ip_address);
            assert!(plan.contains(&at), "the value for broker {ordinal} is shown: {plan}");
            let settings = format!(
                "listeners=[INTERNAL://:9092,EXTERNAL://:{PORT}],listener.security.protocol.map=[INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT],advertised.listeners=[INTERNAL://kafka-{ordinal}.kafka-headless.ydata.svc:9092,{at}]"
            );
            world
                .kafka_configs(ordinal, &["--alter", "--add-config", &settings])
                .expect("the user makes the change");
        }
        world.condition("Ready", "True", READY).await;
    });
}

/// Changes the text of the brokers' command, for the last broker only, and waits until it runs so.
async fn configure_last_broker(world: &World, from: &str, to: &str) {
    let set = world.stateful_sets().get("kafka").await.expect("the StatefulSet");
    let template = set.spec.and_then(|spec| spec.template.spec).expect("a template");
    let mut command = template.containers[0].command.clone().expect("a command");
    let line = command.last_mut().expect("a shell line");
    assert!(line.contains(from), "{line}");
    *line = line.replace(from, to);
    let env = json!([
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]);
    let container = json!({"name": "kafka", "command": command, "env": env});
    world
        .change_brokers(json!({
            "spec": {
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}},
                "template": {"spec": {"containers": [container]}},
            },
        }))
        .await;
}

#[test]
fn a_configuration_that_changes_under_a_stored_value_is_named_and_not_overwritten() {
    in_lab("changed_later", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        // Each line: what is stored, then where else a value comes from.
        let stored = || {
            let text = world.kafka_configs(2, &["--describe"]).expect("settings");
            let value = |line: &str| line.split(" sensitive=").next().map(str::to_owned);
            text.lines().filter_map(value).collect::<Vec<_>>()
        };
        let before = stored();
        configure_last_broker(
            world,
            "kafka-headless.ydata.svc:9092",
            "kafka-headless.ydata.svc.cluster.local:9092",
        )
        .await;
        let object = world.broker(2, BrokerState::Refused, "ListenerShadowed", READY).await;
        let broker = object.status.expect("a status").brokers[2].clone();
        assert!(broker.message.unwrap_or_default().contains("advertised.listeners"), "the key is named");
        assert_eq!(stored(), before, "nothing was overwritten");
        world.broker(0, BrokerState::Ready, "", READY).await;
        restart(world, "kafka-2").await;
    });
}

#[test]
fn a_listener_that_is_bound_to_the_pods_address_gets_no_stored_neighbour() {
    in_lab("pod_address", async |world| {
        configure_last_broker(
            world,
            "--override listeners=INTERNAL://:9092",
            "--override listeners=INTERNAL://$(POD_IP):9092",
        )
        .await;
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.broker(2, BrokerState::Refused, "PodAddressInListeners", READY).await;
        world.broker(0, BrokerState::Ready, "", READY).await;
        let stored = world.kafka_configs(2, &["--describe"]).expect("settings");
        assert!(!stored.contains("EXTERNAL"), "{stored}");
        restart(world, "kafka-2").await;
    });
}

#[test]
fn an_endpoint_that_another_broker_advertises_is_not_given_to_a_second() {
    in_lab("endpoint_taken", async |world| {
        let network = world.cloud.facts().external_network_id.clone();
        let address = world.demo.create_floating_ip(&network, "somebody's", None).expect("an address");
        let taken = format!("{}:{PORT}", address.floating_ip_address);
        let by_hand = format!(
            "listeners=[INTERNAL://:9092,OTHER://:9095],listener.security.protocol.map=[INTERNAL:PLAINTEXT,OTHER:PLAINTEXT],advertised.listeners=[INTERNAL://kafka-2.kafka-headless.ydata.svc:9092,OTHER://{taken}]"
        );
        world.kafka_configs(2, &["--alter", "--add-config", &by_hand]).expect("it can be stored by hand");
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        let chosen = json!([{"ordinal": 0, "address": address.floating_ip_address}]);
        world.create(|object| object["spec"]["brokers"] = chosen).await;
        world.broker(0, BrokerState::Refused, "EndpointTaken", READY).await;
        world.broker(1, BrokerState::Ready, "", READY).await;
        let stored = world.kafka_configs(0, &["--describe"]).expect("settings");
        assert!(!stored.contains("EXTERNAL"), "{stored}");
        restart(world, "kafka-0").await;
        world.delete_stored_listeners(2).await;
        world.broker(0, BrokerState::Ready, "", READY).await;
    });
}
