//! The simulated surroundings of the operator: API server with its StatefulSet controller, cloud, brokers, machines.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kafka_external_access::{
    act::Actor,
    cloud::{FloatingIp, simulated::Simulated},
    controller::{self, queue::WorkQueue, reconcile::Reconciler},
    domain::{AccessKey, AddressId, ClusterId, NodeId},
    kafka::{
        ListenerSetting, Partition,
        simulated::{BrokerFile, SimulatedBrokers, StartFailure},
    },
    observe::{Observer, Settings},
    report::{metrics::Metrics, objects::Objects},
    runtime::lease::LeaseHolder,
    seams::{Clock, Leadership},
};
use serde_json::{Value, json};

use crate::{
    chance::Chance,
    executor::{Executor, Group, MachineClock, ProcessClock},
    faults::Faults,
    kubernetes::ApiServer,
    ledger::Ledger,
    setup::{self, Setup},
    wire::Wire,
};

/// The operator's drift interval.
pub const DRIFT: Duration = Duration::from_secs(300);
pub const SET: &str = "kafka";
pub const SECRET: &str = "openstack";
pub const CLUSTER: &str = "cluster";
const LEASE: &str = "kafka-external-access";

/// A process of the operator on its machine.
struct Process {
    lease: Arc<LeaseHolder>,
    queue: Arc<WorkQueue<AccessKey>>,
}

/// Machines, pods and what they are told.
#[derive(Default)]
struct Surroundings {
    processes: BTreeMap<usize, Process>,
    lives: u32,
    /// Pods that have an address, by ordinal: UID and address.
    pods: BTreeMap<u32, (String, Ipv4Addr)>,
    starting: BTreeSet<u32>,
    /// Brokers that run, since when.
    up: BTreeMap<u32, Duration>,
    /// When each broker went down last.
    down: BTreeMap<u32, Duration>,
    next_host: u16,
    secret: String,
    keys: BTreeSet<AccessKey>,
    told: u64,
    led: BTreeSet<Ipv4Addr>,
    last_disturbed: Option<Duration>,
}

pub struct World {
    pub setup: Setup,
    pub executor: Executor,
    pub api: Arc<ApiServer>,
    pub cloud: Arc<Simulated>,
    pub kafka: Arc<SimulatedBrokers>,
    pub chance: Chance,
    pub machines: Vec<Arc<MachineClock>>,
    /// Since when partitions need all their replicas: the gate must say no.
    pub tight: Mutex<Option<Duration>>,
    faults: Mutex<Faults>,
    ledger: Mutex<Ledger>,
    around: Mutex<Surroundings>,
    trace: Mutex<Option<Vec<String>>>,
    violation: Mutex<Option<String>>,
}

pub fn key() -> AccessKey {
    AccessKey { namespace: "ydata".into(), name: "kafka".into() }
}

pub fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a well-formed object")
}

impl World {
    pub fn new(seed: u64, setup: Setup, traced: bool) -> Arc<Self> {
        let chance = Chance::new(seed);
        let executor = Executor::new(chance.split());
        let right = Arc::new(MachineClock::new(executor.time.clone()));
        let true_clock: Arc<dyn Clock> = Arc::new(ProcessClock::new(right));
        let applies_after = chance.millis(0, 1500);
        let kafka = SimulatedBrokers::new(true_clock, setup.mode, applies_after);
        let machine = |_| Arc::new(MachineClock::new(executor.time.clone()));
        let world = Self {
            machines: (0..setup.replicas).map(machine).collect(),
            faults: Mutex::new(Faults::new(chance.split(), setup.faults)),
            ledger: Mutex::default(),
            around: Mutex::new(Surroundings { next_host: 5, ..Surroundings::default() }),
            trace: Mutex::new(traced.then(Vec::new)),
            violation: Mutex::default(),
            tight: Mutex::default(),
            api: Arc::default(),
            cloud: Arc::default(),
            kafka: Arc::new(kafka),
            executor,
            chance,
            setup,
        };
        let world = Arc::new(world);
        world.cloud.set_rules(vec![setup::rule(world.setup.served_port())]);
        world.api.at(world.executor.time.wall());
        world.make_secret();
        world.api.put_stateful_set(parsed(setup::stateful_set(world.setup.brokers)));
        world.add_object(key(), setup::object(&world.setup));
        world.after_effect();
        for replica in 0..world.setup.replicas {
            world.start_process(replica);
        }
        world
    }

