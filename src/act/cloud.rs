//! Writes to the cloud. Each is read back, because a conditional PUT is no compare-and-swap under concurrency (seen on
//! Neutron 29: two simultaneous PUTs with the same, right revision both succeed).

use super::{Actor, Round};
use crate::{
    cloud::{
        Binding, Change, CloudError, CloudFault, NewFloatingIp,
        limits::{BandwidthLimits, QosPolicy},
    },
    domain::{AddressId, OwnerMarker, QosPolicyId, Revision},
    plan::{PodIdentity, class::held_by, failure::Cause},
};

impl Actor {
    pub(super) async fn allocate(
        &self,
        round: &Round<'_>,
        pod: &PodIdentity,
        new: &NewFloatingIp,
    ) -> Result<(), Cause> {
        let cloud = self.cloud(round).await?;
        let limit = round.desired.grant.as_ref().and_then(|grant| grant.most_addresses);
        // Several objects of the namespace may be at it, each by a list that shows room for one more.
        let _turn = match limit {
            Some(most) => {
                let turn = self.observer.one_at_a_time().await;
                let now = cloud.list().await.map_err(Cause::Cloud)?;
                if held_by(&round.desired.key.namespace, &round.observed.cluster, &now) >= most {
                    return Err(Cause::LookAgain("the namespace has as many addresses as its class allows"));
                }
                Some(turn)
            }
            None => None,
        };
        self.confirm_pod(round, pod, new.binding.fixed_ip).await?;
        let made = cloud.create(self.permit()?, new).await.map_err(Cause::Cloud)?;
        tracing::info!(key = %round.desired.key, address = %made.address, id = %made.id, to = %new.binding.fixed_ip, "allocated and bound");
        self.confirm_pod(round, pod, new.binding.fixed_ip).await
    }

    pub(super) async fn bind(
        &self,
        round: &Round<'_>,
        pod: &PodIdentity,
        id: &AddressId,
        read_at: Revision,
        to: &Binding,
        marker: Option<&OwnerMarker>,
    ) -> Result<(), Cause> {
        let cloud = self.cloud(round).await?;
        self.confirm_pod(round, pod, to.fixed_ip).await?;
        let change = Change::Bind { to: to.clone(), description: marker.map(ToString::to_string) };
        cloud.update(self.permit()?, id, read_at, &change).await.map_err(Cause::Cloud)?;
        tracing::info!(key = %round.desired.key, %id, to = %to.fixed_ip, "bound");
        let now = cloud.get(id).await.map_err(Cause::Cloud)?;
        if now.is_none_or(|now| now.binding.as_ref() != Some(to)) {
            return Err(Cause::MovedAway);
        }
        self.confirm_pod(round, pod, to.fixed_ip).await
    }

    pub(super) async fn unbind(
        &self,
        round: &Round<'_>,
        id: &AddressId,
        read_at: Revision,
    ) -> Result<(), Cause> {
        let cloud = self.cloud(round).await?;
        cloud
            .update(self.permit()?, id, read_at, &Change::Unbind { description: None })
            .await
            .map_err(Cause::Cloud)?;
        tracing::info!(key = %round.desired.key, %id, "unbound");
        Ok(())
    }

    pub(super) async fn limit(
        &self,
        round: &Round<'_>,
        id: &AddressId,
        read_at: Revision,
        policy: &QosPolicyId,
    ) -> Result<(), Cause> {
        let cloud = self.cloud(round).await?;
        let change = Change::Limit(policy.clone());
        cloud.update(self.permit()?, id, read_at, &change).await.map_err(Cause::Cloud)?;
        tracing::info!(key = %round.desired.key, %id, %policy, "limited");
        Ok(())
    }

    /// Each call is a write of its own; one that was cut off leaves a policy that the next round completes.
    pub(super) async fn make_policy(
        &self,
        round: &Round<'_>,
        limits: &BandwidthLimits,
        unfinished: Option<&QosPolicy>,
    ) -> Result<(), Cause> {
        let cloud = self.cloud(round).await?;
        let refused = |error: CloudError| match error.fault {
            CloudFault::Forbidden(_) => Cause::Cloud(CloudError {
                fault: CloudFault::QosPolicyNotPermitted { limits: *limits },
                ..error
            }),
            _ => Cause::Cloud(error),
        };
        let id = match unfinished {
            Some(begun) => begun.id.clone(),
            None => {
                let id = cloud.create_policy(self.permit()?, limits).await.map_err(refused)?;
                tracing::info!(key = %round.desired.key, %id, %limits, "made a QoS policy");
                id
            }
        };
        let lacking = unfinished.map_or_else(|| Some(limits.rules().collect()), |begun| begun.lacks(limits));
        for rule in lacking.unwrap_or_default() {
            cloud.add_rule(self.permit()?, &id, rule).await.map_err(refused)?;
            tracing::info!(key = %round.desired.key, %id, direction = ?rule.0, "added a rule to the QoS policy");
        }
        Ok(())
    }

    pub(super) async fn remove_policy(
        &self,
        round: &Round<'_>,
        id: &QosPolicyId,
        name: &str,
    ) -> Result<(), Cause> {
        let cloud = self.cloud(round).await?;
        cloud.delete_policy(self.permit()?, id).await.map_err(Cause::Cloud)?;
        tracing::info!(key = %round.desired.key, %id, %name, "removed a QoS policy");
        Ok(())
    }

    pub(super) async fn retain(
        &self,
        round: &Round<'_>,
        id: &AddressId,
        read_at: Revision,
        marker: &OwnerMarker,
    ) -> Result<(), Cause> {
        let cloud = self.cloud(round).await?;
        let change = Change::Describe(marker.retained().to_string());
        cloud.update(self.permit()?, id, read_at, &change).await.map_err(Cause::Cloud)?;
        tracing::info!(key = %round.desired.key, %id, "retained");
        Ok(())
    }

    /// The marker is read again right before the DELETE, which carries the revision of that read: nothing that
    /// somebody took over meanwhile is deleted (I3).
    pub(super) async fn release(
        &self,
        round: &Round<'_>,
        id: &AddressId,
        marker: &OwnerMarker,
    ) -> Result<(), Cause> {
        let cloud = self.cloud(round).await?;
        let Some(now) = cloud.get(id).await.map_err(Cause::Cloud)? else { return Ok(()) };
        if now.description != marker.to_string() {
            return Err(Cause::LookAgain("the address does not carry our marker any more"));
        }
        cloud.delete(self.permit()?, id, now.revision).await.map_err(Cause::Cloud)?;
        tracing::info!(key = %round.desired.key, %id, address = %now.address, "released");
        Ok(())
    }
}
