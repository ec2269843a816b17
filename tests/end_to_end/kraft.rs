//! KRaft: served under the internal names today; a listener needs a restart, which nobody does without consent.

use std::time::Duration;

use lab::{Progress, cloud::SecurityRule, kafka::Flavour};
use serde_json::{Value, json};

use crate::world::{World, in_lab, smallest};

const KRAFT: &str = "ydata-kraft";

fn apply(world: &World, object: &Value) {
    let command = world.lab.command("kubectl").args(["apply", "-f", "-"]);
    command.text_with_input(object.to_string().as_bytes()).expect("the object is accepted");
}

fn wait_for(world: &World, condition: &str) -> String {
    let wait = ["-n", KRAFT, "wait", "--timeout=90s", "kea/kafka", &format!("--for={condition}")];
    world.lab.kubectl(&wait).unwrap_or_else(|error| {
        let seen = world.lab.kubectl(&["-n", KRAFT, "get", "kea", "kafka", "-o", "yaml"]);
        panic!("{condition}: {error}\n{}", seen.unwrap_or_default())
    });
    world.lab.kubectl(&["-n", KRAFT, "get", "kea", "kafka", "-o", "json"]).expect("the object can be read")
}

#[test]
fn kraft_brokers_are_reached_under_their_own_names_and_auto_never_restarts_them() {
    in_lab("kraft", async |world| {
        let kafka = world.lab.kafka(Flavour::KRaft100, KRAFT);
        kafka.deploy(&Progress::silent()).expect("KRaft brokers are deployed");
        kafka.wait_ready().expect("KRaft brokers are ready");
        let group = world.cloud.facts().security_group_id.clone();
        world.demo.add_rule(&group, &SecurityRule::tcp(9092)).expect("a rule can be added");
        let pods =
            || world.lab.kubectl(&["-n", KRAFT, "get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"]);
        let before = pods().expect("pods");
        let clouds_yaml = world.cloud.clouds_yaml_through_proxy(&world.cloud.facts().demo);
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openstack", "namespace": KRAFT},
            "stringData": {"clouds.yaml": clouds_yaml},
        });
        apply(world, &secret);
        world.start_operator();
        let mut object = smallest();
        object["metadata"]["namespace"] = json!(KRAFT);
        object["spec"].as_object_mut().expect("a spec").remove("listener");
        apply(world, &object);
        let ready: Value = serde_json::from_str(&wait_for(world, "condition=Ready")).expect("JSON");
        let lines = ready["status"]["hosts"].as_array().expect("hosts").iter().filter_map(Value::as_str);
        let hosts: Vec<&str> = lines.collect();
        assert_eq!(hosts.len(), 3, "{hosts:?}");
        let vm = world.lab.vm().expect("the virtual machine");
        vm.write_hosts(&(hosts.join("\n") + "\n")).expect("its hosts file can be written");
        let name = format!("kafka-0.kafka-headless.{KRAFT}.svc:9092");
        let seen = world.vm_table(&name).expect("the virtual machine lists the brokers");
        assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [100, 101, 102], "node.id is ordinal + 100");

        object["spec"]["listener"] = json!({"name": "EXTERNAL", "port": 9094});
        apply(world, &object);
        let stopped = wait_for(
            world,
            "jsonpath={.status.conditions[?(@.type==\"Programmed\")].reason}=RestartRequired",
        );
        assert!(stopped.contains("advertised.listeners="), "the plan shows the settings: {stopped}");
        assert_eq!(pods().expect("pods"), before, "no broker was restarted");

        world
            .lab
            .kubectl(&["-n", KRAFT, "delete", "kea", "kafka", "--timeout=90s"])
            .expect("the object can be deleted");
        world
            .eventually("nothing is left in the cloud", Duration::from_secs(10), async || {
                if world.ledger().is_empty() { Ok(()) } else { Err(world.ledger()) }
            })
            .await;
        kafka.remove().expect("KRaft brokers are removed");
    });
}