    pub fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().expect("not poisoned")
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("not poisoned")
    }

    fn around(&self) -> MutexGuard<'_, Surroundings> {
        self.around.lock().expect("not poisoned")
    }

    pub fn now(&self) -> Duration {
        self.executor.time.now()
    }

    pub fn trace(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = self.trace.lock().expect("not poisoned").as_mut() {
            lines.push(format!("{:>9.3} {}", self.now().as_secs_f64(), line()));
        }
    }

    pub fn take_trace(&self) -> Vec<String> {
        self.trace.lock().expect("not poisoned").take().unwrap_or_default()
    }

    /// An invariant does not hold. The first one counts.
    pub fn violate(&self, text: impl Into<String>) {
        let text = text.into();
        self.trace(|| format!("VIOLATION {text}"));
        self.violation.lock().expect("not poisoned").get_or_insert(text);
    }

    pub fn violation(&self) -> Option<String> {
        self.violation.lock().expect("not poisoned").clone()
    }

    /// What happens in the world is taken in: by the ledger, by the StatefulSet controller, by the watches.
    pub fn after_effect(self: &Arc<Self>) {
        self.api.at(self.executor.time.wall());
        self.govern();
        let addresses = self.cloud.addresses();
        let found = self.ledger().look(self, &addresses);
        found.into_iter().for_each(|text| self.violate(text));
        let changes = self.api.changes();
        if std::mem::replace(&mut self.around().told, changes) != changes {
            self.notify();
        }
    }
}

/// Machines and processes.
impl World {
    pub fn start_process(self: &Arc<Self>, replica: usize) {
        let life = {
            let mut around = self.around();
            around.lives += 1;
            around.lives
        };
        let wire = Arc::new(Wire { world: self.clone(), replica });
        let clock: Arc<dyn Clock> = Arc::new(ProcessClock::new(self.machines[replica].clone()));
        let random = Arc::new(self.chance.split());
        let name = format!("operator-{replica}-{life}");
        let lasts = Duration::from_secs(15);
        let holder = LeaseHolder::new(wire.clone(), clock.clone(), "default", LEASE, &name, lasts);
        let holder = Arc::new(holder);
        let queue = Arc::new(WorkQueue::new(clock.clone(), random.clone()));
        let settings = Settings { drift: DRIFT, metrics: Duration::from_secs(60), ..Settings::default() };
        let observer = Arc::new(Observer::new(
            wire.clone(),
            wire.clone(),
            wire.clone(),
            clock.clone(),
            ClusterId::new(CLUSTER),
            name.clone(),
            settings,
        ));
        let leadership: Arc<dyn Leadership> = holder.clone();
        let actor = Actor {
            kubernetes: wire.clone(),
            clouds: wire.clone(),
            brokers: wire.clone(),
            clock: clock.clone(),
            leadership: leadership.clone(),
            observer: observer.clone(),
            endings: tokio::sync::Mutex::default(),
        };
        let reconciler = Arc::new(Reconciler {
            observer,
            actor,
            kubernetes: wire,
            leadership,
            clock: clock.clone(),
            random,
            instance: name,
            memories: Mutex::default(),
            told: Mutex::default(),
            objects: Objects::default(),
            serial: AtomicU64::new(0),
        });
        let group = Group::Replica(replica);
        self.executor.spawn(group, elect(holder.clone(), clock.clone()));
        let metrics = Arc::new(Metrics::default());
        // With a rival there are two objects, else one: more workers would only wait.
        let work = controller::work(queue.clone(), reconciler, holder.clone(), clock.clone(), metrics);
        self.executor.spawn(group, work);
        self.around().processes.insert(replica, Process { lease: holder, queue });
        self.list_again(replica, Duration::from_millis(100));
        self.trace(|| format!("r{replica} starts, life {life}"));
    }

    /// The process ends without a word.
    pub fn kill_process(&self, replica: usize) {
        self.executor.kill(Group::Replica(replica));
        self.around().processes.remove(&replica);
        self.trace(|| format!("r{replica} is killed"));
    }

    pub fn runs(&self, replica: usize) -> bool {
        self.around().processes.contains_key(&replica)
    }

