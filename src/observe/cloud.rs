//! The cloud of one credential, read whole or not at all.
//!
//! | wanted | addresses | ports and rules |
//! |---|---|---|
//! | [`Freshness::Now`], or other pods than before | read | read; at most two reads follow each other: the rules are those of the ports' groups |
//! | [`Freshness::Drift`] | one list for all objects of a credential, read when it is as old as the drift interval | as read for the same pods, unless as old as that |

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{Observer, kubernetes::held};
use crate::{
    api::KafkaExternalAccessStatus,
    cloud::{
        CloudError, Credential, FloatingIp, FloatingIps, IngressRule, NetworkKind, Port, limits::QosPolicy,
    },
    domain::{AccessKey, NetworkId, Ordinal},
    kubernetes::KubernetesError,
    plan::{
        desired::{Desired, WantedLimit, WantedProvider},
        observed::{CloudState, CloudView, CredentialProblem, PodView},
    },
};

/// How old a reading of the cloud may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Nothing is known to have happened in the cloud: as old as the drift interval.
    Drift,
    /// Something is to be decided about it, or to be written anywhere.
    Now,
}

/// When it was asked for (monotonic), and what came.
type Sighting<T> = Option<(Duration, T)>;

/// The addresses of a project, for all objects of a credential.
type SharedList = Arc<tokio::sync::Mutex<Sighting<Vec<FloatingIp>>>>;

/// What earlier readings of clouds have shown.
#[derive(Default)]
pub struct Sightings {
    lists: Mutex<Vec<(Credential, SharedList)>>,
    surroundings: Mutex<BTreeMap<AccessKey, (Duration, Asked, Surroundings)>>,
}

/// What ports and rules were asked for.
#[derive(Clone, PartialEq, Eq)]
struct Asked {
    credential: Credential,
    pod_network: Option<NetworkId>,
    pods: BTreeMap<Ordinal, PodView>,
    policies: BTreeSet<String>,
}

/// What one object wants to know.
struct Question<'a> {
    key: &'a AccessKey,
    floating_network: &'a str,
    pod_network: Option<&'a str>,
    pods: &'a BTreeMap<Ordinal, PodView>,
    policies: BTreeSet<String>,
    secret_held: bool,
    freshness: Freshness,
}

/// What lies between an address and the broker.
#[derive(Clone)]
struct Surroundings {
    ports: BTreeMap<Ordinal, Vec<Port>>,
    rules: Result<Vec<IngressRule>, CloudError>,
    policies: BTreeMap<String, Result<Vec<QosPolicy>, CloudError>>,
}

impl Sightings {
    /// The list of a credential; a credential that was changed gets a new one.
    fn list_of(&self, credential: &Credential) -> SharedList {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, list)) = lists.iter().find(|(known, _)| known == credential) {
            return list.clone();
        }
        let name = |of: &Credential| (of.namespace.clone(), of.secret.clone(), of.cloud_name.clone());
        lists.retain(|(known, _)| name(known) != name(credential));
        let list = Arc::default();
        lists.push((credential.clone(), Arc::clone(&list)));
        list
    }

    /// Something happened to the pods, or nothing is known yet.
    fn asks_anew(&self, key: &AccessKey, asked: &Asked) -> bool {
        let known = self.surroundings.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).is_none_or(|(_, before, _)| before != asked)
    }

    fn surroundings(
        &self,
        key: &AccessKey,
        asked: &Asked,
        not_before: Duration,
    ) -> Option<(Duration, Surroundings)> {
        let known = self.surroundings.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, of, seen) = known.get(key)?;
        (of == asked && *at > not_before).then(|| (*at, seen.clone()))
    }

    /// Nothing about this object is kept, nor of the credentials of its namespace: who else uses them reads once more.
    pub fn forget(&self, key: &AccessKey) {
        self.surroundings.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|(credential, _)| credential.namespace != key.namespace);
    }
}

impl Observer {
    pub(super) async fn observe_cloud(
        &self,
        desired: &Desired,
        status: &KafkaExternalAccessStatus,
        pods: &BTreeMap<Ordinal, PodView>,
        freshness: Freshness,
    ) -> Result<(CloudState, Freshness), KubernetesError> {
        let WantedProvider::OpenStack { cloud_name, secret: at, floating_network, pod_network } =
            &desired.provider
        else {
            return Ok((CloudState::NotUsed, Freshness::Now));
        };
        let name = &at.name;
        let Some(secret) = self.kubernetes.secret(&at.namespace, name).await? else {
            let missing = CredentialProblem::SecretMissing { name: name.clone() };
            return Ok((CloudState::NoCredential(missing), Freshness::Now));
        };
        let credential = match credential(&secret, cloud_name) {
            Ok(credential) => credential,
            Err(problem) => {
                let malformed = CredentialProblem::Malformed { name: name.clone(), problem };
                return Ok((CloudState::NoCredential(malformed), Freshness::Now));
            }
        };
        let recorded = status.managed_policies.iter().cloned();
        let question = Question {
            key: &desired.key,
            floating_network,
            pod_network: pod_network.as_deref(),
            pods,
            policies: desired.limits().into_iter().map(WantedLimit::policy).chain(recorded).collect(),
            secret_held: held(&secret),
            freshness,
        };
        let view = match self.clouds.open(&credential) {
            Ok(cloud) => self.view(&*cloud, credential, &question).await,
            Err(error) => Err(error),
        };
        Ok(match view {
            Ok((view, freshness)) => (CloudState::Seen(Box::new(view)), freshness),
            Err(CloudError { fault: crate::cloud::CloudFault::Configuration(problem), .. }) => {
                let malformed = CredentialProblem::Malformed { name: name.clone(), problem };
                (CloudState::NoCredential(malformed), Freshness::Now)
            }
            Err(error) => (CloudState::Failed(error), Freshness::Now),
        })
    }

