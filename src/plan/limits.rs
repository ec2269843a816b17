//! How much an address may carry, and the QoS policies that say so.
//!
//! | the spec wants | the address | then |
//! |---|---|---|
//! | nothing | any | nothing: whatever policy it has is somebody's choice |
//! | a policy that does not exist, or several of the name | new | not allocated: `QosPolicyNotFound`, `QosPolicyAmbiguous` |
//! | the same | ours, bound | it stays bound; the same reason |
//! | a policy | new | set by the create call |
//! | a policy | ours, bound, with another or none | one PUT; the binding and its connections stay |
//! | a policy | adopted | nothing (I3); the warning `LimitNotApplied` |
//!
//! | limits in Mbit/s: policies of their name | then |
//! |---|---|
//! | none | one is made: a POST for it and one for each rule |
//! | one of ours, without all its rules | the rules that it lacks |
//! | one that says them, ours or shared by somebody | it is used; of several the first by identifier |
//! | only others | somebody changed it: `QosPolicyAltered` |
//! | ours, superfluous or not wanted any more, and no address has it | removed; one that is in use elsewhere is left |

use std::collections::BTreeSet;

use super::{
    Action, Problem, Verdict,
    bindings::Bindings,
    desired::{Desired, WantedLimit},
    failure::problem_of_cloud,
    memory::Memory,
    observed::{CloudView, Observed},
};
use crate::{
    api::{BrokerBandwidth, conditions::Reason},
    cloud::{
        CloudError, FloatingIp,
        limits::{BandwidthLimits, QosPolicy, one_policy},
    },
    domain::{AddressId, Ordinal, QosPolicyId},
};

/// Why a limit has no policy yet.
enum NotYet<'a> {
    /// It is to be made, or what was begun completed.
    Make(BandwidthLimits, Option<&'a QosPolicy>),
    /// Somebody has to change something.
    Refused(Problem),
}

/// What the address of a broker may carry, when it has the policy that the spec wants.
pub fn told(
    desired: &Desired,
    cloud: &CloudView,
    ordinal: Ordinal,
    address: &AddressId,
) -> Option<BrokerBandwidth> {
    let policy = policy(desired.limit_for(ordinal)?, cloud).ok()?;
    let address = cloud.addresses.iter().find(|known| known.id == *address)?;
    let limits = policy.limits();
    (address.qos_policy.as_ref() == Some(&policy.id)).then(|| BrokerBandwidth {
        limit_egress_mbps: limits.egress_mbps,
        limit_ingress_mbps: limits.ingress_mbps,
        ..BrokerBandwidth::default()
    })
}

/// The greater limit of the two directions that the spec wants for a broker, in Mbit/s.
pub fn wanted_mbps(desired: &Desired, cloud: Option<&CloudView>, ordinal: Ordinal) -> Option<u32> {
    match desired.limit_for(ordinal)? {
        WantedLimit::Managed(limits) => limits.greatest(),
        named => policy(named, cloud?).ok()?.limits().greatest(),
    }
}

/// The limits of a former status, where it had any.
pub fn only(told: &BrokerBandwidth) -> Option<BrokerBandwidth> {
    let BrokerBandwidth { limit_egress_mbps, limit_ingress_mbps, .. } = *told;
    let any = limit_egress_mbps.is_some() || limit_ingress_mbps.is_some();
    any.then(|| BrokerBandwidth { limit_egress_mbps, limit_ingress_mbps, ..BrokerBandwidth::default() })
}

/// Names of the policies that the operator keeps for this object, and is to remove one day.
pub fn recorded(desired: &Desired, observed: &Observed, memory: &Memory) -> Vec<String> {
    let is_there = |name: &&String| {
        let Some(cloud) = observed.cloud.seen() else { return true };
        let Some(Ok(found)) = cloud.policies.get(*name) else { return true };
        let ours = |policy: &QosPolicy| policy.is_managed_in(&cloud.project);
        found.iter().any(|policy| ours(policy) && !memory.policies_in_use.contains(&policy.id))
    };
    let former = observed.own.status.managed_policies.iter().filter(is_there).cloned();
    former.chain(managed(desired)).collect::<BTreeSet<_>>().into_iter().collect()
}

fn managed(desired: &Desired) -> BTreeSet<String> {
    let limits = desired.limits().into_iter();
    limits.filter(|limit| matches!(limit, WantedLimit::Managed(_))).map(WantedLimit::policy).collect()
}

fn policy<'a>(limit: &WantedLimit, cloud: &'a CloudView) -> Result<&'a QosPolicy, NotYet<'a>> {
    let name = limit.policy();
    let refused = |error: &CloudError| NotYet::Refused(problem_of_cloud(error));
    let found = match cloud.policies.get(&name) {
        Some(Ok(found)) => found.as_slice(),
        Some(Err(error)) => return Err(refused(error)),
        None => &[],
    };
    match limit {
        WantedLimit::Named(name) => one_policy(found, name)
            .map_err(|fault| refused(&CloudError { operation: "find the QoS policy", fault })),
        WantedLimit::Managed(limits) => managed_policy(limits, found, cloud),
    }
}

