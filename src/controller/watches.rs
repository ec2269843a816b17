//! Watches turn what happens in Kubernetes into keys of the queue. They keep names only, never objects.
//!
//! Secrets are not watched: who may watch them may read all of them. Those in use are looked at by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::GetParams,
    core::{DeserializeGuard, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use super::queue::WorkQueue;
use crate::{
    api::{KafkaExternalAccess, KafkaExternalAccessClass},
    domain::AccessKey,
    seams::Clock,
};

/// Between two looks at a Secret in use.
const SECRET_LOOK: Duration = Duration::from_secs(10);

/// What an object refers to, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct References {
    stateful_set: String,
    secrets: BTreeSet<String>,
    class: Option<String>,
}

/// Starts and feeds the watches.
pub struct Watches {
    client: Client,
    /// Empty: the whole cluster.
    namespaces: Vec<String>,
    /// Where the Secrets of classes are.
    operator_namespace: String,
    queue: Arc<WorkQueue<AccessKey>>,
    clock: Arc<dyn Clock>,
    classes: Mutex<BTreeMap<String, JoinHandle<()>>>,
    /// Names of the Secrets of classes in use.
    class_secrets: Mutex<BTreeMap<String, String>>,
    index: Mutex<BTreeMap<AccessKey, References>>,
    secrets: Mutex<BTreeMap<(String, String), JoinHandle<()>>>,
    synced: Mutex<BTreeSet<&'static str>>,
}

/// Names of the watches, for readiness.
pub const NAMES: [&str; 3] = ["KafkaExternalAccess", "StatefulSet", "Pod"];

