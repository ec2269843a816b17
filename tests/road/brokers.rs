//! Brokers in ZooKeeper mode in memory: static and stored settings, listeners that open a moment later, one endpoint
//! for one broker. They are reached at their pods' addresses, and through the cloud's floating IPs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use kafka_external_access::{
    cloud::simulated::Simulated,
    domain::{Endpoint, NodeId},
    kafka::{
        BrokerView, Brokers, ClusterState, KafkaError, KafkaFault, ListenerSetting, MetadataMode,
        SettingChange, SettingValue, Step, Target, Validate,
        probe::Report,
        traffic::{Meter, Traffic, TrafficError},
    },
    seams::WritePermit,
};

#[derive(Clone)]
struct Broker {
    ip: Option<Ipv4Addr>,
    fixed: BTreeMap<ListenerSetting, String>,
    stored: BTreeMap<ListenerSetting, String>,
    /// Ports that another process of the pod holds.
    busy: BTreeSet<u16>,
    /// Ports that the broker fails to open, which it only logs.
    broken: BTreeSet<u16>,
    /// What its metrics endpoint shows, when it has one.
    traffic: Option<Traffic>,
}

/// A Kafka cluster.
pub struct Cluster {
    cloud: Arc<Simulated>,
    brokers: Mutex<BTreeMap<NodeId, Broker>>,
    /// Addresses that somebody leads to pods without this cloud.
    by_hand: Mutex<BTreeMap<Ipv4Addr, NodeId>>,
    /// Users who changed settings; `None`: somebody without a name.
    users: Mutex<BTreeSet<Option<String>>>,
}

fn refused() -> KafkaError {
    KafkaError { step: Step::Tcp, fault: KafkaFault::Refused }
}

/// `(name, host, port)` of each entry.
fn entries(text: &str) -> Vec<(String, String, u16)> {
    let entry = |entry: &str| {
        let (name, endpoint) = entry.split_once("://")?;
        let (host, port) = endpoint.rsplit_once(':')?;
        Some((name.to_owned(), host.to_owned(), port.parse().ok()?))
    };
    text.split(',').filter_map(entry).collect()
}

impl Broker {
    fn effective(&self, setting: ListenerSetting) -> String {
        self.stored.get(&setting).or(self.fixed.get(&setting)).cloned().unwrap_or_default()
    }

    /// The listener that is open on a port: a port that another process holds stays closed for Kafka.
    fn listener_on(&self, port: u16) -> Option<String> {
        let open = entries(&self.effective(ListenerSetting::Listeners));
        open.into_iter()
            .find(|(_, _, on)| *on == port && !self.busy.contains(on) && !self.broken.contains(on))
            .map(|(name, _, _)| name)
    }

    fn advertised(&self, listener: &str) -> Option<Endpoint> {
        let all = entries(&self.effective(ListenerSetting::AdvertisedListeners));
        all.into_iter().find(|(name, _, _)| name == listener).map(|(_, host, port)| Endpoint { host, port })
    }
}

