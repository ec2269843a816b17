//! An API server in memory, with the rules of the real one as far as the operator meets them. `kubernetes_contract` holds
//! both to the same sentences.
//!
//! | rule | as on Kubernetes 1.36 |
//! |---|---|
//! | a write on another version than the stored one | conflict (409) |
//! | a write that changes nothing | leaves the version |
//! | the generation | rises with the spec and with the deletion, with nothing else |
//! | a deletion | waits for every finalizer; no finalizer comes to what is deleted (422) |
//! | an object that is made again | has another UID; what was meant for the former one is a conflict |
//! | a status | is replaced as a whole, and a write of the object does not touch it |
//! | an eviction | may be refused by a budget (429) |
//! | what belongs to a StatefulSet | goes with it |

#![allow(dead_code, reason = "each test that shares this uses a part of it")]

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Pod, Secret},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kafka_external_access::{
    api::{
        FINALIZER, KafkaExternalAccess, KafkaExternalAccessClass, KafkaExternalAccessStatus,
        REPLACE_ANNOTATION,
    },
    domain::{AccessKey, Uid},
    kubernetes::{
        Kubernetes, KubernetesError, KubernetesFault, Listed,
        stats::{NodeStats, PodNetwork},
    },
    seams::WritePermit,
};
use kube::core::DeserializeGuard;

#[derive(Default)]
struct State {
    accesses: BTreeMap<AccessKey, KafkaExternalAccess>,
    stateful_sets: BTreeMap<String, StatefulSet>,
    pods: BTreeMap<String, Pod>,
    secrets: BTreeMap<String, Secret>,
    config_maps: BTreeMap<String, ConfigMap>,
    leases: BTreeMap<String, Lease>,
    /// A budget stands against every eviction.
    protected: bool,
    /// Pods that are deleted stay until somebody says that they have ended.
    ends_slowly: bool,
    events: Vec<Event>,
    stats: BTreeMap<String, NodeStats>,
    serial: u64,
    /// Changes of what the operator watches.
    changes: u64,
    now: Timestamp,
    /// Nobody may change a finalizer.
    refuses_finalizers: bool,
}

/// One namespace of a cluster.
#[derive(Default)]
pub struct ApiServer {
    state: Mutex<State>,
}

impl State {
    fn stamp(&mut self, metadata: &mut ObjectMeta) {
        self.serial += 1;
        metadata.resource_version = Some(self.serial.to_string());
        metadata.uid.get_or_insert(format!("uid-{}", self.serial));
        metadata.generation.get_or_insert(1);
        metadata.creation_timestamp.get_or_insert(Time(self.now));
    }

    /// A new version of something that is watched.
    fn change(&mut self, metadata: &mut ObjectMeta) {
        self.stamp(metadata);
        self.changes += 1;
    }
}

fn name_of(metadata: &ObjectMeta) -> String {
    metadata.name.clone().expect("a name")
}

fn failed(operation: &'static str, fault: KubernetesFault) -> KubernetesError {
    KubernetesError { operation, fault }
}

/// False: it is so already, and nothing is written.
fn with_finalizer(
    metadata: &mut ObjectMeta,
    present: bool,
    operation: &'static str,
) -> Result<bool, KubernetesError> {
    let finalizers = metadata.finalizers.get_or_insert_default();
    if finalizers.iter().any(|finalizer| finalizer == FINALIZER) == present {
        return Ok(false);
    }
    if present && metadata.deletion_timestamp.is_some() {
        let text = "no new finalizers can be added if the object is being deleted".to_owned();
        return Err(failed(operation, KubernetesFault::Invalid(text)));
    }
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if present {
        finalizers.push(FINALIZER.into());
    }
    Ok(true)
}

/// What is there, against what was read: gone, another version, or fine.
fn same_version(
    operation: &'static str,
    present: Option<&ObjectMeta>,
    read: &ObjectMeta,
) -> Result<(), KubernetesError> {
    match present {
        None => Err(failed(operation, KubernetesFault::NotFound)),
        Some(present) if present.resource_version != read.resource_version => {
            Err(failed(operation, KubernetesFault::Conflict))
        }
        Some(_) => Ok(()),
    }
}

/// What users and controllers do.
impl ApiServer {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    /// What its clock says, for times that it writes.
    pub fn at(&self, now: Timestamp) {
        self.lock().now = now;
    }

    /// Whether a finalizer can be changed.
    pub fn refuse_finalizers(&self, refuses: bool) {
        self.lock().refuses_finalizers = refuses;
    }