impl Watches {
    /// Nothing is watched yet.
    pub fn new(
        client: Client,
        namespaces: Vec<String>,
        operator_namespace: &str,
        queue: Arc<WorkQueue<AccessKey>>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            namespaces,
            operator_namespace: operator_namespace.to_owned(),
            queue,
            clock,
            classes: Mutex::default(),
            class_secrets: Mutex::default(),
            index: Mutex::default(),
            secrets: Mutex::default(),
            synced: Mutex::default(),
        })
    }

    /// Watches until the process ends.
    pub fn start(self: &Arc<Self>) {
        for namespace in self.scopes() {
            let objects: Api<DeserializeGuard<KafkaExternalAccess>> = self.api(namespace.as_deref());
            tokio::spawn(self.clone().follow(NAMES[0], watcher(objects, config()), Self::object_changed));
            let sets: Api<PartialObjectMeta<StatefulSet>> = self.api(namespace.as_deref());
            tokio::spawn(self.clone().follow(NAMES[1], watcher(sets, config()), Self::stateful_set_changed));
            // Metadata is enough: every change of a pod's status gives it a new version, and so an event.
            let pods: Api<PartialObjectMeta<Pod>> = self.api(namespace.as_deref());
            tokio::spawn(self.clone().follow(NAMES[2], watcher(pods, config()), Self::pod_changed));
        }
    }

    /// Watches that have not listed everything yet.
    pub fn missing(&self) -> Vec<&'static str> {
        let synced = lock(&self.synced);
        NAMES.into_iter().filter(|name| !synced.contains(name)).collect()
    }

    fn scopes(&self) -> Vec<Option<String>> {
        if self.namespaces.is_empty() {
            vec![None]
        } else {
            self.namespaces.iter().cloned().map(Some).collect()
        }
    }

    fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    async fn follow<K>(
        self: Arc<Self>,
        name: &'static str,
        events: impl Stream<Item = watcher::Result<Event<K>>> + Send,
        changed: fn(&Arc<Self>, &K, bool),
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut events = std::pin::pin!(events.default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::InitApply(object) | Event::Apply(object)) => changed(&self, &object, false),
                Ok(Event::Delete(object)) => changed(&self, &object, true),
                Ok(Event::InitDone) => {
                    lock(&self.synced).insert(name);
                }
                Ok(Event::Init) => {}
                Err(error) => tracing::warn!(watch = name, %error, "watch interrupted"),
            }
        }
    }

    fn object_changed(self: &Arc<Self>, object: &DeserializeGuard<KafkaExternalAccess>, deleted: bool) {
        let key = AccessKey { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
        match &object.0 {
            _ if deleted => {
                lock(&self.index).remove(&key);
            }
            Ok(object) => {
                lock(&self.index).insert(key.clone(), references(object));
            }
            // Stored under another schema: nothing can be decided about it, and the others go on.
            Err(error) => tracing::warn!(%key, %error, "an object cannot be read"),
        }
        self.watch_classes();
        self.follow_secrets();
        self.queue.add(key);
    }

    fn class_changed(self: &Arc<Self>, class: &DeserializeGuard<KafkaExternalAccessClass>, deleted: bool) {
        let name = class.name_any();
        let secret = class.0.as_ref().ok().filter(|_| !deleted).and_then(|class| {
            let openstack = class.spec.provider.openstack.as_ref()?;
            Some(openstack.credentials_secret_ref.name.clone())
        });
        match secret {
            Some(secret) => lock(&self.class_secrets).insert(name.clone(), secret),
            None => lock(&self.class_secrets).remove(&name),
        };
        self.follow_secrets();
        for (key, references) in lock(&self.index).iter() {
            if references.class.as_ref() == Some(&name) {
                self.queue.add(key.clone());
            }
        }
    }

    /// One watch for each class in use: where nobody uses one, no right to them is needed. Who serves single namespaces
    /// serves no classes.
    fn watch_classes(self: &Arc<Self>) {
        if !self.namespaces.is_empty() {
            return;
        }
        let wanted: BTreeSet<String> =
            lock(&self.index).values().filter_map(|references| references.class.clone()).collect();
        run_only(&mut lock(&self.classes), &wanted, |name| {
            let classes: Api<DeserializeGuard<KafkaExternalAccessClass>> = Api::all(self.client.clone());
            let one = config().fields(&format!("metadata.name={name}"));
            tokio::spawn(self.clone().follow("Class", watcher(classes, one), Self::class_changed))
        });
        lock(&self.class_secrets).retain(|class, _| wanted.contains(class));
    }

    fn stateful_set_changed(self: &Arc<Self>, set: &PartialObjectMeta<StatefulSet>, _deleted: bool) {
        self.add_those_that_name(&set.namespace().unwrap_or_default(), &set.name_any());
    }

    fn pod_changed(self: &Arc<Self>, pod: &PartialObjectMeta<Pod>, _deleted: bool) {
        let owner = pod.owner_references().iter().find(|owner| owner.kind == "StatefulSet");
        if let Some(owner) = owner {
            self.add_those_that_name(&pod.namespace().unwrap_or_default(), &owner.name);
        }
    }

    fn add_those_that_name(&self, namespace: &str, set: &str) {
        for (key, references) in lock(&self.index).iter() {
            if key.namespace == namespace && references.stateful_set == set {
                self.queue.add(key.clone());
            }
        }
    }

    /// One task for each Secret in use.
    fn follow_secrets(self: &Arc<Self>) {
        let wanted: BTreeSet<(String, String)> = lock(&self.index)
            .iter()
            .flat_map(|(key, references)| {
                references.secrets.iter().map(|name| (key.namespace.clone(), name.clone()))
            })
            .chain(
                lock(&self.class_secrets)
                    .values()
                    .map(|name| (self.operator_namespace.clone(), name.clone())),
            )
            .collect();
        run_only(&mut lock(&self.secrets), &wanted, |(namespace, name)| {
            tokio::spawn(self.clone().follow_secret(namespace.clone(), name.clone()))
        });
    }

    /// Looks whether the Secret has come, changed or gone, from the API server's cache and without its content.
    async fn follow_secret(self: Arc<Self>, namespace: String, name: String) {
        let secrets: Api<Secret> = self.api(Some(&namespace));
        let mut seen = None;
        loop {
            let version = match secrets.get_metadata_with(&name, &GetParams::any()).await {
                Ok(secret) => Ok(secret.resource_version()),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                Err(error) => Err(error),
            };
            match version {
                Ok(version) if version != seen => {
                    seen = version;
                    self.secret_changed(&namespace, &name);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(namespace, name, %error, "a Secret cannot be looked at"),
            }
            self.clock.sleep(SECRET_LOOK).await;
        }
    }

    fn secret_changed(&self, namespace: &str, name: &str) {
        for (key, references) in lock(&self.index).iter() {
            let own = key.namespace == namespace && references.secrets.contains(name);
            let of_class = || {
                let class = references.class.as_ref()?;
                let secrets = lock(&self.class_secrets);
                Some(namespace == self.operator_namespace && secrets.get(class)? == name)
            };
            if own || of_class() == Some(true) {
                self.queue.add(key.clone());
            }
        }
    }
}

/// Ends the tasks that nobody wants any more, and starts those that are missing.
fn run_only<K: Ord + Clone>(
    running: &mut BTreeMap<K, JoinHandle<()>>,
    wanted: &BTreeSet<K>,
    start: impl Fn(&K) -> JoinHandle<()>,
) {
    running.retain(|key, task| {
        let keep = wanted.contains(key);
        if !keep {
            task.abort();
        }
        keep
    });
    for key in wanted {
        running.entry(key.clone()).or_insert_with(|| start(key));
    }
}

fn config() -> watcher::Config {
    watcher::Config::default()
}

fn references(object: &KafkaExternalAccess) -> References {
    let spec = &object.spec;
    let openstack = spec.own_openstack().map(|openstack| &openstack.credentials_secret_ref);
    let tls = spec.kafka.client.iter().filter_map(|client| client.tls.as_ref()).map(|tls| &tls.secret_ref);
    let sasl =
        spec.kafka.client.iter().filter_map(|client| client.sasl.as_ref()).map(|sasl| &sasl.secret_ref);
    References {
        stateful_set: spec.kafka.stateful_set.name.clone(),
        class: spec.class().map(str::to_owned),
        secrets: openstack.into_iter().chain(tls).chain(sasl).map(|secret| secret.name.clone()).collect(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
