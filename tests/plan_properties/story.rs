//! What may happen to a world: how it starts, and everything that people, pods and clouds do to it.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kafka_external_access::{
    api::{Bandwidth, BrokerOverride, FINALIZER, KafkaExternalAccess, REPLACE_ANNOTATION},
    cloud::{Binding, FloatingIp, limits::BandwidthLimits},
    domain::{Marker, PortId},
};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{Broker, CLUSTER, POLICY, Pod, Rules, UID, World, binding, policy};

/// More brokers than any case has.
pub const MOST: u32 = 4;

/// What somebody adds to a description.
pub const EDIT: &str = " mine";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    LeftOut,
    Auto,
    Manual,
}

/// Whose an address is that exists before the object, or that somebody makes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Foreign,
    OtherObjects,
    Orphan,
    Former(u32),
    Retained(u32),
    OneTooMany(u32),
}

#[derive(Clone, Copy, Debug)]
pub enum Place {
    Nowhere,
    Broker(u32),
    Stranger,
    Forwarding,
}

#[derive(Clone, Debug)]
pub struct Start {
    pub replicas: u32,
    pub listener: Listener,
    pub retain_when_deleted: bool,
    pub delete_when_scaled: bool,
    pub accept_exposure: bool,
    /// In Mbit/s; zero: by the policy of a name; none: not at all.
    pub limit: Option<u32>,
    pub rules: Rules,
    pub kraft: bool,
    pub addresses: Vec<(Kind, Place)>,
}

#[derive(Clone, Debug)]
pub enum Event {
    Moved(u32),
    Gone(u32),
    Terminating(u32),
    WithoutAddress(u32),
    WithoutPort(u32),
    Scaled(u32),
    SetDeleted,
    Made(Kind, Place),
    UnboundByHand(usize),
    MovedByHand(usize, u32),
    DeletedByHand(usize),
    Described(usize),
    BrokerDown(u32),
    BrokerUp(u32),
    Opened(Rules),
    Quota(usize),
    Limited(Option<u32>),
    /// Somebody else begins a policy of ours, or makes one too many.
    PolicyMade(u32, bool),
    Adopted(u32, usize),
    GivenUp(u32),
    Replace(u32),
    Restarted,
    /// After that many actions of one reconcile; nothing is remembered and no status written.
    Crashed(usize),
    Later(u64),
    Deleted,
}

fn rules() -> impl Strategy<Value = Rules> {
    prop_oneof![Just(Rules::Nothing), Just(Rules::Listener), Just(Rules::Listener), Just(Rules::Everything)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Foreign),
        1 => Just(Kind::OtherObjects),
        1 => Just(Kind::Orphan),
        1 => (0..MOST).prop_map(Kind::Former),
        1 => (0..MOST).prop_map(Kind::Retained),
        1 => (0..MOST).prop_map(Kind::OneTooMany),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        3 => Just(Place::Nowhere),
        2 => (0..MOST).prop_map(Place::Broker),
        1 => Just(Place::Stranger),
        1 => Just(Place::Forwarding),
    ]
}

fn limit() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![2 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(100)), 1 => Just(Some(200))]
}

pub fn start() -> impl Strategy<Value = Start> {
    let listener = prop_oneof![Just(Listener::LeftOut), Just(Listener::Auto), Just(Listener::Manual)];
    let addresses = prop::collection::vec((kind(), place()), 0..4);
    let flags = any::<(bool, bool, bool)>();
    let kraft = prop::bool::weighted(0.1);
    (0..=MOST, listener, flags, limit(), rules(), kraft, addresses).prop_map(
        |(replicas, listener, flags, limit, rules, kraft, addresses)| Start {
            replicas,
            listener,
            retain_when_deleted: flags.0,
            delete_when_scaled: flags.1,
            accept_exposure: flags.2,
            limit,
            rules,
            kraft,
            addresses,
        },
    )
}

