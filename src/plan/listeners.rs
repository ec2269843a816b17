//! What each broker should advertise, and how it learns it.
//!
//! | listener | rollout | the broker | then |
//! |---|---|---|---|
//! | left out | | tells its name, or has told it (`status.hosts`) | settled: clients use the internal names |
//! | left out | | tells an address that is not its own outside, or goes with its pod | `PodAddressAdvertised` |
//! | left out | | has not told its name yet | waiting, with the reason why |
//! | left out | | without `addresses`: has not answered at its pod's address of now | waiting, with the reason why |
//! | wanted | any | cannot be asked | waiting, with the reason from its error |
//! | wanted | Manual | advertises the endpoint | settled |
//! | wanted | Manual | does not | `ManualStepsOutstanding`: the settings are shown |
//! | wanted | Restart | decided by `rollout.rs` | the template changes, or one broker restarts |
//! | wanted | Auto, Dynamic | wants what another broker was told that cannot be asked | `EndpointTaken` |
//! | wanted | Auto, Dynamic | is not in its own table of brokers | waiting: see [`Broker::unheard_of`] |
//! | wanted | Auto, Dynamic | has it by its template, from an earlier `Restart`, and with another endpoint | `ListenerNameTaken` |
//! | wanted | Auto, Dynamic | decided by [`crate::listeners::dynamic`] | in force, change now, or refused |

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use jiff::Timestamp;

use super::{
    Action, Held, Outside, Plan, SOON, Verdict,
    desired::{Desired, WantedListener, WantedProvider},
    failure::problem_of_kafka,
    given_up,
    memory::Memory,
    observed::{KafkaState, Observed},
    roll::outdated,
    rollout::{self, Goal},
};
use crate::{
    api::{Rollout, conditions::Reason},
    domain::{Endpoint, NodeId, Ordinal},
    kafka::{BrokerView, MetadataMode},
    listeners::dynamic::{self, Decision, Refusal, Surroundings, Wanted},
};

/// Decides for every broker whose address leads to it.
pub fn plan(desired: &Desired, observed: &Observed, memory: &Memory, now: Timestamp, plan: &mut Plan) {
    let settled = |(_, verdict): &(&Ordinal, &Verdict)| matches!(verdict, Verdict::Settled);
    let bound: Vec<(Ordinal, Outside)> = plan
        .brokers
        .iter()
        .filter(settled)
        .filter_map(|(ordinal, _)| Some((*ordinal, plan.addresses.get(ordinal)?.outside.clone()?)))
        .collect();
    let Some(kafka) = &observed.kafka else {
        plan.ask_kafka = true;
        if let Some(listener) = &desired.listener {
            for (ordinal, _) in bound {
                plan.wait(ordinal, Reason::InProgress, "the broker has not been asked yet");
            }
            foresee(desired, listener, plan);
        }
        return;
    };
    let mut goals = BTreeMap::new();
    for (ordinal, outside) in bound {
        let view = match kafka.internal.get(&ordinal) {
            Some(Ok(view)) => view,
            Some(Err(error)) => {
                // Addresses that serve the internal names need nothing from the broker but its name.
                if desired.listener.is_some() || !has_told_its_name(observed, plan, ordinal) {
                    let restarting = rollout::is_restarting(memory, observed, ordinal);
                    let verdict = restarting.unwrap_or(Verdict::Waiting(problem_of_kafka(error)));
                    plan.brokers.insert(ordinal, verdict);
                    plan.wake_in(SOON);
                }
                continue;
            }
            None => {
                if desired.listener.is_some() {
                    plan.wait(ordinal, Reason::WaitingForPod, "the pod has no address yet");
                }
                continue;
            }
        };
        match &desired.listener {
            None => match view.advertised.get(&view.node) {
                Some(endpoint) if is_pods_address(desired, endpoint, &outside) => {
                    let text = format!(
                        "the broker tells clients {endpoint}. {}",
                        Reason::PodAddressAdvertised.remedy()
                    );
                    plan.refuse(ordinal, Reason::PodAddressAdvertised, text);
                }
                Some(endpoint) => {
                    plan.endpoints.insert(ordinal, endpoint.clone());
                }
                None if has_told_its_name(observed, plan, ordinal) => {}
                None => {
                    plan.wait(
                        ordinal,
                        Reason::InProgress,
                        "the broker is not in its own table of brokers yet",
                    );
                    plan.wake_in(SOON);
                }
            },
            Some(listener) => {
                let wanted = wanted(desired, listener, ordinal, view.node, &outside);
                plan.endpoints.insert(ordinal, wanted.endpoint.clone());
                if listener.rollout == Rollout::Restart {
                    goals.insert(ordinal, Goal { outside, endpoint: wanted.endpoint });
                    continue;
                }
                let broker =
                    Broker { desired, listener, observed, kafka, memory, now, ordinal, view, outside };
                broker.decide(&wanted, plan);
            }
        }
    }
    if let Some(listener) = &desired.listener {
        match listener.rollout {
            Rollout::Restart => rollout::plan(desired, listener, observed, memory, &goals, plan),
            _ => drop(given_up::plan(desired, listener, observed, plan)),
        }
        foresee(desired, listener, plan);
    }
}

