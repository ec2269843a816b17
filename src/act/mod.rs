//! All writing: one function for each action, each under a permit that is taken right before the write.

use std::{net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::ConfigMap};

use crate::{
    api::KafkaExternalAccess,
    cloud::{Clouds, FloatingIps},
    domain::{AddressId, Ordinal},
    kafka::Brokers,
    kubernetes::{Kubernetes, KubernetesError},
    observe::{self, Observer, credential, pod_view},
    plan::{
        Action, PodIdentity, deletion,
        desired::{Desired, WantedProvider},
        failure::Cause,
        observed::Observed,
        status,
    },
    seams::{Clock, Leadership, WritePermit},
};

mod cloud;
mod kafka;

/// Carries actions out.
pub struct Actor {
    /// The API server.
    pub kubernetes: Arc<dyn Kubernetes>,
    /// Clouds.
    pub clouds: Arc<dyn Clouds>,
    /// Brokers.
    pub brokers: Arc<dyn Brokers>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The right to write.
    pub leadership: Arc<dyn Leadership>,
    /// For the material of Kafka connections.
    pub observer: Arc<Observer>,
    /// Whose turn it is to be let go.
    pub endings: tokio::sync::Mutex<()>,
}

/// What the actions of one round share.
pub struct Round<'a> {
    /// The object, as read in this round.
    pub object: &'a KafkaExternalAccess,
    /// What it wants.
    pub desired: &'a Desired,
    /// What was seen.
    pub observed: &'a Observed,
}

impl Actor {
    /// Carries one action out and confirms it by reading back.
    pub async fn carry_out(&self, action: &Action, round: &Round<'_>) -> Result<(), Cause> {
        match action {
            Action::HoldObject => self.hold_object(round).await,
            Action::LetObjectGo => self.let_object_go(round).await,
            Action::HoldSecret => self.hold_secret(round, true).await,
            Action::LetSecretGo => self.hold_secret(round, false).await,
            Action::WriteFiles { files } => self.write_files(round, files).await,
            Action::DeleteFiles { files } => self.delete_files(round, files).await,
            Action::ChangeTemplate { target, what } => self.change_template(round, target, what).await,
            Action::Restart { pod, .. } => self.restart(round, pod).await,
            Action::ClearReplace => self.clear_replace(round).await,
            Action::Allocate { pod, new, .. } => self.allocate(round, pod, new).await,
            Action::Bind { ordinal, pod, id, read_at, to, marker, adopts } => {
                if let Some(address) = adopts {
                    self.record_adoption(round, *ordinal, id, *address).await?;
                }
                self.bind(round, pod, id, *read_at, to, marker.as_ref()).await
            }
            Action::Unbind { id, read_at, .. } => self.unbind(round, id, *read_at).await,
            Action::MakePolicy { limits, unfinished } => {
                self.make_policy(round, limits, unfinished.as_ref()).await
            }
            Action::RemovePolicy { id, name } => self.remove_policy(round, id, name).await,
            Action::Limit { id, read_at, policy, .. } => self.limit(round, id, *read_at, policy).await,
            Action::Retain { id, read_at, marker, .. } => self.retain(round, id, *read_at, marker).await,
            Action::Release { id, marker, .. } => self.release(round, id, marker).await,
            Action::Advertise { ordinal, node, endpoint, changes, .. } => {
                self.advertise(round, *ordinal, *node, endpoint, changes).await
            }
            Action::Withdraw { ordinal, node, changes } => {
                self.withdraw(round, *ordinal, *node, changes).await
            }
        }
    }

    fn permit(&self) -> Result<WritePermit, Cause> {
        self.leadership.permit().ok_or(Cause::NotLeading)
    }

    async fn change_template(
        &self,
        round: &Round<'_>,
        target: &StatefulSet,
        what: &str,
    ) -> Result<(), Cause> {
        let Some(set) = &round.observed.stateful_set else { return Ok(()) };
        self.kubernetes.change_stateful_set(self.permit()?, &set.object, target).await?;
        tracing::info!(key = %round.desired.key, stateful_set = %round.desired.stateful_set, %what, "changed");
        Ok(())
    }

    async fn restart(&self, round: &Round<'_>, pod: &PodIdentity) -> Result<(), Cause> {
        self.kubernetes.evict(self.permit()?, &round.desired.key.namespace, &pod.name, &pod.uid).await?;
        tracing::info!(key = %round.desired.key, pod = %pod.name, "restarted");
        Ok(())
    }

    async fn write_files(&self, round: &Round<'_>, files: &ConfigMap) -> Result<(), Cause> {
        self.kubernetes.write_config_map(self.permit()?, files).await?;
        tracing::info!(key = %round.desired.key, config_map = files.metadata.name, "written");
        Ok(())
    }

    async fn delete_files(&self, round: &Round<'_>, files: &ConfigMap) -> Result<(), Cause> {
        self.kubernetes.delete_config_map(self.permit()?, files).await?;
        tracing::info!(key = %round.desired.key, config_map = files.metadata.name, "deleted");
        Ok(())
    }

