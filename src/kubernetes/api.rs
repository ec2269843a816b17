//! The API server through kube. Every call has an own time limit, because kube by itself retries for many minutes.

use std::{collections::BTreeMap, fmt::Debug, future::Future, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Namespace, Node, Pod, Secret},
    events::v1::Event,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    core::Request,
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::{Instrument, Span};

use super::{
    Kubernetes, KubernetesError, KubernetesFault, Listed,
    stats::{NodeStats, Summary},
};
use crate::{
    api::{
        FINALIZER, KafkaExternalAccess, KafkaExternalAccessClass, KafkaExternalAccessStatus,
        REPLACE_ANNOTATION,
    },
    domain::{AccessKey, Uid},
    seams::WritePermit,
};

const CALL_LIMIT: Duration = Duration::from_secs(10);
const FIELD_MANAGER: &str = "kafka-external-access";

/// [`Kubernetes`] over kube's client.
#[derive(Clone)]
pub struct KubeApi {
    client: Client,
    /// Empty: the whole cluster.
    namespaces: Vec<String>,
    /// Where the kind is not there, there are no objects of it.
    before_installation: bool,
}

impl KubeApi {
    /// Serves these namespaces; none named means all.
    pub fn new(client: Client, namespaces: Vec<String>) -> Self {
        Self { client, namespaces, before_installation: false }
    }

    /// Looks at a cluster that may not know the kind yet. An operator never does: to it a list that fails is no list.
    #[must_use]
    pub fn before_installation(self) -> Self {
        Self { before_installation: true, ..self }
    }

    fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn read<K>(
        &self,
        operation: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, KubernetesError>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        if !can_be_a_name(name) {
            return Ok(None);
        }
        limited(operation, self.namespaced::<K>(namespace).get_opt(name)).await
    }

    /// A merge patch that only succeeds on the version that was read.
    async fn patch_if_unchanged<K>(
        &self,
        operation: &'static str,
        of: &K,
        mut metadata: serde_json::Value,
    ) -> Result<K, KubernetesError>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        metadata["resourceVersion"] = json!(of.resource_version());
        metadata["uid"] = json!(of.uid());
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let api = self.namespaced::<K>(&of.namespace().unwrap_or_default());
        limited(operation, api.patch(&of.name_any(), &params(), &patch)).await
    }
}

/// A client by the usual rules (KUBECONFIG, else the pod's account). It tries nothing again by itself: an eviction that a
/// PodDisruptionBudget refuses (429) would keep its caller waiting, and the work queue has a back-off of its own.
pub fn client(mut config: kube::Config) -> Result<Client, kube::Error> {
    config.default_retry = false;
    Client::try_from(config)
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() }
}

/// Whether an object can have this name (DNS-1123 subdomain). A name becomes a part of the path of a request, and some come
/// from what users have written: nothing else may.
fn can_be_a_name(name: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    name.len() <= 253
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.'))
        && ends(name.chars().next())
        && ends(name.chars().last())
}

fn with_finalizer(finalizers: &[String], present: bool) -> Vec<String> {
    let others = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).cloned();
    others.chain(present.then(|| FINALIZER.to_owned())).collect()
}

async fn limited<T>(
    operation: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, KubernetesError> {
    // What belongs to no reconcile, such as a renewal of the lease, would be a trace of its own every few seconds.
    let span = match Span::current().is_none() {
        true => Span::none(),
        false => tracing::info_span!("kubernetes", operation),
    };
    let fault = match tokio::time::timeout(CALL_LIMIT, call).instrument(span).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => fault(error),
        Err(_) => KubernetesFault::Unavailable(format!("no answer within {} s", CALL_LIMIT.as_secs())),
    };
    Err(KubernetesError { operation, fault })
}

fn fault(error: kube::Error) -> KubernetesFault {
    let kube::Error::Api(status) = error else {
        return KubernetesFault::Unavailable(error.to_string());
    };
    match status.code {
        404 => KubernetesFault::NotFound,
        409 => KubernetesFault::Conflict,
        // Of an eviction; the API server's own limit says "too many requests, please try again later".
        429 if status.message.contains("disruption budget") => KubernetesFault::NotNow(status.message),
        401 | 403 => KubernetesFault::Forbidden(status.message),
        400 | 422 => KubernetesFault::Invalid(status.message),
        _ => KubernetesFault::Unavailable(status.message),
    }
}

