//! How much an address may carry, measured through it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::world::{World, in_lab};

const READY: Duration = Duration::from_secs(60);
const RECORD: usize = 1_000;
/// On the wire a segment of 1448 bytes has 66 bytes of headers.
const HEADERS: f64 = 1514.0 / 1448.0;

/// Mbit/s on the wire while the virtual machine produces to one partition: of a long run what it has more than a short
/// one, so that the start of the client and the burst that the policy allows do not count.
fn produced(world: &World, server: &str, topic: &str) -> f64 {
    let (short, long) = (2_000, 26_000);
    let more = taken(world, server, topic, long).saturating_sub(taken(world, server, topic, short));
    ((long - short) * RECORD * 8) as f64 / 1e6 * HEADERS / more.as_secs_f64()
}

/// How long the virtual machine takes for so many records.
fn taken(world: &World, server: &str, topic: &str, count: usize) -> Duration {
    let records = format!("{}\n", "x".repeat(RECORD - 1)).repeat(count);
    let vm = world.lab.vm().expect("the virtual machine");
    let start = Instant::now();
    let settings = ["-X", "acks=1", "-X", "linger.ms=20", "-X", "batch.num.messages=400"];
    vm.command("kcat")
        .args(["-P", "-b", server, "-t", topic, "-p", "0"])
        .args(settings)
        .text_with_input(records.as_bytes())
        .expect("the records are accepted");
    start.elapsed()
}

/// The first of four measurements within 10 % of the limit, else the last: what else the machine does at the moment
/// spoils one, and does not make four alike.
fn measured(limit: f64, measure: impl Fn() -> f64) -> f64 {
    let mut seen = measure();
    for _ in 0..3 {
        if (limit * 0.9..limit * 1.1).contains(&seen) {
            break;
        }
        seen = measure();
    }
    seen
}

#[test]
fn a_limit_is_part_of_the_first_call_it_is_real_and_it_changes_live() {
    in_lab("limits", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let policy =
            |name: &str, mbps: u32| world.admin.create_qos_policy(name, mbps * 1000).expect("a policy");
        let (slow, fast) = (policy("end-to-end-20", 20), policy("end-to-end-60", 60));
        world.start_operator();
        world.neutron.forget();
        world
            .create(|object| object["spec"]["addresses"]["bandwidth"] = json!({"qosPolicy": "end-to-end-20"}))
            .await;
        let object = world.condition("Ready", "True", READY).await;
        assert_eq!(world.neutron.mutations().len(), 3, "allocated, bound and limited by one call each");
        let brokers = object.status.clone().unwrap_or_default().brokers;
        let limits = |mbps| Some(mbps).map(|mbps| (Some(mbps), Some(mbps)));
        let told = |brokers: &[kafka_external_access::api::BrokerStatus]| -> Vec<_> {
            brokers.iter().map(|b| b.bandwidth.map(|l| (l.limit_egress_mbps, l.limit_ingress_mbps))).collect()
        };
        assert_eq!(told(&brokers), [limits(20); 3]);
        assert!(world.ledger().values().all(|a| a.qos_policy_id.as_deref() == Some(&slow)));
        world.cloud.settle().expect("the router follows");
        let server = object.status.and_then(|status| status.bootstrap_servers).expect("bootstrap servers");
        let topic = format!("limits-{}", std::process::id());
        // The topic is made by the first record.
        world.vm_kcat(&["-L", "-b", &server, "-t", &topic]).expect("the topic is asked for");
        let seen = measured(20.0, || produced(world, &server, &topic));
        assert!((18.0..22.0).contains(&seen), "{seen:.1} Mbit/s with 20");

        let leads = world.broker_lives().await;
        world.neutron.forget();
        world.patch(json!({"spec": {"addresses": {"bandwidth": {"qosPolicy": "end-to-end-60"}}}})).await;
        world
            .eventually("the status tells the new limit", READY, async || {
                let status = world.access().await.and_then(|object| object.status).unwrap_or_default();
                if told(&status.brokers) == [limits(60); 3] { Ok(()) } else { Err(status.brokers) }
            })
            .await;
        assert_eq!(world.neutron.mutations().len(), 3, "one change for each address");
        assert!(world.ledger().values().all(|a| a.qos_policy_id.as_deref() == Some(&fast)));
        world.assert_bound(0..3).await;
        world.cloud.settle().expect("the router follows");
        let faster = measured(60.0, || produced(world, &server, &topic));
        println!("limit 20 Mbit/s: {seen:.1}; limit 60 Mbit/s: {faster:.1}");
        assert!((54.0..66.0).contains(&faster), "{faster:.1} Mbit/s with 60");
        assert_eq!(world.broker_lives().await, leads, "no broker was restarted");
    });
}