    /// Goes up with every change of something that the operator watches.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Whether a budget stands against every eviction.
    pub fn protect(&self, protected: bool) {
        self.lock().protected = protected;
    }

    /// Whether pods that are deleted stay until [`Self::pod_has_ended`].
    pub fn end_slowly(&self, ends_slowly: bool) {
        self.lock().ends_slowly = ends_slowly;
    }

    /// The kubelet has seen this pod end.
    pub fn pod_has_ended(&self, name: &str, uid: &str) {
        let mut state = self.lock();
        if state.pods.get(name).is_some_and(|pod| pod.metadata.uid.as_deref() == Some(uid)) {
            state.pods.remove(name);
            state.changes += 1;
        }
    }

    /// Somebody writes the object and not its status: what the new one says of the status is dropped.
    pub fn replace_access(&self, object: KafkaExternalAccess) -> Result<(), KubernetesError> {
        let operation = "replace the object";
        let key = self.lock().unchanged(&object, operation)?;
        self.edit_access(&key, |stored| {
            stored.metadata = object.metadata;
            stored.spec = object.spec;
        });
        Ok(())
    }

    /// Somebody sets one key of a ConfigMap.
    pub fn put_config_map(&self, name: &str, key: &str, value: &str) {
        let mut state = self.lock();
        let mut map = state.config_maps.get(name).cloned().unwrap_or_default();
        map.metadata.name = Some(name.to_owned());
        map.data.get_or_insert_default().insert(key.to_owned(), value.to_owned());
        state.stamp(&mut map.metadata);
        state.config_maps.insert(name.to_owned(), map);
    }

    /// A node's kubelet counts so many bytes from this pod; `None`: it does not count the pod's network.
    pub fn put_stats(&self, node: &str, pod: &str, network: Option<PodNetwork>) {
        let mut state = self.lock();
        let uid = Uid::new(state.pods[pod].metadata.uid.as_deref().expect("a UID"));
        state.stats.entry(node.to_owned()).or_default().insert(uid, network);
    }

    /// Somebody makes the object; a status in it is dropped.
    pub fn put_access(&self, mut object: KafkaExternalAccess) {
        let mut state = self.lock();
        object.status = None;
        state.change(&mut object.metadata);
        let namespace = object.metadata.namespace.clone().expect("a namespace");
        let key = AccessKey { namespace, name: name_of(&object.metadata) };
        state.accesses.insert(key, object);
    }

    pub fn edit_access(&self, key: &AccessKey, edit: impl FnOnce(&mut KafkaExternalAccess)) {
        let mut state = self.lock();
        let mut object = state.accesses.get(key).expect("the object").clone();
        let before = object.spec.clone();
        edit(&mut object);
        if object.spec != before {
            object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
        }
        state.change(&mut object.metadata);
        state.accesses.insert(key.clone(), object);
    }

    pub fn delete_access(&self, key: &AccessKey) {
        let now = self.lock().now;
        self.edit_access(key, |object| {
            if object.metadata.deletion_timestamp.is_none() {
                object.metadata.deletion_timestamp = Some(Time(now));
                object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
            }
        });
        self.lock().sweep();
    }

    pub fn put_stateful_set(&self, mut set: StatefulSet) {
        let mut state = self.lock();
        state.change(&mut set.metadata);
        state.stateful_sets.insert(name_of(&set.metadata), set);
    }

    /// What `read` makes of it; `None`: there is none.
    pub fn of_stateful_set<T>(&self, name: &str, read: impl FnOnce(&StatefulSet) -> T) -> Option<T> {
        self.lock().stateful_sets.get(name).map(read)
    }

    /// What `read` makes of it; `None`: there is none.
    pub fn of_pod<T>(&self, name: &str, read: impl FnOnce(&Pod) -> T) -> Option<T> {
        self.lock().pods.get(name).map(read)
    }

    /// What `read` makes of all objects.
    pub fn of_accesses<T>(&self, read: impl FnOnce(&BTreeMap<AccessKey, KafkaExternalAccess>) -> T) -> T {
        read(&self.lock().accesses)
    }

    pub fn stateful_set_now(&self, name: &str) -> Option<StatefulSet> {
        self.lock().stateful_sets.get(name).cloned()
    }

    pub fn edit_stateful_set(&self, name: &str, edit: impl FnOnce(&mut StatefulSet)) {
        let mut state = self.lock();
        let Some(mut set) = state.stateful_sets.get(name).cloned() else { return };
        let before = set.spec.clone();
        edit(&mut set);
        if set.spec != before {
            set.metadata.generation = set.metadata.generation.map(|generation| generation + 1);
        }
        state.change(&mut set.metadata);
        state.stateful_sets.insert(name.to_owned(), set);
    }