pub fn event() -> impl Strategy<Value = Event> {
    let pods = prop_oneof![
        (0..MOST).prop_map(Event::Moved),
        (0..MOST).prop_map(Event::Gone),
        (0..MOST).prop_map(Event::Terminating),
        (0..MOST).prop_map(Event::WithoutAddress),
        (0..MOST).prop_map(Event::WithoutPort),
        (0..=MOST).prop_map(Event::Scaled),
        (0..=MOST).prop_map(Event::Scaled),
        Just(Event::SetDeleted),
    ];
    let cloud = prop_oneof![
        (kind(), place()).prop_map(|(kind, place)| Event::Made(kind, place)),
        (0..9_usize).prop_map(Event::UnboundByHand),
        (0..9_usize, 0..MOST).prop_map(|(index, ordinal)| Event::MovedByHand(index, ordinal)),
        (0..9_usize).prop_map(Event::DeletedByHand),
        (0..9_usize).prop_map(Event::Described),
        rules().prop_map(Event::Opened),
        (0..6_usize).prop_map(Event::Quota),
        limit().prop_map(Event::Limited),
        (1..3_u32, any::<bool>()).prop_map(|(hundreds, whole)| Event::PolicyMade(hundreds * 100, whole)),
    ];
    let rest = prop_oneof![
        (0..MOST).prop_map(Event::BrokerDown),
        (0..MOST).prop_map(Event::BrokerUp),
        (0..MOST, 0..9_usize).prop_map(|(ordinal, index)| Event::Adopted(ordinal, index)),
        (0..MOST).prop_map(Event::GivenUp),
        (0..MOST).prop_map(Event::Replace),
        Just(Event::Restarted),
        (0..6_usize).prop_map(Event::Crashed),
        (1..90_u64).prop_map(Event::Later),
        (1..40_u64).prop_map(|hours| Event::Later(hours * 3600)),
    ];
    prop_oneof![pods, cloud, rest]
}

impl Start {
    pub fn world(&self) -> World {
        let mut world = World {
            object: self.object(),
            gone: false,
            secret_held: false,
            replicas: None,
            pods: Default::default(),
            brokers: (0..=MOST).map(|o| (o, Broker { kraft: self.kraft, ..Broker::default() })).collect(),
            addresses: Vec::new(),
            quota: 100,
            rules: self.rules,
            now: jiff::Timestamp::from_second(1_800_000_000).expect("a time"),
            made: 0,
            policies: vec![policy()],
            creations: Vec::new(),
        };
        scale(&mut world, self.replicas);
        for (kind, place) in &self.addresses {
            make(&mut world, *kind, *place);
        }
        world
    }

    fn object(&self) -> KafkaExternalAccess {
        let retention = |delete: bool| if delete { "Delete" } else { "Retain" };
        let mut spec = json!({
            "kafka": {"statefulSet": {"name": "kafka"}},
            "addresses": {
                "acceptExposure": self.accept_exposure,
                "retentionPolicy": {
                    "whenDeleted": retention(!self.retain_when_deleted),
                    "whenScaled": retention(self.delete_when_scaled),
                },
                "provider": {"type": "OpenStack", "openstack": {
                    "cloudName": "dev", "credentialsSecretRef": {"name": "credential-of-kafka"}, "floatingNetwork": "public",
                }},
            },
        });
        if let Some(limit) = bandwidth(self.limit) {
            spec["addresses"]["bandwidth"] = json!(limit);
        }
        let rollout = if self.listener == Listener::Manual { "Manual" } else { "Auto" };
        if self.listener != Listener::LeftOut {
            spec["listener"] = json!({"name": "EXTERNAL", "port": 9094, "rollout": rollout});
        }
        serde_json::from_value(json!({
            "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccess",
            "metadata": {
                "namespace": "ydata", "name": "kafka", "uid": UID, "generation": 1,
                "creationTimestamp": "2027-01-15T00:00:00Z",
            },
            "spec": spec,
        }))
        .expect("an object")
    }
}