fn managed_policy<'a>(
    limits: &BandwidthLimits,
    found: &'a [QosPolicy],
    cloud: &CloudView,
) -> Result<&'a QosPolicy, NotYet<'a>> {
    if let Some(policy) = found.iter().filter(|policy| policy.says(limits)).min_by_key(|policy| &policy.id) {
        return Ok(policy);
    }
    let ours = found.iter().filter(|policy| policy.is_managed_in(&cloud.project));
    let unfinished = ours.filter(|policy| policy.lacks(limits).is_some()).min_by_key(|policy| &policy.id);
    if unfinished.is_some() || found.is_empty() {
        return Err(NotYet::Make(*limits, unfinished));
    }
    let text = format!(
        "QoS policy {} should say {limits} and somebody changed it; correct its rules, or delete it",
        limits.policy_name()
    );
    Err(NotYet::Refused(Problem::new(Reason::QosPolicyAltered, text)))
}

/// Policies of ours that nobody needs: beside the one that is used, and of limits that are `wanted` no more.
pub fn superfluous(wanted: &BTreeSet<&WantedLimit>, cloud: &CloudView, memory: &Memory) -> Vec<Action> {
    let mut kept: BTreeSet<&QosPolicyId> =
        cloud.addresses.iter().filter_map(|address| address.qos_policy.as_ref()).collect();
    kept.extend(&memory.policies_in_use);
    for limit in wanted {
        match policy(limit, cloud) {
            Ok(used) => _ = kept.insert(&used.id),
            Err(_) => kept.extend(found(cloud, &limit.policy()).map(|policy| &policy.id)),
        }
    }
    let remove =
        |policy: &QosPolicy| Action::RemovePolicy { id: policy.id.clone(), name: policy.name.clone() };
    let ours = cloud.policies.values().flatten().flatten();
    ours.filter(|policy| policy.is_managed_in(&cloud.project) && !kept.contains(&policy.id))
        .map(remove)
        .collect()
}

fn found<'a>(cloud: &'a CloudView, name: &str) -> impl Iterator<Item = &'a QosPolicy> {
    cloud.policies.get(name).into_iter().flatten().flatten()
}

impl Bindings<'_> {
    /// The policy that the spec wants for this broker's address; one that does not exist yet is made first.
    pub(super) fn limit_of(&mut self, ordinal: Ordinal) -> Result<Option<QosPolicyId>, Verdict> {
        let Some(limit) = self.desired.limit_for(ordinal) else { return Ok(None) };
        if let Some(problem) = self.desired.grant.as_ref().and_then(|grant| grant.not_permitted(limit)) {
            return Err(Verdict::Refused(problem));
        }
        match policy(limit, self.cloud) {
            Ok(policy) => Ok(Some(policy.id.clone())),
            Err(NotYet::Refused(problem)) => Err(Verdict::Refused(problem)),
            Err(NotYet::Make(limits, unfinished)) => {
                let action = Action::MakePolicy { limits, unfinished: unfinished.cloned() };
                if !self.plan.actions.contains(&action) {
                    self.plan.actions.push(action);
                }
                Err(Verdict::Waiting(Problem::new(Reason::InProgress, "its QoS policy is being made")))
            }
        }
    }

    /// What is to be done about the limit of an address that is bound as it should be.
    pub(super) fn limit(&mut self, ordinal: Ordinal, address: &FloatingIp, adopted: bool) -> Verdict {
        if adopted {
            return self.limit_of_adopted(ordinal, address);
        }
        let policy = match self.limit_of(ordinal) {
            Ok(Some(policy)) if address.qos_policy.as_ref() != Some(&policy) => policy,
            Ok(_) => return Verdict::Settled,
            Err(verdict) => return verdict,
        };
        if self.touched.insert(address.id.clone()) {
            let (id, read_at) = (address.id.clone(), address.revision);
            self.plan.actions.push(Action::Limit { ordinal, id, read_at, policy });
        }
        Verdict::Waiting(Problem::new(Reason::InProgress, "the address is being limited"))
    }

    fn limit_of_adopted(&mut self, ordinal: Ordinal, address: &FloatingIp) -> Verdict {
        let Some(limit) = self.desired.limit_for(ordinal) else { return Verdict::Settled };
        match policy(limit, self.cloud) {
            Ok(policy) if address.qos_policy.as_ref() == Some(&policy.id) => return Verdict::Settled,
            Err(NotYet::Refused(problem)) => return Verdict::Refused(problem),
            Ok(_) | Err(NotYet::Make(..)) => {}
        }
        let text = format!(
            "{} is the user's own address, so its QoS policy is not changed; set {} there yourself",
            address.address,
            limit.policy()
        );
        self.plan.warnings.push(Problem::new(Reason::LimitNotApplied, text));
        Verdict::Settled
    }

    /// Policies that nobody needs any more, once everything else is done.
    pub(super) fn unlimited(&mut self) {
        if self.plan.actions.is_empty() {
            let superfluous = superfluous(&self.desired.limits(), self.cloud, self.memory);
            self.plan.actions.extend(superfluous);
        }
    }
}