    /// Goes, and leaves its pods to others.
    pub fn delete_stateful_set(&self, name: &str) {
        let mut state = self.lock();
        state.stateful_sets.remove(name);
        // Who belongs to it goes with it.
        state
            .config_maps
            .retain(|_, map| !map.metadata.owner_references.iter().flatten().any(|owner| owner.name == name));
        state.changes += 1;
    }

    /// `--cascade=orphan`: who belonged to it stays, and belongs to nobody.
    pub fn orphan_stateful_set(&self, name: &str) {
        let mut state = self.lock();
        state.stateful_sets.remove(name);
        for map in state.config_maps.values_mut() {
            map.metadata
                .owner_references
                .iter_mut()
                .for_each(|owners| owners.retain(|owner| owner.name != name));
        }
        state.changes += 1;
    }

    /// A pod of that name; an older one of that name is gone.
    pub fn put_pod(&self, mut pod: Pod) {
        let mut state = self.lock();
        state.change(&mut pod.metadata);
        state.pods.insert(name_of(&pod.metadata), pod);
    }

    pub fn delete_pod(&self, name: &str) {
        self.lock().delete_pod(name);
    }

    pub fn put_secret(&self, mut secret: Secret) {
        let mut state = self.lock();
        state.change(&mut secret.metadata);
        state.secrets.insert(name_of(&secret.metadata), secret);
    }

    /// Goes at once, or when nobody holds it any more.
    pub fn delete_secret(&self, name: &str) {
        let mut state = self.lock();
        let Some(mut secret) = state.secrets.get(name).cloned() else { return };
        secret.metadata.deletion_timestamp.get_or_insert(Time(state.now));
        state.change(&mut secret.metadata);
        state.secrets.insert(name.to_owned(), secret);
        state.sweep();
    }

    pub fn edit_secret(&self, name: &str, edit: impl FnOnce(&mut Secret)) {
        let mut state = self.lock();
        let Some(mut secret) = state.secrets.get(name).cloned() else { return };
        edit(&mut secret);
        state.change(&mut secret.metadata);
        state.secrets.insert(name.to_owned(), secret);
    }

    pub fn secret_now(&self, name: &str) -> Option<Secret> {
        self.lock().secrets.get(name).cloned()
    }

    pub fn pod_now(&self, name: &str) -> Option<Pod> {
        self.lock().pods.get(name).cloned()
    }

    pub fn config_map_now(&self, name: &str) -> Option<ConfigMap> {
        self.lock().config_maps.get(name).cloned()
    }

    pub fn lease_now(&self, name: &str) -> Option<Lease> {
        self.lock().leases.get(name).cloned()
    }

    pub fn accesses_now(&self) -> Vec<KafkaExternalAccess> {
        self.lock().accesses.values().cloned().collect()
    }

    pub fn access_now(&self, key: &AccessKey) -> Option<KafkaExternalAccess> {
        self.lock().accesses.get(key).cloned()
    }

    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }
}

impl State {
    /// It goes, or begins to.
    fn delete_pod(&mut self, name: &str) {
        let now = self.now;
        match self.pods.get(name) {
            Some(_) if !self.ends_slowly => drop(self.pods.remove(name)),
            Some(pod) if pod.metadata.deletion_timestamp.is_none() => {
                let mut pod = pod.clone();
                pod.metadata.deletion_timestamp = Some(Time(now));
                self.stamp(&mut pod.metadata);
                self.pods.insert(name.to_owned(), pod);
            }
            _ => return,
        }
        self.changes += 1;
    }

    /// Objects that are deleted and held by nobody go.
    fn sweep(&mut self) {
        let stays = |metadata: &ObjectMeta| {
            metadata.deletion_timestamp.is_none()
                || metadata.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty())
        };
        self.accesses.retain(|_, object| stays(&object.metadata));
        self.secrets.retain(|_, secret| stays(&secret.metadata));
    }

    fn unchanged(
        &mut self,
        of: &KafkaExternalAccess,
        operation: &'static str,
    ) -> Result<AccessKey, KubernetesError> {
        let namespace = of.metadata.namespace.clone().unwrap_or_default();
        let key = AccessKey { namespace, name: name_of(&of.metadata) };
        same_version(operation, self.accesses.get(&key).map(|object| &object.metadata), &of.metadata)?;
        Ok(key)
    }
}