fn bandwidth(limit: Option<u32>) -> Option<Bandwidth> {
    limit.map(|mbps| match mbps {
        0 => Bandwidth { qos_policy: Some(POLICY.to_owned()), ..Bandwidth::default() },
        mbps => Bandwidth { egress_mbps: Some(mbps), ..Bandwidth::default() },
    })
}

pub fn marker(ordinal: u32) -> String {
    format!("kea/v1 c={CLUSTER} n=ydata/kafka u={UID} o={ordinal}")
}

fn make(world: &mut World, kind: Kind, place: Place) {
    if matches!(kind, Kind::OneTooMany(_)) {
        // Only the operator describes an address so, and it holds the object first.
        world.object.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    }
    let description = match kind {
        Kind::Foreign => "somebody's own".to_owned(),
        Kind::OtherObjects => format!("kea/v1 c={CLUSTER} n=ydata/second u=u2 o=0"),
        Kind::Orphan => format!("kea/v1 c={CLUSTER} n=ydata/gone u=u7 o=0"),
        Kind::Former(ordinal) => format!("kea/v1 c={CLUSTER} n=ydata/kafka u=u0 o={ordinal}"),
        Kind::Retained(ordinal) => format!("kea-retained/v1 c={CLUSTER} n=ydata/kafka o={ordinal}"),
        Kind::OneTooMany(ordinal) => marker(ordinal),
    };
    let port = match place {
        Place::Broker(ordinal) => world.target(ordinal),
        Place::Stranger => Some(Binding {
            port: PortId::new(format!("stranger-{}", world.made)),
            fixed_ip: "10.250.0.1".parse().expect("an address"),
        }),
        Place::Nowhere | Place::Forwarding => None,
    };
    let port = port.filter(|port| world.holder(port).is_none());
    let address = world.new_address(&description, port);
    address.has_port_forwardings = matches!((kind, place), (Kind::Foreign, Place::Forwarding));
}

/// The nth address that exists.
fn nth(world: &mut World, index: usize) -> Option<&mut FloatingIp> {
    let count = world.addresses.len();
    if count == 0 { None } else { world.addresses.get_mut(index % count) }
}

/// Does what somebody else does. Restarts and crashes are the caller's.
pub fn happens(world: &mut World, event: &Event) {
    match event {
        Event::Moved(ordinal) => replace_pod(world, *ordinal),
        Event::Gone(ordinal) => lose_pod(world, *ordinal),
        Event::Terminating(ordinal) => change_pod(world, *ordinal, |pod| pod.terminating = true),
        Event::WithoutAddress(ordinal) => {
            replace_pod(world, *ordinal);
            change_pod(world, *ordinal, |pod| pod.has_address = false);
        }
        Event::WithoutPort(ordinal) => {
            replace_pod(world, *ordinal);
            change_pod(world, *ordinal, |pod| pod.has_port = false);
        }
        Event::Scaled(replicas) => scale(world, *replicas),
        Event::SetDeleted => world.replicas = None,
        Event::Made(kind, place) => make(world, *kind, *place),
        Event::UnboundByHand(index) => by_hand(world, *index, |address| address.binding = None),
        Event::MovedByHand(index, ordinal) => {
            let to = world.target(*ordinal).filter(|to| world.holder(to).is_none());
            if to.is_some() && nth(world, *index).is_some_and(|address| !address.has_port_forwardings) {
                by_hand(world, *index, |address| address.binding = to);
            }
        }
        Event::DeletedByHand(index) => {
            if let Some(id) = nth(world, *index).map(|address| address.id.clone()) {
                world.addresses.retain(|address| address.id != id);
            }
        }
        Event::Described(index) => by_hand(world, *index, |address| address.description.push_str(EDIT)),
        Event::BrokerDown(ordinal) => world.brokers.entry(*ordinal).or_default().down = true,
        Event::BrokerUp(ordinal) => world.brokers.entry(*ordinal).or_default().down = false,
        Event::Opened(rules) => world.rules = *rules,
        Event::Quota(quota) => world.quota = *quota,
        Event::Limited(limit) => world.wanted_addresses().bandwidth = bandwidth(*limit),
        Event::PolicyMade(egress, whole) => {
            let limits = BandwidthLimits { egress_mbps: Some(*egress), ingress_mbps: None };
            let policy = world.new_policy(&limits);
            policy.egress_kbps = whole.then_some(egress * 1000);
        }
        Event::Adopted(ordinal, index) => adopt(world, *ordinal, *index),
        Event::GivenUp(ordinal) => world.object.spec.brokers.retain(|broker| broker.ordinal != *ordinal),
        Event::Replace(ordinal) => replace(world, &ordinal.to_string()),
        Event::Later(seconds) => world.now += Duration::from_secs(*seconds),
        Event::Deleted => {
            world.object.metadata.deletion_timestamp.get_or_insert(Time(world.now));
            world.gone = !world.held();
        }
        Event::Restarted | Event::Crashed(_) => {}
    }
}

