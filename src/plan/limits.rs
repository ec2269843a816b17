//! How much an address may carry.
//!
//! | the spec names | the address | then |
//! |---|---|---|
//! | no policy | any | nothing: whatever policy it has is somebody's choice |
//! | a policy that does not exist, or several of the name | new | not allocated: `QosPolicyNotFound`, `QosPolicyAmbiguous` |
//! | the same | ours, bound | it stays bound; the same reason |
//! | a policy | new | set by the create call |
//! | a policy | ours, bound, with another or none | one PUT; the binding and its connections stay |
//! | a policy | adopted | nothing (I3); the warning `LimitNotApplied` |

use super::{
    Action, Problem, Verdict, bindings::Bindings, desired::Desired, failure::problem_of_cloud,
    observed::CloudView,
};
use crate::{
    api::{BrokerBandwidth, conditions::Reason},
    cloud::{FloatingIp, QosPolicy},
    domain::{AddressId, Ordinal},
};

/// What the address of a broker may carry, when it has the policy that the spec names.
pub fn told(
    desired: &Desired,
    cloud: &CloudView,
    ordinal: Ordinal,
    address: &AddressId,
) -> Option<BrokerBandwidth> {
    let policy = cloud.policies.get(desired.qos_policy_for(ordinal)?)?.as_ref().ok()?;
    let address = cloud.addresses.iter().find(|known| known.id == *address)?;
    let mbps = |kbps: Option<u32>| kbps.map(|kbps| kbps.div_ceil(1000));
    let (limit_egress_mbps, limit_ingress_mbps) = (mbps(policy.egress_kbps), mbps(policy.ingress_kbps));
    (address.qos_policy.as_ref() == Some(&policy.id)).then(|| BrokerBandwidth {
        limit_egress_mbps,
        limit_ingress_mbps,
        ..BrokerBandwidth::default()
    })
}

/// The limits of a former status, where it had any.
pub fn only(told: &BrokerBandwidth) -> Option<BrokerBandwidth> {
    let BrokerBandwidth { limit_egress_mbps, limit_ingress_mbps, .. } = *told;
    let any = limit_egress_mbps.is_some() || limit_ingress_mbps.is_some();
    any.then(|| BrokerBandwidth { limit_egress_mbps, limit_ingress_mbps, ..BrokerBandwidth::default() })
}

impl Bindings<'_> {
    /// The policy that the spec names for this broker's address.
    pub(super) fn limit_of(&self, ordinal: Ordinal) -> Result<Option<&QosPolicy>, Verdict> {
        let Some(name) = self.desired.qos_policy_for(ordinal) else { return Ok(None) };
        match self.cloud.policies.get(name) {
            Some(Ok(policy)) => Ok(Some(policy)),
            Some(Err(error)) => Err(Verdict::Refused(problem_of_cloud(error))),
            None => Ok(None),
        }
    }

    /// What is to be done about the limit of an address that is bound as it should be.
    pub(super) fn limit(&mut self, ordinal: Ordinal, address: &FloatingIp, adopted: bool) -> Verdict {
        let policy = match self.limit_of(ordinal) {
            Ok(Some(policy)) if address.qos_policy.as_ref() != Some(&policy.id) => policy.id.clone(),
            Ok(_) => return Verdict::Settled,
            Err(verdict) => return verdict,
        };
        if adopted {
            let text = format!(
                "{} is the user's own address, so its QoS policy is not changed; set {policy} there yourself",
                address.address
            );
            self.plan.warnings.push(Problem::new(Reason::LimitNotApplied, text));
            return Verdict::Settled;
        }
        if self.touched.insert(address.id.clone()) {
            let (id, read_at) = (address.id.clone(), address.revision);
            self.plan.actions.push(Action::Limit { ordinal, id, read_at, policy });
        }
        Verdict::Waiting(Problem::new(Reason::InProgress, "the address is being limited"))
    }
}
