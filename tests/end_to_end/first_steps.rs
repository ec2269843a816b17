//! From `kubectl apply` to Ready, and what a user sees on the way.

use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::world::{PORT, READY, condition, in_lab};

#[test]
fn from_apply_to_ready_three_addresses_cost_three_posts_and_no_restart() {
    in_lab("from_apply_to_ready", async |world| {
        let table = world.internal_table().expect("the internal table");
        let lives = world.broker_lives().await;
        let settings = world.kafka_configs(0, &["--describe", "--all"]).expect("settings of broker 0");
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        let object = world.condition("Ready", "True", READY).await;

        let posts =
            world.neutron.calls().into_iter().filter(|call| call.method == Method::POST).collect::<Vec<_>>();
        assert_eq!(posts.len(), 3, "{posts:?}");
        assert_eq!(world.neutron.mutations().len(), 3, "{:?}", world.neutron.mutations());
        world.assert_bound(0..3).await;
        let ledger = world.ledger();
        let expected: Vec<String> =
            ledger.values().map(|a| format!("{}:{PORT}", a.floating_ip_address)).collect();
        let status = object.status.expect("a status");
        assert_eq!(status.bootstrap_servers, Some(expected.join(",")));

        for through in &expected {
            world.vm_lists(through, &expected).await;
        }
        produce_and_consume(world, &expected).await;

        assert_eq!(
            world.internal_table().as_ref(),
            Ok(&table),
            "in-cluster clients see what they saw before"
        );
        assert_eq!(world.broker_lives().await, lives, "no broker was restarted");
        let static_of = |text: &str| {
            let lines = text.lines().filter(|line| line.contains("STATIC_BROKER_CONFIG:"));
            let value = |line: &str| {
                line.split("STATIC_BROKER_CONFIG:")
                    .nth(1)
                    .and_then(|v| v.split(", DEFAULT").next())
                    .map(str::to_owned)
            };
            lines.filter_map(value).collect::<std::collections::BTreeSet<_>>()
        };
        let after = world.kafka_configs(0, &["--describe", "--all"]).expect("settings of broker 0");
        assert_eq!(static_of(&after), static_of(&settings), "what the configuration file says is unchanged");
        world.delete().await;
        assert!(world.ledger().is_empty(), "nothing is left in the cloud");
    });
}

async fn produce_and_consume(world: &crate::world::World, bootstrap: &[String]) {
    let topic = format!("outside-{}", std::process::id());
    let create = ["--create", "--topic", &topic, "--partitions", "3", "--replication-factor", "3"];
    world.kafka_tool("kafka.admin.TopicCommand", &create).expect("a topic is made");
    // With three partitions on three brokers, every partition's records travel through another address.
    for (partition, server) in bootstrap.iter().enumerate() {
        let partition = partition.to_string();
        let vm = world.lab.vm().expect("the virtual machine");
        let send = ["-P", "-b", server, "-t", &topic, "-p", &partition, "-X", "request.required.acks=-1"];
        vm.command("kcat")
            .args(send)
            .text_with_input(format!("to-{partition}\n").as_bytes())
            .expect("a record is sent");
        let read = ["-C", "-b", server, "-t", &topic, "-p", &partition, "-o", "beginning", "-e", "-q"];
        assert_eq!(world.vm_kcat(&read).expect("the record is read"), format!("to-{partition}\n"));
    }
}

#[test]
fn in_steady_state_nothing_is_written() {
    in_lab("steady_state", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|object| object["spec"]["probe"]["timeout"] = json!("10s")).await;
        world.condition("Ready", "True", READY).await;
        world.condition("Reachable", "True", READY).await;
        // Longer than from one probe to the next.
        let settled = world
            .eventually("the object is not written any more", READY, async || {
                let before = world.access().await.expect("the object").metadata.resource_version;
                tokio::time::sleep(Duration::from_secs(6)).await;
                let after = world.access().await.expect("the object").metadata.resource_version;
                if after == before { Ok(after) } else { Err(after) }
            })
            .await;
        world.neutron.forget();
        tokio::time::sleep(Duration::from_secs(15)).await;
        let after = world.access().await.expect("the object").metadata.resource_version;
        assert_eq!(after, settled, "the object is not written");
        assert_eq!(world.neutron.mutations(), [], "the cloud is not written");
    });
}