    /// SIGTERM: no new keys, and the lease is given back. Who is not done after ten seconds is killed.
    pub fn terminate_process(self: &Arc<Self>, replica: usize) {
        let Some((lease, queue)) = self.process(replica) else { return };
        queue.close();
        lease.end();
        self.executor.spawn(Group::Replica(replica), async move {
            let _ = lease.release().await;
        });
        self.trace(|| format!("r{replica} is asked to end"));
    }

    fn process(&self, replica: usize) -> Option<(Arc<LeaseHolder>, Arc<WorkQueue<AccessKey>>)> {
        self.around().processes.get(&replica).map(|process| (process.lease.clone(), process.queue.clone()))
    }

    /// I6: a write is sent by the one replica that holds the lease, and by nobody else.
    pub fn check_leader(&self, replica: usize, name: &str) {
        let around = self.around();
        let leading: Vec<usize> = around
            .processes
            .iter()
            .filter(|(_, process)| process.lease.leads())
            .map(|(number, _)| *number)
            .collect();
        drop(around);
        if leading != [replica] {
            self.violate(format!("I6: r{replica} sends {name} while {leading:?} lead"));
        }
        let record = self.api.lease_now(LEASE).and_then(|lease| lease.spec?.holder_identity);
        let mine = record.as_deref().is_some_and(|name| name.starts_with(&format!("operator-{replica}-")));
        if !mine {
            self.violate(format!("I6: r{replica} sends {name} while the lease is held by {record:?}"));
        }
    }

    /// Watches hear of a change: soon, late, or not at all.
    fn notify(self: &Arc<Self>) {
        let replicas: Vec<usize> = self.around().processes.keys().copied().collect();
        let disturbed = self.faults().permille * 2;
        for replica in replicas {
            let (lost, late) = (self.chance.permille(disturbed), self.chance.permille(disturbed * 2));
            if lost {
                self.faults().count("WatchEventLost");
                // 410 Gone: everything is listed again.
                if self.chance.permille(500) {
                    self.faults().count("WatchListedAgain");
                    self.list_again(replica, self.chance.millis(1_000, 120_000));
                }
                continue;
            }
            let delay = if late {
                self.faults().count("WatchEventLate");
                self.chance.millis(1_000, 40_000)
            } else {
                self.chance.millis(2, 60)
            };
            self.list_again(replica, delay);
        }
    }

    /// All keys come into the queue of a replica, after `delay`.
    fn list_again(self: &Arc<Self>, replica: usize, delay: Duration) {
        let Some((_, queue)) = self.process(replica) else { return };
        let world = self.clone();
        self.executor.spawn(Group::Replica(replica), async move {
            world.executor.time.sleep(delay).await;
            let keys = world.around().keys.clone();
            keys.into_iter().for_each(|key| queue.add(key));
        });
    }
}

/// Objects.
impl World {
    pub fn add_object(&self, key: AccessKey, object: Value) {
        self.around().keys.insert(key);
        self.api.put_access(parsed(object));
    }

    /// A credential that is good; those before it are not any more.
    pub fn make_secret(&self) {
        let text = {
            let mut around = self.around();
            around.secret = format!("clouds: {{}} # {}", around.secret.len() + 1);
            around.secret.clone()
        };
        let data: BTreeMap<String, k8s_openapi::ByteString> =
            [("clouds.yaml".to_owned(), k8s_openapi::ByteString(text.into_bytes()))].into();
        if self.api.secret_now(SECRET).is_some() {
            self.api.edit_secret(SECRET, |secret| secret.data = Some(data));
            return;
        }
        let mut secret: k8s_openapi::api::core::v1::Secret =
            parsed(json!({"metadata": {"name": SECRET, "namespace": "ydata"}}));
        secret.data = Some(data);
        self.api.put_secret(secret);
    }

    pub fn is_valid(&self, secret: &str) -> bool {
        self.around().secret == secret
    }

    pub fn address(&self, id: &AddressId) -> Option<FloatingIp> {
        self.cloud.addresses().into_iter().find(|address| address.id == *id)
    }

    pub fn pod_ip(&self, ordinal: u32) -> Option<Ipv4Addr> {
        self.around().pods.get(&ordinal).map(|(_, ip)| *ip)
    }

    pub fn is_up(&self, ordinal: u32) -> bool {
        self.around().up.contains_key(&ordinal)
    }

    pub fn wanted_pods(&self) -> u32 {
        let set = self.api.stateful_set_now(SET);
        set.and_then(|set| set.spec?.replicas).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
    }
}

