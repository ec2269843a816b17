//! The history of probes, as scrapes show it.

use std::time::Duration;

use crate::world::World;

/// The value of a metric of the object with these further labels.
pub fn metric(world: &World, name: &str, labels: &str) -> Option<String> {
    let start = format!("kafka_external_access_{name}{{namespace=\"ydata\",name=\"kafka\",{labels}}} ");
    let text = world.metrics();
    text.lines().find_map(|line| line.strip_prefix(&start).map(str::to_owned))
}

#[tokio::test]
async fn every_probe_is_counted_once_by_its_result_and_each_step_by_its_outcome() {
    let world = World::ready().await;
    let of = |result: &str| {
        let labels = format!("broker=\"1\",vantage=\"operator\",result=\"{result}\"");
        metric(&world, "broker_probes_total", &labels)
    };
    let step = |step: &str, outcome: &str| {
        let labels = format!("broker=\"1\",vantage=\"operator\",step=\"{step}\",outcome=\"{outcome}\"");
        metric(&world, "broker_probe_steps_total", &labels)
    };
    let before: u64 = of("Reachable").expect("counted").parse().expect("a number");
    world.reconcile().await;
    assert_eq!(of("Reachable"), Some(before.to_string()), "a probe that is still fresh is not a new one");
    world.clock.pass(Duration::from_secs(30));
    world.reconcile().await;
    assert_eq!(of("Reachable"), Some((before + 1).to_string()));
    assert_eq!(step("Tcp", "ok"), Some((before + 1).to_string()));
    let took = metric(
        &world,
        "broker_probe_step_duration_seconds",
        "broker=\"1\",vantage=\"operator\",step=\"Tcp\"",
    );
    assert_eq!(took.as_deref(), Some("0.001"));
    assert_eq!(of("Unreachable"), None);

    world.brokers.fail_to_open(1, 9094);
    world.clock.pass(Duration::from_secs(30));
    world.reconcile().await;
    assert_eq!(of("Unreachable").as_deref(), Some("1"));
    assert_eq!(step("Tcp", "refused").as_deref(), Some("1"));
    assert_eq!(of("Reachable"), Some((before + 1).to_string()));
}
