//! A small world that actions change as the real one would: a cloud that refuses stale and double bindings, brokers
//! whose stored settings outlive their pods, an API server with finalizers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use jiff::Timestamp;
use kafka_external_access::{
    api::{Addresses, FINALIZER, KafkaExternalAccess, REPLACE_ANNOTATION},
    cloud::{
        Binding, CloudError, CloudFault, FloatingIp, IngressRule, NewFloatingIp, Port,
        limits::{BandwidthLimits, MANAGED, QosPolicy},
    },
    domain::{
        AccessKey, AddressId, ClusterId, Endpoint, NetworkId, NodeId, Ordinal, PortId, ProjectId,
        QosPolicyId, Revision, SecurityGroupId, Uid,
    },
    kafka::{
        BrokerView, KafkaError, KafkaFault, ListenerSetting, MetadataMode, SettingChange, SettingValue, Step,
        probe::Report,
    },
    plan::{
        Action, Plan, PodIdentity,
        class::Classes,
        desired::{WantedLimit, desired},
        failure::Cause,
        observed::{
            CloudState, CloudView, KafkaState, Metering, Observed, OtherAccess, Own, PodView, ProbeResult,
            StatefulSetView, Wants,
        },
    },
};

pub const CLUSTER: &str = "c1";
pub const UID: &str = "u1";
/// The bandwidth policy that some specs name.
pub const POLICY: &str = "kafka-100mbit";
const PROJECT: &str = "p1";
const PORT: u16 = 9094;
const INTERNAL_PORT: u16 = 9092;

/// One pod. Each has a port of its own; a pod that moves gets another.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Counts the pods of this ordinal: UID, port and address follow from it.
    pub incarnation: u32,
    pub has_address: bool,
    pub terminating: bool,
    pub has_port: bool,
}

/// A broker: what is stored for it stays when its pod goes.
#[derive(Clone, Debug, Default)]
pub struct Broker {
    pub kraft: bool,
    pub down: bool,
    /// Pods that it has had.
    pub pods: u32,
    pub stored: BTreeMap<ListenerSetting, String>,
}

/// Which ports the security group admits from anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    Nothing,
    Listener,
    Everything,
}

#[derive(Clone, Debug)]
pub struct World {
    pub object: KafkaExternalAccess,
    /// The object is not there any more.
    pub gone: bool,
    pub secret_held: bool,
    pub replicas: Option<u32>,
    pub pods: BTreeMap<u32, Pod>,
    pub brokers: BTreeMap<u32, Broker>,
    pub addresses: Vec<FloatingIp>,
    pub quota: usize,
    pub rules: Rules,
    pub now: Timestamp,
    /// Addresses made so far by anybody: none comes back.
    pub made: u32,
    /// When create calls were sent.
    pub creations: Vec<Timestamp>,
    pub policies: Vec<QosPolicy>,
}

pub fn binding(ordinal: u32, incarnation: u32) -> Binding {
    let low = |n: u32| u8::try_from(n % 250).expect("below 250");
    Binding {
        port: PortId::new(format!("port-{ordinal}-{incarnation}")),
        fixed_ip: Ipv4Addr::new(10, 128, low(ordinal), low(incarnation)),
    }
}

impl World {
    /// The addresses that the object asks for.
    pub fn wanted_addresses(&mut self) -> &mut Addresses {
        self.object.spec.addresses.as_mut().expect("every story has addresses")
    }

    pub fn wanted(&self) -> BTreeSet<u32> {
        (0..self.replicas.unwrap_or(0)).collect()
    }