    async fn view(
        &self,
        cloud: &dyn FloatingIps,
        credential: Credential,
        question: &Question<'_>,
    ) -> Result<(CloudView, Freshness), CloudError> {
        let project = cloud.project().await?;
        let floating_network = cloud.network(question.floating_network, NetworkKind::External).await?;
        let pod_network = match question.pod_network {
            Some(name) => Some(cloud.network(name, NetworkKind::Internal).await?),
            None => None,
        };
        let list = self.sightings.list_of(&credential);
        let asked = Asked {
            credential,
            pod_network,
            pods: question.pods.clone(),
            policies: question.policies.clone(),
        };
        let anew = self.sightings.asks_anew(question.key, &asked);
        let freshness = if anew { Freshness::Now } else { question.freshness };
        let (addresses, around) = futures::join!(
            self.addresses(cloud, &list, freshness),
            self.around(cloud, question.key, asked, freshness)
        );
        // Where both fail, always the same one is told: else the status would change with each look.
        let (listed_at, addresses) = addresses?;
        let (looked_at, Surroundings { ports, rules, policies }) = around?;
        let view = CloudView {
            project,
            floating_network,
            addresses,
            ports,
            rules,
            policies,
            secret_held: question.secret_held,
            due_in: (listed_at.min(looked_at) + self.settings.drift).saturating_sub(self.clock.monotonic()),
        };
        Ok((view, freshness))
    }

    /// With the moment of the reading. Who needs the list while another one reads it waits for that reading.
    async fn addresses(
        &self,
        cloud: &dyn FloatingIps,
        list: &SharedList,
        freshness: Freshness,
    ) -> Result<(Duration, Vec<FloatingIp>), CloudError> {
        if freshness == Freshness::Drift {
            let mut known = list.lock().await;
            if let Some(known) = known.as_ref().filter(|(at, _)| *at > self.drift_begins()) {
                return Ok(known.clone());
            }
            let read = (self.clock.monotonic(), cloud.list().await?);
            *known = Some(read.clone());
            return Ok(read);
        }
        let asked_at = self.clock.monotonic();
        let addresses = cloud.list().await?;
        let mut known = list.lock().await;
        if known.as_ref().is_none_or(|(at, _)| *at <= asked_at) {
            *known = Some((asked_at, addresses.clone()));
        }
        Ok((asked_at, addresses))
    }

    async fn around(
        &self,
        cloud: &dyn FloatingIps,
        key: &AccessKey,
        asked: Asked,
        freshness: Freshness,
    ) -> Result<(Duration, Surroundings), CloudError> {
        if freshness == Freshness::Drift
            && let Some(known) = self.sightings.surroundings(key, &asked, self.drift_begins())
        {
            return Ok(known);
        }
        let asked_at = self.clock.monotonic();
        let (around, policies) =
            futures::join!(ports_and_rules(cloud, &asked), policies(cloud, &asked.policies));
        let (ports, rules) = around?;
        let seen = Surroundings { ports, rules, policies };
        let mut known = self.sightings.surroundings.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key.clone(), (asked_at, asked, seen.clone()));
        Ok((asked_at, seen))
    }

    /// What was read before this moment is too old to find drift.
    fn drift_begins(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.settings.drift)
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

type PortsAndRules = (BTreeMap<Ordinal, Vec<Port>>, Result<Vec<IngressRule>, CloudError>);

async fn ports_and_rules(cloud: &dyn FloatingIps, asked: &Asked) -> Result<PortsAndRules, CloudError> {
    let ips: BTreeMap<Ordinal, Ipv4Addr> =
        asked.pods.iter().filter_map(|(ordinal, pod)| Some((*ordinal, pod.ip?))).collect();
    let wanted: BTreeSet<Ipv4Addr> = ips.values().copied().collect();
    let ports =
        if wanted.is_empty() { Vec::new() } else { cloud.ports(asked.pod_network.as_ref(), &wanted).await? };
    let groups: BTreeSet<_> = ports.iter().flat_map(|port| port.security_groups.iter().cloned()).collect();
    let rules = if groups.is_empty() { Ok(Vec::new()) } else { cloud.ingress_rules(&groups).await };
    Ok((by_ordinal(&ips, &ports), rules))
}

/// The policies of each name; one that is not found is the planner's to tell.
async fn policies(
    cloud: &dyn FloatingIps,
    names: &BTreeSet<String>,
) -> BTreeMap<String, Result<Vec<QosPolicy>, CloudError>> {
    let asked = names.iter().map(|name| async move { (name.clone(), cloud.qos_policies(name).await) });
    futures::future::join_all(asked).await.into_iter().collect()
}

fn by_ordinal(ips: &BTreeMap<Ordinal, Ipv4Addr>, ports: &[Port]) -> BTreeMap<Ordinal, Vec<Port>> {
    let of = |ip: &Ipv4Addr| ports.iter().filter(|port| port.fixed_ips.contains(ip)).cloned().collect();
    ips.iter().map(|(ordinal, ip)| (*ordinal, of(ip))).collect()
}