fn pod_name(ordinal: u32) -> String {
    format!("{SET}-{ordinal}")
}

/// Pods and brokers.
impl World {
    /// What the StatefulSet controller and the kubelet do about what they see.
    fn govern(self: &Arc<Self>) {
        self.bury_pods();
        let Some(set) = self.api.stateful_set_now(SET) else { return };
        let status = set.status.clone().unwrap_or_default();
        if status.observed_generation != set.metadata.generation {
            self.api.edit_stateful_set(SET, |set| {
                let generation = set.metadata.generation;
                let status = set.status.get_or_insert_default();
                status.observed_generation = generation;
                status.update_revision.get_or_insert("revision-0".to_owned());
            });
        }
        let wanted = self.wanted_pods();
        for ordinal in 0..wanted {
            if self.api.pod_now(&pod_name(ordinal)).is_none() && self.around().starting.insert(ordinal) {
                self.executor.spawn(Group::World, start_pod(self.clone(), ordinal));
            }
        }
        for ordinal in wanted..wanted + 6 {
            if self.api.pod_now(&pod_name(ordinal)).is_some() {
                self.api.delete_pod(&pod_name(ordinal));
            }
        }
        self.bury_pods();
        self.roll(wanted);
    }

    /// `RollingUpdate`: pods of an older template restart, one after the other.
    fn roll(&self, wanted: u32) {
        let Some(set) = self.api.stateful_set_now(SET) else { return };
        let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref()?.type_.clone());
        if strategy.as_deref() == Some("OnDelete") {
            return;
        }
        let revision = set.status.and_then(|status| status.update_revision);
        let pods: Vec<Pod> = (0..wanted).filter_map(|o| self.api.pod_now(&pod_name(o))).collect();
        let all_up = (0..wanted).all(|ordinal| self.is_up(ordinal));
        let outdated = pods.iter().rev().find(|pod| {
            let of = pod.metadata.labels.as_ref().and_then(|labels| labels.get("controller-revision-hash"));
            of != revision.as_ref()
        });
        if let Some(pod) = outdated.filter(|_| all_up && pods.len() as u32 == wanted) {
            self.api.delete_pod(&pod.metadata.name.clone().unwrap_or_default());
            self.bury_pods();
        }
    }

    /// What was a pod's goes with it: its process at once, its port a little later.
    fn bury_pods(&self) {
        let here = |ordinal: u32| self.api.pod_now(&pod_name(ordinal)).and_then(|pod| pod.metadata.uid);
        let pods = self.around().pods.clone();
        for (ordinal, (uid, ip)) in pods {
            if here(ordinal).as_ref() == Some(&uid) {
                continue;
            }
            self.trace(|| format!("pod {} at {ip} is gone", pod_name(ordinal)));
            self.around().pods.remove(&ordinal);
            self.broker_ends(ordinal);
            let cloud = self.cloud.clone();
            if self.chance.permille(700) {
                cloud.remove_port(ip);
            } else {
                let (time, delay) = (self.executor.time.clone(), self.chance.millis(1_000, 90_000));
                self.executor.spawn(Group::World, async move {
                    time.sleep(delay).await;
                    cloud.remove_port(ip);
                });
            }
        }
    }

    pub fn broker_ends(&self, ordinal: u32) {
        self.kafka.stop(node(ordinal));
        let now = self.now();
        let mut around = self.around();
        if around.up.remove(&ordinal).is_some() {
            around.down.insert(ordinal, now);
        }
    }

    /// Brokers are added: what was sent a moment before knows nothing of them.
    pub fn are_not_up_yet(&self, added: std::ops::Range<u32>) {
        let now = self.now();
        self.around().down.extend(added.map(|ordinal| (ordinal, now)));
    }

    /// Starts the broker's process in its pod. False: it does not start.
    pub fn broker_starts(&self, ordinal: u32) -> bool {
        let Some(ip) = self.pod_ip(ordinal) else { return false };
        let Some(file) = self.broker_file(ordinal) else { return false };
        let started = self.kafka.start(node(ordinal), ip, file);
        self.trace(|| format!("broker {ordinal} starts at {ip}: {started:?}"));
        if started.is_ok() {
            let now = self.now();
            self.around().up.insert(ordinal, now);
        }
        if matches!(started, Err(StartFailure::EndpointTaken { .. })) && self.ledger().went_without_set {
            self.forget_stored(ordinal);
        }
        started.is_ok()
    }

    /// People do as docs/dynamic.md says: what was stored for a broker by an object that ended without its StatefulSet
    /// nobody else can take out.
    fn forget_stored(&self, ordinal: u32) {
        self.faults().count("StoredSettingsDeleted");
        for setting in ListenerSetting::ALL {
            self.kafka.store(node(ordinal), setting, None);
        }
    }

    /// As the kubelet does: again and again while the pod is there.
    pub async fn start_until_up(&self, ordinal: u32, uid: &str) {
        while self.is_pod(ordinal, uid) && !self.broker_starts(ordinal) {
            self.executor.time.sleep(Duration::from_secs(7)).await;
        }
    }

    pub fn pod_uid(&self, ordinal: u32) -> Option<String> {
        self.around().pods.get(&ordinal).map(|(uid, _)| uid.clone())
    }

    /// What the template and the pod's file make of the broker's settings, as the broker reads them.
    fn broker_file(&self, ordinal: u32) -> Option<BrokerFile> {
        let template = self.api.pod_now(&pod_name(ordinal))?.spec?;
        let value = |name: &str| {
            let env = template.containers.first()?.env.as_ref()?;
            env.iter().find(|variable| variable.name == name)?.value.clone()
        };
        let advertised = value("KAFKA_ADVERTISED_LISTENERS")?
            .replace("$$", "$")
            .replace("$(POD_NAME)", &pod_name(ordinal));
        let advertised = match advertised.split_once("${kea:") {
            None => advertised,
            Some((fixed, _)) => {
                let files = self.api.config_map_now(&format!("{SET}-external-access"))?.data?;
                let file = files.get(&format!("{}.properties", pod_name(ordinal)))?;
                let external = file.lines().find_map(|line| line.strip_prefix("external="))?;
                format!("{fixed}{external}")
            }
        };
        Some(BrokerFile {
            listeners: value("KAFKA_LISTENERS")?,
            advertised: Some(advertised),
            protocols: value("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP")?,
            hostname: pod_name(ordinal),
        })
    }

    fn make_pod(&self, ordinal: u32) -> Option<String> {
        let set = self.api.stateful_set_now(SET)?;
        let template = set.spec?.template.spec?;
        let revision = set.status.and_then(|status| status.update_revision);
        let mut pod: Pod = parsed(json!({
            "metadata": {"name": pod_name(ordinal), "namespace": "ydata",
                "labels": {"app": "kafka", "controller-revision-hash": revision},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": SET,
                    "uid": set.metadata.uid, "controller": true}]},
            "status": {"phase": "Pending"}}));
        pod.spec = Some(template);
        self.api.put_pod(pod);
        self.api.pod_now(&pod_name(ordinal))?.metadata.uid
    }

    /// The pod gets its address and a port in the cloud. False: it is gone.
    fn give_address(&self, ordinal: u32, uid: &str) -> bool {
        let Some(mut pod) = self.api.pod_now(&pod_name(ordinal)) else { return false };
        if pod.metadata.uid.as_deref() != Some(uid) {
            return false;
        }
        let ip = {
            let mut around = self.around();
            around.next_host += 1;
            let ip = Ipv4Addr::from(0x0A80_0000 + u32::from(around.next_host));
            around.pods.insert(ordinal, (uid.to_owned(), ip));
            ip
        };
        self.cloud.add_port("demo", ip);
        let text = ip.to_string();
        pod.status = Some(parsed(json!({"phase": "Running", "podIP": text, "podIPs": [{"ip": text}]})));
        self.api.put_pod(pod);
        true
    }

    fn is_pod(&self, ordinal: u32, uid: &str) -> bool {
        let pod = self.api.pod_now(&pod_name(ordinal));
        pod.and_then(|pod| pod.metadata.uid).as_deref() == Some(uid)
    }

    fn set_ready(&self, ordinal: u32) {
        let Some(mut pod) = self.api.pod_now(&pod_name(ordinal)) else { return };
        let ready = json!([{"type": "Ready", "status": "True"}]);
        pod.status.get_or_insert_default().conditions = Some(parsed(ready));
        self.api.put_pod(pod);
    }

    /// Floating IPs lead where the cloud says.
    pub fn lead_traffic(&self) {
        let addresses = self.cloud.addresses();
        let mut around = self.around();
        let now: BTreeSet<Ipv4Addr> = addresses.iter().map(|address| address.address).collect();
        for gone in around.led.difference(&now) {
            self.kafka.forward(*gone, None);
        }
        for address in &addresses {
            self.kafka.forward(address.address, address.binding.as_ref().map(|binding| binding.fixed_ip));
        }
        around.led = now;
    }

    /// A broker is in sync some seconds after it started.
    pub fn tell_partitions(&self) {
        let (set, now) = (self.api.stateful_set_now(SET).is_some(), self.now());
        let tight = self.tight.lock().expect("not poisoned").is_some();
        let mut wanted = self.wanted_pods();
        let around = self.around();
        if !set {
            // Brokers whose StatefulSet is gone go on as they were.
            wanted = around.up.keys().max().map_or(0, |last| last + 1);
        }
        let caught_up = |ordinal: &u32| {
            around.up.get(ordinal).is_some_and(|since| now.saturating_sub(*since) > Duration::from_secs(8))
        };
        let nodes = |of: Vec<u32>| of.into_iter().map(node).collect::<Vec<_>>();
        let partition = Partition {
            topic: "orders".into(),
            number: 0,
            replicas: nodes((0..wanted).collect()),
            in_sync: nodes((0..wanted).filter(caught_up).collect()),
            min_in_sync: if tight { wanted } else { wanted.saturating_sub(1) },
        };
        self.kafka.set_partitions(vec![partition]);
    }

    /// Other brokers that are down, and were already some time ago.
    pub fn others_down(&self, name: &str, for_longer_than: Duration) -> Vec<u32> {
        let (wanted, now) = (self.wanted_pods(), self.now());
        let around = self.around();
        let down = |ordinal: &u32| {
            pod_name(*ordinal) != name
                && !around.up.contains_key(ordinal)
                && around.down.get(ordinal).is_none_or(|at| now.saturating_sub(*at) > for_longer_than)
        };
        (0..wanted).filter(down).collect()
    }

    /// A list of the cloud as a replica may see it: without what is newest, or cut short.
    pub fn disturbed_list(&self, now: Vec<FloatingIp>) -> Vec<FloatingIp> {
        let disturbed = self.faults().permille;
        if !self.chance.permille(disturbed) {
            return now;
        }
        let at = self.now();
        {
            let mut around = self.around();
            if around.last_disturbed.is_some_and(|last| at < last + Duration::from_secs(90)) {
                return now;
            }
            around.last_disturbed = Some(at);
        }
        if self.chance.permille(500) {
            self.faults().count("ListStale");
            let before = at.saturating_sub(self.chance.millis(500, 10_000));
            self.trace(|| "a stale list".into());
            self.ledger().disturbed += 1;
            return self.ledger().addresses_at(before);
        }
        self.faults().count("ListTruncated");
        self.trace(|| "a truncated list".into());
        self.ledger().disturbed += 1;
        let keep = self.chance.index(now.len() + 1);
        now.into_iter().take(keep).collect()
    }
}

