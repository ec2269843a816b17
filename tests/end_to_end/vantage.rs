//! What clients' machines see, as the status tells it.

use std::process::Output;

use serde_json::json;

use crate::world::{NAMESPACE, READY, in_lab};

const SEEN: &str = "kafka-seen-from-outside";

#[test]
fn reachable_rests_on_what_the_clients_machines_see_where_pods_reach_no_floating_ip() {
    in_lab("vantage", async |world| {
        world.cloud.set_hairpin(false).expect("hairpin can be switched");
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|object| object["spec"]["probe"] = json!({"from": "Reports", "interval": "2s"})).await;
        world.reason("Reachable", "Unknown", "NoReport", READY).await;
        // That nobody has reported is told from the first broker on.
        let servers = world
            .eventually("all advertise", READY, async || {
                let object = world.access().await.ok_or("the object does not exist")?;
                object.status.and_then(|status| status.bootstrap_servers).ok_or("not all advertise")
            })
            .await;
        let kubeconfig = world.vm_account("kafka-check", "check-report.yaml");
        let check = || -> Output {
            let vm = world.lab.vm().expect("the virtual machine");
            vm.command(env!("CARGO_BIN_EXE_kafka-external-access"))
                .args(["check", "--bootstrap", &servers, "--report", "ydata/kafka"])
                .env("KUBECONFIG", &kubeconfig)
                .output()
                .expect("it runs")
        };
        // The last broker's address may be known to the others, and to the router, a little later.
        world
            .eventually("the machine reaches all", READY, async || {
                let output = check();
                if output.status.success() { Ok(()) } else { Err(output) }
            })
            .await;
        let object = world.reason("Reachable", "True", "Reachable", READY).await;
        let health = object.status.unwrap_or_default().brokers.remove(0).health.expect("told");
        assert_eq!((health.reachable.as_str(), health.from.as_str()), ("True", "vm (203.0.113.200)"));

        let map = ["-n", NAMESPACE, "get", "configmap", SEEN, "-o", "jsonpath={.data.vm}"];
        let seen = world.lab.kubectl(&map).expect("the ConfigMap");
        let mut other: serde_json::Value = serde_json::from_str(&seen).expect("JSON");
        other["from"] = json!("vm-2 (203.0.113.201)");
        other["brokers"]["1"] = json!({"error": "Tcp: no answer within 5 s"});
        let patch = json!({"data": {"vm-2": other.to_string()}}).to_string();
        let by_hand = ["-n", NAMESPACE, "patch", "configmap", SEEN, "--type", "merge", "-p", &patch];
        world.lab.kubectl(&by_hand).expect("another machine reports");
        let object = world.reason("Reachable", "False", "Unreachable", READY).await;
        let told = object.status.unwrap_or_default().conditions;
        let told = &told.iter().find(|c| c.type_ == "Reachable").expect("a condition").message;
        assert!(told.contains("vm-2 (203.0.113.201)") && told.contains("Tcp: no answer"), "{told}");

        world.assert_one_right("kafka-check");
        world.remove_vm_account("kafka-check", &kubeconfig);
    });
}
