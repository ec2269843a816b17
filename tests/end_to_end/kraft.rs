//! KRaft: served under the internal names today; a listener needs a restart, which nobody does without consent.

use lab::{cloud::SecurityRule, kafka::Flavour};
use serde_json::json;

use crate::{
    elsewhere::{Elsewhere, build_image},
    world::{READY, in_lab},
};

const KRAFT: &str = "ydata-kraft";

#[test]
fn kraft_brokers_are_reached_under_their_own_names_and_auto_never_restarts_them() {
    build_image(Flavour::KRaft100);
    in_lab("kraft", async |world| {
        let kafka = Elsewhere::deploy(world, Flavour::KRaft100, KRAFT);
        let group = world.cloud.facts().security_group_id.clone();
        world.demo.add_rule(&group, &SecurityRule::tcp(9092)).expect("a rule can be added");
        let pods = || kafka.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"]);
        let before = pods();
        world.start_operator();
        let mut object = kafka.smallest();
        object["spec"].as_object_mut().expect("a spec").remove("listener");
        kafka.apply(&object);
        let hosts = kafka.until(world, "Ready", "True", None).await.status.unwrap_or_default().hosts;
        assert_eq!(hosts.len(), 3, "{hosts:?}");
        let vm = world.lab.vm().expect("the virtual machine");
        vm.write_hosts(&(hosts.join("\n") + "\n")).expect("its hosts file can be written");
        let names: Vec<String> =
            (0..3).map(|ordinal| format!("kafka-{ordinal}.kafka-headless.{KRAFT}.svc:9092")).collect();
        let seen = world.vm_lists(&names[0], &names).await;
        assert_eq!(seen.into_keys().collect::<Vec<_>>(), [100, 101, 102], "node.id is ordinal + 100");

        object["spec"]["listener"] = json!({"name": "EXTERNAL", "port": 9094});
        kafka.apply(&object);
        let stopped = kafka.until(world, "Programmed", "False", Some("RestartRequired")).await;
        let steps = stopped.status.unwrap_or_default().plan.join("\n");
        assert!(steps.contains("advertised.listeners="), "the plan shows the settings: {steps}");
        assert_eq!(pods(), before, "no broker was restarted");

        kafka.kubectl(&["delete", "kea", "kafka", "--timeout=600s"]);
        world
            .eventually("nothing is left in the cloud", READY, async || {
                if world.ledger().is_empty() { Ok(()) } else { Err(world.ledger()) }
            })
            .await;
        kafka.remove();
    });
}