    pub fn deleting(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    pub fn held(&self) -> bool {
        self.object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
    }

    /// Where the address of a broker should lead, if it can.
    pub fn target(&self, ordinal: u32) -> Option<Binding> {
        let pod =
            self.pods.get(&ordinal).filter(|pod| pod.has_address && !pod.terminating && pod.has_port)?;
        Some(binding(ordinal, pod.incarnation))
    }

    /// One more policy of the operator, without rules.
    pub fn new_policy(&mut self, limits: &BandwidthLimits) -> &mut QosPolicy {
        self.made += 1;
        self.policies.push(QosPolicy {
            id: QosPolicyId::new(format!("q{:03}", self.made)),
            name: limits.policy_name(),
            project: ProjectId::new(PROJECT),
            description: MANAGED.to_owned(),
            egress_kbps: None,
            ingress_kbps: None,
        });
        self.policies.last_mut().expect("just pushed")
    }

    fn policies_asked_for(&self) -> BTreeMap<String, Result<Vec<QosPolicy>, CloudError>> {
        let recorded = self.object.status.iter().flat_map(|status| status.managed_policies.clone());
        let wanted = desired(&self.object, &Classes::default()).ok();
        let wanted = wanted.iter().flat_map(|desired| desired.limits()).map(WantedLimit::policy);
        let named = |name: &String| self.policies.iter().filter(|p| p.name == *name).cloned().collect();
        wanted.chain(recorded).map(|name| (name.clone(), Ok(named(&name)))).collect()
    }

    /// One more address in the project, whoever asked for it.
    pub fn new_address(&mut self, description: &str, to: Option<Binding>) -> &mut FloatingIp {
        self.made += 1;
        let low = u8::try_from(self.made).expect("fewer than 256 addresses in a case");
        self.addresses.push(FloatingIp {
            id: AddressId::new(format!("a{}", self.made)),
            address: Ipv4Addr::new(203, 0, 113, low),
            network: NetworkId::new("net-public"),
            project: ProjectId::new(PROJECT),
            binding: to,
            has_port_forwardings: false,
            description: description.to_owned(),
            qos_policy: None,
            revision: Revision(1),
            created_at: Some(self.now + Duration::from_secs(u64::from(self.made))),
        });
        self.addresses.last_mut().expect("just pushed")
    }

    pub fn holder(&self, of: &Binding) -> Option<&FloatingIp> {
        self.addresses.iter().find(|address| address.binding.as_ref() == Some(of))
    }

    /// What `observe` would show; the brokers only for a plan that asked for them.
    pub fn observed(&self, asked_by: Option<&Plan>) -> Observed {
        let created_at = self.object.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Observed {
            cluster: ClusterId::new(CLUSTER),
            own: Own {
                uid: Uid::new(UID),
                generation: 1,
                held: self.held(),
                deleting: self.deleting(),
                created_at,
                status: self.object.status.clone().unwrap_or_default(),
            },
            others: vec![self.entry_of("kafka", UID, "kafka"), self.entry_of("second", "u2", "second")],
            stateful_set: self.replicas.map(|replicas| StatefulSetView {
                uid: Uid::new("set"),
                manager: None,
                replicas,
                first_ordinal: 0,
                host_network: false,
                internal_port: Some(INTERNAL_PORT),
                listening_ports: BTreeSet::from([INTERNAL_PORT]),
                service: "kafka-headless".into(),
                object: Box::default(),
            }),
            pods: self
                .pods
                .iter()
                .map(|(ordinal, pod)| (Ordinal(*ordinal), view_of(*ordinal, pod)))
                .collect(),
            cloud: CloudState::Seen(Box::new(self.cloud())),
            files: None,
            metering: Metering::default(),
            prices: None,
            kafka: asked_by.map(|plan| self.kafka(plan)),
        }
    }

    fn entry_of(&self, name: &str, uid: &str, set: &str) -> OtherAccess {
        OtherAccess {
            key: AccessKey { namespace: "ydata".into(), name: name.into() },
            uid: Uid::new(uid),
            created_at: self.object.metadata.creation_timestamp.as_ref().map(|time| time.0),
            deleting: false,
            held: true,
            wants: Some(Wants {
                target: (set.into(), None),
                chosen_addresses: BTreeSet::new(),
                secret: Some(format!("credential-of-{name}")),
                class: None,
            }),
        }
    }

    fn cloud(&self) -> CloudView {
        let rule = |ports| IngressRule {
            id: "rule-1".into(),
            group: SecurityGroupId::new("sg"),
            ipv4: true,
            tcp: true,
            ports,
            remote_ip_prefix: Some("0.0.0.0/0".into()),
            remote_group: None,
        };
        let served = if self.object.spec.listener.is_some() { PORT } else { INTERNAL_PORT };
        let rules = match self.rules {
            Rules::Nothing => vec![],
            Rules::Listener => vec![rule(Some((served, served)))],
            Rules::Everything => vec![rule(None)],
        };
        let with_address = self.pods.iter().filter(|(_, pod)| pod.has_address);
        CloudView {
            project: ProjectId::new(PROJECT),
            floating_network: NetworkId::new("net-public"),
            addresses: self.addresses.clone(),
            ports: with_address.map(|(ordinal, pod)| (Ordinal(*ordinal), ports_of(*ordinal, pod))).collect(),
            rules: Ok(rules),
            policies: self.policies_asked_for(),
            secret_held: self.secret_held,
            due_in: Duration::from_secs(300),
        }
    }

    fn kafka(&self, plan: &Plan) -> KafkaState {
        let asked = self.pods.iter().filter(|(_, pod)| pod.has_address && self.replicas.is_some());
        let through = plan.addresses.iter().filter(|(_, held)| held.outside.is_some());
        KafkaState {
            internal: asked.map(|(ordinal, _)| (Ordinal(*ordinal), self.ask(*ordinal))).collect(),
            port_busy: BTreeMap::new(),
            probes: through.map(|(ordinal, held)| (*ordinal, self.probe(held.address))).collect(),
            probed: vec![],
            probes_due_in: None,
            cluster: None,
        }
    }

    /// Whoever the address leads to answers.
    fn probe(&self, through: Ipv4Addr) -> ProbeResult {
        let bound = self.addresses.iter().find(|a| a.address == through).and_then(|a| a.binding.clone());
        let answers = self.pods.keys().find(|ordinal| bound.is_some() && self.target(**ordinal) == bound);
        let refused = || Err(KafkaError { step: Step::Tcp, fault: KafkaFault::Refused });
        let outcome = answers.map_or_else(refused, |ordinal| {
            let view = self.ask(*ordinal)?;
            let outside = self.object.spec.listener.is_some();
            let open = self.rules != Rules::Nothing && (!outside || self.told(*ordinal).is_some());
            let table = if outside { self.outside_table() } else { view.advertised.clone() };
            if open { Ok(BrokerView { advertised: table, ..view }) } else { refused() }
        });
        ProbeResult::new(
            Report { passed: vec![], outcome, certificate_ends: None },
            through,
            "operator at node".into(),
        )
    }

    fn outside_table(&self) -> BTreeMap<NodeId, Endpoint> {
        self.pods.keys().filter_map(|ordinal| Some((node(*ordinal), self.told(*ordinal)?))).collect()
    }

    /// What a broker tells clients outside, now or when it runs again.
    pub fn told(&self, ordinal: u32) -> Option<Endpoint> {
        let stored = self.brokers.get(&ordinal)?.stored.get(&ListenerSetting::AdvertisedListeners)?;
        stored.split_once("EXTERNAL://")?.1.parse().ok()
    }

    fn ask(&self, ordinal: u32) -> Result<BrokerView, KafkaError> {
        let broker = self.brokers.get(&ordinal).cloned().unwrap_or_default();
        if broker.down {
            return Err(KafkaError { step: Step::Tcp, fault: KafkaFault::Refused });
        }
        let settings = fixed(ordinal).into_iter().map(|(setting, fixed)| {
            let dynamic = broker.stored.get(&setting).cloned();
            let effective = dynamic.clone().or_else(|| Some(fixed.clone()));
            (setting, SettingValue { dynamic, fixed: Some(fixed), effective })
        });
        let inside = |ordinal: &u32| {
            let host = format!("kafka-{ordinal}.kafka-headless.ydata.svc");
            (node(*ordinal), Endpoint { host, port: INTERNAL_PORT })
        };
        Ok(BrokerView {
            node: node(ordinal),
            cluster: "cluster".into(),
            advertised: self.pods.keys().map(inside).collect(),
            settings: settings.collect(),
            mode: if broker.kraft { MetadataMode::KRaft } else { MetadataMode::ZooKeeper },
        })
    }

    /// Does what `act` would do. Panics where the real world would refuse although nobody interfered: a plan must be
    /// possible as it stands.
    pub fn apply(&mut self, action: &Action) -> Result<(), Cause> {
        match action {
            Action::HoldObject => self.object.metadata.finalizers = Some(vec![FINALIZER.to_owned()]),
            Action::LetObjectGo => self.gone = true,
            Action::HoldSecret => self.secret_held = true,
            Action::LetSecretGo => self.secret_held = false,
            Action::WriteFiles { .. }
            | Action::DeleteFiles { .. }
            | Action::ChangeTemplate { .. }
            | Action::Restart { .. } => panic!("no spec here consents to restarts: {action:?}"),
            Action::ClearReplace => {
                self.object.metadata.annotations.get_or_insert_default().remove(REPLACE_ANNOTATION);
            }
            Action::Allocate { new, .. } => return self.allocate(new),
            Action::Bind { id, read_at, to, marker, .. } => {
                assert!(self.holder(to).is_none_or(|holder| holder.id == *id), "port is taken: {action:?}");
                let address = self.address(id, Some(*read_at));
                address.binding = Some(to.clone());
                if let Some(marker) = marker {
                    address.description = marker.to_string();
                }
            }
            Action::Unbind { id, read_at, .. } => self.address(id, Some(*read_at)).binding = None,
            Action::Limit { id, read_at, policy, .. } => {
                let address = self.address(id, Some(*read_at));
                assert_ne!(address.qos_policy.as_ref(), Some(policy), "changes nothing");
                address.qos_policy = Some(policy.clone());
            }
            Action::MakePolicy { limits, unfinished } => {
                let id = unfinished.as_ref().map(|begun| begun.id.clone());
                let id = id.unwrap_or_else(|| self.new_policy(limits).id.clone());
                let policy = self.policies.iter_mut().find(|policy| policy.id == id).expect("it exists");
                assert!(!policy.says(limits), "changes nothing");
                policy.egress_kbps = limits.egress_mbps.map(|mbps| mbps * 1000);
                policy.ingress_kbps = limits.ingress_mbps.map(|mbps| mbps * 1000);
            }
            Action::RemovePolicy { id, .. } => {
                let used = self.addresses.iter().any(|address| address.qos_policy.as_ref() == Some(id));
                assert!(!used, "an address has it: {action:?}");
                self.policies.retain(|policy| policy.id != *id);
            }
            Action::Retain { id, read_at, marker, .. } => {
                self.address(id, Some(*read_at)).description = marker.retained().to_string();
            }
            Action::Release { id, marker, .. } => {
                assert_eq!(self.address(id, None).description, marker.to_string());
                self.addresses.retain(|address| address.id != *id);
            }
            Action::Advertise { ordinal, changes, .. } | Action::Withdraw { ordinal, changes, .. } => {
                let broker = self.brokers.entry(ordinal.0).or_default();
                assert!(!broker.down && !broker.kraft, "{action:?}");
                for change in changes {
                    match change {
                        SettingChange::Set(setting, value) => broker.stored.insert(*setting, value.clone()),
                        SettingChange::Delete(setting) => broker.stored.remove(setting),
                    };
                }
            }
        }
        Ok(())
    }

    fn allocate(&mut self, new: &NewFloatingIp) -> Result<(), Cause> {
        self.creations.push(self.now);
        if self.addresses.len() >= self.quota {
            let fault = CloudFault::QuotaExceeded("floatingip".into());
            return Err(Cause::Cloud(CloudError { operation: "create a floating IP", fault }));
        }
        assert!(self.holder(&new.binding).is_none(), "port is taken: {new:?}");
        let made = self.new_address(&new.description, Some(new.binding.clone()));
        made.qos_policy.clone_from(&new.qos_policy);
        Ok(())
    }

    /// The address, with its revision raised as any change does.
    fn address(&mut self, id: &AddressId, read_at: Option<Revision>) -> &mut FloatingIp {
        let address = self.addresses.iter_mut().find(|address| address.id == *id);
        let address = address.unwrap_or_else(|| panic!("{id} does not exist"));
        assert!(
            read_at.is_none_or(|revision| revision == address.revision),
            "{id} changed since it was read"
        );
        address.revision.0 += 1;
        address
    }
}

pub fn policy() -> QosPolicy {
    QosPolicy {
        id: QosPolicyId::new("policy-1"),
        name: POLICY.to_owned(),
        project: ProjectId::new("administrators"),
        description: String::new(),
        egress_kbps: Some(100_000),
        ingress_kbps: None,
    }
}

fn node(ordinal: u32) -> NodeId {
    NodeId(i32::try_from(ordinal).expect("a small ordinal"))
}

fn view_of(ordinal: u32, pod: &Pod) -> PodView {
    PodView {
        identity: PodIdentity {
            name: format!("kafka-{ordinal}"),
            uid: Uid::new(format!("pod-{ordinal}-{}", pod.incarnation)),
        },
        node: Some("node".into()),
        ip: pod.has_address.then(|| binding(ordinal, pod.incarnation).fixed_ip),
        node_ip: None,
        terminating: pod.terminating,
        ready: true,
        revision: None,
        reads_files: false,
    }
}

fn ports_of(ordinal: u32, pod: &Pod) -> Vec<Port> {
    let Binding { port, fixed_ip } = binding(ordinal, pod.incarnation);
    let port = Port {
        id: port,
        network: NetworkId::new("net-pods"),
        project: ProjectId::new(PROJECT),
        fixed_ips: vec![fixed_ip],
        security_groups: vec![SecurityGroupId::new("sg")],
        port_security_enabled: Some(true),
    };
    if pod.has_port { vec![port] } else { vec![] }
}

fn fixed(ordinal: u32) -> [(ListenerSetting, String); 3] {
    let inside = format!("INTERNAL://kafka-{ordinal}.kafka-headless.ydata.svc:9092");
    [
        (ListenerSetting::Listeners, "INTERNAL://:9092".to_owned()),
        (ListenerSetting::AdvertisedListeners, inside),
        (ListenerSetting::SecurityProtocolMap, "INTERNAL:PLAINTEXT".to_owned()),
    ]
}
