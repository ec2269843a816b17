//! The API server in memory as a world.

use std::collections::BTreeMap;

use async_trait::async_trait;
use kafka_external_access::{
    api::{KafkaExternalAccess, REPLACE_ANNOTATION},
    domain::AccessKey,
    kubernetes::{Kubernetes, KubernetesFault},
};

use crate::{
    kubernetes::ApiServer,
    suite::{OTHERS, World, empty_stateful_set, lonely_pod, smallest, some_secret},
};

#[derive(Default)]
struct InMemory {
    server: ApiServer,
}

/// Runs a sentence in a world of its own.
pub fn run(sentence: impl AsyncFnOnce(&dyn World)) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(sentence(&InMemory::default()));
}

#[async_trait(?Send)]
impl World for InMemory {
    fn api(&self) -> &dyn Kubernetes {
        &self.server
    }

    fn key(&self) -> AccessKey {
        AccessKey { namespace: "ydata".into(), name: "kafka".into() }
    }

    async fn make_access(&self) {
        self.server.put_access(smallest(&self.key()));
    }

    async fn label_access(&self, value: &str) {
        self.server.edit_access(&self.key(), |object| {
            object.metadata.labels = Some(BTreeMap::from([("changed".to_owned(), value.to_owned())]));
        });
    }

    async fn ask_to_replace(&self) {
        self.server.edit_access(&self.key(), |object| {
            object.metadata.annotations = Some([(REPLACE_ANNOTATION.to_owned(), "0".to_owned())].into());
        });
    }

    async fn edit_access(&self, timeout: &str) {
        self.server.edit_access(&self.key(), |object| object.spec.probe.timeout = timeout.to_owned());
    }

    async fn replace_access(&self, object: KafkaExternalAccess) -> Result<(), KubernetesFault> {
        self.server.replace_access(object).map_err(|error| error.fault)
    }

    async fn hold_access(&self, held: bool) {
        self.server.edit_access(&self.key(), |object| {
            let finalizers = object.metadata.finalizers.get_or_insert_default();
            finalizers.retain(|finalizer| finalizer != OTHERS);
            finalizers.extend(held.then(|| OTHERS.to_owned()));
        });
    }

    async fn delete_access(&self) {
        self.server.delete_access(&self.key());
    }

    async fn make_secret(&self) {
        self.server.put_secret(some_secret(&self.key()));
    }

    async fn delete_secret(&self) {
        self.server.delete_secret(&self.key().name);
    }

    async fn make_stateful_set(&self) {
        self.server.put_stateful_set(empty_stateful_set(&self.key()));
    }

    async fn label_stateful_set(&self, value: &str) {
        self.server.edit_stateful_set(&self.key().name, |set| {
            set.metadata.labels = Some(BTreeMap::from([("changed".to_owned(), value.to_owned())]));
        });
    }

    async fn delete_stateful_set(&self) {
        self.server.delete_stateful_set(&self.key().name);
    }

    async fn make_pod(&self, name: &str, app: &str, part: &str) {
        self.server.put_pod(lonely_pod(&self.key().namespace, name, app, part));
    }

    async fn delete_pod(&self, name: &str) {
        self.server.delete_pod(name);
    }

    async fn protect(&self, _: &str) {
        self.server.protect(true);
    }
}
