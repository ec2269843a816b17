//! A Kafka of some brokers on a simulated Kubernetes, in a simulated cloud, and an operator that can be restarted.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::events::v1::Event;
use kafka_external_access::{
    act::Actor,
    api::{FINALIZER, KafkaExternalAccess, KafkaExternalAccessStatus},
    cloud::{
        Clouds, FloatingIp, IngressRule,
        simulated::{Simulated, SimulatedClouds},
    },
    controller::{queue::Outcome, reconcile::Reconciler},
    domain::{AccessKey, ClusterId, SecurityGroupId},
    kafka::Brokers,
    kubernetes::Kubernetes,
    observe::{Observer, Settings},
    plan::cost::Prices,
    report::objects::Objects,
    seams::{Clock, Leadership, Random},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use serde_json::{Value, json};

use crate::{
    brokers::Cluster,
    kubernetes::ApiServer,
    tap::{Cut, Tap, TappedBrokers, TappedClouds, TappedKubernetes, TappedLeadership},
};

/// Time that passes only when somebody sleeps, or when a test lets it pass. In milliseconds.
#[derive(Default)]
pub struct VirtualClock(AtomicU64, AtomicI64);

impl VirtualClock {
    /// Somebody sets the wall clock, forward or back.
    pub fn jump(&self, period: Duration, forward: bool) {
        let millis = i64::try_from(period.as_millis()).expect("a period");
        self.1.fetch_add(if forward { millis } else { -millis }, Ordering::SeqCst);
    }

    pub fn pass(&self, period: Duration) {
        self.0.fetch_add(u64::try_from(period.as_millis()).expect("a period"), Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.steady() + SignedDuration::from_millis(self.1.load(Ordering::SeqCst))
    }
    fn steady(&self) -> Timestamp {
        Timestamp::from_second(1_790_000_000).expect("a timestamp") + self.monotonic()
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
    async fn sleep(&self, period: Duration) {
        tokio::task::yield_now().await;
        self.pass(period);
    }
}

struct Half;

impl Random for Half {
    fn fraction(&self) -> f64 {
        0.5
    }
}

/// The operator's drift interval.
pub const DRIFT: Duration = Duration::from_secs(300);

pub struct World {
    pub tap: Arc<Tap>,
    pub cloud: Arc<Simulated>,
    pub brokers: Arc<Cluster>,
    pub kubernetes: Arc<ApiServer>,
    pub clock: Arc<VirtualClock>,
    operator: Mutex<Arc<Reconciler>>,
    next_host: AtomicU8,
}

impl World {
    /// Three brokers that run, and an object that nobody has looked at.
    pub async fn of_three_brokers() -> Self {
        Self::with_spec(3, |_| ()).await
    }

    pub async fn with_spec(brokers: u8, edit: impl FnOnce(&mut Value)) -> Self {
        let cloud = Arc::new(Simulated::default());
        cloud.set_rules(vec![rule(9094)]);
        let kubernetes = Arc::new(ApiServer::default());
        let kafka = Arc::new(Cluster::new(cloud.clone(), i32::from(brokers)));
        let tap = Arc::new(Tap::default());
        let clock = Arc::new(VirtualClock::default());
        let operator = operator(&tap, &cloud, &kafka, &kubernetes, &clock);
        let world = Self {
            tap,
            cloud,
            brokers: kafka,
            kubernetes,
            clock,
            operator: Mutex::new(operator),
            next_host: AtomicU8::new(5),
        };
        world.kubernetes.put_stateful_set(parsed(stateful_set(brokers)));
        world.kubernetes.put_secret(parsed(json!({
            "metadata": {"name": "openstack", "namespace": "ydata"},
            "data": {"clouds.yaml": "Y2xvdWRzOiB7fQ=="}})));
        for ordinal in 0..brokers {
            world.start_pod(ordinal);
        }
        let mut object = object();
        edit(&mut object["spec"]);
        world.kubernetes.put_access(parsed(object));
        world
    }

    /// Three brokers that are served; the record of calls is empty.
    pub async fn ready() -> Self {
        let world = Self::of_three_brokers().await;
        world.settle().await;
        world.assert_ready();
        world.tap.clear();
        world
    }

    pub fn key() -> AccessKey {
        AccessKey { namespace: "ydata".into(), name: "kafka".into() }
    }

    /// One reconcile by the operator that runs.
    pub async fn reconcile(&self) -> Outcome {
        let operator = self.operator.lock().expect("not poisoned").clone();
        operator.reconcile(&Self::key()).await
    }

    /// One reconcile that ends for ever at `cut`.
    pub async fn reconcile_until(&self, cut: Cut) {
        self.tap.cut_at(Some(cut));
        tokio::select! {
            _ = self.reconcile() => {}
            () = self.tap.was_cut() => {}
        }
        self.tap.cut_at(None);
    }

    /// The operator ends without a word, and another one starts.
    pub fn restart(&self) {
        let fresh = operator(&self.tap, &self.cloud, &self.brokers, &self.kubernetes, &self.clock);
        *self.operator.lock().expect("not poisoned") = fresh;
    }

    /// As the work queue does: reconciles when it is time, until a reconcile changes nothing and nothing failed.
    pub async fn settle(&self) {
        for _ in 0..60 {
            let before = self.writes();
            let outcome = self.reconcile().await;
            if !outcome.failed && self.writes() == before {
                return;
            }
            let pause = Duration::from_secs(5);
            self.clock.pass(outcome.look_again.map_or(pause, |look_again| look_again.min(pause)));
        }
        panic!("not settled: {:#?}\n{:#?}", self.object().status, self.tap.calls());
    }

    /// As the work queue does, until the object is Ready.
    pub async fn settle_until_ready(&self) {
        for _ in 0..60 {
            let outcome = self.reconcile().await;
            if self.condition("Ready").0 == "True" {
                return;
            }
            self.clock.pass(outcome.look_again.unwrap_or(Duration::from_secs(5)));
        }
        self.assert_ready();
    }

    pub async fn settle_until_gone(&self) {
        for _ in 0..60 {
            self.reconcile().await;
            if self.kubernetes.access_now(&Self::key()).is_none() {
                return;
            }
            self.clock.pass(Duration::from_secs(15));
        }
        panic!("not gone: {:#?}", self.object().status);
    }

    fn writes(&self) -> usize {
        self.tap.calls().iter().filter(|call| call.write).count()
    }

    pub fn object(&self) -> KafkaExternalAccess {
        self.kubernetes.access_now(&Self::key()).expect("the object")
    }

    pub fn status(&self) -> KafkaExternalAccessStatus {
        self.object().status.expect("a status")
    }

    /// Status and reason of a condition.
    pub fn condition(&self, kind: &str) -> (String, String) {
        let status = self.status();
        let found =
            status.conditions.iter().find(|condition| condition.type_ == kind).expect("the condition");
        (found.status.clone(), found.reason.clone())
    }

    pub fn assert_ready(&self) {
        let (ready, reason) = self.condition("Ready");
        assert_eq!(ready, "True", "{reason}: {:#?}", self.status());
    }

    pub fn addresses(&self) -> Vec<FloatingIp> {
        self.cloud.addresses()
    }

    pub fn edit(&self, edit: impl FnOnce(&mut Value)) {
        self.kubernetes.edit_access(&Self::key(), |object| {
            let mut spec = serde_json::to_value(&object.spec).expect("a spec");
            edit(&mut spec);
            object.spec = parsed(spec);
        });
    }

    pub fn delete(&self) {
        self.kubernetes.delete_access(&Self::key());
    }

    pub fn events(&self) -> Vec<Event> {
        self.kubernetes.events()
    }

    /// What a scrape of the operator that runs shows of its objects.
    pub fn metrics(&self) -> String {
        let operator = self.operator.lock().expect("not poisoned").clone();
        let mut registry = Registry::with_prefix("kafka_external_access");
        registry.register_collector(Box::new(operator.objects.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        text
    }

    pub fn secret_is_held(&self) -> bool {
        let secret = self.kubernetes.secret_now("openstack").expect("the Secret");
        secret.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
    }

    /// A pod for the broker, at an address that no pod had before.
    pub fn start_pod(&self, ordinal: u8) -> Ipv4Addr {
        let ip = Ipv4Addr::new(10, 128, 0, self.next_host.fetch_add(1, Ordering::SeqCst));
        self.cloud.add_port("demo", ip);
        self.brokers.runs_at(ordinal.into(), Some(ip));
        self.kubernetes.put_pod(parsed(json!({
            "metadata": {"name": format!("kafka-{ordinal}"), "namespace": "ydata", "labels": {"app": "kafka"},
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "kafka", "uid": "set", "controller": true}]},
            "spec": {"nodeName": "node-1", "containers": []},
            "status": {"phase": "Running", "podIP": ip.to_string(), "podIPs": [{"ip": ip.to_string()}]}})));
        ip
    }

    /// The pod goes, its port with it.
    pub fn stop_pod(&self, ordinal: u8) {
        self.cloud.remove_port(self.pod_ip(ordinal));
        self.kubernetes.delete_pod(&format!("kafka-{ordinal}"));
        self.brokers.runs_at(ordinal.into(), None);
    }

    pub fn move_pod(&self, ordinal: u8) {
        self.stop_pod(ordinal);
        self.start_pod(ordinal);
    }

    pub fn pod_ip(&self, ordinal: u8) -> Ipv4Addr {
        let pod = self.kubernetes.pod_now(&format!("kafka-{ordinal}")).expect("the pod");
        pod.status.and_then(|status| status.pod_ip?.parse().ok()).expect("its address")
    }

    /// The user applies the object again after it was deleted.
    pub fn apply_again(&self) {
        self.kubernetes.put_access(parsed(object()));
    }

    pub fn annotate(&self, name: &str, value: &str) {
        self.kubernetes.edit_access(&Self::key(), |object| {
            object.metadata.annotations.get_or_insert_default().insert(name.into(), value.into());
        });
    }

    /// The address of a broker as the status has it.
    pub fn address_of(&self, ordinal: u8) -> FloatingIp {
        let status = self.status();
        let broker = status.brokers.iter().find(|broker| broker.ordinal == u32::from(ordinal));
        let id = broker.and_then(|broker| broker.address_id.clone()).expect("an address");
        self.addresses().into_iter().find(|address| address.id.as_str() == id).expect("it is in the cloud")
    }

    /// Somebody swaps where two addresses lead.
    pub fn swap_addresses(&self, one: u8, other: u8) {
        let (one, other) = (self.address_of(one), self.address_of(other));
        self.cloud.by_hand(&one.id, |address| address.binding = other.binding.clone());
        self.cloud.by_hand(&other.id, |address| address.binding = one.binding.clone());
    }
}

/// A rule that admits everybody to one port.
/// What the simulated cloud charges.
fn prices() -> Prices {
    let money = |text: &str| text.parse().expect("an amount");
    let (address_hour, mbps_hour, gb) = (money("0.004"), money("0.0005"), money("0.02"));
    Prices { currency: "EUR".to_owned(), address_hour, mbps_hour, gb }
}

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

fn operator(
    tap: &Arc<Tap>,
    cloud: &Arc<Simulated>,
    brokers: &Arc<Cluster>,
    kubernetes: &Arc<ApiServer>,
    clock: &Arc<VirtualClock>,
) -> Arc<Reconciler> {
    let clouds = Arc::new(SimulatedClouds(cloud.clone()));
    operator_of(tap, clouds, brokers.clone(), kubernetes.clone(), clock.clone())
}

/// An operator in any world.
pub fn operator_of(
    tap: &Arc<Tap>,
    clouds: Arc<dyn Clouds>,
    brokers: Arc<dyn Brokers>,
    kubernetes: Arc<dyn Kubernetes>,
    clock: Arc<dyn Clock>,
) -> Arc<Reconciler> {
    let kubernetes: Arc<dyn Kubernetes> = Arc::new(TappedKubernetes(tap.clone(), kubernetes));
    let clouds: Arc<dyn Clouds> = Arc::new(TappedClouds(tap.clone(), clouds));
    let brokers: Arc<dyn Brokers> = Arc::new(TappedBrokers(tap.clone(), brokers));
    let leadership: Arc<dyn Leadership> = Arc::new(TappedLeadership { tap: tap.clone(), since: clock.now() });
    let observer = Arc::new(Observer::new(
        kubernetes.clone(),
        clouds.clone(),
        brokers.clone(),
        clock.clone(),
        ClusterId::new("cluster"),
        "operator at node-1".into(),
        Settings {
            drift: DRIFT,
            metrics: Duration::from_secs(60),
            prices: Some(prices()),
            operator_namespace: "kafka-external-access".into(),
        },
    ));
    let actor = Actor {
        kubernetes: kubernetes.clone(),
        clouds,
        brokers,
        clock: clock.clone(),
        leadership: leadership.clone(),
        observer: observer.clone(),
        endings: tokio::sync::Mutex::default(),
    };
    Arc::new(Reconciler {
        observer,
        actor,
        kubernetes,
        leadership,
        clock: clock.clone(),
        random: Arc::new(Half),
        instance: "operator-0".into(),
        memories: Mutex::default(),
        told: Mutex::default(),
        objects: Objects::default(),
        serial: AtomicU64::new(0),
    })
}

pub fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a well-formed object")
}

fn stateful_set(replicas: u8) -> Value {
    let command = "exec kafka-server-start.sh server.properties --override listeners=INTERNAL://:9092";
    json!({
        "metadata": {"name": "kafka", "namespace": "ydata"},
        "spec": {
            "serviceName": "kafka-headless", "replicas": replicas,
            "selector": {"matchLabels": {"app": "kafka"}},
            "template": {"metadata": {"labels": {"app": "kafka"}}, "spec": {"containers": [
                {"name": "kafka", "command": ["sh", "-c", command], "ports": [{"containerPort": 9092}]}]}}}})
}

fn object() -> Value {
    json!({
        "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccess",
        "metadata": {"name": "kafka", "namespace": "ydata"},
        "spec": {
            "kafka": {"statefulSet": {"name": "kafka"}},
            "listener": {"name": "EXTERNAL", "port": 9094},
            "addresses": {"provider": {"type": "OpenStack", "openstack": {
                "cloudName": "dev", "credentialsSecretRef": {"name": "openstack"}, "floatingNetwork": "public"}}}}})
}