fn goes_with_pod(observed: &Observed, ordinal: Ordinal) -> Vec<IpAddr> {
    let pod = observed.pods.get(&ordinal);
    pod.into_iter().flat_map(|pod| [pod.ip, pod.node_ip]).flatten().map(IpAddr::V4).collect()
}

/// No hosts file helps who is told an address that is not the one outside, or that goes with its pod.
fn is_pods_address(desired: &Desired, told: &Endpoint, outside: &Outside) -> bool {
    let of_pods = desired.provider == WantedProvider::PodAddresses;
    told.host.parse::<Ipv4Addr>().is_ok_and(|host| of_pods || host != address(outside))
}

/// The line for hosts files is known from an earlier look.
fn has_told_its_name(observed: &Observed, plan: &Plan, ordinal: Ordinal) -> bool {
    plan.addresses.get(&ordinal).is_some_and(|held| told_before(observed, ordinal, held).is_some())
}

/// The line that an earlier look has found for the broker at this address. A pod's own address may have been another
/// broker's before, so there it must have been this broker's at that look.
pub fn told_before<'a>(observed: &'a Observed, ordinal: Ordinal, held: &Held) -> Option<&'a str> {
    let status = &observed.own.status;
    let address = held.address.to_string();
    let pods_own = observed.pods.get(&ordinal).is_some_and(|pod| pod.ip == Some(held.address));
    let target_before = || status.brokers.iter().find(|broker| broker.ordinal == ordinal.0)?.target.as_ref();
    if pods_own && target_before() != Some(&address) {
        return None;
    }
    status.hosts.iter().find(|line| line.split(' ').next() == Some(&address)).map(String::as_str)
}

/// The steps that must wait for an address, so that the plan shows the whole road.
fn foresee(desired: &Desired, listener: &WantedListener, plan: &mut Plan) {
    if listener.rollout == Rollout::Manual {
        return;
    }
    let allocating = plan.actions.iter().filter_map(|action| match action {
        Action::Allocate { ordinal, .. } => Some(*ordinal),
        _ => None,
    });
    let later: Vec<String> = allocating
        .map(|ordinal| {
            format!("then advertise {} of {}-{ordinal} at that address", listener.name, desired.stateful_set)
        })
        .collect();
    if listener.rollout == Rollout::Restart && listener.host_template.is_none() {
        plan.restarts += later.len();
    }
    plan.outstanding.extend(later);
}

/// The address of an [`Outside`].
pub fn address(outside: &Outside) -> Ipv4Addr {
    match outside {
        Outside::Bound(bound) => bound.address(),
        Outside::Stated(address) => *address,
    }
}

/// The name that the user wants clients to be told instead of the address.
pub fn name(desired: &Desired, listener: &WantedListener, ordinal: Ordinal, node: NodeId) -> Option<String> {
    let template = desired.advertised_hosts.get(&ordinal).or(listener.host_template.as_ref())?;
    let pod = format!("{}-{ordinal}", desired.stateful_set);
    let name = template.replace("{ordinal}", &ordinal.to_string()).replace("{nodeId}", &node.to_string());
    Some(name.replace("{podName}", &pod))
}

fn wanted<'a>(
    desired: &Desired,
    listener: &'a WantedListener,
    ordinal: Ordinal,
    node: NodeId,
    outside: &Outside,
) -> Wanted<'a> {
    let name = name(desired, listener, ordinal, node);
    let host = name.unwrap_or_else(|| address(outside).to_string());
    Wanted {
        name: &listener.name,
        port: listener.port,
        protocol: listener.protocol.to_string(),
        endpoint: Endpoint { host, port: listener.port },
    }
}

struct Broker<'a> {
    desired: &'a Desired,
    listener: &'a WantedListener,
    observed: &'a Observed,
    kafka: &'a KafkaState,
    memory: &'a Memory,
    now: Timestamp,
    ordinal: Ordinal,
    view: &'a BrokerView,
    outside: Outside,
}

/// Why an endpoint has to wait for a broker that cannot be asked.
pub fn still_told(desired: &Desired, other: Ordinal, endpoint: &Endpoint) -> String {
    format!(
        "{}-{other} was told to advertise {endpoint} and cannot be asked now; it would not start if another broker had that endpoint",
        desired.stateful_set
    )
}

