//! The lab's API server: the operator's own client, and beside it what users do.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{Namespace, Pod, Secret},
        policy::v1::PodDisruptionBudget,
    },
};
use kafka_external_access::{
    api::{KafkaExternalAccess, REPLACE_ANNOTATION},
    domain::AccessKey,
    kubernetes::{
        Kubernetes, KubernetesFault,
        api::{KubeApi, client},
    },
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use lab::{Lab, Turn};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::suite::{OTHERS, World, empty_stateful_set, lonely_pod, smallest, some_secret};

/// Where all of this test is.
const NAMESPACE: &str = "contract";

/// The real API server.
pub struct Real {
    pub lab: Lab,
    pub config: kube::Config,
    pub kube: Client,
    pub api: KubeApi,
    name: String,
}

/// Runs `test` in a thread inside the network of a lab that it has for itself.
pub fn in_lab(test: impl AsyncFnOnce(&Real) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let turn = Turn::take().expect("a lab");
        let lab =
            Lab::attach_at(turn.paths()).unwrap_or_else(|error| panic!("{error}; start it: cargo lab up"));
        lab.enter_network().expect("the lab's network can be entered");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let world = Real::open(lab).await;
            test(&world).await;
            world.clean().await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Real {
    async fn open(lab: Lab) -> Self {
        // Another one was installed before: fine.
        let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
        let kubeconfig =
            kube::config::Kubeconfig::read_from(&lab.facts().kubeconfig).expect("the kubeconfig");
        let options = kube::config::KubeConfigOptions::default();
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("the kubeconfig");
        let kube = client(config.clone()).expect("a client");
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
        lab.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", crds])
            .expect("the CRD is accepted");
        let established = [
            "wait",
            "--for=condition=Established",
            "crd/kafkaexternalaccesses.kafkaaccess.dev",
            "--timeout=20s",
        ];
        lab.kubectl(&established).expect("the CRD is served");
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("contract-{}-{number}", std::process::id());
        let api = KubeApi::new(kube.clone(), vec![NAMESPACE.to_owned()]);
        let world = Self { lab, config, kube, api, name };
        let namespaces: Api<Namespace> = Api::all(world.kube.clone());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let applied =
            namespaces.patch(NAMESPACE, &PatchParams::apply("contract"), &Patch::Apply(namespace)).await;
        applied.expect("the namespace");
        world.served().await;
        world.clean().await;
        world
    }

    /// Established is not served yet: for a moment lists of a new kind are answered with 429 "storage is (re)initializing".
    async fn served(&self) {
        let accesses = self.all::<KafkaExternalAccess>();
        while let Err(error) = accesses.list(&ListParams::default()).await {
            let starting = matches!(&error, kube::Error::Api(status) if status.code == 429);
            assert!(starting, "a list: {error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Removes what a sentence has made, this one or one that failed.
    async fn clean(&self) {
        self.free_and_remove::<KafkaExternalAccess>().await;
        self.free_and_remove::<Secret>().await;
        self.free_and_remove::<StatefulSet>().await;
        self.free_and_remove::<Pod>().await;
        self.free_and_remove::<PodDisruptionBudget>().await;
        self.free_and_remove::<k8s_openapi::api::core::v1::ConfigMap>().await;
        self.free_and_remove::<k8s_openapi::api::coordination::v1::Lease>().await;
    }

    async fn free_and_remove<K>(&self)
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + 'static,
        K::DynamicType: Default,
    {
        let api: Api<K> = self.all();
        for object in api.list(&ListParams::default()).await.expect("a list") {
            let name = object.meta().name.clone().unwrap_or_default();
            if object.meta().finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty()) {
                let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                let _ = api.patch(&name, &PatchParams::default(), &free).await;
            }
            // What is there for everybody (`kube-root-ca.crt`) comes back by itself.
            let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
        }
    }

    pub fn all<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.kube.clone(), NAMESPACE)
    }

    async fn make<K>(&self, object: &K)
    where
        K: Resource<Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        self.all::<K>().create(&PostParams::default(), object).await.expect("the object is accepted");
    }

    pub async fn merge<K>(&self, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let params = PatchParams::default();
        let patched = self.all::<K>().patch(&self.name, &params, &Patch::Merge(patch)).await;
        patched.expect("the patch is accepted");
    }

    async fn remove<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let now = DeleteParams::default().grace_period(0);
        self.all::<K>().delete(name, &now).await.expect("the deletion is accepted");
    }
}

#[async_trait(?Send)]
impl World for Real {
    fn api(&self) -> &dyn Kubernetes {
        &self.api
    }

    fn key(&self) -> AccessKey {
        AccessKey { namespace: NAMESPACE.into(), name: self.name.clone() }
    }

    async fn make_access(&self) {
        self.make(&smallest(&self.key())).await;
    }

    async fn label_access(&self, value: &str) {
        self.merge::<KafkaExternalAccess>(json!({"metadata": {"labels": {"changed": value}}})).await;
    }

    async fn ask_to_replace(&self) {
        let asked = json!({"metadata": {"annotations": {REPLACE_ANNOTATION: "0"}}});
        self.merge::<KafkaExternalAccess>(asked).await;
    }

    async fn edit_access(&self, timeout: &str) {
        self.merge::<KafkaExternalAccess>(json!({"spec": {"probe": {"timeout": timeout}}})).await;
    }

    async fn replace_access(&self, object: KafkaExternalAccess) -> Result<(), KubernetesFault> {
        let replaced = self.all().replace(&self.name, &PostParams::default(), &object).await;
        match replaced {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(KubernetesFault::Conflict),
            Err(error) => panic!("{error}"),
        }
    }

    async fn hold_access(&self, held: bool) {
        let finalizers = if held { json!([OTHERS]) } else { Value::Null };
        self.merge::<KafkaExternalAccess>(json!({"metadata": {"finalizers": finalizers}})).await;
    }

    async fn delete_access(&self) {
        self.remove::<KafkaExternalAccess>(&self.name).await;
    }

    async fn make_secret(&self) {
        self.make(&some_secret(&self.key())).await;
    }

    async fn delete_secret(&self) {
        self.remove::<Secret>(&self.name).await;
    }

    /// Returns when its controller has seen it, which is a change too.
    async fn make_stateful_set(&self) {
        self.make(&empty_stateful_set(&self.key())).await;
        for _ in 0..300 {
            let set = self.all::<StatefulSet>().get(&self.name).await.expect("the StatefulSet");
            if set.status.and_then(|status| status.observed_generation) == set.metadata.generation {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no controller looks at the StatefulSet");
    }

    async fn label_stateful_set(&self, value: &str) {
        self.merge::<StatefulSet>(json!({"metadata": {"labels": {"changed": value}}})).await;
    }

    async fn delete_stateful_set(&self) {
        self.remove::<StatefulSet>(&self.name).await;
    }

    /// No node runs it: its status is written by hand.
    async fn make_pod(&self, name: &str, app: &str, part: &str) {
        self.make(&lonely_pod(NAMESPACE, name, app, part)).await;
        let ready =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let params = PatchParams::default();
        let patched = self.all::<Pod>().patch_status(name, &params, &Patch::Merge(ready)).await;
        patched.expect("the pod's status");
    }

    async fn delete_pod(&self, name: &str) {
        self.remove::<Pod>(name).await;
    }

    async fn protect(&self, app: &str) {
        let budget = json!({
            "metadata": {"name": app},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}},
        });
        self.make::<PodDisruptionBudget>(&serde_json::from_value(budget).expect("a budget")).await;
    }
}