    async fn clear_replace(&self, round: &Round<'_>) -> Result<(), Cause> {
        let object = self.fresh(round).await?;
        self.kubernetes.clear_replace(self.permit()?, &object).await?;
        tracing::info!(key = %round.desired.key, "annotation removed");
        Ok(())
    }

    async fn hold_object(&self, round: &Round<'_>) -> Result<(), Cause> {
        let object = self.fresh(round).await?;
        self.kubernetes.set_finalizer(self.permit()?, &object, true).await?;
        tracing::info!(key = %round.desired.key, "object held");
        Ok(())
    }

    /// The status of the object says that this address of the user's is the broker's.
    async fn record_adoption(
        &self,
        round: &Round<'_>,
        ordinal: Ordinal,
        id: &AddressId,
        address: Ipv4Addr,
    ) -> Result<(), Cause> {
        let object = self.unedited(round).await?;
        let cloud = round.observed.cloud.seen().ok_or(Cause::LookAgain("the cloud was not seen"))?;
        let mut status = object.status.clone().unwrap_or_default();
        status::adopt(&mut status, &cloud.project, ordinal, id, address);
        self.kubernetes.write_status(self.permit()?, &object, &status).await?;
        tracing::info!(key = %round.desired.key, %id, %address, %ordinal, "adoption recorded");
        Ok(())
    }

    /// One object at a time: of two that end at the same moment, each would leave their Secret to the other.
    async fn let_object_go(&self, round: &Round<'_>) -> Result<(), Cause> {
        let _turn = self.endings.lock().await;
        if deletion::secret_is_used(round.desired, &round.observed.others) {
            let objects = self.kubernetes.accesses().await.map_err(Cause::Kubernetes)?;
            let others: Vec<_> = objects.iter().map(observe::other).collect();
            if !deletion::secret_is_used(round.desired, &others) {
                return Err(Cause::LookAgain("nobody else uses the Secret any more"));
            }
        }
        let object = self.unedited(round).await?;
        self.kubernetes.set_finalizer(self.permit()?, &object, false).await?;
        tracing::info!(key = %round.desired.key, "object let go");
        Ok(())
    }

    /// The object as it is now, with the spec that was decided about.
    async fn unedited(&self, round: &Round<'_>) -> Result<KafkaExternalAccess, Cause> {
        let object = self.fresh(round).await?;
        match object.metadata.generation == round.object.metadata.generation {
            true => Ok(object),
            false => Err(Cause::LookAgain("the object was edited")),
        }
    }

    /// The object as it is now; another of the same name is not it.
    async fn fresh(&self, round: &Round<'_>) -> Result<KafkaExternalAccess, Cause> {
        let object = self.kubernetes.access(&round.desired.key).await.map_err(Cause::Kubernetes)?;
        object
            .filter(|object| object.metadata.uid == round.object.metadata.uid)
            .ok_or(Cause::LookAgain("the object is another one now"))
    }

    async fn hold_secret(&self, round: &Round<'_>, present: bool) -> Result<(), Cause> {
        let WantedProvider::OpenStack { secret, .. } = &round.desired.provider else { return Ok(()) };
        let found =
            self.kubernetes.secret(&secret.namespace, &secret.name).await.map_err(Cause::Kubernetes)?;
        let Some(found) = found else {
            return if present { Err(Cause::LookAgain("the Secret is gone")) } else { Ok(()) };
        };
        self.kubernetes.set_secret_finalizer(self.permit()?, &found, present).await?;
        let told = if present { "Secret held" } else { "Secret let go" };
        tracing::info!(key = %round.desired.key, secret = secret.name, "{told}");
        Ok(())
    }

    /// The cloud of the object's credential: the connection that observed it.
    async fn cloud(&self, round: &Round<'_>) -> Result<Arc<dyn FloatingIps>, Cause> {
        let WantedProvider::OpenStack { secret, cloud_name, .. } = &round.desired.provider else {
            return Err(Cause::LookAgain("the provider needs no cloud"));
        };
        let secret =
            self.kubernetes.secret(&secret.namespace, &secret.name).await.map_err(Cause::Kubernetes)?;
        let secret = secret.ok_or(Cause::LookAgain("the Secret is gone"))?;
        let credential =
            credential(&secret, cloud_name).map_err(|_| Cause::LookAgain("the Secret changed"))?;
        self.clouds.open(&credential).map_err(Cause::Cloud)
    }

    /// The pod is still the one that was observed, not on its way out, and has that address: a pod whose sandbox is
    /// made anew keeps its UID and gets another one.
    async fn confirm_pod(&self, round: &Round<'_>, pod: &PodIdentity, ip: Ipv4Addr) -> Result<(), Cause> {
        let now =
            self.kubernetes.pod(&round.desired.key.namespace, &pod.name).await.map_err(Cause::Kubernetes)?;
        let same = now
            .as_ref()
            .and_then(|now| pod_view(now, &round.desired.stateful_set))
            .is_some_and(|(_, now)| now.identity == *pod && now.ip == Some(ip) && !now.terminating);
        if same { Ok(()) } else { Err(Cause::LookAgain("the pod is another one now")) }
    }
}

impl From<KubernetesError> for Cause {
    fn from(error: KubernetesError) -> Self {
        Self::Kubernetes(error)
    }
}
