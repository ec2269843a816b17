//! Which address leads to which broker.
//!
//! | wanted | in the cloud | target | do |
//! |---|---|---|---|
//! | yes | none, none recorded | known | one POST that creates and binds (unique key: a repeat is a 409) |
//! | yes | none, none recorded | not known yet | wait; allocate nothing |
//! | yes | one of ours, bound to the target | | nothing |
//! | yes | one of ours, bound elsewhere or unbound | known | one PUT with If-Match |
//! | yes | one of ours | port holds ours for another broker | unbind that one first, then bind |
//! | yes | none or one | port holds an address without our marker | `PortHasForeignAddress` |
//! | yes | one of ours | gone | keep it; still bound to a surviving port after 60 s: unbind |
//! | yes | several of ours | | keep the bound one, else the recorded, else the oldest; release the others after two sightings 30 s apart |
//! | yes | recorded in status, exists, marker altered | | `MarkerLost` |
//! | yes | recorded in status, not in the cloud | | `AddressLost`, or `ProjectChanged` (I9) |
//! | yes | same cluster and name, UID gone, or retained | | take over by one PUT: marker and binding |
//! | yes, `address:` | in the project, free | known | record it in the status, then bind |
//! | yes, `address:` | bound by somebody else, or wanted by an older object | | `AddressInUse` |
//! | yes | we bound it, somebody moved it away from this port 3 times in 10 min | | `Contested` for 30 min |
//! | no (scaled down) | one of ours | | keep: Idle; still bound 60 s after the pod is gone: unbind |
//! | any | our cluster, object unknown | | report `OrphanAddress` |
//!
//! A create call without a clear answer is not waited for: it carries port and fixed IP, so while a fresh and complete
//! list shows neither our marker nor a holder of the port, a second call cannot make a second binding - the later of
//! the two gets 409. Should the pod have moved in between and the first call still succeed for the old port, there are
//! several of ours, which has a row of its own.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use jiff::Timestamp;

use super::{
    Action, Held, Outside, Plan, PodIdentity, Problem, Verdict, class,
    desired::Desired,
    exposure::{self, Exposure},
    failure::problem_of_cloud,
    memory::{self, Memory},
    observed::{CloudView, Observed, PodView},
    ownership::{self, Holdings, Owner},
};
use crate::{
    api::conditions::Reason,
    cloud::{Binding, CloudError, FloatingIp, NewFloatingIp, Port},
    domain::{AddressId, Ordinal, OwnerMarker},
};

/// The cloud cannot be asked: what the brokers advertised when it could is looked at as before, and decides nothing.
pub fn as_before(observed: &Observed, plan: &mut Plan) {
    for broker in &observed.own.status.brokers {
        let (address, endpoint) = (broker.address.as_ref(), broker.advertised.as_ref());
        let parsed = address.zip(endpoint).map(|(address, endpoint)| (address.parse(), endpoint.parse()));
        let Some((Ok(address), Ok(endpoint))) = parsed else { continue };
        let (id, adopted) = (broker.address_id.as_ref().map(AddressId::new), broker.adopted == Some(true));
        let held = Held { address, id, adopted, outside: None, as_before: true };
        plan.addresses.insert(Ordinal(broker.ordinal), held);
        plan.endpoints.insert(Ordinal(broker.ordinal), endpoint);
    }
}

/// Provider Static: addresses come from the spec.
pub fn stated(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    for ordinal in observed.stateful_set.iter().flat_map(|set| set.ordinals()) {
        match desired.chosen_addresses.get(&ordinal) {
            Some(address) => {
                let outside = Some(Outside::Stated(*address));
                plan.addresses.insert(
                    ordinal,
                    Held { address: *address, id: None, adopted: true, outside, as_before: false },
                );
                plan.brokers.insert(ordinal, Verdict::Settled);
            }
            None => {
                let text = format!(
                    "set the address of broker {ordinal} in spec.brokers: provider Static allocates none"
                );
                plan.refuse(ordinal, Reason::AddressMissing, text);
            }
        }
    }
}

