//! Several namespaces in one cluster: a platform team's class, a victim and an attacker, who has every right in his own
//! namespace, forged statuses included, and none elsewhere.

mod attacks;
mod classes;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod, Secret},
    events::v1::Event,
};
use kafka_external_access::{
    api::{FINALIZER, KafkaExternalAccess, KafkaExternalAccessClass, KafkaExternalAccessStatus},
    cloud::{
        CloudError, CloudFault, Clouds, Credential, FloatingIp, FloatingIps,
        simulated::{Simulated, SimulatedClouds},
    },
    controller::{queue::Outcome, reconcile::Reconciler},
    domain::{AccessKey, Uid},
    kubernetes::{Kubernetes, KubernetesError, Listed, stats::NodeStats},
    seams::WritePermit,
};
use kube::Resource;
use serde_json::{Value, json};

use crate::{
    brokers::Cluster,
    kubernetes::ApiServer,
    tap::Tap,
    world::{VirtualClock, operator_of, parsed, rule},
};

/// Where the operator and the Secret of the class are.
pub const OPERATOR: &str = "kafka-external-access";
/// Who must come to no harm.
pub const VICTIM: &str = "victim";
/// Who tries.
pub const ATTACKER: &str = "attacker";
const NAMESPACES: [&str; 3] = [OPERATOR, VICTIM, ATTACKER];

/// Routes each call to the API server of its namespace.
pub struct Namespaces {
    servers: BTreeMap<&'static str, Arc<ApiServer>>,
    classes: Mutex<Vec<KafkaExternalAccessClass>>,
    labels: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
}

impl Namespaces {
    fn of(&self, namespace: &str) -> Arc<ApiServer> {
        self.servers[namespace].clone()
    }
}

/// A namespace of an object, which every object here has.
fn within(metadata: &kube::api::ObjectMeta) -> String {
    metadata.namespace.clone().expect("a namespace")
}

type Answer<T> = Result<T, KubernetesError>;