pub fn node(ordinal: u32) -> NodeId {
    NodeId(i32::try_from(ordinal).expect("a small number"))
}

/// As the product does without a watch on the record: one turn after the other.
async fn elect(lease: Arc<LeaseHolder>, clock: Arc<dyn Clock>) {
    loop {
        let wait = lease.turn().await;
        clock.sleep(wait).await;
    }
}

async fn start_pod(world: Arc<World>, ordinal: u32) {
    let time = world.executor.time.clone();
    time.sleep(world.chance.millis(500, 15_000)).await;
    world.around().starting.remove(&ordinal);
    let wanted = ordinal < world.wanted_pods() && world.api.pod_now(&pod_name(ordinal)).is_none();
    let Some(uid) = wanted.then(|| world.make_pod(ordinal)).flatten() else { return };
    world.after_effect();
    time.sleep(world.chance.millis(100, 4_000)).await;
    if !world.give_address(ordinal, &uid) {
        return;
    }
    world.after_effect();
    time.sleep(world.chance.millis(500, 10_000)).await;
    world.start_until_up(ordinal, &uid).await;
    time.sleep(world.chance.millis(100, 5_000)).await;
    if world.is_pod(ordinal, &uid) {
        world.set_ready(ordinal);
        world.after_effect();
    }
}