fn by_hand(world: &mut World, index: usize, change: impl FnOnce(&mut FloatingIp)) {
    if let Some(address) = nth(world, index) {
        change(address);
        address.revision.0 += 1;
    }
}

pub fn replace(world: &mut World, ordinals: &str) {
    let annotations = world.object.metadata.annotations.get_or_insert_default();
    annotations.insert(REPLACE_ANNOTATION.to_owned(), ordinals.to_owned());
}

/// What one broker tells clients is not given to another: that is refused (`EndpointTaken`) until the first gives it up.
fn adopt(world: &mut World, ordinal: u32, index: usize) {
    let Some(address) = nth(world, index).cloned() else { return };
    let text = address.address.to_string();
    let used = address.binding.is_some() && Marker::parse(&address.description).is_none();
    let named =
        world.brokers.values().flat_map(|broker| broker.stored.values()).any(|value| value.contains(&text));
    let brokers = &mut world.object.spec.brokers;
    let chosen = brokers.iter().any(|b| b.ordinal == ordinal || b.address == Some(address.address));
    if !used && !named && !chosen {
        brokers.push(BrokerOverride {
            ordinal,
            address: Some(address.address),
            advertised_host: None,
            bandwidth: None,
        });
    }
}

fn change_pod(world: &mut World, ordinal: u32, change: impl FnOnce(&mut Pod)) {
    if let Some(pod) = world.pods.get_mut(&ordinal) {
        change(pod);
    }
}

/// A port that goes takes its binding along (Neutron: the floating IP is unbound, its revision goes up).
pub fn lose_pod(world: &mut World, ordinal: u32) {
    let Some(pod) = world.pods.remove(&ordinal) else { return };
    let port = binding(ordinal, pod.incarnation);
    for address in world.addresses.iter_mut().filter(|address| address.binding.as_ref() == Some(&port)) {
        address.binding = None;
        address.revision.0 += 1;
    }
}

/// Another pod of the same name, if the StatefulSet wants it.
pub fn replace_pod(world: &mut World, ordinal: u32) {
    if !world.wanted().contains(&ordinal) {
        return;
    }
    lose_pod(world, ordinal);
    let broker = world.brokers.entry(ordinal).or_default();
    broker.pods += 1;
    let pod = Pod { incarnation: broker.pods, has_address: true, terminating: false, has_port: true };
    world.pods.insert(ordinal, pod);
}

/// Pods follow; a StatefulSet that was deleted without its pods is made again.
pub fn scale(world: &mut World, replicas: u32) {
    world.replicas = Some(replicas);
    let too_many: Vec<u32> = world.pods.keys().copied().filter(|ordinal| *ordinal >= replicas).collect();
    for ordinal in too_many {
        lose_pod(world, ordinal);
    }
    for ordinal in 0..replicas {
        if !world.pods.contains_key(&ordinal) {
            replace_pod(world, ordinal);
        }
    }
}
