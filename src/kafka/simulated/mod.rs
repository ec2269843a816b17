//! A Kafka in memory that behaves as the real one does, its silences included. The contract suite runs the same
//! sentences against this and against real brokers.

mod broker;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;

pub use broker::{BrokerFile, StartFailure};

use self::broker::{Broker, Surroundings};
use super::{
    BrokerView, Brokers, ClusterState, KafkaError, KafkaFault, ListenerSetting, MetadataMode, Partition,
    Quorum, SettingChange, Step, Target, Validate,
    probe::Report,
    traffic::{Meter, Traffic, TrafficError},
};
use crate::{
    domain::{Endpoint, NodeId},
    seams::{Clock, WritePermit},
};

/// Brokers in memory, each in a pod with an address of its own.
pub struct SimulatedBrokers {
    clock: Arc<dyn Clock>,
    applies_after: Duration,
    world: Mutex<World>,
}

struct World {
    mode: MetadataMode,
    cluster: String,
    brokers: BTreeMap<NodeId, Broker>,
    busy: BTreeSet<(Ipv4Addr, u16)>,
    forwarded: BTreeMap<Ipv4Addr, Ipv4Addr>,
    faults: VecDeque<Option<Fault>>,
    calls: Vec<Call>,
    partitions: Vec<Partition>,
    traffic: BTreeMap<IpAddr, Traffic>,
}

/// What happens to the next change instead of a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives.
    RequestLost,
    /// It is carried out, and the answer never arrives.
    ReplyLost,
}

/// A call that was made, for counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The address that was dialled.
    pub at: SocketAddr,
    /// What was asked.
    pub request: Request,
}

/// What a call asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// [`Brokers::describe`].
    Describe,
    /// [`Brokers::probe`].
    Probe,
    /// [`Brokers::accepts`].
    Accepts,
    /// [`Brokers::cluster`].
    Cluster,
    /// [`Brokers::alter`].
    Alter {
        /// The broker meant.
        node: NodeId,
        /// The changes.
        changes: Vec<SettingChange>,
        /// Dry run or not.
        validate: Validate,
    },
}

impl SimulatedBrokers {
    /// No broker yet. A stored change is applied `applies_after` later on that clock.
    pub fn new(clock: Arc<dyn Clock>, mode: MetadataMode, applies_after: Duration) -> Self {
        let world = World {
            mode,
            cluster: "simulated".into(),
            brokers: BTreeMap::new(),
            busy: BTreeSet::new(),
            forwarded: BTreeMap::new(),
            faults: VecDeque::new(),
            calls: Vec::new(),
            partitions: Vec::new(),
            traffic: BTreeMap::new(),
        };
        Self { clock, applies_after, world: Mutex::new(world) }
    }

    /// By hand: a broker with this file starts in the pod at `pod`. What is stored for it counts, also from an earlier
    /// life; a broker that runs elsewhere is stopped first, as a StatefulSet does.
    pub fn start(&self, node: NodeId, pod: Ipv4Addr, file: BrokerFile) -> Result<(), StartFailure> {
        let mut world = self.world();
        let broker = world.brokers.entry(node).or_insert_with(|| Broker {
            file: file.clone(),
            stored: BTreeMap::new(),
            running: None,
        });
        broker.file = file;
        broker.running = None;
        let around = world.around(node, pod);
        world.brokers.get_mut(&node).map_or(Ok(()), |broker| broker.start(pod, &around))
    }

    /// By hand: the partitions of all topics.
    pub fn set_partitions(&self, partitions: Vec<Partition>) {
        self.world().partitions = partitions;
    }

    /// By hand: what the metrics endpoint of a pod shows.
    pub fn show_traffic(&self, pod: IpAddr, traffic: Traffic) {
        self.world().traffic.insert(pod, traffic);
    }

    /// By hand: the process of a broker ends.
    pub fn stop(&self, node: NodeId) {
        if let Some(broker) = self.world().brokers.get_mut(&node) {
            broker.running = None;
        }
    }

    /// By hand: another process of the pod listens on a port, or no longer.
    pub fn occupy(&self, pod: Ipv4Addr, port: u16, occupied: bool) {
        let mut world = self.world();
        if occupied {
            world.busy.insert((pod, port))
        } else {
            world.busy.remove(&(pod, port))
        };
    }

    /// By hand: what arrives at `outside` goes to the pod, on every port; `None`: nowhere.
    pub fn forward(&self, outside: Ipv4Addr, pod: Option<Ipv4Addr>) {
        let mut world = self.world();
        match pod {
            Some(pod) => world.forwarded.insert(outside, pod),
            None => world.forwarded.remove(&outside),
        };
    }

