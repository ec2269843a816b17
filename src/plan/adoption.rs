//! Addresses of the user's own: taken for a broker when the spec names them, and given back, unbound, when it does not.
//! The rows `address:` of the table in [`super::bindings`].

use super::{
    Problem, Verdict,
    bindings::{Bindings, KnownTarget},
    class,
    ownership::{self, Owner},
};
use crate::{
    api::conditions::Reason,
    cloud::{Binding, FloatingIp},
    domain::Ordinal,
};

impl<'a> Bindings<'a> {
    pub(super) fn adopt(
        &mut self,
        ordinal: Ordinal,
        chosen: &'a FloatingIp,
        target: Result<KnownTarget<'a>, Verdict>,
    ) {
        let in_use = |text: String| Verdict::Refused(Problem::new(Reason::AddressInUse, text));
        if let Some(other) = ownership::wanted_by_older(chosen, self.desired, self.observed) {
            let other = class::name_of(self.desired, &other.key);
            let text = format!("{} is wanted by {other}, which is older", chosen.address);
            return self.settle_or(ordinal, in_use(text));
        }
        let owner = ownership::owner(chosen, self.desired, self.observed);
        if owner != Owner::Foreign && owner != Owner::Ours(ordinal) && owner != Owner::TakeOver(ordinal) {
            return self.settle_or(
                ordinal,
                in_use(format!("{} was allocated for another broker or object", chosen.address)),
            );
        }
        if chosen.has_port_forwardings {
            return self.settle_or(ordinal, in_use(format!("{} serves port forwardings", chosen.address)));
        }
        let led_by_us = |binding: &Binding| {
            self.memory.bound_by_us.get(&ordinal) == Some(binding)
                || self.cloud.ports.values().flatten().any(|port| port.id == binding.port)
        };
        match (&chosen.binding, &target) {
            (Some(bound), Ok(target)) if *bound != target.binding && !led_by_us(bound) => {
                let text = format!(
                    "{} is bound to {} by somebody else; free it first",
                    chosen.address, bound.fixed_ip
                );
                self.settle_or(ordinal, in_use(text));
            }
            _ => self.bind(ordinal, chosen, target, None, true),
        }
    }

    /// An address that was adopted and is not any more goes back to its owner, unbound. False: that comes first. Where
    /// brokers change addresses among themselves, each is led to its new broker by the binding of that one.
    pub(super) fn give_up_adopted(&mut self, ordinal: Ordinal) -> bool {
        let chosen = &self.desired.chosen_addresses;
        let moves = |address: &FloatingIp| {
            chosen.contains_key(&ordinal) && chosen.values().any(|wanted| *wanted == address.address)
        };
        let given_up = ownership::adopted(self.desired, self.observed, self.cloud).find(|(of, address)| {
            let foreign = ownership::owner(address, self.desired, self.observed) == Owner::Foreign;
            *of == ordinal && foreign && !moves(address)
        });
        let Some((_, address)) = given_up else { return true };
        self.unbind(ordinal, address);
        self.plan.wait(ordinal, Reason::InProgress, "the adopted address is given back first");
        false
    }
}