/// JSON Patch (RFC 6902) from one object to the other, on condition that nobody has written since it was read.
fn difference(of: &StatefulSet, target: &StatefulSet) -> json_patch::Patch {
    let mut patch = on_version(of.resource_version().as_deref());
    patch.0.extend(super::patch(of, target));
    patch
}

/// Replaces the status as a whole (a merge would keep what the new one leaves out), on condition that nobody has written
/// since the object was read: a request that arrives late must not replace what was told after it.
fn replace_status(of: &KafkaExternalAccess, status: &KafkaExternalAccessStatus) -> json_patch::Patch {
    let mut patch = on_version(of.resource_version().as_deref());
    patch.0.extend(operations(json!([{ "op": "add", "path": "/status", "value": status }])).0);
    patch
}

/// The condition is the version itself: where it is another, the server answers with a conflict; an operation `test` that
/// fails cannot be told from a wrong patch. An object that was made anew has another version as well.
fn on_version(version: Option<&str>) -> json_patch::Patch {
    operations(json!([{ "op": "replace", "path": "/metadata/resourceVersion", "value": version }]))
}

fn operations(of: serde_json::Value) -> json_patch::Patch {
    serde_json::from_value(of).unwrap_or_default()
}

#[async_trait]
impl Kubernetes for KubeApi {
    async fn access(&self, key: &AccessKey) -> Result<Option<KafkaExternalAccess>, KubernetesError> {
        self.read("read the KafkaExternalAccess", &key.namespace, &key.name).await
    }

