//! QoS policies of the simulated cloud.

use super::{PROJECT, State};
use crate::{
    cloud::{
        CloudFault,
        limits::{BandwidthLimits, Direction, MANAGED, QosPolicy},
    },
    domain::{ProjectId, QosPolicyId},
};

impl State {
    pub(super) fn policy_exists(&self, id: &QosPolicyId) -> Result<(), CloudFault> {
        let known = self.policies.iter().any(|policy| policy.id == *id);
        if known { Ok(()) } else { Err(CloudFault::NotFound(format!("QoS policy {id}"))) }
    }

    fn policies_are_permitted(&self) -> Result<(), CloudFault> {
        match self.policies_forbidden {
            true => Err(CloudFault::Forbidden("create_policy is disallowed by policy".into())),
            false => Ok(()),
        }
    }

    pub(super) fn create_policy(&mut self, limits: &BandwidthLimits) -> Result<QosPolicyId, CloudFault> {
        self.policies_are_permitted()?;
        let id = QosPolicyId::new(self.next_id("policy"));
        self.policies.push(QosPolicy {
            id: id.clone(),
            name: limits.policy_name(),
            project: ProjectId::new(PROJECT),
            description: MANAGED.to_owned(),
            egress_kbps: None,
            ingress_kbps: None,
        });
        Ok(id)
    }

    pub(super) fn add_rule(
        &mut self,
        id: &QosPolicyId,
        (direction, kbps): (Direction, u32),
    ) -> Result<(), CloudFault> {
        self.policies_are_permitted()?;
        self.policy_exists(id)?;
        for policy in self.policies.iter_mut().filter(|policy| policy.id == *id) {
            let rule = match direction {
                Direction::Egress => &mut policy.egress_kbps,
                Direction::Ingress => &mut policy.ingress_kbps,
            };
            if rule.is_some() {
                return Err(CloudFault::RevisionChanged);
            }
            *rule = Some(kbps);
        }
        Ok(())
    }

    pub(super) fn delete_policy(&mut self, id: &QosPolicyId) -> Result<(), CloudFault> {
        if self.addresses.values().any(|address| address.qos_policy.as_ref() == Some(id)) {
            return Err(CloudFault::QosPolicyInUse(id.to_string()));
        }
        self.policies.retain(|policy| policy.id != *id);
        Ok(())
    }
}