impl Broker<'_> {
    fn decide(self, wanted: &Wanted<'_>, plan: &mut Plan) {
        if self.listener.rollout == Rollout::Manual {
            return self.manual(wanted, plan);
        }
        let others = self.kafka.internal.iter().filter(|(ordinal, _)| **ordinal != self.ordinal);
        let others = others.filter_map(|(_, view)| view.as_ref().ok());
        let port_busy = self.kafka.port_busy.get(&self.ordinal).copied().unwrap_or(false);
        let around = Surroundings { port_busy, addresses: goes_with_pod(self.observed, self.ordinal) };
        match dynamic::decide(self.view, others, wanted, &around) {
            Decision::InForce => {}
            Decision::Refused(refusal) => {
                if refusal == Refusal::RestartRequired {
                    self.show_settings(wanted, plan);
                }
                let text = match refusal {
                    Refusal::NameTaken(_) if self.observed.in_template(&self.listener.name) => format!(
                        "listener {} is in the pod template since rollout: Restart, which alone changes what it advertises; set rollout: Restart",
                        self.listener.name
                    ),
                    Refusal::NameTaken(_) if self.is_outdated() => format!(
                        "{refusal}, and its pod is of an older pod template; let it be rolled out (updateStrategy), or delete the pod yourself"
                    ),
                    _ => refusal.to_string(),
                };
                plan.refuse(self.ordinal, reason(&refusal), text);
                plan.wake_in(self.desired.probe_interval);
            }
            Decision::Change(changes) => {
                if let Some((until, text)) =
                    self.memory.listener_refused.get(&self.ordinal).filter(|(until, _)| *until > self.now)
                {
                    plan.wake_at(*until, self.now);
                    return plan.refuse(self.ordinal, Reason::ListenerNotApplied, text.clone());
                }
                if let Some(other) = self.memory.absent_teller(self.observed, self.ordinal, &wanted.endpoint)
                {
                    let text = still_told(self.desired, other, &wanted.endpoint);
                    plan.wake_in(self.desired.probe_interval);
                    return plan.refuse(self.ordinal, Reason::EndpointTaken, text);
                }
                if self.unheard_of() {
                    plan.wait(
                        self.ordinal,
                        Reason::InProgress,
                        "the controller has not reached the broker since it started; the listener is added then",
                    );
                    return plan.wake_in(SOON);
                }
                plan.wait(self.ordinal, Reason::InProgress, "the listener is being added");
                plan.actions.push(Action::Advertise {
                    address: self.outside,
                    ordinal: self.ordinal,
                    node: self.view.node,
                    endpoint: wanted.endpoint.clone(),
                    changes,
                });
            }
        }
    }

    /// A broker learns from the controller who is registered, itself included. After its pod moved, the controller was
    /// seen to try the former pod's address for 30 s (Kafka 2.8.2: name cached by the JVM, `controller.socket.timeout.ms`):
    /// a listener that is stored meanwhile cannot be confirmed, and would be taken back.
    fn unheard_of(&self) -> bool {
        !self.view.advertised.contains_key(&self.view.node)
    }

    fn is_outdated(&self) -> bool {
        let set = self.observed.stateful_set.as_ref();
        set.is_some_and(|set| outdated(set, self.observed, self.ordinal))
    }

    fn manual(self, wanted: &Wanted<'_>, plan: &mut Plan) {
        if dynamic::advertises(self.view, wanted) {
            return;
        }
        // A stored value hides what is in the broker's file.
        let text = if dynamic::withdraw(self.view, wanted.name).is_empty() {
            self.show_settings(wanted, plan);
            format!("add listener {} to the broker as status.plan shows, then restart it", wanted.name)
        } else {
            let way = if self.view.mode == MetadataMode::ZooKeeper { "Dynamic" } else { "Restart" };
            format!(
                "listener {} is stored in Kafka, which hides what the broker's file says; set rollout: {way}, or delete it there with kafka-configs",
                wanted.name
            )
        };
        plan.wait(self.ordinal, Reason::ManualStepsOutstanding, text);
    }

    fn show_settings(&self, wanted: &Wanted<'_>, plan: &mut Plan) {
        let pod = format!("{}-{}", self.desired.stateful_set, self.ordinal);
        let manager = self.observed.stateful_set.as_ref().and_then(|set| set.manager.as_deref());
        let step = match dynamic::settings_in_words(self.view, wanted) {
            Ok(settings) => {
                let place = manager.map(|manager| format!(" (managed by {manager})")).unwrap_or_default();
                format!("set on {pod}{place}, and restart it: {}", settings.join(" "))
            }
            Err(refusal) => {
                format!("add listener {} with {} to {pod}: {refusal}", wanted.name, wanted.endpoint)
            }
        };
        plan.outstanding.push(step);
    }
}

fn reason(refusal: &Refusal) -> Reason {
    match refusal {
        Refusal::RestartRequired => Reason::RestartRequired,
        Refusal::Leftovers => Reason::DynamicLeftovers,
        Refusal::PodAddress { .. } | Refusal::PodAddressTold { .. } => Reason::PodAddressInListeners,
        Refusal::NameTaken(_) => Reason::ListenerNameTaken,
        Refusal::PortOfListener { .. } | Refusal::PortBusy(_) => Reason::ListenerPortTaken,
        Refusal::EndpointTaken { .. } => Reason::EndpointTaken,
        Refusal::Shadowed(_) => Reason::ListenerShadowed,
        Refusal::NotUnderstood(_) => Reason::ListenerSettingsNotUnderstood,
    }
}
