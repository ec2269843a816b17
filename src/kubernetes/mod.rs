//! The Kubernetes calls the product makes, as one seam. Reads that decide go to the API server, never to a cache.

use std::collections::BTreeMap;

use async_trait::async_trait;
use json_patch::PatchOperation;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod, Secret},
    events::v1::Event,
};
use kube::core::DeserializeGuard;

pub mod api;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod stats;

use crate::{
    api::{KafkaExternalAccess, KafkaExternalAccessClass, KafkaExternalAccessStatus},
    domain::{AccessKey, ErrorClass, Uid},
    seams::WritePermit,
};

/// An object of a list, or what can be told of one that cannot be read: its metadata.
pub type Listed = DeserializeGuard<KafkaExternalAccess>;

/// The API server.
///
/// Every write is conditional on a `resourceVersion` where another writer could be overwritten; a lost race is
/// [`KubernetesFault::Conflict`] and means: look again.
#[async_trait]
pub trait Kubernetes: Send + Sync {
    /// One object, read now. `None`: it does not exist.
    async fn access(&self, key: &AccessKey) -> Result<Option<KafkaExternalAccess>, KubernetesError>;
    /// All objects that the operator serves (cluster-wide, or of its namespaces). A complete list or an error; one that
    /// cannot be read (a field of another version) exists all the same, and keeps no other from being served.
    async fn accesses(&self) -> Result<Vec<Listed>, KubernetesError>;
    /// All classes; none where their kind is not installed, or the operator serves single namespaces only.
    async fn classes(&self) -> Result<Vec<KafkaExternalAccessClass>, KubernetesError>;
    /// The labels of a namespace.
    async fn namespace_labels(&self, name: &str) -> Result<BTreeMap<String, String>, KubernetesError>;
    /// UID of the namespace `kube-system`.
    async fn cluster_uid(&self) -> Result<Uid, KubernetesError>;
    /// A StatefulSet.
    async fn stateful_set(&self, namespace: &str, name: &str)
    -> Result<Option<StatefulSet>, KubernetesError>;
    /// The pods whose labels match `selector` (`key=value,...`).
    async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>, KubernetesError>;
    /// One pod, read now.
    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, KubernetesError>;
    /// A Secret by name; Secrets are never listed.
    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, KubernetesError>;

    /// What the kubelet of a node counts of its pods.
    async fn node_stats(&self, node: &str) -> Result<stats::NodeStats, KubernetesError>;

    /// A ConfigMap by name.
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, KubernetesError>;

    /// Creates or replaces a ConfigMap; `resourceVersion` in it is the precondition (absent: create).
    async fn write_config_map(&self, permit: WritePermit, map: &ConfigMap) -> Result<(), KubernetesError>;
    /// Deletes the ConfigMap that was read (by UID).
    async fn delete_config_map(&self, permit: WritePermit, of: &ConfigMap) -> Result<(), KubernetesError>;
    /// Makes the StatefulSet that was read (by UID and `resourceVersion`) into `target`: one patch that names only what
    /// differs, so that fields which this program does not know stay.
    async fn change_stateful_set(
        &self,
        permit: WritePermit,
        of: &StatefulSet,
        target: &StatefulSet,
    ) -> Result<(), KubernetesError>;
    /// Evicts the pod (by UID), which a PodDisruptionBudget may refuse: [`KubernetesFault::NotNow`].
    async fn evict(
        &self,
        permit: WritePermit,
        namespace: &str,
        name: &str,
        uid: &Uid,
    ) -> Result<(), KubernetesError>;
    /// Adds or removes our finalizer on the object; returns the object as confirmed by the server.
    async fn set_finalizer(
        &self,
        permit: WritePermit,
        of: &KafkaExternalAccess,
        present: bool,
    ) -> Result<KafkaExternalAccess, KubernetesError>;
    /// Adds or removes our finalizer on a Secret in use.
    async fn set_secret_finalizer(
        &self,
        permit: WritePermit,
        of: &Secret,
        present: bool,
    ) -> Result<(), KubernetesError>;
    /// Removes the annotation [`crate::api::REPLACE_ANNOTATION`] after it was carried out.
    async fn clear_replace(
        &self,
        permit: WritePermit,
        of: &KafkaExternalAccess,
    ) -> Result<(), KubernetesError>;
    /// Replaces the status, on the version of the object that was read: what arrives late replaces nothing newer.
    async fn write_status(
        &self,
        permit: WritePermit,
        of: &KafkaExternalAccess,
        status: &KafkaExternalAccessStatus,
    ) -> Result<(), KubernetesError>;
    /// Publishes an event.
    async fn publish(&self, permit: WritePermit, event: &Event) -> Result<(), KubernetesError>;

    /// The leader lease.
    async fn lease(&self, namespace: &str, name: &str) -> Result<Option<Lease>, KubernetesError>;
    /// Creates or replaces the leader lease; `resourceVersion` in `lease` is the precondition (absent: create).
    /// Takes no permit: it is how permits come about.
    async fn write_lease(&self, lease: &Lease) -> Result<Lease, KubernetesError>;
}

/// The operations that make one into the other. They name what differs and nothing else: an object of a newer API
/// server has fields that this program does not know, and they stay.
pub fn patch(of: &StatefulSet, target: &StatefulSet) -> Vec<PatchOperation> {
    let json = |set: &StatefulSet| serde_json::to_value(set).unwrap_or_default();
    json_patch::diff(&json(of), &json(target)).0
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {fault}")]
pub struct KubernetesError {
    /// What was tried, in words.
    pub operation: &'static str,
    /// Why it failed.
    pub fault: KubernetesFault,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KubernetesFault {
    /// Somebody else wrote first.
    #[error("the object changed since it was read")]
    Conflict,
    /// The object is gone.
    #[error("the object does not exist")]
    NotFound,
    /// A right is missing.
    #[error("{0}")]
    Forbidden(String),
    /// A PodDisruptionBudget stands against it now.
    #[error("{0}")]
    NotNow(String),
    /// The API server refuses the object.
    #[error("{0}")]
    Invalid(String),
    /// Not reached, timed out, or an error of the server.
    #[error("{0}")]
    Unavailable(String),
}

impl KubernetesError {
    /// What should happen next.
    pub fn class(&self) -> ErrorClass {
        match self.fault {
            KubernetesFault::Conflict | KubernetesFault::NotFound | KubernetesFault::NotNow(_) => {
                ErrorClass::Waiting
            }
            KubernetesFault::Forbidden(_) | KubernetesFault::Invalid(_) => ErrorClass::Terminal,
            KubernetesFault::Unavailable(_) => ErrorClass::Transient,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::{ResourceExt, core::ObjectList};
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_that_cannot_be_read_keeps_no_other_from_being_listed() {
        let object = |name: &str, address: &str| {
            json!({
                "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccess",
                "metadata": {"name": name, "namespace": "n", "uid": name},
                "spec": {"kafka": {"statefulSet": {"name": "kafka"}}, "brokers": [{"ordinal": 0, "address": address}]},
            })
        };
        let items = [object("bad", "203.0.113.09"), object("good", "203.0.113.9")];
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
        let list: ObjectList<Listed> = serde_json::from_value(list).expect("a list");
        let read = list.items.iter().map(|item| (item.name_any(), item.0.is_ok()));
        assert_eq!(read.collect::<Vec<_>>(), [("bad".to_owned(), false), ("good".to_owned(), true)]);
    }
}
