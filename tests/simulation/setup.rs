//! How a world begins.

use std::{net::Ipv4Addr, time::Duration};

use kafka_external_access::{cloud::IngressRule, domain::SecurityGroupId, kafka::MetadataMode};
use serde_json::{Value, json};

use crate::{chance::Chance, workload::pod_name};

/// How brokers learn their address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Nothing in Kafka is touched.
    None,
    /// Stored settings.
    Auto,
    /// The pod template.
    Restart,
}

#[derive(Clone, Debug)]
pub struct Setup {
    pub brokers: u32,
    pub replicas: usize,
    pub mode: MetadataMode,
    pub listener: Listener,
    pub retain: bool,
    /// `onDelete: Restore`.
    pub restore: bool,
    /// Name that brokers advertise instead of their address.
    pub name: Option<&'static str>,
    /// Pods come and go without an order.
    pub parallel: bool,
    /// The user's own update strategy is `OnDelete`.
    pub on_delete: bool,
    /// A pod that is deleted ends within this.
    pub pods_end_in: Duration,
    /// The StatefulSet controller sees a new template within this.
    pub seen_in: Duration,
    /// Faults in a thousand calls.
    pub faults: u64,
}

/// The first needs a file for each broker, the second stands in the template.
const NAMES: [&str; 2] = ["broker-{ordinal}.example.com", "{podName}.example.com"];

impl Setup {
    /// Three brokers, one replica of the operator, no fault.
    pub fn plain(listener: Listener) -> Self {
        let mode = match listener {
            Listener::Restart => MetadataMode::KRaft,
            _ => MetadataMode::ZooKeeper,
        };
        Self {
            brokers: 3,
            replicas: 1,
            mode,
            listener,
            retain: false,
            restore: false,
            name: None,
            parallel: true,
            on_delete: false,
            pods_end_in: Duration::ZERO,
            seen_in: Duration::ZERO,
            faults: 0,
        }
    }

    /// The port that clients outside use.
    pub fn served_port(&self) -> u16 {
        if self.listener == Listener::None { 9092 } else { 9094 }
    }

    /// What clients outside are told.
    pub fn host(&self, ordinal: u32, address: Ipv4Addr) -> String {
        let Some(name) = self.name else { return address.to_string() };
        name.replace("{ordinal}", &ordinal.to_string()).replace("{podName}", &pod_name(ordinal))
    }

    pub fn drawn(chance: &Chance) -> Self {
        let listener = match chance.below(10) {
            0 => Listener::None,
            1..=6 => Listener::Auto,
            _ => Listener::Restart,
        };
        Self {
            brokers: u32::try_from(*chance.pick(&[1_u64, 2, 3, 3])).expect("a small number"),
            replicas: 1 + chance.index(2),
            retain: chance.permille(150),
            restore: chance.permille(300),
            name: chance.permille(150).then(|| *chance.pick(&NAMES)),
            parallel: chance.permille(500),
            on_delete: chance.permille(100),
            pods_end_in: Duration::from_secs(*chance.pick(&[0, 0, 5, 60])),
            seen_in: Duration::from_secs(*chance.pick(&[0, 0, 1, 20])),
            faults: *chance.pick(&[0, 5, 20, 20, 50, 100]),
            ..Self::plain(listener)
        }
    }
}

/// A rule that admits everybody to one port.
pub fn rule(port: u16) -> IngressRule {
    IngressRule {
        id: format!("rule-{port}"),
        group: SecurityGroupId::new("group"),
        ipv4: true,
        tcp: true,
        ports: Some((port, port)),
        remote_ip_prefix: Some("0.0.0.0/0".into()),
        remote_group: None,
    }
}

pub fn stateful_set(setup: &Setup) -> Value {
    let policy = if setup.parallel { "Parallel" } else { "OrderedReady" };
    let strategy = if setup.on_delete { "OnDelete" } else { "RollingUpdate" };
    json!({
        "metadata": {"name": "kafka", "namespace": "ydata"},
        "spec": {
            "serviceName": "kafka-headless", "replicas": setup.brokers,
            "podManagementPolicy": policy, "updateStrategy": {"type": strategy},
            "selector": {"matchLabels": {"app": "kafka"}},
            "template": {"metadata": {"labels": {"app": "kafka"}}, "spec": {"containers": [{
                "name": "kafka",
                "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "KAFKA_LISTENERS", "value": "INTERNAL://:9092"},
                    {"name": "KAFKA_ADVERTISED_LISTENERS",
                        "value": "INTERNAL://$(POD_NAME).kafka-headless.ydata.svc:9092"},
                    {"name": "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "value": "INTERNAL:PLAINTEXT"}],
                "ports": [{"containerPort": 9092}]}]}}}})
}

pub fn object(setup: &Setup) -> Value {
    let mut object = json!({
        "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccess",
        "metadata": {"name": "kafka", "namespace": "ydata"},
        "spec": {
            "kafka": {"statefulSet": {"name": "kafka"}},
            "listener": {"name": "EXTERNAL", "port": 9094},
            "probe": {"interval": "5m"},
            "addresses": {"provider": {"type": "OpenStack", "openstack": {
                "cloudName": "dev", "credentialsSecretRef": {"name": "openstack"}, "floatingNetwork": "public"}}}}});
    match setup.listener {
        Listener::None => {
            object["spec"].as_object_mut().expect("a spec").remove("listener");
        }
        Listener::Auto => {}
        Listener::Restart => {
            object["spec"]["listener"]["rollout"] = json!("Restart");
            // One of fewer than three controllers cannot go without the others.
            object["spec"]["listener"]["allowUnavailable"] = json!(setup.brokers < 3);
        }
    }
    if setup.listener != Listener::None {
        object["spec"]["listener"]["onDelete"] = json!(if setup.restore { "Restore" } else { "Keep" });
        object["spec"]["listener"]["advertisedHostTemplate"] = json!(setup.name);
    }
    if setup.retain {
        object["spec"]["addresses"]["retentionPolicy"] = json!({"whenDeleted": "Retain"});
    }
    object
}
