//! What clients' machines see, as the status tells it.

use std::{process::Output, time::Duration};

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::world::{NAMESPACE, World, in_lab};

const READY: Duration = Duration::from_secs(60);
const SEEN: &str = "kafka-seen-from-outside";

/// A way from the virtual machine to the API server, which it does not have by itself: a port of its own that leads there.
fn open_a_way(world: &World, api_server: String) -> u16 {
    let vm = world.lab.vm().expect("the virtual machine");
    let bound = std::thread::spawn(move || {
        vm.enter_network().expect("its network can be entered");
        std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port")
    });
    let listener = bound.join().expect("bound");
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("bound").port();
    let listener = TcpListener::from_std(listener).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let api_server = api_server.clone();
            tokio::spawn(async move {
                if let Ok(mut to) = TcpStream::connect(api_server).await {
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    port
}

/// What the documents say: one ConfigMap, and an account that may patch it and nothing else. Its kubeconfig.
fn account(world: &World) -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/check-report.yaml");
    world.lab.kubectl(&["apply", "-f", file]).expect("the example is accepted");
    let of = ["-n", NAMESPACE, "create", "token", "kafka-check"];
    let token = world.lab.kubectl(&of).expect("a token");
    let admin: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&world.lab.facts().kubeconfig).expect("a kubeconfig"))
            .expect("JSON");
    let mut cluster = admin["clusters"][0]["cluster"].clone();
    let server = cluster["server"].as_str().expect("a URL").trim_start_matches("https://").to_owned();
    cluster["server"] = json!(format!("https://127.0.0.1:{}", open_a_way(world, server)));
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "vm",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "kafka-check", "user": {"token": token.trim()}}],
        "contexts": [{"name": "vm", "context": {"cluster": "lab", "user": "kafka-check", "namespace": NAMESPACE}}],
    })
    .to_string()
}

#[test]
fn reachable_rests_on_what_the_clients_machines_see_where_pods_reach_no_floating_ip() {
    in_lab("vantage", async |world| {
        world.cloud.set_hairpin(false).expect("hairpin can be switched");
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|object| object["spec"]["probe"] = json!({"from": "Reports", "interval": "2s"})).await;
        let object = world.reason("Reachable", "Unknown", "NoReport", READY).await;
        let servers = object.status.and_then(|status| status.bootstrap_servers).expect("all advertise");
        let kubeconfig = std::env::temp_dir().join(format!("kafka-check-{}", std::process::id()));
        std::fs::write(&kubeconfig, account(world)).expect("a kubeconfig");
        let check = || -> Output {
            let vm = world.lab.vm().expect("the virtual machine");
            vm.command(env!("CARGO_BIN_EXE_kafka-external-access"))
                .args(["check", "--bootstrap", &servers, "--report", "ydata/kafka"])
                .env("KUBECONFIG", &kubeconfig)
                .output()
                .expect("it runs")
        };
        let output = check();
        assert!(output.status.success(), "{output:?}");
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

        let rights =
            ["-n", NAMESPACE, "auth", "can-i", "--list", "--as", "system:serviceaccount:ydata:kafka-check"];
        let rights = world.lab.kubectl(&rights).expect("rights");
        let own: Vec<&str> =
            rights.lines().filter(|line| !line.contains("self") && !line.starts_with(' ')).collect();
        assert_eq!(own.len(), 2, "a heading, and one right: {rights}");
        std::fs::remove_file(&kubeconfig).expect("the kubeconfig is removed");
        let gone =
            ["-n", NAMESPACE, "delete", "configmap,role,rolebinding,serviceaccount", "-l", "app=kafka-check"];
        world.lab.kubectl(&gone).expect("what the example made is removed");
    });
}
