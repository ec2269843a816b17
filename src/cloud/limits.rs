//! How much an address may carry: bandwidth limits and the QoS policies that say them.

use std::fmt;

use super::CloudFault;
use crate::domain::{ProjectId, QosPolicyId};

/// Description of the policies that the operator makes. Only these are ever removed.
pub const MANAGED: &str = "managed by kafka-external-access";

/// Most that an address may carry, in Mbit/s. Directions are the pod's: egress leaves it. `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BandwidthLimits {
    /// From the pod.
    pub egress_mbps: Option<u32>,
    /// Towards the pod.
    pub ingress_mbps: Option<u32>,
}

impl BandwidthLimits {
    /// What the policy with these limits is called in every project, so that all who want them share it.
    pub fn policy_name(&self) -> String {
        let part = |direction: &str, mbps: Option<u32>| {
            mbps.map(|mbps| format!("-{direction}-{mbps}mbps")).unwrap_or_default()
        };
        format!("kea{}{}", part("egress", self.egress_mbps), part("ingress", self.ingress_mbps))
    }

    /// The greater of both directions, in Mbit/s.
    pub fn greatest(&self) -> Option<u32> {
        self.egress_mbps.max(self.ingress_mbps)
    }

    /// The rules of its policy: direction and kilobits per second.
    pub fn rules(&self) -> impl Iterator<Item = (Direction, u32)> + use<> {
        let rule = |direction, mbps: Option<u32>| mbps.map(|mbps| (direction, mbps.saturating_mul(1000)));
        [rule(Direction::Egress, self.egress_mbps), rule(Direction::Ingress, self.ingress_mbps)]
            .into_iter()
            .flatten()
    }
}

impl fmt::Display for BandwidthLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |direction: &str, mbps: Option<u32>| mbps.map(|mbps| format!("{direction} {mbps} Mbit/s"));
        let both = [told("egress", self.egress_mbps), told("ingress", self.ingress_mbps)];
        f.write_str(&both.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// Direction of a limit, as seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Direction {
    /// From the pod.
    Egress,
    /// Towards the pod.
    Ingress,
}

/// A bandwidth policy. Directions are the pod's: egress leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QosPolicy {
    /// Its identifier.
    pub id: QosPolicyId,
    /// Its name.
    pub name: String,
    /// The project that owns it.
    pub project: ProjectId,
    /// Free text; ours is [`MANAGED`].
    pub description: String,
    /// Kilobits per second from the pod; `None`: no limit.
    pub egress_kbps: Option<u32>,
    /// Kilobits per second towards the pod; `None`: no limit.
    pub ingress_kbps: Option<u32>,
}

impl QosPolicy {
    /// The operator made it, in this project.
    pub fn is_managed_in(&self, project: &ProjectId) -> bool {
        self.project == *project && self.description == MANAGED
    }

    /// Its limits, rounded up to whole Mbit/s.
    pub fn limits(&self) -> BandwidthLimits {
        let mbps = |kbps: Option<u32>| kbps.map(|kbps| kbps.div_ceil(1000));
        BandwidthLimits { egress_mbps: mbps(self.egress_kbps), ingress_mbps: mbps(self.ingress_kbps) }
    }

    /// It says these limits and no other.
    pub fn says(&self, limits: &BandwidthLimits) -> bool {
        self.lacks(limits).is_some_and(|rules| rules.is_empty())
    }

    /// The rules of these limits that it does not have yet; `None`: it has other ones.
    pub fn lacks(&self, limits: &BandwidthLimits) -> Option<Vec<(Direction, u32)>> {
        let has = |direction| match direction {
            Direction::Egress => self.egress_kbps,
            Direction::Ingress => self.ingress_kbps,
        };
        let wanted: Vec<_> = limits.rules().collect();
        let fits = [Direction::Egress, Direction::Ingress]
            .into_iter()
            .filter_map(|direction| Some((direction, has(direction)?)))
            .all(|rule| wanted.contains(&rule));
        fits.then(|| wanted.into_iter().filter(|(direction, _)| has(*direction).is_none()).collect())
    }
}

/// The one policy among those that answer to a name or identifier.
///
/// # Errors
/// [`CloudFault::QosPolicyUnknown`], [`CloudFault::QosPolicyAmbiguous`].
pub fn one_policy<'a>(found: &'a [QosPolicy], name: &str) -> Result<&'a QosPolicy, CloudFault> {
    match found {
        [one] => Ok(one),
        [] => Err(CloudFault::QosPolicyUnknown { name: name.to_owned() }),
        several => Err(CloudFault::QosPolicyAmbiguous { name: name.to_owned(), count: several.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(egress_kbps: Option<u32>, ingress_kbps: Option<u32>) -> QosPolicy {
        QosPolicy {
            id: QosPolicyId::new("q"),
            name: "n".to_owned(),
            project: ProjectId::new("p"),
            description: MANAGED.to_owned(),
            egress_kbps,
            ingress_kbps,
        }
    }

    #[test]
    fn a_limit_has_one_name_and_one_sentence() {
        let both = BandwidthLimits { egress_mbps: Some(100), ingress_mbps: Some(50) };
        assert_eq!(both.policy_name(), "kea-egress-100mbps-ingress-50mbps");
        assert_eq!(both.to_string(), "egress 100 Mbit/s, ingress 50 Mbit/s");
        let one = BandwidthLimits { ingress_mbps: Some(50), egress_mbps: None };
        assert_eq!(
            (one.policy_name().as_str(), one.to_string().as_str()),
            ("kea-ingress-50mbps", "ingress 50 Mbit/s")
        );
    }

    #[test]
    fn a_policy_lacks_what_it_does_not_say_and_fits_only_without_other_rules() {
        let limits = BandwidthLimits { egress_mbps: Some(100), ingress_mbps: None };
        assert!(policy(Some(100_000), None).says(&limits));
        assert_eq!(policy(None, None).lacks(&limits), Some(vec![(Direction::Egress, 100_000)]));
        assert_eq!(policy(Some(90_000), None).lacks(&limits), None, "another rate");
        assert_eq!(policy(Some(100_000), Some(1)).lacks(&limits), None, "a rule that nobody asked for");
    }
}