    /// By hand: somebody stores a setting, or removes it, past every check (as `kafka-configs --zookeeper` does).
    pub fn store(&self, node: NodeId, setting: ListenerSetting, value: Option<&str>) {
        let due = self.clock.monotonic() + self.applies_after;
        let mut world = self.world();
        let Some(broker) = world.brokers.get_mut(&node) else { return };
        match value {
            Some(value) => broker.stored.insert(setting, value.to_owned()),
            None => broker.stored.remove(&setting),
        };
        if let Some(running) = &mut broker.running {
            running.due = Some(due);
        }
    }

    /// By hand: what happens to the next changes, dry runs included, one each; `None`: nothing special.
    pub fn disturb(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.world().faults.extend(faults);
    }

    /// What is stored for a broker.
    pub fn stored(&self, node: NodeId) -> BTreeMap<ListenerSetting, String> {
        self.world().brokers.get(&node).map(|broker| broker.stored.clone()).unwrap_or_default()
    }

    /// Every call since the last time this was asked.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.world().calls)
    }

    /// The world as it is now: what was due has been applied.
    fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle(self.clock.monotonic());
        world
    }

    fn record(&self, target: &Target, request: Request) -> MutexGuard<'_, World> {
        let mut world = self.world();
        world.calls.push(Call { at: target.at, request });
        world
    }
}

#[async_trait]
impl Brokers for SimulatedBrokers {
    async fn describe(&self, target: &Target) -> Result<BrokerView, KafkaError> {
        self.record(target, Request::Describe).view(target, &mut Vec::new())
    }

    async fn probe(&self, target: &Target) -> Report {
        let mut passed = Vec::new();
        let outcome = self.record(target, Request::Probe).view(target, &mut passed);
        let passed = passed.into_iter().map(|step| (step, Duration::ZERO)).collect();
        Report { passed, outcome, certificate_ends: None }
    }

    async fn accepts(&self, target: &Target) -> bool {
        let world = self.record(target, Request::Accepts);
        // Whatever goes wrong after the connection: it was accepted.
        match world.reach(target, &mut Vec::new()) {
            Ok(_) => true,
            Err(error) => error.step != Step::Tcp,
        }
    }

    async fn cluster(&self, target: &Target) -> Result<ClusterState, KafkaError> {
        let world = self.record(target, Request::Cluster);
        world.reach(target, &mut Vec::new())?;
        let (first, mode) = (world.brokers.keys().next().copied(), world.mode);
        let voters: BTreeMap<NodeId, bool> =
            world.brokers.iter().map(|(node, broker)| (*node, broker.running.is_some())).collect();
        let quorum = first.filter(|_| mode == MetadataMode::KRaft).map(|leader| Quorum { leader, voters });
        Ok(ClusterState { partitions: world.partitions.clone(), controller: first, quorum })
    }

    async fn traffic(&self, meter: &Meter) -> Result<Traffic, TrafficError> {
        let nobody = TrafficError::NoAnswer { at: meter.at, reason: "connection refused".to_owned() };
        self.world().traffic.get(&meter.at.ip()).copied().ok_or(nobody)
    }

    async fn alter(
        &self,
        _permit: WritePermit,
        target: &Target,
        node: NodeId,
        changes: &[SettingChange],
        validate: Validate,
    ) -> Result<(), KafkaError> {
        let due = self.clock.monotonic() + self.applies_after;
        let request = Request::Alter { node, changes: changes.to_vec(), validate };
        let mut world = self.record(target, request);
        let failed = |fault| Err(KafkaError { step: Step::AlterConfigs, fault });
        let (answers, _) = world.reach(target, &mut Vec::new())?;
        let fault = world.faults.pop_front().flatten();
        if fault == Some(Fault::RequestLost) {
            return failed(KafkaFault::TimedOut(target.step_timeout));
        }
        if answers != node {
            let words = format!("Unexpected broker id, expected {answers}, but received {node}");
            return failed(KafkaFault::Rejected(words));
        }
        let mode = world.mode;
        let Some(broker) = world.brokers.get_mut(&node) else { return failed(KafkaFault::Refused) };
        match broker.after(changes, mode) {
            Err(words) => return failed(KafkaFault::Rejected(words)),
            Ok(next) if validate == Validate::AndApply => {
                *broker = next;
                if let Some(running) = &mut broker.running {
                    running.due = Some(due);
                }
            }
            Ok(_) => {}
        }
        match fault {
            Some(_) => failed(KafkaFault::TimedOut(target.step_timeout)),
            None => Ok(()),
        }
    }
}