/// No addresses wanted: each pod's own, as long as it has one.
pub fn pods(observed: &Observed, plan: &mut Plan) {
    for ordinal in observed.stateful_set.iter().flat_map(|set| set.ordinals()) {
        match pod_with_address(observed, ordinal) {
            Ok((_, address)) => {
                let outside = Some(Outside::Stated(address));
                plan.addresses
                    .insert(ordinal, Held { address, id: None, adopted: false, outside, as_before: false });
                plan.brokers.insert(ordinal, Verdict::Settled);
            }
            Err(verdict) => {
                plan.brokers.insert(ordinal, verdict);
            }
        }
    }
}

/// The broker's pod and its address, or what is waited for.
fn pod_with_address(observed: &Observed, ordinal: Ordinal) -> Result<(&PodView, Ipv4Addr), Verdict> {
    let waiting = |text: &str| Verdict::Waiting(Problem::new(Reason::WaitingForPod, text));
    let pod = observed.pods.get(&ordinal).filter(|pod| !pod.terminating);
    let pod = pod.ok_or_else(|| waiting("the pod does not exist or is on its way out"))?;
    let address = pod.ip.ok_or_else(|| waiting("the pod has no address yet"))?;
    Ok((pod, address))
}

/// Provider OpenStack.
pub fn plan(
    desired: &Desired,
    observed: &Observed,
    cloud: &CloudView,
    memory: &Memory,
    now: Timestamp,
    plan: &mut Plan,
) {
    let holdings = Holdings::of(cloud, desired, observed);
    let mut bindings =
        Bindings { desired, observed, cloud, memory, now, holdings, touched: BTreeSet::new(), plan };
    let wanted: Vec<Ordinal> = observed.stateful_set.iter().flat_map(|set| set.ordinals()).collect();
    for ordinal in &wanted {
        bindings.broker(*ordinal);
    }
    bindings.idle(&wanted);
    bindings.surplus();
    bindings.orphans();
    bindings.unlimited();
    let replaced = desired.replace.iter().all(|ordinal| has_an_address_of_ours(plan, *ordinal));
    if !desired.replace.is_empty() && replaced {
        plan.actions.push(Action::ClearReplace);
    }
}

/// One whose marker somebody altered is not.
fn has_an_address_of_ours(plan: &Plan, ordinal: Ordinal) -> bool {
    let altered = matches!(plan.brokers.get(&ordinal), Some(Verdict::Refused(problem)) if problem.reason == Reason::MarkerLost);
    plan.addresses.contains_key(&ordinal) && !altered
}

/// A pod and the port that its address belongs to.
pub(super) struct KnownTarget<'a> {
    pod: &'a PodView,
    port: &'a Port,
    pub(super) binding: Binding,
}

pub(super) struct Bindings<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) cloud: &'a CloudView,
    pub(super) memory: &'a Memory,
    pub(super) now: Timestamp,
    pub(super) holdings: Holdings<'a>,
    /// Addresses that an action of this plan changes: nothing else is decided about them before they were read again.
    pub(super) touched: BTreeSet<AddressId>,
    pub(super) plan: &'a mut Plan,
}

impl<'a> Bindings<'a> {
    fn broker(&mut self, ordinal: Ordinal) {
        let target = self.target(ordinal);
        if !self.give_up_adopted(ordinal) {
            return;
        }
        if let Some(address) = self.desired.chosen_addresses.get(&ordinal) {
            let chosen = self.cloud.addresses.iter().find(|known| known.address == *address);
            let Some(chosen) = chosen else {
                let text = format!("the project has no floating IP {address}; correct spec.brokers");
                return self.plan.refuse(ordinal, Reason::AddressNotFound, text);
            };
            let bound_to = target.as_ref().ok().map(|target| &target.binding);
            if let Some(problem) = class::not_adoptable(self.desired, chosen, bound_to) {
                return self.settle_or(ordinal, Verdict::Refused(problem));
            }
            return self.adopt(ordinal, chosen, target);
        }
        let recorded = self.recorded(ordinal).map(|recorded| recorded.id);
        let keep = |several: &Vec<&'a FloatingIp>| keeper(several, target.as_ref().ok(), recorded.as_ref());
        let ours = self.holdings.ours.get(&ordinal).and_then(keep);
        let left = self.holdings.take_over.get(&ordinal).and_then(keep);
        match (ours, left) {
            (Some(address), _) => self.bind(ordinal, address, target, None, false),
            (None, Some(address)) => {
                let marker = ownership::marker(self.desired, self.observed, ordinal);
                self.bind(ordinal, address, target, Some(marker), false);
            }
            (None, None) => self.allocate(ordinal, target),
        }
    }

