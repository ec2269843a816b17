//! What the log says: a line for each decision, and a line for each write.

use std::{
    io,
    sync::{Arc, Mutex},
};

use kafka_external_access::cloud::{CloudFault, simulated::Fault};
use serde_json::{Value, json};
use tracing::{
    Dispatch, Level,
    subscriber::{DefaultGuard, NoSubscriber},
};

use crate::{tap::Seam, world::World};

/// What stands in the log for a write, by the name of the call.
const LINES: [(&str, &[&str]); 10] = [
    ("set_finalizer", &["object held", "object let go"]),
    ("set_secret_finalizer", &["Secret held", "Secret let go"]),
    ("write_status", &["status written"]),
    ("create", &["allocated and bound"]),
    ("update", &["bound", "unbound", "limited", "retained"]),
    ("delete", &["released"]),
    ("create_policy", &["made a QoS policy"]),
    ("add_rule", &["added a rule to the QoS policy"]),
    ("delete_policy", &["removed a QoS policy"]),
    ("alter", &["settings altered"]),
];

/// What this thread logs at level INFO, from now on, as an operator in a cluster does.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Beside another subscriber: with one in the process, the thread that first comes by a line decides for all threads
    /// whether it is of interest, and other tests have none.
    fn start() -> (Self, (Dispatch, DefaultGuard)) {
        let other = Dispatch::new(NoSubscriber::default());
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_max_level(Level::INFO);
        let subscriber = subscriber.with_writer(move || writer.clone()).finish();
        (log, (other, tracing::subscriber::set_default(subscriber)))
    }

    /// The lines since the last call.
    fn take(&self) -> Vec<Value> {
        let text = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        let text = String::from_utf8(text).expect("text");
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The steps that were decided, in order. Every write since has one line, and every line names the object.
fn decided(world: &World, log: &Log) -> Vec<String> {
    let lines = log.take();
    let calls = [Seam::Kubernetes, Seam::Cloud, Seam::Kafka].map(|seam| world.tap.writes(seam)).concat();
    assert!(!calls.is_empty());
    for call in &calls {
        let (_, messages) =
            LINES.iter().find(|(name, _)| name == call).unwrap_or_else(|| panic!("{call} has no line"));
        let written = calls.iter().filter(|other| *other == call).count();
        let told = lines.iter().filter(|line| messages.contains(&line["message"].as_str().expect("a text")));
        assert_eq!(told.count(), written, "lines of {call}: {lines:#?}");
    }
    for line in lines.iter().filter(|line| line["message"] != "settings altered") {
        assert_eq!(line["key"], "ydata/kafka", "{line}");
    }
    world.tap.clear();
    let steps = lines.iter().filter(|line| line["message"] == "decided");
    steps.map(|line| line["step"].as_str().expect("a step").to_owned()).collect()
}

#[tokio::test]
async fn every_decision_and_every_write_has_one_line() {
    let (log, _guard) = Log::start();
    let limit = |spec: &mut Value| {
        spec["addresses"]["bandwidth"] = json!({"egressMbps": 100});
    };
    let world = World::with_spec(1, limit).await;
    world.settle_until_ready().await;
    let steps = decided(&world, &log);
    let address = &world.addresses()[0];
    let expected = [
        "hold the object until its addresses are gone (finalizer)".to_owned(),
        "hold the credential's Secret while it is needed (finalizer)".to_owned(),
        "make QoS policy kea-egress-100mbps (egress 100 Mbit/s)".to_owned(),
        format!("allocate an address for kafka-0 and bind it to {}", world.pod_ip(0)),
        format!("advertise {}:9094 for kafka-0 without a restart", address.address),
    ];
    assert_eq!(steps, expected);

    world.move_pod(0);
    world.settle_until_ready().await;
    let steps = decided(&world, &log);
    assert_eq!(steps.len(), 1, "{steps:?}");
    assert!(steps[0].starts_with(&format!("bind address {} of kafka-0 to ", address.id)), "{steps:?}");

    world.delete();
    world.settle_until_gone().await;
    let steps = decided(&world, &log);
    let released = format!("release address {} of kafka-0", address.id);
    for step in
        ["withdraw the listener from kafka-0 without a restart", &released, "let the object go (finalizer)"]
    {
        assert_eq!(steps.iter().filter(|told| *told == step).count(), 1, "{step}: {steps:?}");
    }
}

#[tokio::test]
async fn a_step_that_fails_is_told_with_what_was_tried() {
    let (log, _guard) = Log::start();
    let world = World::ready().await;
    log.take();
    world.cloud.script([Some(Fault::Refuse(CloudFault::Unavailable("no route".to_owned())))]);
    world.move_pod(1);
    world.reconcile().await;
    let lines = log.take();
    let failed: Vec<_> = lines.iter().filter(|line| line["message"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{lines:#?}");
    assert!(failed[0]["step"].as_str().is_some_and(|step| step.starts_with("bind address ")), "{failed:?}");
    assert!(failed[0]["error"].as_str().is_some_and(|error| error.contains("no route")), "{failed:?}");

    world.cloud.set_down(Some(CloudFault::Unavailable("no route".to_owned())));
    for _ in 0..3 {
        assert!(world.reconcile().await.failed);
        let lines = log.take();
        let unseen: Vec<_> =
            lines.iter().filter(|line| line["message"] == "the cloud was not seen").collect();
        assert_eq!(unseen.len(), 1, "a line for each: {lines:#?}");
        assert_eq!((&unseen[0]["level"], &unseen[0]["key"]), (&json!("WARN"), &json!("ydata/kafka")));
    }
}
