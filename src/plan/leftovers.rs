//! Addresses of ours that no broker needs now: kept, given back after a second look, or only reported.
//!
//! | address | then |
//! |---|---|
//! | of a broker that is scaled away | Idle: kept; unbound 60 s after its pod is gone |
//! | the same, `whenScaled: Delete`, no listener of ours in Kafka | released after 24 h, never while the StatefulSet is missing |
//! | one too many for its broker | released after two sightings 30 s apart, when no broker advertises it (I10) |
//! | of this cluster, for an object that does not exist | `OrphanAddress`: reported, never released |

use std::collections::BTreeSet;

use super::{Action, Problem, Verdict, bindings::Bindings, memory, ownership};
use crate::{
    api::{Retention, conditions::Reason},
    cloud::FloatingIp,
    domain::{AddressId, Ordinal},
};

impl<'a> Bindings<'a> {
    /// Addresses of brokers that should not exist.
    pub(super) fn idle(&mut self, wanted: &[Ordinal]) {
        let idle: Vec<(Ordinal, &'a FloatingIp)> = self
            .holdings
            .ours
            .iter()
            .filter(|(ordinal, _)| !wanted.contains(ordinal))
            .filter_map(|(ordinal, several)| Some((*ordinal, self.keeper_of(*ordinal, several)?)))
            .collect();
        for (ordinal, address) in idle {
            self.held(ordinal, address, false, None);
            self.plan.brokers.insert(ordinal, Verdict::Idle);
            self.unbind_after_a_minute(ordinal, address);
            if self.desired.retention.when_scaled == Retention::Delete {
                self.release_idle(ordinal, address);
            }
        }
    }

    /// I10: what is stored in Kafka for a broker that is scaled away cannot be asked nor removed, and would come back
    /// with it. So with a listener of ours the address is kept.
    fn release_idle(&mut self, ordinal: Ordinal, address: &FloatingIp) {
        if self.desired.listener.is_some() {
            let text = format!(
                "{} is kept although whenScaled is Delete: broker {ordinal} may still store it; scale up once and delete the object, or keep it",
                address.address
            );
            return self.plan.warnings.push(Problem::new(Reason::ReleaseBlocked, text));
        }
        let Some(since) = self.memory.idle_since.get(&ordinal) else { return };
        let due = *since + memory::IDLE;
        if due > self.now {
            return self.plan.wake_at(due, self.now);
        }
        if self.touched.insert(address.id.clone()) {
            let marker = ownership::marker(self.desired, self.observed, ordinal);
            self.plan.actions.push(Action::Release { ordinal, id: address.id.clone(), marker });
        }
    }

    /// Several of ours for one broker.
    pub(super) fn surplus(&mut self) {
        let kept: BTreeSet<AddressId> =
            self.plan.addresses.values().filter_map(|held| held.id.clone()).collect();
        let surplus: Vec<(Ordinal, &FloatingIp)> = self
            .holdings
            .ours
            .iter()
            .filter(|(_, several)| several.len() > 1)
            .flat_map(|(ordinal, several)| several.iter().map(|address| (*ordinal, *address)))
            .filter(|(_, address)| !kept.contains(&address.id))
            .collect();
        for (ordinal, address) in surplus {
            let since = self.memory.surplus_since.get(&address.id).copied().unwrap_or(self.now);
            let due = since + memory::SECOND_SIGHTING;
            if due > self.now {
                self.plan.wake_at(due, self.now);
            } else if !self.advertised_by_anybody(ordinal, address) {
                let marker = ownership::marker(self.desired, self.observed, ordinal);
                self.plan.actions.push(Action::Release { ordinal, id: address.id.clone(), marker });
            }
        }
    }

    pub(super) fn orphans(&mut self) {
        let own = &self.desired.key.namespace;
        // The project of a class holds addresses of other teams, which are not this one's business.
        let told = |orphan: &&&FloatingIp| {
            self.desired.grant.is_none()
                || ownership::namespace_of(orphan).is_some_and(|namespace| namespace == *own)
        };
        for orphan in self.holdings.orphans.iter().filter(told) {
            let text = format!(
                "{} ({}) is marked for an object that does not exist: {}",
                orphan.address, orphan.id, orphan.description
            );
            self.plan.warnings.push(Problem::new(Reason::OrphanAddress, text));
        }
    }

    /// I10, for an address of `ordinal` that is one too many: unknown counts as advertised. A broker that does not run
    /// may have stored it, and then tells it again when it comes back.
    fn advertised_by_anybody(&self, ordinal: Ordinal, address: &FloatingIp) -> bool {
        let (Some(kafka), Some(set)) = (&self.observed.kafka, &self.observed.stateful_set) else {
            return true;
        };
        let host = address.address.to_string();
        set.ordinals().chain([ordinal]).any(|broker| match kafka.internal.get(&broker) {
            Some(Ok(view)) => crate::listeners::dynamic::names_host(view, &host),
            Some(Err(_)) => true,
            None => self.desired.listener.is_some(),
        })
    }
}
