//! Brokers that clients outside do not get to, each for another cause, as the status tells them apart.

use std::{net::Ipv4Addr, time::Duration};

use kafka_external_access::{
    api::{BrokerHealth, KafkaExternalAccess},
    kafka::{Brokers, ListenerSetting, Security, SettingChange, Target, Validate, admin::TcpBrokers},
    seams::{Leadership, SoleReplica},
};
use lab::{cloud::SecurityRule, kafka::Flavour};
use serde_json::json;

use crate::{
    elsewhere::{Elsewhere, build_image},
    world::{READY, World, in_lab},
};

const FENCED: &str = "ydata-fenced";

/// The way from one pod to an address, cut in the pod's own network; whole again when this goes.
struct Cut<'a> {
    world: &'a World,
    network: String,
    to: Ipv4Addr,
}

impl<'a> Cut<'a> {
    fn between(world: &'a World, pod: Ipv4Addr, to: Ipv4Addr) -> Self {
        let listed = world.lab.command("ip").args(["netns", "list"]).text().expect("networks of pods");
        let holds = |network: &&str| {
            // One that has just ended holds nothing.
            let addresses = world.lab.command("ip").args(["-n", network, "-4", "-o", "address"]).text();
            addresses.is_ok_and(|addresses| addresses.contains(&format!(" {pod}/")))
        };
        let mut networks = listed.lines().filter_map(|line| line.split_whitespace().next());
        let network = networks.find(holds).expect("the pod's network").to_owned();
        let cut = Self { world, network, to };
        cut.route("add").expect("a route");
        cut
    }

    fn route(&self, change: &str) -> lab::Result<String> {
        let to = format!("{}/32", self.to);
        let route = ["-n", &self.network, "route", change, "blackhole", &to];
        self.world.lab.command("ip").args(route).text()
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        // The pod, and its network with it, may have ended.
        let _ = self.route("del");
    }
}

fn health(object: &KafkaExternalAccess) -> Vec<BrokerHealth> {
    let brokers = object.status.iter().flat_map(|status| &status.brokers);
    brokers.map(|broker| broker.health.clone().expect("every broker is probed")).collect()
}

/// `True`, or why not, of each broker.
fn told(object: &KafkaExternalAccess) -> Vec<String> {
    health(object).into_iter().map(|health| health.reason.unwrap_or(health.reachable)).collect()
}

#[test]
fn a_broker_that_the_controllers_have_fenced_is_told_as_fenced_while_it_answers() {
    build_image(Flavour::KRaft39);
    in_lab("fenced", async |world| {
        let kafka = Elsewhere::deploy(world, Flavour::KRaft39, FENCED);
        let group = world.cloud.facts().security_group_id.clone();
        world.demo.add_rule(&group, &SecurityRule::tcp(9092)).expect("a rule can be added");
        let ip = |pod: &str| -> Ipv4Addr {
            let ip = kafka.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]);
            ip.parse().expect("an address")
        };
        let lives = || kafka.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"]);
        let before = lives();
        world.start_operator();
        let mut object = kafka.smallest();
        object["spec"].as_object_mut().expect("a spec").remove("listener");
        kafka.apply(&object);
        let object = kafka.until(world, "Reachable", "True", None).await;
        let hosts = object.status.unwrap_or_default().hosts;
        let vm = world.lab.vm().expect("the virtual machine");
        vm.write_hosts(&(hosts.join("\n") + "\n")).expect("its hosts file can be written");

        // Its heartbeats stop; nothing else does.
        let cut = Cut::between(world, ip("kafka-1"), ip("controller-0"));
        let object = kafka.until(world, "Reachable", "False", Some("BrokerNotRegistered")).await;
        assert_eq!(told(&object), ["True", "BrokerNotRegistered", "True"]);
        let seen = |broker: &str| {
            let at = format!("{broker}.kafka-headless.{FENCED}.svc:9092");
            world.vm_table(&at).expect("it answers").into_keys().collect::<Vec<_>>()
        };
        assert_eq!(seen("kafka-0"), [0, 2], "clients are not told of it");
        assert_eq!(seen("kafka-1"), [0, 1, 2], "it answers, and does not know");
        drop(cut);
        let object = kafka.until(world, "Reachable", "True", None).await;
        assert_eq!(told(&object), ["True"; 3]);

        world.cloud.set_hairpin(false).expect("hairpin can be switched");
        let object = kafka.until(world, "Reachable", "False", Some("Unreachable")).await;
        assert!(told(&object).contains(&"Unreachable".to_owned()), "{:?}", health(&object));
        world.cloud.set_hairpin(true).expect("hairpin can be switched");
        kafka.until(world, "Reachable", "True", None).await;
        assert_eq!(lives(), before, "no pod was restarted");

        kafka.kubectl(&["delete", "kea", "kafka", "--timeout=600s"]);
        kafka.remove();
    });
}

#[test]
fn a_broker_that_tells_clients_another_address_than_its_own_is_told_as_stale() {
    in_lab("stale", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Reachable", "True", READY).await;
        // The operator would put it right.
        world.patch(json!({"spec": {"mode": "Plan"}})).await;
        world.condition("Reachable", "True", READY).await;
        let at = (world.pod_ip("kafka-1").await, 9092).into();
        let broker = Target { at, security: Security::default(), step_timeout: Duration::from_secs(20) };
        let view = TcpBrokers.describe(&broker).await.expect("it answers");
        let setting = ListenerSetting::AdvertisedListeners;
        let stored = view.setting(setting).dynamic.expect("it is stored");
        let own = stored.rsplit_once("EXTERNAL://").expect("it advertises").1;
        let change = SettingChange::Set(setting, stored.replace(own, "203.0.113.99:9094"));
        let permit = SoleReplica.permit().expect("nobody else leads");
        let changed = TcpBrokers.alter(permit, &broker, view.node, &[change], Validate::AndApply).await;
        changed.expect("somebody changes it by hand");
        let object = world.reason("Reachable", "False", "StaleAdvertisement", READY).await;
        assert!(told(&object).contains(&"StaleAdvertisement".to_owned()), "{:?}", health(&object));
        world.patch(json!({"spec": {"mode": "Apply"}})).await;
        let object = world.condition("Reachable", "True", READY).await;
        assert_eq!(told(&object), ["True"; 3]);
    });
}