    async fn accesses(&self) -> Result<Vec<Listed>, KubernetesError> {
        let mut found = Vec::new();
        let of_namespaces = self.namespaces.iter().map(|namespace| self.namespaced(namespace));
        let everywhere = self.namespaces.is_empty().then(|| Api::all(self.client.clone()));
        for api in of_namespaces.chain(everywhere) {
            let api: Api<Listed> = api;
            match limited("list KafkaExternalAccess objects", api.list(&ListParams::default())).await {
                Ok(list) => found.extend(list.items),
                Err(KubernetesError { fault: KubernetesFault::NotFound, .. }) if self.before_installation => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn classes(&self) -> Result<Vec<KafkaExternalAccessClass>, KubernetesError> {
        // They are of the whole cluster; who serves single namespaces has no right to see them.
        if !self.namespaces.is_empty() {
            return Ok(Vec::new());
        }
        let api: Api<KafkaExternalAccessClass> = Api::all(self.client.clone());
        match limited("list KafkaExternalAccessClass objects", api.list(&ListParams::default())).await {
            Ok(list) => Ok(list.items),
            Err(KubernetesError { fault: KubernetesFault::NotFound, .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn namespace_labels(&self, name: &str) -> Result<BTreeMap<String, String>, KubernetesError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let namespace = limited("read the namespace", api.get_metadata(name)).await?;
        Ok(namespace.metadata.labels.unwrap_or_default())
    }

    async fn cluster_uid(&self) -> Result<Uid, KubernetesError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let namespace = limited("read the namespace kube-system", api.get("kube-system")).await?;
        Ok(Uid::new(namespace.uid().unwrap_or_default()))
    }

    async fn stateful_set(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<StatefulSet>, KubernetesError> {
        self.read("read the StatefulSet", namespace, name).await
    }

    async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>, KubernetesError> {
        let wanted = ListParams::default().labels(selector);
        Ok(limited("list the pods", self.namespaced::<Pod>(namespace).list(&wanted)).await?.items)
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, KubernetesError> {
        self.read("read the pod", namespace, name).await
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, KubernetesError> {
        self.read("read the Secret", namespace, name).await
    }

    async fn node_stats(&self, node: &str) -> Result<NodeStats, KubernetesError> {
        let operation = "read the kubelet's statistics";
        let nodes = Request::new(Node::url_path(&(), None));
        let request = nodes.get_subresource("proxy/stats/summary", node).map_err(|error| {
            KubernetesError { operation, fault: KubernetesFault::Invalid(error.to_string()) }
        })?;
        limited(operation, self.client.request::<Summary>(request)).await.map(NodeStats::from)
    }

    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, KubernetesError> {
        self.read("read the ConfigMap", namespace, name).await
    }

    async fn write_config_map(&self, _permit: WritePermit, map: &ConfigMap) -> Result<(), KubernetesError> {
        let api = self.namespaced::<ConfigMap>(&map.namespace().unwrap_or_default());
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        if map.resource_version().is_none() {
            limited("create the ConfigMap", api.create(&params, map)).await?;
        } else {
            limited("write the ConfigMap", api.replace(&map.name_any(), &params, map)).await?;
        }
        Ok(())
    }

    async fn delete_config_map(&self, _permit: WritePermit, of: &ConfigMap) -> Result<(), KubernetesError> {
        let api = self.namespaced::<ConfigMap>(&of.namespace().unwrap_or_default());
        let same = Preconditions { uid: of.uid(), resource_version: None };
        let params = DeleteParams::default().preconditions(same);
        limited("delete the ConfigMap", api.delete(&of.name_any(), &params)).await?;
        Ok(())
    }

    async fn change_stateful_set(
        &self,
        _permit: WritePermit,
        of: &StatefulSet,
        target: &StatefulSet,
    ) -> Result<(), KubernetesError> {
        let api = self.namespaced::<StatefulSet>(&of.namespace().unwrap_or_default());
        let patch = Patch::Json::<()>(difference(of, target));
        limited("change the StatefulSet", api.patch(&of.name_any(), &params(), &patch)).await?;
        Ok(())
    }

    async fn evict(
        &self,
        _permit: WritePermit,
        namespace: &str,
        name: &str,
        uid: &Uid,
    ) -> Result<(), KubernetesError> {
        // By hand: what kube sends under `delete_options` is not read, and another pod of that name would go.
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        });
        let (api, params) = (self.namespaced::<Pod>(namespace), PostParams::default());
        let sent = api.create_subresource::<_, serde_json::Value>("eviction", name, &params, &eviction);
        limited("evict the pod", sent).await.map(drop)
    }

    async fn set_finalizer(
        &self,
        _permit: WritePermit,
        of: &KafkaExternalAccess,
        present: bool,
    ) -> Result<KafkaExternalAccess, KubernetesError> {
        let finalizers = with_finalizer(of.finalizers(), present);
        self.patch_if_unchanged("set the finalizer", of, json!({ "finalizers": finalizers })).await
    }

    async fn set_secret_finalizer(
        &self,
        _permit: WritePermit,
        of: &Secret,
        present: bool,
    ) -> Result<(), KubernetesError> {
        let finalizers = with_finalizer(of.finalizers(), present);
        self.patch_if_unchanged("set the Secret's finalizer", of, json!({ "finalizers": finalizers }))
            .await?;
        Ok(())
    }

    async fn clear_replace(
        &self,
        _permit: WritePermit,
        of: &KafkaExternalAccess,
    ) -> Result<(), KubernetesError> {
        let annotations = json!({ "annotations": { REPLACE_ANNOTATION: null } });
        self.patch_if_unchanged("remove the annotation", of, annotations).await?;
        Ok(())
    }

    async fn write_status(
        &self,
        _permit: WritePermit,
        of: &KafkaExternalAccess,
        status: &KafkaExternalAccessStatus,
    ) -> Result<(), KubernetesError> {
        let api = self.namespaced::<KafkaExternalAccess>(&of.namespace().unwrap_or_default());
        let patch = Patch::Json::<()>(replace_status(of, status));
        limited("write the status", api.patch_status(&of.name_any(), &params(), &patch)).await?;
        Ok(())
    }

    async fn publish(&self, _permit: WritePermit, event: &Event) -> Result<(), KubernetesError> {
        let api = self.namespaced::<Event>(&event.namespace().unwrap_or_default());
        limited("publish an event", api.create(&PostParams::default(), event)).await?;
        Ok(())
    }

    async fn lease(&self, namespace: &str, name: &str) -> Result<Option<Lease>, KubernetesError> {
        self.read("read the lease", namespace, name).await
    }

    async fn write_lease(&self, lease: &Lease) -> Result<Lease, KubernetesError> {
        let api = self.namespaced::<Lease>(&lease.namespace().unwrap_or_default());
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        if lease.resource_version().is_none() {
            return limited("create the lease", api.create(&params, lease)).await;
        }
        limited("renew the lease", api.replace(&lease.name_any(), &params, lease)).await
    }
}