impl Cluster {
    pub fn new(cloud: Arc<Simulated>, brokers: i32) -> Self {
        let broker = |node: i32| {
            let name = format!("INTERNAL://kafka-{node}.kafka-headless.ydata.svc:9092");
            let fixed = BTreeMap::from([
                (ListenerSetting::Listeners, "INTERNAL://:9092".to_owned()),
                (ListenerSetting::AdvertisedListeners, name),
                (ListenerSetting::SecurityProtocolMap, "INTERNAL:PLAINTEXT".to_owned()),
            ]);
            (
                NodeId(node),
                Broker {
                    ip: None,
                    fixed,
                    stored: BTreeMap::new(),
                    busy: BTreeSet::new(),
                    broken: BTreeSet::new(),
                    traffic: None,
                },
            )
        };
        Self {
            cloud,
            brokers: Mutex::new((0..brokers).map(broker).collect()),
            by_hand: Mutex::default(),
            users: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Broker>> {
        self.brokers.lock().expect("not poisoned")
    }

    /// The broker runs in a pod with this address now.
    pub fn runs_at(&self, node: i32, ip: Option<Ipv4Addr>) {
        self.lock().get_mut(&NodeId(node)).expect("a broker").ip = ip;
    }

    /// Another process of the broker's pod holds this port.
    pub fn hold_port(&self, node: i32, port: u16) {
        self.lock().get_mut(&NodeId(node)).expect("a broker").busy.insert(port);
    }

    pub fn fail_to_open(&self, node: i32, port: u16) {
        self.lock().get_mut(&NodeId(node)).expect("a broker").broken.insert(port);
    }

    /// Its metrics endpoint shows this.
    pub fn carried(&self, node: i32, sent: u64, received: u64) {
        self.lock().get_mut(&NodeId(node)).expect("a broker").traffic = Some(Traffic { sent, received });
    }

    /// Users who changed settings of brokers.
    pub fn users(&self) -> BTreeSet<Option<String>> {
        self.users.lock().expect("not poisoned").clone()
    }

    pub fn lead_by_hand(&self, address: Ipv4Addr, node: i32) {
        self.by_hand.lock().expect("not poisoned").insert(address, NodeId(node));
    }

    /// Brokers that have something stored.
    pub fn with_stored_settings(&self) -> usize {
        self.lock().values().filter(|broker| !broker.stored.is_empty()).count()
    }

    /// Brokers that advertise a listener of that name.
    pub fn advertising(&self, listener: &str) -> usize {
        self.lock().values().filter(|broker| broker.advertised(listener).is_some()).count()
    }

    fn reached(&self, at: SocketAddr) -> Option<NodeId> {
        let IpAddr::V4(ip) = at.ip() else { return None };
        let led = self.by_hand.lock().expect("not poisoned").get(&ip).copied();
        let bound = self.cloud.addresses().into_iter().find(|address| address.address == ip);
        let inside = bound.and_then(|address| address.binding).map_or(ip, |binding| binding.fixed_ip);
        led.or_else(|| {
            self.lock().iter().find(|(_, broker)| broker.ip == Some(inside)).map(|(node, _)| *node)
        })
    }

    fn view(&self, at: SocketAddr) -> Result<BrokerView, KafkaError> {
        let node = self.reached(at).ok_or_else(refused)?;
        let brokers = self.lock();
        let broker = &brokers[&node];
        let listener = broker.listener_on(at.port()).ok_or_else(refused)?;
        let live = brokers.iter().filter(|(_, broker)| broker.ip.is_some());
        let value = |setting: ListenerSetting| SettingValue {
            dynamic: broker.stored.get(&setting).cloned(),
            fixed: broker.fixed.get(&setting).cloned(),
            effective: Some(broker.effective(setting)),
        };
        Ok(BrokerView {
            node,
            cluster: "simulated".into(),
            advertised: live
                .filter_map(|(node, broker)| Some((*node, broker.advertised(&listener)?)))
                .collect(),
            settings: [
                ListenerSetting::Listeners,
                ListenerSetting::AdvertisedListeners,
                ListenerSetting::SecurityProtocolMap,
            ]
            .map(|setting| (setting, value(setting)))
            .into(),
            mode: MetadataMode::ZooKeeper,
        })
    }
}

#[async_trait]
impl Brokers for Cluster {
    async fn describe(&self, target: &Target) -> Result<BrokerView, KafkaError> {
        self.view(target.at)
    }

    async fn probe(&self, target: &Target) -> Report {
        let outcome = self.view(target.at);
        let step = |step| (step, Duration::from_millis(1));
        let passed =
            if outcome.is_ok() { vec![step(Step::Tcp), step(Step::ApiVersions)] } else { Vec::new() };
        Report { passed, outcome, certificate_ends: None }
    }

    async fn accepts(&self, target: &Target) -> bool {
        let Some(node) = self.reached(target.at) else { return false };
        let port = target.at.port();
        let brokers = self.lock();
        brokers[&node].busy.contains(&port) || brokers[&node].listener_on(port).is_some()
    }

    async fn traffic(&self, meter: &Meter) -> Result<Traffic, TrafficError> {
        let shown = self.reached(meter.at).and_then(|node| self.lock()[&node].traffic);
        shown.ok_or_else(|| TrafficError::NoAnswer { at: meter.at, reason: "connection refused".to_owned() })
    }

    async fn cluster(&self, target: &Target) -> Result<ClusterState, KafkaError> {
        self.view(target.at).map(|_| ClusterState::default())
    }

    async fn alter(
        &self,
        _: WritePermit,
        target: &Target,
        node: NodeId,
        changes: &[SettingChange],
        validate: Validate,
    ) -> Result<(), KafkaError> {
        let rejected =
            |words: String| KafkaError { step: Step::AlterConfigs, fault: KafkaFault::Rejected(words) };
        let answering = self.reached(target.at).ok_or_else(refused)?;
        let user = target.security.sasl.as_ref().map(|sasl| sasl.username.clone());
        self.users.lock().expect("not poisoned").insert(user);
        if answering != node {
            return Err(rejected(format!("Unexpected broker id, expected {answering}, but received {node}")));
        }
        let mut brokers = self.lock();
        let mut changed = brokers[&node].clone();
        for change in changes {
            match change {
                SettingChange::Set(setting, value) => changed.stored.insert(*setting, value.clone()),
                SettingChange::Delete(setting) => changed.stored.remove(setting),
            };
        }
        let listeners = entries(&changed.effective(ListenerSetting::Listeners));
        let names = listeners.iter().map(|(name, _, _)| name).collect::<BTreeSet<_>>();
        for (name, host, port) in entries(&changed.effective(ListenerSetting::AdvertisedListeners)) {
            if !names.contains(&name) {
                return Err(rejected("advertised.listeners must be a subset of listeners".into()));
            }
            let endpoint = Endpoint { host, port };
            let taken = brokers.iter().find(|(other, broker)| {
                **other != node && broker.advertised(&name).as_ref() == Some(&endpoint)
            });
            if let Some((other, _)) = taken {
                return Err(rejected(format!("{endpoint} is already registered by broker {other}")));
            }
        }
        if validate == Validate::AndApply {
            brokers.insert(node, changed);
        }
        Ok(())
    }
}