impl World {
    fn settle(&mut self, now: Duration) {
        let due = |broker: &Broker| broker.running.as_ref()?.due.filter(|due| *due <= now);
        let mut ready: Vec<(Duration, NodeId)> =
            self.brokers.iter().filter_map(|(node, broker)| Some((due(broker)?, *node))).collect();
        ready.sort();
        for (_, node) in ready {
            let pod = self.brokers.get(&node).and_then(|broker| Some(broker.running.as_ref()?.pod));
            let Some(pod) = pod else { continue };
            let around = self.around(node, pod);
            if let Some(broker) = self.brokers.get_mut(&node) {
                broker.apply(&around);
            }
        }
    }

    fn around(&self, node: NodeId, pod: Ipv4Addr) -> Surroundings {
        let others = self.brokers.iter().filter(|(other, _)| **other != node);
        let registered = others.filter_map(|(other, broker)| Some((*other, broker.running.as_ref()?)));
        let taken = registered
            .flat_map(|(other, running)| running.registered.values().map(move |e| (e.clone(), other)))
            .collect();
        let busy = self.busy.iter().filter(|(at, _)| *at == pod).map(|(_, port)| *port).collect();
        Surroundings { mode: self.mode, busy, taken }
    }

    /// The broker and its listener behind an address, as far as a connection gets.
    fn reach(&self, target: &Target, passed: &mut Vec<Step>) -> Result<(NodeId, String), KafkaError> {
        let failed = |step, fault| Err(KafkaError { step, fault });
        let IpAddr::V4(dialled) = target.at.ip() else {
            return failed(Step::Tcp, KafkaFault::Network("no route".into()));
        };
        let pod = self.forwarded.get(&dialled).copied().unwrap_or(dialled);
        if self.busy.contains(&(pod, target.at.port())) {
            return failed(Step::ApiVersions, KafkaFault::Malformed("this does not look like Kafka".into()));
        }
        let running = |broker: &'_ Broker| broker.running.as_ref().is_some_and(|running| running.pod == pod);
        let Some((node, broker)) = self.brokers.iter().find(|(_, broker)| running(broker)) else {
            return failed(Step::Tcp, KafkaFault::TimedOut(target.step_timeout));
        };
        let open = broker.running.iter().flat_map(|running| &running.open);
        let Some(listener) = open.into_iter().find(|(_, port)| **port == target.at.port()) else {
            return failed(Step::Tcp, KafkaFault::Refused);
        };
        passed.push(Step::Tcp);
        let protocol = broker.protocol(listener.0).unwrap_or_default();
        match (protocol.ends_with("SSL"), target.security.tls.is_some()) {
            (true, false) => {
                let text = "it wants TLS, and was spoken to in plain text".to_owned();
                return failed(Step::ApiVersions, KafkaFault::Protocol(text));
            }
            (false, true) => {
                let text = "it speaks plain text, and was spoken to in TLS".to_owned();
                return failed(Step::Tls, KafkaFault::Protocol(text));
            }
            (true, true) => passed.push(Step::Tls),
            (false, false) => {}
        }
        passed.push(Step::ApiVersions);
        match (protocol.starts_with("SASL"), target.security.sasl.is_some()) {
            (true, false) => {
                let text =
                    "the broker closed the connection (does the listener want SASL, TLS or a client certificate?)".to_owned();
                return failed(Step::DescribeCluster, KafkaFault::Network(text));
            }
            (false, true) => {
                let text = "it has no SASL, and a user was given to log in with".to_owned();
                return failed(Step::Sasl, KafkaFault::Protocol(text));
            }
            (true, true) => passed.push(Step::Sasl),
            (false, false) => {}
        }
        Ok((*node, listener.0.clone()))
    }

    fn view(&self, target: &Target, passed: &mut Vec<Step>) -> Result<BrokerView, KafkaError> {
        let (node, listener) = self.reach(target, passed)?;
        passed.extend([Step::DescribeCluster, Step::DescribeConfigs]);
        let running = self.brokers.iter().filter_map(|(id, broker)| Some((*id, broker.running.as_ref()?)));
        let advertised: BTreeMap<NodeId, Endpoint> = running
            .filter_map(|(id, running)| Some((id, running.registered.get(&listener)?.clone())))
            .collect();
        let settings = self.brokers.get(&node).into_iter().flat_map(|broker| {
            ListenerSetting::ALL.into_iter().map(|setting| (setting, broker.setting(setting)))
        });
        Ok(BrokerView {
            node,
            cluster: self.cluster.clone(),
            advertised,
            settings: settings.collect(),
            mode: self.mode,
        })
    }
}
