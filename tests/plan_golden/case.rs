//! The language of the cases: a small world, of which each case names only what is special.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetUpdateStrategy},
    core::v1::ConfigMap,
};
use kafka_external_access::{
    api::{FINALIZER, KafkaExternalAccess, KafkaExternalAccessStatus},
    cloud::{
        Binding, CloudError, CloudFault, FloatingIp, IngressRule, NetworkKind, Port,
        limits::{MANAGED, QosPolicy},
    },
    domain::{
        AccessKey, AddressId, ClusterId, Endpoint, NetworkId, NodeId, Ordinal, PortId, ProjectId,
        QosPolicyId, Revision, SecurityGroupId, Uid,
    },
    kafka::{
        BrokerView, ClusterState, KafkaError, KafkaFault, ListenerSetting, MetadataMode, Partition, Quorum,
        SettingValue, Step, probe::Report, traffic::TrafficError,
    },
    listeners::restart::{
        file::{self, Advertised},
        strategy,
        template::{self, State},
    },
    plan::{
        Outside, PodIdentity,
        class::Classes,
        cost::Prices,
        memory::{AllocationPause, Memory, Quarrel, Restarted},
        observed::{
            CloudState, CloudView, CredentialProblem, KafkaState, Metering, Observed, OtherAccess, Own,
            PodView, ProbeResult, StatefulSetView, Wants,
        },
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

/// All cases happen at this moment.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    deleting: bool,
    #[serde(default)]
    held: bool,
    /// The object is held, and its Secret is not.
    #[serde(default)]
    secret_free: bool,
    #[serde(default = "three")]
    replicas: Option<u32>,
    /// Who keeps the StatefulSet as it is, in words.
    manager: Option<String>,
    #[serde(default)]
    host_network: bool,
    /// `gone`, `no-ip`, `terminating`, `unready`, `alone`, `alone-terminating`, for the others a running pod.
    #[serde(default)]
    pods: BTreeMap<u32, String>,
    /// `none`, `two`, `foreign`, `unprotected`, `new` (not the one of before); for the others one port.
    #[serde(default)]
    ports: BTreeMap<u32, String>,
    /// `closed`, `everything`, `unreadable`; else the listener's port only.
    #[serde(default)]
    rules: String,
    #[serde(default)]
    addresses: Vec<Address>,
    #[serde(default)]
    cloud: String,
    /// Bandwidth policies by name: identifiers and limits.
    #[serde(default)]
    policies: BTreeMap<String, String>,
    #[serde(default)]
    status: KafkaExternalAccessStatus,
    #[serde(default)]
    others: Vec<Other>,
    /// `plain`, `ours`, `kraft`, `kraft-ours`, `kraft-other`, `kraft-name`, `pod-address`, `name-taken`, `port-taken`, `shadowed`, `odd`, `tls`, `sasl`, `down`; none: not asked.
    kafka: Option<BTreeMap<u32, String>>,
    /// `ours`, `rolling`, `unseen`, `reverted`, `restored`, `bitnami`, `unmarked` (ours, and the annotation is lost), `of-another`, `staged`, `taken-over`
    /// (the listener of another object is in it); else as the user wrote it.
    #[serde(default)]
    template: String,
    /// `empty`, `right`, `right-3` (of three brokers, however many there are), `foreign` (a ConfigMap of the user's); else there are none.
    #[serde(default)]
    files: String,
    /// Pods of an older template.
    #[serde(default)]
    old: Vec<u32>,
    /// Pods that have the ConfigMap of our files for a volume.
    #[serde(default)]
    reading: Vec<u32>,
    /// The user's own update strategy is `OnDelete`.
    #[serde(default)]
    on_delete: bool,
    /// The user's own `partition`; the last finished roll left revision `old`.
    partition: Option<u32>,
    /// `healthy`, `tight`, `behind`, `careless`, `refused`; else not asked.
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    busy: Vec<u32>,
    /// `good`, `refused`, `stale`, `fenced` (broker 1 is), `ends-9` (its certificate, in days), `expired`, or the id of the broker that answers.
    #[serde(default)]
    probes: BTreeMap<u32, String>,
    #[serde(default)]
    memory: Remembered,
    /// Brokers whose byte counters were asked for in vain.
    #[serde(default)]
    unmetered: Vec<u32>,
    /// The operator knows its cloud's prices: 10 for an address and month, 1 for a Mbit/s.
    #[serde(default)]
    prices: bool,
    /// The object uses class `shared` instead of a provider.
    class: Option<Class>,
}

/// What the platform team wrote.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    #[serde(default)]
    missing: bool,
    #[serde(default)]
    namespaces: Value,
    #[serde(default)]
    adoption: Value,
    #[serde(default)]
    limits: Value,
    /// Labels of the object's namespace.
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn three() -> Option<u32> {
    Some(3)
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    id: String,
    ip: Ipv4Addr,
    /// `ours-0`, `former-0`, `retained-0`, `other`, `orphan`, else the description itself.
    marker: String,
    /// A broker's ordinal, or `stranger`.
    bound: Option<String>,
    #[serde(default)]
    forwarding: bool,
    /// Identifier of its bandwidth policy.
    policy: Option<String>,
    #[serde(default)]
    age: u64,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Other {
    name: String,
    #[serde(default)]
    older: bool,
    #[serde(default)]
    same_target: bool,
    address: Option<Ipv4Addr>,
    namespace: Option<String>,
    /// It uses class `shared`.
    #[serde(default)]
    class: bool,
    /// Its Secret, else `openstack`.
    secret: Option<String>,
    /// It has no finalizer of ours.
    #[serde(default)]
    unheld: bool,
    /// It has a field that this version does not know.
    #[serde(default)]
    unreadable: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    /// Seconds until the next create call, and why: `quota`, `pool`, `router`, `refused`, `forbidden`.
    pause: Option<(u64, String)>,
    #[serde(default)]
    contested: Vec<u32>,
    /// Seconds since.
    #[serde(default)]
    surplus: BTreeMap<String, u64>,
    #[serde(default)]
    gone: BTreeMap<u32, u64>,
    #[serde(default)]
    idle: BTreeMap<u32, u64>,
    empty: Option<u64>,
    #[serde(default)]
    not_applied: Vec<u32>,
    #[serde(default)]
    reached: Vec<u32>,
    /// This process saw the object before it was held.
    #[serde(default)]
    unheld: bool,
    /// A request to hold the Secret was cut off.
    #[serde(default)]
    unclear_hold: bool,
    /// This process leads since so many seconds; else for two hours.
    led: Option<u64>,
    /// It has sent a create call.
    #[serde(default)]
    allocated: bool,
    /// So many seconds ago a create call was cut off.
    unclear_create: Option<u64>,
    /// Brokers whose address we have led to where it should lead now.
    #[serde(default)]
    bound: Vec<u32>,
    /// What brokers were told by this process.
    #[serde(default)]
    told: BTreeMap<u32, String>,
    /// Brokers whose former pod we evicted, seconds ago, so that they advertise what they should, or nothing any more.
    #[serde(default)]
    restarted: BTreeMap<u32, u64>,
    /// Brokers whose pod we have evicted so many seconds ago, and which is still there.
    #[serde(default)]
    evicted: BTreeMap<u32, u64>,
}

fn ago(seconds: u64) -> Timestamp {
    now() - Duration::from_secs(seconds)
}

fn cluster() -> ClusterId {
    ClusterId::new("c1")
}

fn ip(ordinal: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 128, 0, u8::try_from(20 + ordinal).expect("a small ordinal"))
}

fn port_id(ordinal: u32) -> PortId {
    PortId::new(format!("port-{ordinal}"))
}

/// Policies of one name: identifiers, each with a plus for one of ours, and its limits in Mbit/s: `q1+ 100 -, q2 20 20`.
fn policies(name: &str, all: &str) -> Vec<QosPolicy> {
    let policy = |text: &str| {
        let mut words = text.split_whitespace();
        let id = words.next().expect("an identifier");
        let ours = id.ends_with('+');
        let mut kbps = || words.next().and_then(|mbps| mbps.parse::<u32>().ok()).map(|mbps| mbps * 1000);
        QosPolicy {
            id: QosPolicyId::new(id.trim_end_matches('+')),
            name: name.to_owned(),
            project: ProjectId::new(if ours { "p1" } else { "administrators" }),
            description: if ours { MANAGED.to_owned() } else { String::new() },
            egress_kbps: kbps(),
            ingress_kbps: kbps(),
        }
    };
    all.split(',').filter(|text| !text.trim().is_empty()).map(policy).collect()
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

impl Case {
    pub fn set_mode_plan(&mut self) {
        if self.spec.is_null() {
            self.spec = json!({});
        }
        self.spec["mode"] = json!("Plan");
    }

    pub fn object(&self) -> KafkaExternalAccess {
        let mut spec = json!({
            "kafka": {"statefulSet": {"name": "kafka"}},
            "listener": {"name": "EXTERNAL", "port": 9094},
            "addresses": {"provider": {"type": "OpenStack", "openstack": {
                "cloudName": "dev", "credentialsSecretRef": {"name": "openstack"}, "floatingNetwork": "public",
            }}},
        });
        if self.class.is_some() {
            spec["addresses"] = json!({"classRef": {"name": "shared"}});
        }
        if !self.spec.is_null() {
            merge(&mut spec, &self.spec);
        }
        let object = json!({
            "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccess",
            "metadata": {
                "namespace": "ydata", "name": "kafka", "uid": "u1", "generation": 1,
                "creationTimestamp": ago(3600).to_string(), "annotations": self.annotations,
                "finalizers": if self.held { json!([FINALIZER]) } else { json!([]) },
            },
            "spec": spec, "status": self.status,
        });
        serde_json::from_value(object).expect("an object")
    }

    pub fn classes(&self) -> Classes {
        let Some(class) = &self.class else { return Classes::default() };
        let mut object = json!({
            "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccessClass",
            "metadata": {"name": "shared"},
            "spec": {"provider": {"type": "OpenStack", "openstack": {
                "cloudName": "dev", "credentialsSecretRef": {"name": "openstack"}, "floatingNetwork": "public",
            }}},
        });
        for (field, value) in
            [("namespaces", &class.namespaces), ("adoption", &class.adoption), ("limits", &class.limits)]
        {
            if !value.is_null() {
                object["spec"][field] = value.clone();
            }
        }
        let all = if class.missing { Vec::new() } else { vec![object] };
        Classes {
            all: all.into_iter().map(|class| serde_json::from_value(class).expect("a class")).collect(),
            operator_namespace: "kafka-external-access".into(),
            labels: class.labels.clone(),
        }
    }

    pub fn observed(&self, object: &KafkaExternalAccess) -> Observed {
        Observed {
            cluster: cluster(),
            own: Own {
                uid: Uid::new("u1"),
                generation: 1,
                held: self.held,
                deleting: self.deleting,
                created_at: Some(ago(3600)),
                status: object.status.clone().unwrap_or_default(),
            },
            others: self.others.iter().map(other).collect(),
            stateful_set: self.replicas.map(|replicas| StatefulSetView {
                uid: Uid::new("set"),
                manager: self.manager.clone(),
                replicas,
                first_ordinal: 0,
                host_network: self.host_network,
                internal_port: Some(9092),
                listening_ports: BTreeSet::from([9092]),
                service: "kafka-headless".into(),
                object: Box::new(self.stateful_set(replicas)),
            }),
            pods: self.running().into_iter().filter_map(|ordinal| self.pod(ordinal)).collect(),
            cloud: self.cloud_state(),
            kafka: self.kafka.as_ref().map(|kinds| self.kafka_state(kinds)),
            files: self.files(),
            metering: self.metering(),
            prices: self.prices.then(prices),
        }
    }

    /// Ordinals of the pods that exist; `alone` names those that live without the StatefulSet, or although it is smaller.
    fn running(&self) -> Vec<u32> {
        let alone =
            self.pods.iter().filter(|(_, kind)| kind.starts_with("alone")).map(|(ordinal, _)| *ordinal);
        (0..self.replicas.unwrap_or(0)).chain(alone).collect()
    }

    fn pod(&self, ordinal: u32) -> Option<(Ordinal, PodView)> {
        let kind = self.pods.get(&ordinal).map(String::as_str).unwrap_or_default();
        let name = format!("kafka-{ordinal}");
        let view = PodView {
            identity: PodIdentity { uid: Uid::new(format!("pod-{ordinal}")), name },
            node: Some("node".into()),
            ip: (kind != "no-ip").then(|| ip(ordinal)),
            node_ip: Some([10, 0, 0, 10].into()),
            terminating: kind.ends_with("terminating"),
            ready: kind != "unready",
            revision: Some(if self.old.contains(&ordinal) { "old" } else { "new" }.to_owned()),
            reads_files: self.reading.contains(&ordinal),
        };
        (kind != "gone").then_some((Ordinal(ordinal), view))
    }

    fn cloud_state(&self) -> CloudState {
        let failed = |fault| CloudState::Failed(CloudError { operation: "list floating IPs", fault });
        match self.cloud.as_str() {
            "static" | "unused" => CloudState::NotUsed,
            "no-secret" => {
                CloudState::NoCredential(CredentialProblem::SecretMissing { name: "openstack".into() })
            }
            "malformed" => CloudState::NoCredential(CredentialProblem::Malformed {
                name: "openstack".into(),
                problem: "add the key clouds.yaml".into(),
            }),
            "refused" => failed(CloudFault::Unauthorized("wrong password".into())),
            "down" => failed(CloudFault::Unavailable("connection refused".into())),
            "no-network" => {
                failed(CloudFault::NetworkUnknown { name: "public".into(), kind: NetworkKind::External })
            }
            "two-networks" => failed(CloudFault::NetworkAmbiguous { name: "public".into(), count: 2 }),
            "" | "other-project" => CloudState::Seen(Box::new(self.cloud_view())),
            other => panic!("unknown cloud {other}"),
        }
    }

    fn project(&self) -> ProjectId {
        ProjectId::new(if self.cloud == "other-project" { "p2" } else { "p1" })
    }

    fn cloud_view(&self) -> CloudView {
        let ordinals =
            (0..self.replicas.unwrap_or(0)).filter(|o| self.pods.get(o).map(String::as_str) != Some("gone"));
        let rule = |ports| IngressRule {
            id: "rule-1".into(),
            group: SecurityGroupId::new("sg"),
            ipv4: true,
            tcp: true,
            ports,
            remote_ip_prefix: Some("0.0.0.0/0".into()),
            remote_group: None,
        };
        let rules = match self.rules.as_str() {
            "closed" => Ok(vec![]),
            "everything" => Ok(vec![rule(None)]),
            "unreadable" => Err(CloudError {
                operation: "read security group rules",
                fault: CloudFault::Forbidden("policy".into()),
            }),
            _ => Ok(vec![rule(Some((9094, 9094)))]),
        };
        CloudView {
            project: self.project(),
            floating_network: NetworkId::new("net-public"),
            addresses: self.addresses.iter().map(|address| self.floating_ip(address)).collect(),
            ports: ordinals.map(|ordinal| (Ordinal(ordinal), self.ports_of(ordinal))).collect(),
            rules,
            policies: self
                .policies
                .iter()
                .map(|(name, all)| (name.clone(), Ok(policies(name, all))))
                .collect(),
            secret_held: self.held && !self.secret_free,
            due_in: Duration::from_secs(300),
        }
    }

    fn ports_of(&self, ordinal: u32) -> Vec<Port> {
        let kind = self.ports.get(&ordinal).map(String::as_str).unwrap_or_default();
        let port = Port {
            id: port_id(ordinal),
            network: NetworkId::new("net-pods"),
            project: if kind == "foreign" { ProjectId::new("p9") } else { self.project() },
            fixed_ips: vec![ip(ordinal)],
            security_groups: vec![SecurityGroupId::new("sg")],
            port_security_enabled: Some(kind != "unprotected"),
        };
        match kind {
            "none" => vec![],
            "two" => vec![port.clone(), Port { id: PortId::new("port-x"), ..port }],
            "new" => vec![Port { id: PortId::new("port-x"), ..port }],
            _ => vec![port],
        }
    }

    fn floating_ip(&self, address: &Address) -> FloatingIp {
        let marker = |kind: &str, ordinal: &str| match kind {
            "ours" => Some(format!("kea/v1 c=c1 n=ydata/kafka u=u1 o={ordinal}")),
            "former" => Some(format!("kea/v1 c=c1 n=ydata/kafka u=u0 o={ordinal}")),
            "retained" => Some(format!("kea-retained/v1 c=c1 n=ydata/kafka o={ordinal}")),
            _ => None,
        };
        let named = address.marker.split_once('-').and_then(|(kind, ordinal)| marker(kind, ordinal));
        let description = match address.marker.as_str() {
            "other" => "kea/v1 c=c1 n=ydata/second u=u2 o=0".to_owned(),
            "orphan" => "kea/v1 c=c1 n=gone/gone u=u7 o=0".to_owned(),
            text => named.unwrap_or_else(|| text.to_owned()),
        };
        let binding = address.bound.as_ref().map(|bound| match bound.parse::<u32>() {
            Ok(ordinal) => Binding { port: port_id(ordinal), fixed_ip: ip(ordinal) },
            Err(_) => Binding { port: PortId::new("port-stranger"), fixed_ip: Ipv4Addr::new(10, 128, 3, 1) },
        });
        FloatingIp {
            id: AddressId::new(&address.id),
            address: address.ip,
            network: NetworkId::new("net-public"),
            project: self.project(),
            binding,
            has_port_forwardings: address.forwarding,
            description,
            qos_policy: address.policy.as_ref().map(QosPolicyId::new),
            revision: Revision(1),
            created_at: Some(ago(1000 + address.age)),
        }
    }

    /// The address that a broker's stored settings name: that of its own address in the case.
    fn outside(&self, ordinal: u32) -> String {
        let marker = format!("ours-{ordinal}");
        let found = self.addresses.iter().find(|address| address.marker == marker);
        found.map_or_else(|| format!("203.0.113.{}", 10 + ordinal), |address| address.ip.to_string())
    }

    fn kafka_state(&self, kinds: &BTreeMap<u32, String>) -> KafkaState {
        let internal: BTreeMap<Ordinal, _> =
            kinds.iter().map(|(ordinal, kind)| (Ordinal(*ordinal), self.broker(*ordinal, kind))).collect();
        let probes =
            self.probes.iter().map(|(ordinal, kind)| (Ordinal(*ordinal), self.probe(*ordinal, kind)));
        KafkaState {
            internal,
            port_busy: self.busy.iter().map(|ordinal| (Ordinal(*ordinal), true)).collect(),
            probes: probes.collect(),
            probed: vec![],
            probes_due_in: None,
            cluster: (!self.cluster.is_empty()).then(|| self.cluster_state()),
        }
    }

    /// The StatefulSet in one of the states of its template.
    fn stateful_set(&self, replicas: u32) -> StatefulSet {
        let object = self.object();
        let Some(listener) = object.spec.listener else { return StatefulSet::default() };
        let env = json!([
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": if self.template == "bitnami" { "KAFKA_CFG_LISTENERS" } else { "KAFKA_LISTENERS" }, "value": "INTERNAL://:9092"},
            {"name": "KAFKA_ADVERTISED_LISTENERS", "value": "INTERNAL://$(POD_NAME).kafka-headless.ydata.svc:9092"},
        ]);
        let plain = json!({
            "metadata": {"name": "kafka", "namespace": "ydata", "uid": "set", "generation": 2},
            "spec": {"replicas": replicas, "serviceName": "kafka-headless", "selector": {},
                "template": {"spec": {"containers": [{"name": "kafka", "env": env}]}}},
            "status": {"replicas": replicas, "observedGeneration": if self.template == "unseen" { 1 } else { 2 }, "updateRevision": "new"},
        });
        let mut plain: StatefulSet = serde_json::from_value(plain).expect("a StatefulSet");
        if self.on_delete {
            let strategy = serde_json::from_value(json!({"type": "OnDelete"})).expect("a strategy");
            plain.spec.get_or_insert_default().update_strategy = Some(strategy);
        }
        if let Some(partition) = self.partition {
            plain.spec.get_or_insert_default().update_strategy = Some(staged(partition));
            plain.status.get_or_insert_default().current_revision = Some("old".into());
        }
        let wanted = template::Wanted {
            name: &listener.name,
            port: listener.port,
            protocol: listener.security_protocol.to_string(),
            host: listener.advertised_host_template.as_deref(),
            map: Some("INTERNAL:PLAINTEXT"),
        };
        let changed_for = |wanted: &template::Wanted<'_>| match template::state(&plain, None, wanted) {
            Ok(State::Change(set)) => *set,
            other => panic!("{other:?}"),
        };
        let changed = || changed_for(&wanted);
        let returned = || strategy::returned(&changed()).expect("its strategy was held");
        match self.template.as_str() {
            "" | "bitnami" => plain,
            "rolling" | "unseen" => changed(),
            "ours" => returned(),
            "restored" => match template::restored(&returned(), None) {
                Ok(Some(set)) => set,
                other => panic!("{other:?}"),
            },
            "unmarked" => {
                let mut set = returned();
                set.metadata.annotations = None;
                set
            }
            "of-another" => {
                let other = template::Wanted { name: "OTHER", port: 9095, ..wanted.clone() };
                strategy::returned(&changed_for(&other)).expect("its strategy was held")
            }
            // The user lets two brokers wait for the newest template: afterwards, or while our roll held the strategy.
            "staged" | "taken-over" => {
                let mut set = if self.template == "staged" { returned() } else { changed() };
                set.spec.get_or_insert_default().update_strategy = Some(staged(2));
                set
            }
            "reverted" => {
                let mut set = plain.clone();
                set.metadata.annotations = returned().metadata.annotations;
                set
            }
            other => panic!("unknown template {other}"),
        }
    }

    fn files(&self) -> Option<ConfigMap> {
        let set = self.stateful_set(self.replicas?);
        let entry = |ordinal: u32| {
            let host = self.outside(ordinal);
            let outside = Outside::Stated(host.parse().expect("an address"));
            (Ordinal(ordinal), Advertised::of("EXTERNAL", &outside, &Endpoint { host, port: 9094 }))
        };
        match self.files.as_str() {
            "" => None,
            "empty" => Some(file::empty(&set, None)),
            "foreign" => {
                let data = Some([("application.yaml".to_owned(), "a: b".to_owned())].into());
                Some(ConfigMap { data, ..file::empty(&set, None) })
            }
            "right" => Some(file::wanted(&set, None, &(0..self.replicas?).map(entry).collect())),
            "right-3" => Some(file::wanted(&set, None, &(0..3).map(entry).collect())),
            other => panic!("unknown files {other}"),
        }
    }

    fn cluster_state(&self) -> Result<ClusterState, KafkaError> {
        let partition = |in_sync: &[i32], min_in_sync| Partition {
            topic: "orders".into(),
            number: 3,
            replicas: [0, 1, 2].map(NodeId).into(),
            in_sync: in_sync.iter().copied().map(NodeId).collect(),
            min_in_sync,
        };
        let partitions = match self.cluster.as_str() {
            "healthy" => vec![partition(&[0, 1, 2], 2)],
            "tight" => vec![partition(&[0, 1, 2], 3)],
            "behind" => vec![partition(&[0, 1], 2)],
            "careless" => {
                let named =
                    |topic: &str, partition: Partition| Partition { topic: topic.into(), ..partition };
                let single = Partition { replicas: vec![NodeId(0)], ..partition(&[0], 1) };
                vec![
                    named("alone", single),
                    named("tight", partition(&[0, 1, 2], 3)),
                    named("loose", partition(&[0, 1, 2], 1)),
                ]
            }
            "refused" => {
                return Err(KafkaError {
                    step: Step::Metadata,
                    fault: KafkaFault::Authorization("no".into()),
                });
            }
            other => panic!("unknown cluster {other}"),
        };
        let quorum = Quorum { leader: NodeId(1), voters: [0, 1, 2].map(|id| (NodeId(id), true)).into() };
        Ok(ClusterState { partitions, controller: Some(NodeId(0)), quorum: Some(quorum) })
    }

    fn probe(&self, ordinal: u32, kind: &str) -> ProbeResult {
        let table = |stale: bool| {
            let entry = |o: u32| {
                let host = if stale { "192.0.2.9".to_owned() } else { self.outside(o) };
                (NodeId(i32::try_from(o).expect("small")), Endpoint { host, port: 9094 })
            };
            (0..self.replicas.unwrap_or(0)).map(entry).collect()
        };
        let view =
            |node: u32, stale: bool| BrokerView { advertised: table(stale), ..self.view(node, [None; 3]) };
        let outcome = match kind {
            "good" => Ok(view(ordinal, false)),
            kind if kind.starts_with("ends-") => Ok(view(ordinal, false)),
            "expired" => {
                Err(KafkaError { step: Step::Tls, fault: KafkaFault::CertificateExpired(ago(86_400)) })
            }
            "stale" => Ok(view(ordinal, true)),
            "fenced" => {
                let mut seen = view(ordinal, false);
                seen.advertised.remove(&NodeId(1));
                Ok(seen)
            }
            "refused" => Err(KafkaError { step: Step::Tcp, fault: KafkaFault::Refused }),
            id => Ok(view(id.parse().expect("a broker"), false)),
        };
        let through = self.outside(ordinal).parse().expect("an address");
        let ends = |days: &str| now() + Duration::from_secs(86_400 * days.parse::<u64>().expect("days"));
        let certificate_ends = kind.strip_prefix("ends-").map(ends);
        ProbeResult::new(
            Report { passed: vec![], outcome, certificate_ends },
            through,
            "operator at node".into(),
        )
    }

    fn view(&self, ordinal: u32, stored: [Option<&str>; 3]) -> BrokerView {
        let advertised = format!("INTERNAL://kafka-{ordinal}.kafka-headless.ydata.svc:9092");
        self.view_of(ordinal, ["INTERNAL://:9092", &advertised, "INTERNAL:PLAINTEXT"], stored)
    }

    fn view_of(&self, ordinal: u32, fixed: [&str; 3], stored: [Option<&str>; 3]) -> BrokerView {
        let keys = [
            ListenerSetting::Listeners,
            ListenerSetting::AdvertisedListeners,
            ListenerSetting::SecurityProtocolMap,
        ];
        let value = |(fixed, stored): (&str, Option<&str>)| SettingValue {
            dynamic: stored.map(str::to_owned),
            fixed: Some(fixed.to_owned()),
            effective: Some(stored.unwrap_or(fixed).to_owned()),
        };
        let node = |o: u32| NodeId(i32::try_from(o).expect("small"));
        let endpoint = |o: u32| Endpoint { host: format!("kafka-{o}.kafka-headless.ydata.svc"), port: 9092 };
        BrokerView {
            node: node(ordinal),
            cluster: "cluster".into(),
            advertised: (0..self.replicas.unwrap_or(0)).map(|o| (node(o), endpoint(o))).collect(),
            settings: keys.into_iter().zip(fixed.into_iter().zip(stored).map(value)).collect(),
            mode: MetadataMode::ZooKeeper,
        }
    }

    fn broker(&self, ordinal: u32, kind: &str) -> Result<BrokerView, KafkaError> {
        let internal = format!("INTERNAL://kafka-{ordinal}.kafka-headless.ydata.svc:9092");
        let ours = format!("{internal},EXTERNAL://{}:9094", self.outside(ordinal));
        let neighbour = format!("{internal},EXTERNAL://{}:9094", self.outside((ordinal + 1) % 3));
        let map = "INTERNAL:PLAINTEXT";
        let both = "INTERNAL://:9092,EXTERNAL://:9094";
        let both_map = "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT";
        let failed = |fault| Err(KafkaError { step: Step::Tcp, fault });
        Ok(match kind {
            "plain" => self.view(ordinal, [None; 3]),
            "tells-addresses" => {
                let entry = |o: u32| {
                    let host = ip(o).to_string();
                    (NodeId(i32::try_from(o).expect("small")), Endpoint { host, port: 9092 })
                };
                let advertised = (0..self.replicas.unwrap_or(0)).map(entry).collect();
                BrokerView { advertised, ..self.view(ordinal, [None; 3]) }
            }
            "unregistered" => BrokerView { advertised: BTreeMap::new(), ..self.view(ordinal, [None; 3]) },
            "ours" => self.view(ordinal, [Some(both), Some(&ours), Some(both_map)]),
            "neighbour" => self.view(ordinal, [Some(both), Some(&neighbour), Some(both_map)]),
            "by-hand" => self.view_of(ordinal, [both, &ours, both_map], [None; 3]),
            "kraft" => BrokerView { mode: MetadataMode::KRaft, ..self.view(ordinal, [None; 3]) },
            "migrating" => BrokerView {
                mode: MetadataMode::Migrating,
                ..self.view(ordinal, [Some(both), Some(&ours), Some(both_map)])
            },
            kind @ ("kraft-ours" | "kraft-other" | "kraft-name") => {
                let outside = match kind {
                    "kraft-ours" => self.outside(ordinal),
                    "kraft-name" => format!("kafka-{ordinal}.example.com"),
                    _ => "203.0.113.99".to_owned(),
                };
                let advertised = format!("{internal},EXTERNAL://{outside}:9094");
                let fixed = [
                    "INTERNAL://:9092,EXTERNAL://:9094",
                    &advertised,
                    "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT",
                ];
                BrokerView { mode: MetadataMode::KRaft, ..self.view_of(ordinal, fixed, [None; 3]) }
            }
            "ours-both" => {
                self.view_of(ordinal, [both, &ours, both_map], [Some(both), Some(&ours), Some(both_map)])
            }
            "hides-its-own" => {
                self.view_of(ordinal, [both, &ours, both_map], [Some(both), Some(&neighbour), Some(both_map)])
            }
            "pod-address" => {
                self.view_of(ordinal, ["INTERNAL://10.128.0.20:9092", &internal, map], [None; 3])
            }
            "pod-address-told" => {
                let told = format!("INTERNAL://{}:9092", ip(ordinal));
                self.view_of(ordinal, ["INTERNAL://:9092", &told, map], [None; 3])
            }
            "name-taken" => {
                self.view_of(ordinal, ["INTERNAL://:9092,EXTERNAL://:9999", &internal, map], [None; 3])
            }
            "port-taken" => {
                self.view_of(ordinal, ["INTERNAL://:9092,ADMIN://:9094", &internal, map], [None; 3])
            }
            "shadowed" => self.view_of(
                ordinal,
                ["INTERNAL://:19092", &internal, map],
                [Some(both), Some(&ours), Some(both_map)],
            ),
            "odd" => self.view_of(ordinal, ["${file:/x:y}", &internal, map], [None; 3]),
            "tls" => {
                return failed(KafkaFault::Protocol("it wants TLS, and was spoken to in plain text".into()));
            }
            "sasl" => return failed(KafkaFault::Authentication("wrong password".into())),
            "down" => return failed(KafkaFault::Refused),
            other => panic!("unknown broker {other}"),
        })
    }

    fn metering(&self) -> Metering {
        let unread = |ordinal: &u32| {
            let at = SocketAddr::from(([10, 0, 0, 10], 9404));
            (Ordinal(*ordinal), Err(TrafficError::Status { at, status: 404 }))
        };
        let minute = Duration::from_secs(60);
        let readings = self.unmetered.iter().map(unread).collect();
        Metering { interval: minute, due_in: minute, readings }
    }

    pub fn memory(&self) -> Memory {
        let remembered = &self.memory;
        let mut memory = Memory::new(ago(remembered.led.unwrap_or(7200)));
        memory.allocated = remembered.allocated;
        memory.unclear_create_at = remembered.unclear_create.map(ago);
        memory.saw_unheld = remembered.unheld;
        memory.unclear_hold = remembered.unclear_hold;
        memory.allocation = remembered.pause.as_ref().map(|(seconds, why)| AllocationPause {
            failures: 1,
            fault: match why.as_str() {
                "quota" => CloudFault::QuotaExceeded("floatingip".into()),
                "pool" => CloudFault::PoolEmpty("no more addresses".into()),
                "router" => CloudFault::NoRouter("no gateway".into()),
                "forbidden" => CloudFault::Forbidden("create_floatingip".into()),
                _ => CloudFault::Refused("status 400".into()),
            },
            until: now() + Duration::from_secs(*seconds),
        });
        let until = now() + Duration::from_secs(600);
        let quarrel =
            |o: &u32| (Ordinal(*o), Quarrel { port: port_id(*o), moves: Vec::new(), until: Some(until) });
        memory.quarrels = remembered.contested.iter().map(quarrel).collect();
        memory.surplus_since =
            remembered.surplus.iter().map(|(id, s)| (AddressId::new(id), ago(*s))).collect();
        memory.target_gone_since = remembered.gone.iter().map(|(o, s)| (Ordinal(*o), ago(*s))).collect();
        memory.idle_since = remembered.idle.iter().map(|(o, s)| (Ordinal(*o), ago(*s))).collect();
        memory.empty_since = remembered.empty.map(ago);
        let text = "the broker stored the listener but did not open it in time";
        memory.listener_refused =
            remembered.not_applied.iter().map(|o| (Ordinal(*o), (until, text.to_owned()))).collect();
        let outside = |o: &u32| (Ordinal(*o), self.outside(*o).parse().expect("an address"));
        memory.reached = remembered.reached.iter().map(outside).collect();
        let restart = |o: u32, pod: String, seconds: u64| {
            let goal = (!self.deleting).then(|| Endpoint { host: self.outside(o), port: 9094 });
            (Ordinal(o), Restarted { pod: Uid::new(pod), at: ago(seconds), goal, reached: false })
        };
        let restarted = remembered.restarted.iter().map(|(o, s)| restart(*o, "a former pod".into(), *s));
        let evicted = remembered.evicted.iter().map(|(o, s)| restart(*o, format!("pod-{o}"), *s));
        let binding = |o: &u32| (Ordinal(*o), Binding { port: port_id(*o), fixed_ip: ip(*o) });
        memory.bound_by_us = remembered.bound.iter().map(binding).collect();
        let told = |(o, endpoint): (&u32, &String)| (Ordinal(*o), endpoint.parse().expect("an endpoint"));
        memory.told = remembered.told.iter().map(told).collect();
        memory.restarted = restarted.chain(evicted).collect();
        memory
    }
}

fn staged(partition: u32) -> StatefulSetUpdateStrategy {
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
    serde_json::from_value(rolling).expect("a strategy")
}

fn prices() -> Prices {
    let money = |text: &str| text.parse().expect("money");
    // A month has 730 hours.
    let (address_hour, mbps_hour) = (money("0.013699"), money("0.001370"));
    Prices { currency: "EUR".into(), address_hour, mbps_hour, gb: money("0") }
}

fn other(other: &Other) -> OtherAccess {
    OtherAccess {
        key: AccessKey {
            namespace: other.namespace.clone().unwrap_or_else(|| "ydata".into()),
            name: other.name.clone(),
        },
        uid: Uid::new(format!("uid-{}", other.name)),
        created_at: Some(if other.older { ago(7200) } else { ago(60) }),
        deleting: false,
        held: !other.unheld,
        wants: (!other.unreadable).then(|| Wants {
            target: if other.same_target {
                ("kafka".into(), Some("EXTERNAL".into()))
            } else {
                ("second".into(), None)
            },
            chosen_addresses: other.address.into_iter().collect(),
            secret: (!other.class).then(|| other.secret.clone().unwrap_or_else(|| "openstack".into())),
            class: other.class.then(|| "shared".into()),
        }),
    }
}