#[async_trait]
impl Kubernetes for Namespaces {
    async fn access(&self, key: &AccessKey) -> Answer<Option<KafkaExternalAccess>> {
        self.of(&key.namespace).access(key).await
    }
    async fn accesses(&self) -> Answer<Vec<Listed>> {
        let mut all = Vec::new();
        for server in self.servers.values() {
            all.extend(server.accesses().await?);
        }
        Ok(all)
    }
    async fn classes(&self) -> Answer<Vec<KafkaExternalAccessClass>> {
        Ok(self.classes.lock().expect("not poisoned").clone())
    }
    async fn namespace_labels(&self, name: &str) -> Answer<BTreeMap<String, String>> {
        Ok(self.labels.lock().expect("not poisoned").get(name).cloned().unwrap_or_default())
    }
    async fn cluster_uid(&self) -> Answer<Uid> {
        Ok(Uid::new("cluster"))
    }
    async fn stateful_set(&self, namespace: &str, name: &str) -> Answer<Option<StatefulSet>> {
        self.of(namespace).stateful_set(namespace, name).await
    }
    async fn node_stats(&self, node: &str) -> Answer<NodeStats> {
        // Nodes are nobody's namespace; here none shows its statistics.
        self.of(ATTACKER).node_stats(node).await
    }
    async fn pods(&self, namespace: &str, selector: &str) -> Answer<Vec<Pod>> {
        self.of(namespace).pods(namespace, selector).await
    }
    async fn pod(&self, namespace: &str, name: &str) -> Answer<Option<Pod>> {
        self.of(namespace).pod(namespace, name).await
    }
    async fn secret(&self, namespace: &str, name: &str) -> Answer<Option<Secret>> {
        self.of(namespace).secret(namespace, name).await
    }
    async fn config_map(&self, namespace: &str, name: &str) -> Answer<Option<ConfigMap>> {
        self.of(namespace).config_map(namespace, name).await
    }
    async fn write_config_map(&self, permit: WritePermit, map: &ConfigMap) -> Answer<()> {
        self.of(&within(&map.metadata)).write_config_map(permit, map).await
    }
    async fn delete_config_map(&self, permit: WritePermit, of: &ConfigMap) -> Answer<()> {
        self.of(&within(&of.metadata)).delete_config_map(permit, of).await
    }
    async fn change_stateful_set(
        &self,
        permit: WritePermit,
        of: &StatefulSet,
        target: &StatefulSet,
    ) -> Answer<()> {
        self.of(&within(&of.metadata)).change_stateful_set(permit, of, target).await
    }
    async fn evict(&self, permit: WritePermit, namespace: &str, name: &str, uid: &Uid) -> Answer<()> {
        self.of(namespace).evict(permit, namespace, name, uid).await
    }
    async fn set_finalizer(
        &self,
        permit: WritePermit,
        of: &KafkaExternalAccess,
        present: bool,
    ) -> Answer<KafkaExternalAccess> {
        self.of(&within(&of.metadata)).set_finalizer(permit, of, present).await
    }
    async fn set_secret_finalizer(&self, permit: WritePermit, of: &Secret, present: bool) -> Answer<()> {
        self.of(&within(&of.metadata)).set_secret_finalizer(permit, of, present).await
    }
    async fn clear_replace(&self, permit: WritePermit, of: &KafkaExternalAccess) -> Answer<()> {
        self.of(&within(&of.metadata)).clear_replace(permit, of).await
    }
    async fn write_status(
        &self,
        permit: WritePermit,
        of: &KafkaExternalAccess,
        status: &KafkaExternalAccessStatus,
    ) -> Answer<()> {
        self.of(&within(&of.metadata)).write_status(permit, of, status).await
    }
    async fn publish(&self, permit: WritePermit, event: &Event) -> Answer<()> {
        self.of(&within(&event.metadata)).publish(permit, event).await
    }
    async fn lease(&self, _: &str, _: &str) -> Answer<Option<Lease>> {
        Ok(None)
    }
    async fn write_lease(&self, lease: &Lease) -> Answer<Lease> {
        Ok(lease.clone())
    }
}

/// A cloud for each Secret that exists, by its namespace and name: whose credential is used is what counts here.
struct BySecret(BTreeMap<(&'static str, &'static str), Arc<Simulated>>);

impl Clouds for BySecret {
    fn open(&self, credential: &Credential) -> Result<Arc<dyn FloatingIps>, CloudError> {
        let at = (credential.namespace.as_str(), credential.secret.as_str());
        let found = self.0.iter().find(|((namespace, name), _)| (*namespace, *name) == at);
        match found {
            Some((_, cloud)) => SimulatedClouds(cloud.clone()).open(credential),
            None => Err(CloudError {
                operation: "read the credential",
                fault: CloudFault::Configuration("it is no credential".to_owned()),
            }),
        }
    }
}

/// Everybody's world.
pub struct Tenants {
    /// The project of the class.
    pub shared: Arc<Simulated>,
    /// The attacker's own project.
    pub own: Arc<Simulated>,
    pub kubernetes: Arc<Namespaces>,
    pub tap: Arc<Tap>,
    pub clock: Arc<VirtualClock>,
    operator: Arc<Reconciler>,
}

fn host(namespace: &str, ordinal: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 128, if namespace == VICTIM { 0 } else { 1 }, 10 + ordinal)
}

/// Pod `ordinal` of StatefulSet kafka.
pub fn pod(namespace: &str, ordinal: u8) -> Value {
    json!({
        "metadata": {"name": format!("kafka-{ordinal}"), "namespace": namespace, "labels": {"app": "kafka"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "kafka", "uid": "set", "controller": true}]},
        "spec": {"nodeName": "node-1", "containers": []},
        "status": {"phase": "Running", "podIP": host(namespace, ordinal).to_string()}})
}