#[async_trait]
impl Kubernetes for ApiServer {
    async fn access(&self, key: &AccessKey) -> Result<Option<KafkaExternalAccess>, KubernetesError> {
        Ok(self.access_now(key))
    }

    async fn accesses(&self) -> Result<Vec<Listed>, KubernetesError> {
        Ok(self.lock().accesses.values().cloned().map(|object| DeserializeGuard(Ok(object))).collect())
    }

    /// Classes are of no namespace: `tenants.rs` has them.
    async fn classes(&self) -> Result<Vec<KafkaExternalAccessClass>, KubernetesError> {
        Ok(Vec::new())
    }

    async fn namespace_labels(&self, _: &str) -> Result<BTreeMap<String, String>, KubernetesError> {
        Ok(BTreeMap::new())
    }

    async fn cluster_uid(&self) -> Result<Uid, KubernetesError> {
        Ok(Uid::new("cluster"))
    }

    async fn stateful_set(&self, _: &str, name: &str) -> Result<Option<StatefulSet>, KubernetesError> {
        Ok(self.lock().stateful_sets.get(name).cloned())
    }

    async fn node_stats(&self, node: &str) -> Result<NodeStats, KubernetesError> {
        self.lock().stats.get(node).cloned().ok_or_else(|| {
            let text = format!(
                "nodes \"{node}\" is forbidden: User \"operator\" cannot get resource \"nodes/proxy\""
            );
            failed("read the kubelet's statistics", KubernetesFault::Forbidden(text))
        })
    }

    async fn pods(&self, _: &str, selector: &str) -> Result<Vec<Pod>, KubernetesError> {
        let wanted: Vec<(&str, &str)> =
            selector.split(',').map(|pair| pair.split_once('=').expect("key=value")).collect();
        let has = |pod: &Pod, (key, value): &(&str, &str)| {
            pod.metadata.labels.as_ref().and_then(|labels| labels.get(*key)).is_some_and(|have| have == value)
        };
        let labelled = |pod: &&Pod| wanted.iter().all(|pair| has(pod, pair));
        Ok(self.lock().pods.values().filter(labelled).cloned().collect())
    }

    async fn pod(&self, _: &str, name: &str) -> Result<Option<Pod>, KubernetesError> {
        Ok(self.lock().pods.get(name).cloned())
    }

    async fn secret(&self, _: &str, name: &str) -> Result<Option<Secret>, KubernetesError> {
        Ok(self.secret_now(name))
    }

    async fn config_map(&self, _: &str, name: &str) -> Result<Option<ConfigMap>, KubernetesError> {
        Ok(self.lock().config_maps.get(name).cloned())
    }

    async fn write_config_map(&self, _: WritePermit, map: &ConfigMap) -> Result<(), KubernetesError> {
        let operation = "write the ConfigMap";
        let mut state = self.lock();
        let name = name_of(&map.metadata);
        let present = state.config_maps.get(&name);
        match (&map.metadata.resource_version, present) {
            (None, Some(_)) => return Err(failed(operation, KubernetesFault::Conflict)),
            (None, None) => {}
            (Some(_), present) => {
                same_version(operation, present.map(|map| &map.metadata), &map.metadata)?;
                if present == Some(map) {
                    return Ok(());
                }
            }
        }
        let mut map = map.clone();
        state.stamp(&mut map.metadata);
        state.config_maps.insert(name, map);
        Ok(())
    }

    async fn delete_config_map(&self, _: WritePermit, of: &ConfigMap) -> Result<(), KubernetesError> {
        let operation = "delete the ConfigMap";
        let mut state = self.lock();
        let name = name_of(&of.metadata);
        match state.config_maps.get(&name) {
            None => return Err(failed(operation, KubernetesFault::NotFound)),
            Some(present) if present.metadata.uid != of.metadata.uid => {
                return Err(failed(operation, KubernetesFault::Conflict));
            }
            Some(_) => state.config_maps.remove(&name),
        };
        Ok(())
    }

    /// The StatefulSet controller of this server takes a new template in at once.
    async fn change_stateful_set(
        &self,
        _: WritePermit,
        of: &StatefulSet,
        target: &StatefulSet,
    ) -> Result<(), KubernetesError> {
        let mut state = self.lock();
        let name = name_of(&of.metadata);
        let present = state.stateful_sets.get(&name).map(|set| &set.metadata);
        same_version("change the StatefulSet", present, &of.metadata)?;
        if of == target {
            return Ok(());
        }
        let mut set = target.clone();
        let template = |set: &StatefulSet| set.spec.as_ref().map(|spec| spec.template.clone());
        if template(of) != template(target) {
            set.status.get_or_insert_default().update_revision = Some(format!("revision-{}", state.serial));
        }
        if of.spec != target.spec {
            set.metadata.generation = set.metadata.generation.map(|generation| generation + 1);
        }
        state.change(&mut set.metadata);
        state.stateful_sets.insert(name, set);
        Ok(())
    }

