//! What clients' machines see, from their report to the status.

use std::time::Duration;

use kafka_external_access::kafka::sighting::{Asked, Sighting};
use serde_json::json;

use crate::{probes::metric, tap::Seam, world::World};

fn sighting(world: &World, error: Option<&str>) -> Sighting {
    let table: std::collections::BTreeMap<i32, String> = (0..3_u8)
        .map(|ordinal| (i32::from(ordinal), format!("{}:9094", world.address_of(ordinal).address)))
        .collect();
    let asked = |node: &i32| {
        let error = error.filter(|_| *node == 1).map(str::to_owned);
        let failed = error.is_some().then(|| ("Tcp".to_owned(), "timed_out".to_owned()));
        let passed = if error.is_none() { [("Tcp".to_owned(), 0.25)].into() } else { [].into() };
        (
            *node,
            Asked { answered: error.is_none().then_some(*node), error, passed, failed, ..Asked::default() },
        )
    };
    Sighting {
        at: kafka_external_access::seams::Clock::now(&*world.clock),
        from: "vm-1 (192.0.2.7)".to_owned(),
        error: None,
        brokers: table.keys().map(asked).collect(),
        table,
    }
}

fn told(world: &World, sighting: &Sighting) {
    let text = serde_json::to_string(sighting).expect("JSON");
    world.kubernetes.put_config_map("kafka-seen-from-outside", "vm-1", &text);
}

#[tokio::test]
async fn a_report_counts_for_five_minutes_and_the_operator_probes_nothing() {
    let world = World::with_spec(3, |spec| spec["probe"] = json!({"from": "Reports"})).await;
    world.settle().await;
    assert_eq!(world.condition("Reachable"), ("Unknown".into(), "NoReport".into()));
    told(&world, &sighting(&world, None));
    world.reconcile().await;
    assert_eq!(world.condition("Reachable"), ("True".into(), "Reachable".into()));
    assert_eq!(world.status().brokers[0].health.clone().expect("told").from, "vm-1 (192.0.2.7)");
    world.reconcile().await;
    let seen = "broker=\"1\",vantage=\"report\"";
    let counted =
        |result: &str| metric(&world, "broker_probes_total", &format!("{seen},result=\"{result}\""));
    assert_eq!(counted("Reachable").as_deref(), Some("1"), "a report is counted once");
    let took = metric(&world, "broker_probe_step_duration_seconds", &format!("{seen},step=\"Tcp\""));
    assert_eq!(took.as_deref(), Some("0.25"));
    world.clock.pass(Duration::from_secs(1));
    told(&world, &sighting(&world, Some("Tcp: no answer")));
    world.reconcile().await;
    assert_eq!(world.condition("Reachable"), ("False".into(), "Unreachable".into()));
    let health = world.status().brokers[1].health.clone().expect("told");
    assert_eq!(health.reason.as_deref(), Some("Unreachable"));
    assert!(health.message.is_some_and(|text| text.contains("seen from vm-1 (192.0.2.7): Tcp: no answer")));
    assert_eq!(counted("Unreachable").as_deref(), Some("1"));
    let failed =
        metric(&world, "broker_probe_steps_total", &format!("{seen},step=\"Tcp\",outcome=\"timed_out\""));
    assert_eq!(failed.as_deref(), Some("1"));
    world.clock.pass(Duration::from_secs(301));
    world.reconcile().await;
    assert_eq!(world.condition("Reachable"), ("Unknown".into(), "NoReport".into()));
    assert_eq!(world.tap.count(Seam::Kafka, "probe"), 0);
}