#[test]
fn mode_plan_says_what_it_would_do_and_writes_nothing() {
    in_lab("mode_plan", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|object| object["spec"]["mode"] = json!("Plan")).await;
        let object = world.reason("Programmed", "False", "PlanOnly", READY).await;
        let plan = object.status.as_ref().expect("a status").plan.join("\n");
        for ordinal in 0..3 {
            assert!(plan.contains(&format!("allocate an address for kafka-{ordinal}")), "{plan}");
        }
        assert!(!crate::world::held(&object), "no finalizer either");
        assert_eq!(world.neutron.mutations(), []);
        assert!(world.ledger().is_empty());
        world.delete().await;
    });
}

#[test]
fn the_static_provider_advertises_stated_addresses_and_never_calls_a_cloud() {
    in_lab("static_provider", async |world| {
        // Somebody else binds the addresses: here the test.
        let mut stated = Vec::new();
        for ordinal in 0..3 {
            let port = world.port(&format!("kafka-{ordinal}"));
            let network = &world.cloud.facts().external_network_id;
            let address =
                world.demo.create_floating_ip(network, "made by hand", Some(&port.id)).expect("an address");
            stated.push(address.floating_ip_address);
        }
        world.start_operator();
        world
            .create(|object| {
                object["spec"]["addresses"] = json!({"provider": {"type": "Static"}});
                let broker = |(ordinal, address)| json!({"ordinal": ordinal, "address": address});
                object["spec"]["brokers"] = stated.iter().enumerate().map(broker).collect();
            })
            .await;
        world.condition("Ready", "True", READY).await;
        let expected: Vec<String> = stated.iter().map(|address| format!("{address}:{PORT}")).collect();
        world.vm_lists(&expected[0], &expected).await;
        assert_eq!(world.keystone.calls(), [], "no token was asked for");
        assert_eq!(world.neutron.calls(), []);
        world.delete().await;
    });
}

#[test]
fn kubectl_shows_which_address_is_which_broker_and_whether_it_works() {
    in_lab("kubectl", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Reachable", "True", READY).await;
        let wide = world.lab.kubectl(&["-n", "ydata", "get", "kea", "-o", "wide"]).expect("get");
        let describe = world.lab.kubectl(&["-n", "ydata", "describe", "kea", "kafka"]).expect("describe");
        println!("{wide}\n{describe}");
        for column in ["READY", "BROKERS", "BOOTSTRAP", "MODE", "REASON", "AGE"] {
            assert!(wide.contains(column), "{wide}");
        }
        assert!(wide.contains("3/3"), "{wide}");
        for (ordinal, address) in world.ledger() {
            let address = address.floating_ip_address.to_string();
            assert!(describe.contains(&address), "the address of broker {ordinal} is shown: {describe}");
        }
        let object = world.access().await.expect("the object");
        assert_eq!(condition(&object, "Ready"), Some(("True".into(), "Ready".into())));
    });
}

/// Exit code and text of `kafka-external-access plan`.
fn preview(world: &crate::world::World, args: &[&str]) -> (Option<i32>, String) {
    let output =
        world.lab.command(env!("CARGO_BIN_EXE_kafka-external-access")).arg("plan").args(args).output();
    let output = output.expect("the command runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn the_plan_command_shows_what_an_apply_would_lead_to_before_anything_exists() {
    in_lab("plan_command", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/smallest.json");
        std::fs::write(file, crate::world::smallest().to_string()).expect("the file can be written");
        let (code, text) = preview(world, &["-f", file]);
        assert_eq!(code, Some(2), "{text}");
        for ordinal in 0..3 {
            assert!(text.contains(&format!("allocate an address for kafka-{ordinal}")), "{text}");
        }
        assert!(text.contains("no broker is restarted"), "{text}");
        let (_, text) = preview(world, &["-f", file, "--currency", "EUR", "--price-address-hour", "0.004"]);
        assert!(text.contains("costs 8.76 EUR a month") && text.contains("; now 0.00"), "{text}");
        assert_eq!(world.neutron.mutations(), []);
        assert!(world.access().await.is_none());

        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        let (code, text) = preview(world, &["kafka", "-n", "ydata"]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("nothing is outstanding") && text.contains("kafka-2  203.0.113."), "{text}");
        let (code, text) = preview(world, &["nobody", "-n", "ydata"]);
        assert_eq!((code, text.as_str()), (Some(1), "error: there is no KafkaExternalAccess ydata/nobody\n"));
    });
}
