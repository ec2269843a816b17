//! The way to the API server, as kubectl has it.

use std::path::PathBuf;

use clap::Args;
use kube::{Client, config::KubeConfigOptions, core::error_boundary::InvalidObject};

use crate::{
    api::KafkaExternalAccess,
    domain::{AccessKey, innermost},
    kubernetes::{Kubernetes, KubernetesError, KubernetesFault, Listed, api::KubeApi},
};

/// Which cluster, and where in it.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterArgs {
    /// Namespace. Default: the kubeconfig's
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Context of the kubeconfig. Default: the current one
    #[arg(long)]
    pub context: Option<String>,
    /// The kubeconfig. Default: $KUBECONFIG, ~/.kube/config, else the account of the pod
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// What the operator was told at its start, as far as it decides what it would do
#[derive(Args, Clone, Debug)]
pub struct OperatorArgs {
    /// Identity of this cluster in owner markers. Default: the UID of namespace kube-system
    #[arg(long, env = "KEA_CLUSTER_ID")]
    pub cluster_id: Option<String>,
    /// Namespace of the operator, which the Secrets of classes are in
    #[arg(long, env = "KEA_OPERATOR_NAMESPACE", default_value = "default")]
    pub operator_namespace: String,
}

/// An API server and a namespace.
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl ClusterArgs {
    /// Reads the kubeconfig; no call is made.
    pub async fn open(&self) -> Result<Cluster, String> {
        let no_way =
            |error: &dyn std::error::Error| format!("no way to the API server: {}", innermost(error));
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let read = kube::config::Kubeconfig::read_from(path).map_err(|error| no_way(&error))?;
                kube::Config::from_custom_kubeconfig(read, &options).await.map_err(|error| no_way(&error))?
            }
            (None, Some(_)) => {
                kube::Config::from_kubeconfig(&options).await.map_err(|error| no_way(&error))?
            }
            (None, None) => kube::Config::infer().await.map_err(|error| no_way(&error))?,
        };
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = crate::kubernetes::api::client(config).map_err(|error| no_way(&error))?;
        Ok(Cluster { client, namespace })
    }
}

impl Cluster {
    /// What the operator would read for an object of this namespace: the whole cluster, or, where this account may list
    /// objects there only, that namespace.
    pub async fn for_a_look(&self, namespace: &str) -> KubeApi {
        let everywhere = KubeApi::new(self.client.clone(), Vec::new()).before_installation();
        match everywhere.accesses().await {
            Err(KubernetesError { fault: KubernetesFault::Forbidden(_), .. }) => {
                KubeApi::new(self.client.clone(), vec![namespace.to_owned()]).before_installation()
            }
            _ => everywhere,
        }
    }

    /// The named object, or all of the namespace, or of the cluster.
    pub async fn objects(&self, name: Option<&str>, all: bool) -> Result<Vec<KafkaExternalAccess>, String> {
        let namespaces = if all { Vec::new() } else { vec![self.namespace.clone()] };
        let kubernetes = KubeApi::new(self.client.clone(), namespaces);
        let Some(name) = name else {
            let listed = kubernetes.accesses().await.map_err(|error| error.to_string())?;
            return Ok(listed.into_iter().filter_map(readable).collect());
        };
        let key = AccessKey { namespace: self.namespace.clone(), name: name.to_owned() };
        let object = kubernetes.access(&key).await.map_err(|error| error.to_string())?;
        object.map(|object| vec![object]).ok_or_else(|| format!("there is no KafkaExternalAccess {key}"))
    }
}

/// One that cannot be read is told, and keeps no other from being shown.
fn readable(listed: Listed) -> Option<KafkaExternalAccess> {
    let unreadable = |InvalidObject { metadata, error }| {
        let of = |part: Option<String>| part.unwrap_or_default();
        eprintln!("{}/{} cannot be read: {error}", of(metadata.namespace), of(metadata.name));
    };
    listed.0.map_err(unreadable).ok()
}
