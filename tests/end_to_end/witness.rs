//! The in-cluster application of `Witness.java`: a producer and a consumer group that must notice nothing.

use crate::world::{READY, World};

const SOURCE: &str = include_str!("Witness.java");

/// The application, run in the client pod of a namespace.
pub struct Witness {
    lab: &'static lab::Lab,
    namespace: &'static str,
}

impl Witness {
    pub fn start(lab: &'static lab::Lab, namespace: &'static str) -> Self {
        let witness = Self { lab, namespace };
        // As an argument: what `kubectl exec -i` sends may be lost where the process is not read from at once.
        witness.shell(&["rm -f /tmp/stop /tmp/witness.log; printf %s \"$0\" >/tmp/Witness.java", SOURCE]);
        let servers = (0..3)
            .map(|n| format!("kafka-{n}.kafka-headless.{namespace}.svc:9092"))
            .collect::<Vec<_>>()
            .join(",");
        let topic = format!("witness-{}", std::process::id());
        let run = format!(
            "KAFKA_HEAP_OPTS=-Xmx192m kafka-run-class.sh /tmp/Witness.java {servers} {topic} 6 >/tmp/witness.log 2>&1 </dev/null &"
        );
        witness.shell(&[&run]);
        witness
    }

    /// A line of shell and its `$0`.
    fn shell(&self, line: &[&str]) -> String {
        let args = ["-n", self.namespace, "exec", "client", "--", "sh", "-c"];
        self.lab.kubectl(&[&args[..], line].concat()).expect("the client pod runs commands")
    }

    pub async fn running(&self, world: &World) {
        world
            .eventually("the witness has begun", READY, async || {
                let log = self.shell(&["cat /tmp/witness.log"]);
                if log.contains("started") { Ok(()) } else { Err(log) }
            })
            .await;
    }

    /// What it noticed.
    async fn finish(&self, world: &World) -> serde_json::Value {
        self.shell(&["touch /tmp/stop"]);
        world
            .eventually("the witness reports", READY, async || {
                let log = self.shell(&["cat /tmp/witness.log"]);
                let report = log.lines().find(|line| line.starts_with('{')).map(str::to_owned);
                report.and_then(|line| serde_json::from_str(&line).ok()).ok_or(log)
            })
            .await
    }

    /// It went on all the time: no record lost or doubled, and no error in the application.
    pub async fn noticed_nothing(self, world: &World) {
        self.assert_none(
            world,
            &["lost", "duplicated", "offsetsWentBack", "errorCount", "expelled", "timedOut"],
        )
        .await;
    }

    /// It may have waited while more brokers were away than its topics can do without: the group may have expelled its
    /// consumer, and its time may have run out. No record is lost or doubled, and the application got no other error.
    pub async fn lost_nothing(self, world: &World) {
        self.assert_none(world, &["lost", "duplicated", "offsetsWentBack", "errorCount"]).await;
    }

    async fn assert_none(&self, world: &World, counted: &[&str]) {
        let report = self.finish(world).await;
        println!("{report}");
        let number = |name: &str| report[name].as_u64().unwrap_or(u64::MAX);
        assert!(number("acknowledged") > 1000, "{report}");
        assert!(counted.iter().all(|name| number(name) == 0), "{report}");
    }
}
