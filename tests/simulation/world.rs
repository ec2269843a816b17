//! The simulated surroundings of the operator: API server with its StatefulSet controller, cloud, brokers, machines.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicU64},
    time::Duration,
};

use k8s_openapi::api::core::v1::PodTemplateSpec;
use kafka_external_access::{
    act::Actor,
    cloud::{FloatingIp, simulated::Simulated},
    controller::{self, queue::WorkQueue, reconcile::Reconciler},
    domain::{AccessKey, AddressId, ClusterId, NodeId},
    kafka::{Partition, simulated::SimulatedBrokers},
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
    workload::pod_name,
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
pub struct Surroundings {
    processes: BTreeMap<usize, Process>,
    lives: u32,
    /// Pods that have an address, by ordinal: UID and address.
    pub pods: BTreeMap<u32, (String, Ipv4Addr)>,
    pub starting: BTreeSet<u32>,
    /// UIDs of pods that are deleted and not gone yet, since when.
    pub ending: BTreeMap<String, Duration>,
    /// The controller is about to see the newest template.
    pub looks_soon: bool,
    /// How many brokers there were last, when there were any.
    assigned: u32,
    /// Brokers that run, since when.
    pub up: BTreeMap<u32, Duration>,
    /// When each broker went down last.
    pub down: BTreeMap<u32, Duration>,
    pub next_host: u16,
    secret: String,
    keys: BTreeSet<AccessKey>,
    told: u64,
    led: BTreeSet<Ipv4Addr>,
    last_disturbed: Option<Duration>,
    /// Nothing goes wrong any more.
    pub healed: bool,
    /// Pod templates by revision.
    pub templates: BTreeMap<String, PodTemplateSpec>,
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
        world.api.end_slowly(world.setup.pods_end_in > Duration::ZERO);
        world.api.put_stateful_set(parsed(setup::stateful_set(&world.setup)));
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

    pub fn around(&self) -> MutexGuard<'_, Surroundings> {
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

    /// Tasks and processes hold the world, and the world holds them.
    pub fn end(&self) {
        self.executor.end();
        let processes = std::mem::take(&mut self.around().processes);
        drop(processes);
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
        let replicas = self.api.of_stateful_set(SET, |set| set.spec.as_ref()?.replicas).flatten();
        replicas.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
    }
}

/// What brokers and the cloud show.
impl World {
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
        let (set, now) = (self.api.of_stateful_set(SET, |_| ()).is_some(), self.now());
        let tight = self.tight.lock().expect("not poisoned").is_some();
        let mut wanted = self.wanted_pods();
        let mut around = self.around();
        // Replicas stay assigned to brokers that are switched off.
        around.assigned = if wanted == 0 { around.assigned } else { wanted };
        wanted = around.assigned;
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

    /// Other brokers that are down, or on their way there, and were already some time ago.
    pub fn others_down(&self, name: &str, for_longer_than: Duration) -> Vec<u32> {
        let (wanted, now) = (self.wanted_pods(), self.now());
        let around = self.around();
        let long = |at: &Duration| now.saturating_sub(*at) > for_longer_than;
        let ends = |ordinal: &u32| around.ending.get(&around.pods.get(ordinal)?.0);
        let down = |ordinal: &u32| {
            let away = !around.up.contains_key(ordinal) && around.down.get(ordinal).is_none_or(long);
            pod_name(*ordinal) != name && (away || ends(ordinal).is_some_and(long))
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
