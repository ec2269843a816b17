//! The cloud of one credential, read whole or not at all.
//!
//! At most two reads follow each other: the list of addresses and the ports at the same time, then the rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::Observer;
use crate::{
    api::FINALIZER,
    cloud::{CloudError, Credential, FloatingIps, NetworkKind, Port},
    domain::Ordinal,
    kubernetes::KubernetesError,
    plan::{
        desired::{Desired, WantedProvider},
        observed::{CloudState, CloudView, CredentialProblem, PodView},
    },
};

impl Observer {
    pub(super) async fn observe_cloud(
        &self,
        desired: &Desired,
        pods: &BTreeMap<Ordinal, PodView>,
    ) -> Result<CloudState, KubernetesError> {
        let WantedProvider::OpenStack { cloud_name, secret: name, floating_network, pod_network } =
            &desired.provider
        else {
            return Ok(CloudState::NotUsed);
        };
        let namespace = &desired.key.namespace;
        let Some(secret) = self.kubernetes.secret(namespace, name).await? else {
            return Ok(CloudState::NoCredential(CredentialProblem::SecretMissing { name: name.clone() }));
        };
        let credential = match credential(&secret, cloud_name) {
            Ok(credential) => credential,
            Err(problem) => {
                return Ok(CloudState::NoCredential(CredentialProblem::Malformed {
                    name: name.clone(),
                    problem,
                }));
            }
        };
        let held = secret.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
        let view = match self.clouds.open(&credential) {
            Ok(cloud) => view(cloud, floating_network, pod_network.as_deref(), pods, held).await,
            Err(error) => Err(error),
        };
        Ok(match view {
            Ok(view) => CloudState::Seen(Box::new(view)),
            Err(CloudError { fault: crate::cloud::CloudFault::Configuration(problem), .. }) => {
                CloudState::NoCredential(CredentialProblem::Malformed { name: name.clone(), problem })
            }
            Err(error) => CloudState::Failed(error),
        })
    }
}

/// The data of a Secret as the convention of Cluster API Provider OpenStack and ORC has it.
pub fn credential(secret: &Secret, cloud_name: &str) -> Result<Credential, String> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes
            .map(|bytes| String::from_utf8(bytes.0.clone()).map_err(|_| format!("key {key} is not text")))
            .transpose()
    };
    Ok(Credential {
        namespace: secret.namespace().unwrap_or_default(),
        secret: secret.name_any(),
        version: data_version(secret),
        cloud_name: cloud_name.to_owned(),
        clouds_yaml: text("clouds.yaml")?.ok_or("add the key clouds.yaml")?,
        cacert: text("cacert")?,
    })
}

/// Only the data makes another credential: our own finalizer changes `resourceVersion` too, and would cost a login.
fn data_version(secret: &Secret) -> String {
    secret.uid().unwrap_or_default()
}

async fn view(
    cloud: Arc<dyn FloatingIps>,
    floating_network: &str,
    pod_network: Option<&str>,
    pods: &BTreeMap<Ordinal, PodView>,
    secret_held: bool,
) -> Result<CloudView, CloudError> {
    let project = cloud.project().await?;
    let floating_network = cloud.network(floating_network, NetworkKind::External).await?;
    let pod_network = match pod_network {
        Some(name) => Some(cloud.network(name, NetworkKind::Internal).await?),
        None => None,
    };
    let ips: BTreeMap<Ordinal, Ipv4Addr> =
        pods.iter().filter_map(|(ordinal, pod)| Some((*ordinal, pod.ip?))).collect();
    let wanted: BTreeSet<Ipv4Addr> = ips.values().copied().collect();
    let ports = async {
        if wanted.is_empty() { Ok(Vec::new()) } else { cloud.ports(pod_network.as_ref(), &wanted).await }
    };
    let (addresses, ports) = futures::try_join!(cloud.list(), ports)?;
    let groups: BTreeSet<_> = ports.iter().flat_map(|port| port.security_groups.iter().cloned()).collect();
    let rules = if groups.is_empty() { Ok(Vec::new()) } else { cloud.ingress_rules(&groups).await };
    Ok(CloudView {
        project,
        floating_network,
        addresses,
        ports: by_ordinal(&ips, &ports),
        rules,
        secret_held,
    })
}

fn by_ordinal(ips: &BTreeMap<Ordinal, Ipv4Addr>, ports: &[Port]) -> BTreeMap<Ordinal, Vec<Port>> {
    let of = |ip: &Ipv4Addr| ports.iter().filter(|port| port.fixed_ips.contains(ip)).cloned().collect();
    ips.iter().map(|(ordinal, ip)| (*ordinal, of(ip))).collect()
}