    /// The pod's port, or why there is none to bind to.
    fn target(&self, ordinal: Ordinal) -> Result<KnownTarget<'a>, Verdict> {
        let (pod, fixed_ip) = pod_with_address(self.observed, ordinal)?;
        let refused = |reason, text: String| Err(Verdict::Refused(Problem::new(reason, text)));
        let ports = self.cloud.ports.get(&ordinal).map(Vec::as_slice).unwrap_or_default();
        match ports {
            [] => refused(
                Reason::PodWithoutPort,
                format!(
                    "no port of the project has the pod's address {fixed_ip}; is it on an overlay network, or in another project?"
                ),
            ),
            [port] if port.project != self.cloud.project => refused(
                Reason::PortOfAnotherProject,
                format!(
                    "the pod's port {} belongs to project {}, the credential to {}",
                    port.id, port.project, self.cloud.project
                ),
            ),
            [port] => Ok(KnownTarget { pod, port, binding: Binding { port: port.id.clone(), fixed_ip } }),
            several => refused(
                Reason::PortAmbiguous,
                format!("{} ports have the pod's address {fixed_ip}; set podNetwork", several.len()),
            ),
        }
    }

    pub(super) fn held(
        &mut self,
        ordinal: Ordinal,
        address: &FloatingIp,
        adopted: bool,
        outside: Option<Outside>,
    ) {
        let id = Some(address.id.clone());
        let held = Held { address: address.address, id, adopted, outside, as_before: false };
        self.plan.addresses.insert(ordinal, held);
    }

    pub(super) fn settle_or(&mut self, ordinal: Ordinal, verdict: Verdict) {
        if matches!(verdict, Verdict::Refused(_)) {
            self.plan.wake_in(super::DRIFT.min(Duration::from_secs(30)));
        }
        self.plan.brokers.insert(ordinal, verdict);
    }

    fn recorded(&self, ordinal: Ordinal) -> Option<Recorded> {
        let broker = self.observed.recorded(ordinal)?;
        let id = AddressId::new(broker.address_id.clone()?);
        Some(Recorded {
            id,
            address: broker.address.clone().unwrap_or_default(),
            adopted: broker.adopted == Some(true),
        })
    }

    /// Of several, the one of a broker that has no pod.
    pub(super) fn keeper_of(&self, ordinal: Ordinal, several: &[&'a FloatingIp]) -> Option<&'a FloatingIp> {
        keeper(several, None, self.recorded(ordinal).map(|recorded| recorded.id).as_ref())
    }

    pub(super) fn unbind(&mut self, ordinal: Ordinal, address: &FloatingIp) {
        if self.touched.insert(address.id.clone()) {
            self.plan.actions.push(Action::Unbind {
                ordinal,
                id: address.id.clone(),
                read_at: address.revision,
            });
        }
    }

    pub(super) fn bind(
        &mut self,
        ordinal: Ordinal,
        address: &'a FloatingIp,
        target: Result<KnownTarget<'a>, Verdict>,
        marker: Option<OwnerMarker>,
        adopted: bool,
    ) {
        let admitted = self.is_admitted(ordinal, address);
        let target = match target {
            Ok(target) => target,
            Err(verdict) => {
                if admitted {
                    self.held(ordinal, address, adopted, None);
                    self.unbind_after_a_minute(ordinal, address);
                }
                return self.settle_or(ordinal, verdict);
            }
        };
        if let (Some(bound), None) = (address.bound_to(&target.binding, ordinal), &marker) {
            self.held(ordinal, address, adopted, Some(Outside::Bound(bound)));
            let verdict = self.limit(ordinal, address, adopted);
            return self.settle_or(ordinal, verdict);
        }
        let refusal = self.holds_back(ordinal, address, &target, admitted);
        if refusal.is_none() || admitted {
            self.held(ordinal, address, adopted, None);
        }
        if let Some(verdict) = refusal {
            return self.settle_or(ordinal, verdict);
        }
        self.plan.wait(ordinal, Reason::InProgress, "the address is being bound");
        if self.touched.contains(&address.id) || !self.port_is_free(ordinal, address, &target) {
            return;
        }
        self.touched.insert(address.id.clone());
        self.plan.actions.push(Action::Bind {
            ordinal,
            pod: target.pod.identity.clone(),
            id: address.id.clone(),
            read_at: address.revision,
            to: target.binding,
            marker,
            adopts: (adopted && !self.is_recorded(ordinal, address)).then_some(address.address),
        });
    }

    fn is_recorded(&self, ordinal: Ordinal, address: &FloatingIp) -> bool {
        self.recorded(ordinal).is_some_and(|recorded| recorded.id == address.id)
    }

    /// It was looked at before: what leads to the broker stands in the status, and one of ours was taken for it.
    fn is_admitted(&self, ordinal: Ordinal, address: &FloatingIp) -> bool {
        let ours = ownership::owner(address, self.desired, self.observed) == Owner::Ours(ordinal);
        ours || self.is_recorded(ordinal, address)
    }

    /// Why an address that could be bound is not.
    fn holds_back(
        &self,
        ordinal: Ordinal,
        address: &FloatingIp,
        target: &KnownTarget<'_>,
        admitted: bool,
    ) -> Option<Verdict> {
        if let Some(until) = self.memory.contested_until(ordinal, self.now) {
            let text = format!(
                "somebody keeps moving {} away from this broker; the next try is at {until:.0}",
                address.address
            );
            return Some(Verdict::Refused(Problem::new(Reason::Contested, text)));
        }
        // The first bind of an address is the moment of exposure; following a pod changes nothing about it.
        if admitted { None } else { self.exposed(target) }
    }

    fn exposed(&self, target: &KnownTarget<'_>) -> Option<Verdict> {
        let set = self.observed.stateful_set.as_ref()?;
        let served = exposure::served_port(self.desired, set.internal_port)?;
        match exposure::exposure(target.port, self.cloud, served, &set.listening_ports) {
            Exposure::Open(rule) if !self.desired.accept_exposure => {
                let text = format!(
                    "{rule}, so more than port {served} would be reachable; narrow the rule or set acceptExposure"
                );
                Some(Verdict::Refused(Problem::new(Reason::InternalExposed, text)))
            }
            _ => None,
        }
    }

    /// Makes room at the port where that is ours to do. False: not yet, or not at all.
    fn port_is_free(&mut self, ordinal: Ordinal, address: &FloatingIp, target: &KnownTarget<'_>) -> bool {
        let Some((holder, owner)) = self.holdings.holder(&target.binding) else { return true };
        if holder.id == address.id {
            return true;
        }
        let adopted_here = self.desired.chosen_addresses.values().any(|chosen| *chosen == holder.address);
        match owner {
            Owner::Ours(other) | Owner::TakeOver(other) => self.unbind(other, holder),
            _ if adopted_here => self.unbind(ordinal, holder),
            _ => {
                self.settle_or(ordinal, foreign_holder(holder));
                return false;
            }
        }
        // The holder may be moved away by an action of this plan already: then its place is free in this round too.
        true
    }

    fn allocate(&mut self, ordinal: Ordinal, target: Result<KnownTarget<'a>, Verdict>) {
        if let Some(verdict) = self.lost(ordinal) {
            return self.settle_or(ordinal, verdict);
        }
        let target = match target {
            Ok(target) => target,
            Err(verdict) => return self.settle_or(ordinal, verdict),
        };
        if let Some((holder, owner)) = self.holdings.holder(&target.binding) {
            return match owner {
                Owner::Ours(other) | Owner::TakeOver(other) => {
                    self.unbind(other, holder);
                    self.plan.wait(
                        ordinal,
                        Reason::InProgress,
                        "an address of another broker leaves the port first",
                    );
                }
                _ => self.settle_or(ordinal, foreign_holder(holder)),
            };
        }
        if let Some(verdict) = self.exposed(&target) {
            return self.settle_or(ordinal, verdict);
        }
        if let Some(pause) = self.memory.allocation.as_ref().filter(|pause| pause.until > self.now) {
            self.plan.wake_at(pause.until, self.now);
            let error = CloudError { operation: "create a floating IP", fault: pause.fault.clone() };
            return self.settle_or(ordinal, Verdict::Refused(problem_of_cloud(&error)));
        }
        let qos_policy = match self.limit_of(ordinal) {
            Ok(policy) => policy,
            Err(verdict) => return self.settle_or(ordinal, verdict),
        };
        if let Some(problem) = class::full(self.desired, self.observed, self.cloud, self.plan) {
            return self.settle_or(ordinal, Verdict::Refused(problem));
        }
        self.plan.wait(ordinal, Reason::InProgress, "an address is being allocated");
        self.plan.actions.push(Action::Allocate {
            ordinal,
            pod: PodIdentity::clone(&target.pod.identity),
            new: NewFloatingIp {
                network: self.cloud.floating_network.clone(),
                description: ownership::marker(self.desired, self.observed, ordinal).to_string(),
                binding: target.binding,
                qos_policy,
            },
        });
    }

    /// I9: what is recorded and not there is lost, not missing.
    fn lost(&mut self, ordinal: Ordinal) -> Option<Verdict> {
        let recorded = self.recorded(ordinal).filter(|recorded| !recorded.adopted)?;
        let Recorded { id, address, .. } = recorded;
        let refused = |reason, text: String| Some(Verdict::Refused(Problem::new(reason, text)));
        let marker = ownership::marker(self.desired, self.observed, ordinal);
        if let Some(altered) = self.cloud.addresses.iter().find(|known| known.id == id) {
            let text = format!("somebody changed the description of {address}; restore it: \"{marker}\"");
            let held = altered.clone();
            self.held(ordinal, &held, false, None);
            return refused(Reason::MarkerLost, text);
        }
        let project = self.cloud.project.as_str();
        let before = self.observed.own.status.project_id.as_deref();
        if let Some(before) = before.filter(|before| *before != project) {
            let text = format!(
                "the addresses are in project {before}, the credential is of project {project}; use one of {before}"
            );
            return refused(Reason::ProjectChanged, text);
        }
        if self.desired.replace.contains(&ordinal) {
            return None;
        }
        let text = format!(
            "{address} ({id}) is not in the cloud any more; set brokers[].address, or annotate kafkaaccess.dev/replace: \"{ordinal}\" for a new one"
        );
        refused(Reason::AddressLost, text)
    }

    pub(super) fn unbind_after_a_minute(&mut self, ordinal: Ordinal, address: &FloatingIp) {
        let Some(since) = self.memory.target_gone_since.get(&ordinal) else { return };
        if address.binding.is_none() {
            return;
        }
        let due = *since + memory::TARGET_GONE;
        if due <= self.now { self.unbind(ordinal, address) } else { self.plan.wake_at(due, self.now) }
    }
}

fn foreign_holder(holder: &FloatingIp) -> Verdict {
    let text = format!(
        "the pod's port holds {}, which is not ours; set brokers[].address: {} to adopt it, or remove it",
        holder.address, holder.address
    );
    Verdict::Refused(Problem::new(Reason::PortHasForeignAddress, text))
}

/// What the status says of a broker's address.
struct Recorded {
    id: AddressId,
    address: String,
    adopted: bool,
}

/// The one to keep: bound to the target, else the one that clients were told, else bound at all, else the oldest.
fn keeper<'a>(
    oldest_first: &[&'a FloatingIp],
    target: Option<&KnownTarget<'_>>,
    recorded: Option<&AddressId>,
) -> Option<&'a FloatingIp> {
    let first =
        |wanted: &dyn Fn(&FloatingIp) -> bool| oldest_first.iter().copied().find(|address| wanted(address));
    let at_target =
        |address: &FloatingIp| target.is_some_and(|target| address.binding.as_ref() == Some(&target.binding));
    first(&at_target)
        .or_else(|| first(&|address| recorded == Some(&address.id)))
        .or_else(|| first(&|address| address.binding.is_some()))
        .or_else(|| first(&|_| true))
}