impl Tenants {
    /// Two brokers of the victim and two of the attacker; a class that serves both; no object yet.
    pub fn new() -> Self {
        let (shared, own) = (Arc::new(Simulated::default()), Arc::new(Simulated::default()));
        // The attacker's own project has other addresses.
        own.set_pool((10..250).map(|host| Ipv4Addr::new(198, 51, 100, host)));
        for cloud in [&shared, &own] {
            cloud.set_rules(vec![rule(9092)]);
        }
        let servers = NAMESPACES.map(|namespace| (namespace, Arc::new(ApiServer::default()))).into();
        let kubernetes =
            Arc::new(Namespaces { servers, classes: Mutex::default(), labels: Mutex::default() });
        let brokers = Arc::new(Cluster::new(shared.clone(), 4));
        let (tap, clock) = (Arc::new(Tap::default()), Arc::new(VirtualClock::default()));
        let clouds = Arc::new(BySecret(BTreeMap::from([
            ((OPERATOR, "shared"), shared.clone()),
            ((VICTIM, "openstack"), shared.clone()),
            ((ATTACKER, "openstack"), own.clone()),
        ])));
        let operator = operator_of(&tap, clouds, brokers.clone(), kubernetes.clone(), clock.clone());
        let world = Self { shared, own, kubernetes, tap, clock, operator };
        for (namespace, name) in [(OPERATOR, "shared"), (VICTIM, "openstack"), (ATTACKER, "openstack")] {
            let secret = json!({"metadata": {"name": name, "namespace": namespace},
                "data": {"clouds.yaml": "Y2xvdWRzOiB7fQ=="}});
            world.kubernetes.of(namespace).put_secret(parsed(secret));
        }
        for (namespace, first) in [(VICTIM, 0_u8), (ATTACKER, 2)] {
            world.kubernetes.of(namespace).put_stateful_set(parsed(stateful_set(namespace)));
            for ordinal in 0..2 {
                world.kubernetes.of(namespace).put_pod(parsed(pod(namespace, ordinal)));
                brokers.runs_at((first + ordinal).into(), Some(host(namespace, ordinal)));
                world.shared.add_port("demo", host(namespace, ordinal));
                world.own.add_port("demo", host(namespace, ordinal));
            }
        }
        world.put_class(|_| ());
        world
    }

    /// The victim is served, and the attacker has done nothing yet.
    pub async fn with_victim() -> Self {
        let world = Self::new();
        world.apply(VICTIM, "kafka", |_| ());
        world.settle().await;
        assert_eq!(world.of(VICTIM).len(), 2);
        assert_eq!(world.ready(VICTIM, "kafka"), ("True".into(), "Ready".into()));
        world
    }

    /// Both are served.
    pub async fn with_both() -> Self {
        let world = Self::new();
        for namespace in [VICTIM, ATTACKER] {
            world.apply(namespace, "kafka", |_| ());
        }
        world.settle().await;
        world
    }

    /// Class `shared`, open to both, changed by `edit`.
    pub fn put_class(&self, edit: impl FnOnce(&mut Value)) {
        let mut class = json!({
            "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccessClass",
            "metadata": {"name": "shared"},
            "spec": {
                "provider": {"type": "OpenStack", "openstack": {
                    "cloudName": "dev", "credentialsSecretRef": {"name": "shared"}, "floatingNetwork": "public"}},
                "namespaces": {"names": [VICTIM, ATTACKER]}}});
        edit(&mut class["spec"]);
        *self.kubernetes.classes.lock().expect("not poisoned") = vec![parsed(class)];
    }

    pub fn remove_class(&self) {
        self.kubernetes.classes.lock().expect("not poisoned").clear();
    }

    pub fn label(&self, namespace: &str, label: Option<(&str, &str)>) {
        let labels = label.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.kubernetes.labels.lock().expect("not poisoned").insert(namespace.to_owned(), labels);
    }