    async fn evict(&self, _: WritePermit, _: &str, name: &str, uid: &Uid) -> Result<(), KubernetesError> {
        let mut state = self.lock();
        let operation = "evict the pod";
        match state.pods.get(name) {
            None => return Err(failed(operation, KubernetesFault::NotFound)),
            Some(pod) if pod.metadata.uid.as_deref() != Some(uid.as_str()) => {
                return Err(failed(operation, KubernetesFault::Conflict));
            }
            Some(_) if state.protected => {
                let text = "Cannot evict pod as it would violate the pod's disruption budget.".to_owned();
                return Err(failed(operation, KubernetesFault::NotNow(text)));
            }
            Some(_) => {}
        }
        state.delete_pod(name);
        Ok(())
    }

    async fn set_finalizer(
        &self,
        _: WritePermit,
        of: &KafkaExternalAccess,
        present: bool,
    ) -> Result<KafkaExternalAccess, KubernetesError> {
        let mut state = self.lock();
        if present && state.refuses_finalizers {
            let fault = KubernetesFault::Unavailable("internal error".into());
            return Err(failed("set the finalizer", fault));
        }
        let operation = "set the finalizer";
        let key = state.unchanged(of, operation)?;
        let mut object = of.clone();
        if !with_finalizer(&mut object.metadata, present, operation)? {
            return Ok(object);
        }
        state.change(&mut object.metadata);
        state.accesses.insert(key, object.clone());
        state.sweep();
        Ok(object)
    }

    async fn set_secret_finalizer(
        &self,
        _: WritePermit,
        of: &Secret,
        present: bool,
    ) -> Result<(), KubernetesError> {
        let operation = "set the Secret's finalizer";
        let mut state = self.lock();
        if state.refuses_finalizers {
            return Err(failed(operation, KubernetesFault::Unavailable("internal error".into())));
        }
        let name = name_of(&of.metadata);
        same_version(operation, state.secrets.get(&name).map(|secret| &secret.metadata), &of.metadata)?;
        let mut secret = of.clone();
        if !with_finalizer(&mut secret.metadata, present, operation)? {
            return Ok(());
        }
        state.change(&mut secret.metadata);
        state.secrets.insert(name, secret);
        state.sweep();
        Ok(())
    }

    async fn clear_replace(&self, _: WritePermit, of: &KafkaExternalAccess) -> Result<(), KubernetesError> {
        let mut state = self.lock();
        let key = state.unchanged(of, "remove the annotation")?;
        let mut object = of.clone();
        if object.metadata.annotations.get_or_insert_default().remove(REPLACE_ANNOTATION).is_none() {
            return Ok(());
        }
        state.change(&mut object.metadata);
        state.accesses.insert(key, object);
        Ok(())
    }

    async fn write_status(
        &self,
        _: WritePermit,
        of: &KafkaExternalAccess,
        status: &KafkaExternalAccessStatus,
    ) -> Result<(), KubernetesError> {
        let mut state = self.lock();
        let key = state.unchanged(of, "write the status")?;
        let mut object = state.accesses[&key].clone();
        if object.status.as_ref() == Some(status) {
            return Ok(());
        }
        object.status = Some(status.clone());
        state.change(&mut object.metadata);
        state.accesses.insert(key, object);
        Ok(())
    }

    async fn publish(&self, _: WritePermit, event: &Event) -> Result<(), KubernetesError> {
        self.lock().events.push(event.clone());
        Ok(())
    }

    async fn lease(&self, _: &str, name: &str) -> Result<Option<Lease>, KubernetesError> {
        Ok(self.lease_now(name))
    }

    async fn write_lease(&self, lease: &Lease) -> Result<Lease, KubernetesError> {
        let mut state = self.lock();
        let name = name_of(&lease.metadata);
        let present = state.leases.get(&name).map(|lease| &lease.metadata);
        match (&lease.metadata.resource_version, present) {
            (None, None) => {}
            (None, Some(_)) => return Err(failed("create the lease", KubernetesFault::Conflict)),
            (Some(_), present) => same_version("renew the lease", present, &lease.metadata)?,
        }
        let mut lease = lease.clone();
        state.stamp(&mut lease.metadata);
        state.leases.insert(name, lease.clone());
        Ok(lease)
    }
}