    /// An object that uses the class, changed by `edit`: the whole object, status included.
    pub fn apply(&self, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut object = json!({
            "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccess",
            "metadata": {"name": name, "namespace": namespace, "uid": format!("{namespace}-{name}")},
            "spec": {
                "kafka": {"statefulSet": {"name": "kafka"}},
                "addresses": {"classRef": {"name": "shared"}}}});
        edit(&mut object);
        self.kubernetes.of(namespace).put_access(parsed(object));
    }

    /// The attacker writes whatever he likes into his object, its status too.
    pub fn forge(&self, name: &str, edit: impl FnOnce(&mut KafkaExternalAccess)) {
        self.kubernetes.of(ATTACKER).edit_access(&key(ATTACKER, name), edit);
    }

    pub fn delete(&self, namespace: &str, name: &str) {
        self.kubernetes.of(namespace).delete_access(&key(namespace, name));
    }

    pub async fn reconcile(&self, namespace: &str, name: &str) -> Outcome {
        self.operator.reconcile(&key(namespace, name)).await
    }

    pub fn operator(&self) -> Arc<Reconciler> {
        self.operator.clone()
    }

    /// Everybody's objects, ten minutes long: whatever is going to happen has happened then.
    pub async fn settle(&self) {
        for _ in 0..24 {
            for object in self.kubernetes.accesses().await.expect("objects") {
                let meta = object.meta();
                let key = key(&within(meta), &meta.name.clone().expect("a name"));
                self.operator.reconcile(&key).await;
            }
            self.clock.pass(Duration::from_secs(25));
        }
    }

    /// The addresses of a namespace, by their markers.
    pub fn of(&self, namespace: &str) -> Vec<FloatingIp> {
        let marked = format!(" n={namespace}/");
        self.shared.addresses().into_iter().filter(|address| address.description.contains(&marked)).collect()
    }

    pub fn object(&self, namespace: &str, name: &str) -> Option<KafkaExternalAccess> {
        self.kubernetes.of(namespace).access_now(&key(namespace, name))
    }

    pub fn status(&self, namespace: &str, name: &str) -> KafkaExternalAccessStatus {
        self.object(namespace, name).and_then(|object| object.status).unwrap_or_default()
    }

    /// Status and reason of `Ready`.
    pub fn ready(&self, namespace: &str, name: &str) -> (String, String) {
        let status = self.status(namespace, name);
        let found = status.conditions.iter().find(|condition| condition.type_ == "Ready").expect("Ready");
        (found.status.clone(), found.reason.clone())
    }

    /// Every message that the object's users can read.
    pub fn told(&self, namespace: &str, name: &str) -> String {
        let status = serde_json::to_string(&self.status(namespace, name)).expect("a status");
        let events = self.kubernetes.of(namespace).events();
        status + &serde_json::to_string(&events).expect("events")
    }

    pub fn is_held(&self, namespace: &str, secret: &str) -> bool {
        let secret = self.kubernetes.of(namespace).secret_now(secret).expect("the Secret");
        secret.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
    }

    pub fn server(&self, namespace: &str) -> Arc<ApiServer> {
        self.kubernetes.of(namespace)
    }
}

pub fn key(namespace: &str, name: &str) -> AccessKey {
    AccessKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// The public addresses among these.
pub fn public(addresses: &[FloatingIp]) -> BTreeSet<Ipv4Addr> {
    addresses.iter().map(|address| address.address).collect()
}

fn stateful_set(namespace: &str) -> Value {
    let command = "exec kafka-server-start.sh server.properties --override listeners=INTERNAL://:9092";
    json!({
        "metadata": {"name": "kafka", "namespace": namespace},
        "spec": {
            "serviceName": "kafka-headless", "replicas": 2,
            "selector": {"matchLabels": {"app": "kafka"}},
            "template": {"metadata": {"labels": {"app": "kafka"}}, "spec": {"containers": [
                {"name": "kafka", "command": ["sh", "-c", command], "ports": [{"containerPort": 9092}]}]}}}})
}
