//! What goes when the object goes, and in which order.
//!
//! | stage | when | do |
//! |---|---|---|
//! | 1 | our listener is stored in a broker | withdraw it |
//! | 1 | our listener is in the pod template, and `rollout: Restart` | `rollback.rs`, once nothing is stored any more |
//! | 1 | our roll holds the update strategy, and `rollout` is another one now | return it, or show the patch that does; the object stays until then |
//! | 2 | a broker advertises an address, its stored values cannot be read, or its pod lives without the StatefulSet | keep the address: `ReleaseBlocked` (I10) |
//! | 2 | its pod ends, or it starts again with what it advertised (`Manual`) or may have stored (ZooKeeper) | keep the address until it was asked |
//! | 2 | its file says the address (an earlier `Restart`) | keep the address: `ReleaseBlocked` (I10) |
//! | 2 | a broker advertises an address that is another one's, or was | keep that address: `ReleaseBlocked` (I10) |
//! | 2 | `whenDeleted: Retain`, and the listener is the user's own (`Manual`) | it may go on advertising: the address stays bound |
//! | 2 | its stored values cannot be read, and it never had an address of this object | nothing to keep |
//! | 3 | `whenDeleted: Retain` | the marker becomes the retained one; the binding stays |
//! | 3 | `whenDeleted: Delete` | release |
//! | 3 | an adopted address, also one that was given up before, leads to its broker | unbind it |
//! | 4 | QoS policies of ours that no address has | remove them |
//! | 5 | a request to hold the Secret was cut off, and it is not held | hold it, so that one that comes late changes nothing |
//! | 5 | two lists 30 s apart show nothing of ours, and a late create cannot come any more | let Secret and object go |
//!
//! A create call that was cut off may still succeed (Neutron: up to 170 s later), so stage 5 waits 5 minutes after an
//! unclear one, and after the start of a process that has not seen the object without our finalizer. Clocks of others
//! decide nothing here.

use std::{collections::BTreeSet, net::Ipv4Addr};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    Action, Held, Plan, Problem, SOON, Verdict,
    desired::{Desired, WantedListener, WantedProvider},
    given_up,
    limits::superfluous,
    listeners::name,
    memory::{self, Memory},
    observed::{CloudState, CloudView, KafkaState, Observed, OtherAccess},
    ownership::{self, Holdings, Owner},
    roll::{comes_of_unknown, needs_files, outdated},
    rollback,
};
use crate::{
    api::{Mode, Retention, Rollout, conditions::Reason},
    cloud::FloatingIp,
    domain::{Endpoint, Ordinal},
    kafka::{BrokerView, MetadataMode},
    listeners::{
        dynamic,
        restart::{file, template},
    },
};

/// Decides for an object that is being deleted.
pub fn plan(desired: &Desired, observed: &Observed, memory: &Memory, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if !observed.own.held {
        return plan;
    }
    if desired.mode == Mode::Plan {
        let text = "mode is Plan, so the deletion releases nothing and waits; set spec.mode to Apply";
        plan.problems.push(Problem::new(Reason::PlanOnly, text));
    }
    let withdrawn = withdraw(desired, observed, memory, &mut plan);
    match &desired.provider {
        WantedProvider::Static | WantedProvider::PodAddresses => {
            if withdrawn && plan.actions.is_empty() && !plan.asks() && !blocked(&plan) {
                plan.actions.push(Action::LetObjectGo);
            }
        }
        WantedProvider::OpenStack { .. } => match super::seen(desired, observed) {
            Ok(cloud) => addresses(desired, observed, cloud, memory, now, withdrawn, &mut plan),
            Err(problem) => {
                plan.problems.push(problem);
                plan.wake_in(SOON);
            }
        },
    }
    // What it does about it tells more.
    let quiet = plan.actions.is_empty() && plan.problems.is_empty() && !plan.asks() && !blocked(&plan);
    if quiet && !withdrawn {
        plan.problems.push(still_rolling(desired, observed, &plan));
    }
    plan
}

/// Nobody's address waits for it, but the object goes only when nothing of it is left.
fn still_rolling(desired: &Desired, observed: &Observed, plan: &Plan) -> Problem {
    let name = &desired.stateful_set;
    let or = if plan.outstanding.is_empty() { "" } else { ", or by the patch in status.plan" };
    let set = observed.stateful_set.as_ref();
    let needs = set.and_then(|set| Some((set, needs_files(set, observed)?)));
    let text = match needs {
        Some((set, ordinal)) if comes_of_unknown(set, observed, ordinal) => format!(
            "{name}-{ordinal} would be made of an older pod template, by the partition of updateStrategy, and may not start without ConfigMap {}, which goes when the newest was rolled out",
            file::name(name)
        ),
        Some((set, ordinal)) if outdated(set, observed, ordinal) => format!(
            "{name}-{ordinal} is of an older pod template and would not start again without ConfigMap {}, which goes when that pod was made anew",
            file::name(name)
        ),
        _ => format!(
            "StatefulSet {name} still has what the restarts for this object need; it is taken out when every pod is there and of the newest template{or}"
        ),
    };
    Problem::new(Reason::Releasing, text)
}

fn blocked(plan: &Plan) -> bool {
    plan.brokers.values().any(|verdict| matches!(verdict, Verdict::Releasing(Some(_))))
}

/// Stage 1 and 2. True when nothing of the listener is left in the StatefulSet; of brokers their verdicts say that.
fn withdraw(desired: &Desired, observed: &Observed, memory: &Memory, plan: &mut Plan) -> bool {
    let Some(listener) = &desired.listener else { return true };
    let Some(set) = &observed.stateful_set else {
        left_alone(desired, observed, plan);
        return true;
    };
    let Some(kafka) = &observed.kafka else {
        plan.ask_kafka = true;
        return false;
    };
    let with_address = ownership::with_address(desired, observed);
    let ordinals: BTreeSet<Ordinal> = set.ordinals().chain(with_address.iter().copied()).collect();
    let done = match listener.rollout {
        // What an earlier `Dynamic` has stored would come back with a broker that restarts.
        Rollout::Restart if withdraw_stored(listener, kafka, &ordinals, plan) => return false,
        Rollout::Restart => rollback::plan(desired, listener, observed, memory, plan),
        _ => given_up::plan(desired, listener, observed, plan),
    };
    for ordinal in ordinals {
        if matches!(plan.brokers.get(&ordinal), Some(Verdict::Releasing(Some(_)))) || plan.ask_cluster {
            continue;
        }
        let verdict = match kafka.internal.get(&ordinal) {
            Some(Ok(view)) => {
                let changes = dynamic::withdraw(view, &listener.name);
                let stored_by_us = listener.rollout != Rollout::Manual;
                if !changes.is_empty() && stored_by_us {
                    plan.actions.push(Action::Withdraw { ordinal, node: view.node, changes });
                    Some(Problem::new(Reason::Releasing, "the listener is being withdrawn"))
                } else {
                    told(desired, listener, observed, view, ordinal)
                        .filter(|_| !stays_bound(desired, observed, ordinal))
                        .map(|address| {
                            let adopted = is_adopted(desired, observed, ordinal);
                            still_advertised(desired, observed, (ordinal, view), &address, adopted)
                        })
                }
            }
            Some(Err(_)) | None
                if !with_address.contains(&ordinal)
                    && !may_have_had_one(desired, observed, memory, ordinal) =>
            {
                None
            }
            Some(Err(_)) if memory.restarting(observed) == Some(ordinal) => {
                Some(Problem::new(Reason::Releasing, "the broker restarts"))
            }
            Some(Err(error)) => Some(Problem::new(
                Reason::ReleaseBlocked,
                format!(
                    "{}-{ordinal} cannot be asked what it advertises ({error}); bring it up, or delete the StatefulSet",
                    desired.stateful_set
                ),
            )),
            None => away(desired, observed, listener.rollout, ordinal),
        };
        if verdict.is_some() {
            plan.wake_in(SOON);
        }
        plan.brokers.insert(ordinal, Verdict::Releasing(verdict));
    }
    done
}

/// True when a broker has something stored: until it has not, every address stays.
fn withdraw_stored(
    listener: &WantedListener,
    kafka: &KafkaState,
    all: &BTreeSet<Ordinal>,
    plan: &mut Plan,
) -> bool {
    for (ordinal, view) in &kafka.internal {
        let Ok(view) = view else { continue };
        let changes = dynamic::withdraw(view, &listener.name);
        if !changes.is_empty() {
            plan.actions.push(Action::Withdraw { ordinal: *ordinal, node: view.node, changes });
        }
    }
    if plan.actions.is_empty() {
        return false;
    }
    for ordinal in all {
        let problem = Problem::new(Reason::Releasing, "the listener is being withdrawn");
        plan.brokers.insert(*ordinal, Verdict::Releasing(Some(problem)));
    }
    plan.wake_in(SOON);
    true
}

/// Without the StatefulSet nobody says on which port the brokers listen, so they cannot be asked: while they live,
/// their addresses stay.
fn left_alone(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    for (ordinal, pod) in &observed.pods {
        let text = format!(
            "pod {} lives on without StatefulSet {} and may advertise its address; delete the pod, or make the StatefulSet again",
            pod.identity.name, desired.stateful_set
        );
        plan.brokers.insert(*ordinal, Verdict::Releasing(Some(Problem::new(Reason::ReleaseBlocked, text))));
        plan.wake_in(SOON);
    }
}

/// Whether a broker of which no address is known may have told its clients one on behalf of this object. Only the process
/// that saw the object from its beginning knows that it has not.
fn may_have_had_one(desired: &Desired, observed: &Observed, memory: &Memory, ordinal: Ordinal) -> bool {
    let by_cloud = matches!(desired.provider, WantedProvider::OpenStack { .. })
        && (super::seen(desired, observed).is_err() || desired.chosen_addresses.contains_key(&ordinal));
    !memory.saw_unheld || memory.allocated || by_cloud
}

/// A broker that has no pod, or one that ends or has no address.
fn away(desired: &Desired, observed: &Observed, rollout: Rollout, ordinal: Ordinal) -> Option<Problem> {
    let pod = observed.pods.get(&ordinal);
    let comes_back =
        || observed.stateful_set.iter().flat_map(|set| set.ordinals()).any(|wanted| wanted == ordinal);
    let name = format!("{}-{ordinal}", desired.stateful_set);
    let text = match rollout {
        Rollout::Restart if may_store(desired, observed) => stored_comes_back(&name),
        // Its file is empty by then; its process may run on until its pod has gone.
        Rollout::Restart if pod.is_none_or(|pod| !pod.terminating) => return None,
        Rollout::Restart => format!("{name} ends, and may advertise its address until it has gone"),
        Rollout::Manual if stays_bound(desired, observed, ordinal) => return None,
        Rollout::Manual if pod.is_none() && !comes_back() => match may_store(desired, observed) {
            true => stored_comes_back(&name),
            false => return None,
        },
        Rollout::Manual => {
            format!(
                "{name} cannot be asked what it advertises: it does not run; bring it up, or delete the StatefulSet"
            )
        }
        // Also in KRaft mode: a migration carries along what is stored.
        Rollout::Auto | Rollout::Dynamic => stored_comes_back(&name),
    };
    Some(Problem::new(Reason::ReleaseBlocked, text))
}

fn stored_comes_back(name: &str) -> String {
    format!(
        "{name} does not run, and a listener that it has stored would come back with it; bring it up (scale up), or delete the StatefulSet"
    )
}

/// A broker may have a listener stored, from an earlier `Dynamic`: not in KRaft mode.
fn may_store(desired: &Desired, observed: &Observed) -> bool {
    let mut views = observed.kafka.iter().flat_map(|kafka| kafka.internal.values()).flatten();
    let set = observed.stateful_set.as_ref();
    let kraft = views.any(|view| view.mode == MetadataMode::KRaft)
        || set.is_some_and(|set| template::states_roles(&set.object, desired.container.as_deref()));
    !kraft
}

/// A broker's file says the address: it tells it from its next start.
fn in_file(desired: &Desired, observed: &Observed, address: &FloatingIp) -> Option<Problem> {
    let set = observed.stateful_set.as_ref().filter(|set| template::refers_to_files(&set.object))?;
    // Files that came with another object's listener are that one's to empty.
    let of = template::before(&set.object).ok().flatten().map(|before| before.listener);
    of.is_none_or(|of| desired.listener.as_ref().is_some_and(|ours| ours.name == of)).then_some(())?;
    let pod = file::teller(observed.files.as_ref()?, address.address)?;
    let text = format!(
        "{pod} is to advertise {} from its next start, by its file in ConfigMap {}; set rollout: Restart, which takes it out, or whenDeleted: Retain",
        address.address,
        file::name(&set.object.name_any())
    );
    Some(Problem::new(Reason::ReleaseBlocked, text))
}

/// The address that is recorded for the broker, or that the spec names for it, or the name for it, where it advertises
/// that. With `Restart` a name may stay in the template, as the user wants it.
fn told(
    desired: &Desired,
    listener: &WantedListener,
    observed: &Observed,
    view: &BrokerView,
    ordinal: Ordinal,
) -> Option<String> {
    let recorded = observed.recorded(ordinal)?.address.clone()?;
    let chosen = desired.chosen_addresses.get(&ordinal).map(ToString::to_string);
    if let Some(address) = chosen.into_iter().chain([recorded]).find(|host| dynamic::names_host(view, host)) {
        return Some(address);
    }
    let name =
        name(desired, listener, ordinal, view.node).filter(|_| listener.rollout != Rollout::Restart)?;
    // Inside, the same name may stand for the pod, on another port.
    let outside = Endpoint { host: name.clone(), port: listener.port };
    dynamic::advertises_anywhere(view, &outside).then_some(name)
}

/// What was allocated for the broker is kept as it is bound, so nobody else gets it whoever advertises it.
fn stays_bound(desired: &Desired, observed: &Observed, ordinal: Ordinal) -> bool {
    desired.retention.when_deleted == Retention::Retain && !is_adopted(desired, observed, ordinal)
}

fn is_adopted(desired: &Desired, observed: &Observed, ordinal: Ordinal) -> bool {
    let recorded = observed.recorded(ordinal).and_then(|broker| broker.adopted);
    recorded == Some(true) || desired.chosen_addresses.contains_key(&ordinal)
}

fn still_advertised(
    desired: &Desired,
    observed: &Observed,
    (ordinal, view): (Ordinal, &BrokerView),
    address: &str,
    adopted: bool,
) -> Problem {
    let listener = desired.listener.as_ref().map(|listener| listener.name.as_str()).unwrap_or_default();
    let by_restart = desired.listener.as_ref().is_some_and(|listener| listener.rollout == Rollout::Restart);
    let stored = !dynamic::withdraw(view, listener).is_empty();
    let way = match observed.in_template(listener) && !by_restart {
        _ if stored => format!("set rollout: Dynamic, which takes the stored listener {listener} out"),
        true if address.parse::<Ipv4Addr>().is_err() => {
            format!("set rollout: Restart and onDelete: Restore, which takes listener {listener} out")
        }
        true => format!("set rollout: Restart, which takes listener {listener} out"),
        false if is_rid_of_it_by_a_new_pod(desired, observed, ordinal) => {
            format!(
                "its pod is of an older pod template, and the newest has no listener {listener}: delete the pod when it may restart, or let updateStrategy roll the newest out"
            )
        }
        false => format!("remove listener {listener} from its configuration and restart it"),
    };
    // One of the user's is unbound, whatever becomes of the others.
    let or = if adopted { "" } else { ", or set whenDeleted: Retain" };
    let text = format!("broker {} still advertises {address}; {way}{or}", view.node);
    Problem::new(Reason::ReleaseBlocked, text)
}

/// Its StatefulSet has a newer template, which does not state the listener.
fn is_rid_of_it_by_a_new_pod(desired: &Desired, observed: &Observed, ordinal: Ordinal) -> bool {
    let Some((set, listener)) = observed.stateful_set.as_ref().zip(desired.listener.as_ref()) else {
        return false;
    };
    let states = template::states_name(&set.object, desired.container.as_deref(), &listener.name);
    outdated(set, observed, ordinal) && states == Ok(false) && !template::refers_to_files(&set.object)
}

/// A broker that advertises an address of this object which is recorded for another one, or for none any more.
fn teller<'a>(observed: &'a Observed, address: &FloatingIp) -> Option<(Ordinal, &'a BrokerView)> {
    let text = address.address.to_string();
    let views = observed.kafka.iter().flat_map(|kafka| &kafka.internal);
    let mut views = views.filter_map(|(ordinal, view)| Some((*ordinal, view.as_ref().ok()?)));
    views.find(|(_, view)| dynamic::names_host(view, &text))
}

/// Stage 3 to 5.
fn addresses(
    desired: &Desired,
    observed: &Observed,
    cloud: &CloudView,
    memory: &Memory,
    now: Timestamp,
    withdrawn: bool,
    plan: &mut Plan,
) {
    let holdings = Holdings::of(cloud, desired, observed);
    for (ordinal, several) in &holdings.ours {
        for address in several {
            let held = Held {
                address: address.address,
                id: Some(address.id.clone()),
                adopted: false,
                outside: None,
                as_before: false,
            };
            // One of the user's that the broker was told stays recorded for it.
            if observed.recorded(*ordinal).is_none_or(|broker| broker.adopted != Some(true)) {
                plan.addresses.insert(*ordinal, held);
            }
            plan.brokers.entry(*ordinal).or_insert(Verdict::Releasing(None));
            if plan.asks() || !brokers_of(observed, *ordinal, address).all(|broker| may_go(plan, broker)) {
                continue;
            }
            let released = desired.retention.when_deleted == Retention::Delete;
            if let Some(teller) = teller(observed, address).filter(|_| released) {
                let text = address.address.to_string();
                let problem = still_advertised(desired, observed, teller, &text, false);
                plan.brokers.insert(teller.0, Verdict::Releasing(Some(problem)));
                plan.wake_in(SOON);
                continue;
            }
            if let Some(problem) = in_file(desired, observed, address).filter(|_| released) {
                plan.brokers.insert(*ordinal, Verdict::Releasing(Some(problem)));
                plan.wake_in(SOON);
                continue;
            }
            plan.actions.push(let_go(desired, observed, *ordinal, address));
        }
    }
    let adopted = ownership::adopted(desired, observed, cloud)
        // One that this object allocated goes with the others above, even when the spec names it.
        .filter(|(_, address)| !matches!(ownership::owner(address, desired, observed), Owner::Ours(_)));
    for (ordinal, address) in adopted {
        if may_go(plan, ordinal) && !plan.asks() {
            plan.actions.push(Action::Unbind { ordinal, id: address.id.clone(), read_at: address.revision });
        }
    }
    // What is held up has a verdict that says so, and everything else an action.
    if plan.actions.is_empty() && !plan.asks() && !blocked(plan) {
        plan.actions.extend(superfluous(&BTreeSet::new(), cloud, memory));
        if withdrawn && plan.actions.is_empty() {
            finish(desired, observed, memory, now, plan);
        }
    }
}

/// The broker that its marker names, and those that have told it by the status: somebody may have altered the marker.
fn brokers_of(observed: &Observed, marked: Ordinal, address: &FloatingIp) -> impl Iterator<Item = Ordinal> {
    let text = address.address.to_string();
    let brokers = observed.own.status.brokers.iter();
    let told = brokers.filter(move |broker| broker.address.as_ref() == Some(&text));
    told.map(|broker| Ordinal(broker.ordinal)).chain([marked])
}

fn may_go(plan: &Plan, ordinal: Ordinal) -> bool {
    matches!(plan.brokers.get(&ordinal), None | Some(Verdict::Releasing(None)))
}

fn let_go(desired: &Desired, observed: &Observed, ordinal: Ordinal, address: &FloatingIp) -> Action {
    let marker = ownership::marker(desired, observed, ordinal);
    let id = address.id.clone();
    match desired.retention.when_deleted {
        Retention::Retain => Action::Retain { ordinal, id, read_at: address.revision, marker },
        Retention::Delete => Action::Release { ordinal, id, marker },
    }
}

/// I4.
fn finish(desired: &Desired, observed: &Observed, memory: &Memory, now: Timestamp, plan: &mut Plan) {
    let never_used = memory.saw_unheld
        && !memory.allocated
        && observed.own.status.brokers.iter().all(|b| b.address_id.is_none());
    let second_list = memory.empty_since.unwrap_or(now) + memory::SECOND_SIGHTING;
    let late_create = memory.unclear_create_at.map(|at| at + memory::LATE_CREATE);
    let former_process = (!memory.saw_unheld).then(|| memory.started_at + memory::LATE_CREATE);
    let due = [late_create, former_process].into_iter().flatten().fold(second_list, Timestamp::max);
    if !never_used && due > now {
        let text = format!("nothing of this object is left in the cloud; a last look at {due:.0}");
        plan.problems.push(Problem::new(Reason::Releasing, text));
        return plan.wake_at(due, now);
    }
    let secret_held = matches!(&observed.cloud, CloudState::Seen(view) if view.secret_held);
    if memory.unclear_hold && !secret_held {
        // It would hold the Secret for nobody; once more, and it comes to a version that is gone.
        return plan.actions.push(Action::HoldSecret);
    }
    if secret_held && !secret_is_used(desired, &observed.others) {
        plan.actions.push(Action::LetSecretGo);
    }
    plan.actions.push(Action::LetObjectGo);
}

/// Whether one of these, this object left out, lets the Secret go when it goes itself. One that does not hold it yet would
/// not: it may be gone before it does.
pub fn secret_is_used(desired: &Desired, others: &[OtherAccess]) -> bool {
    let WantedProvider::OpenStack { secret, .. } = &desired.provider else { return false };
    others.iter().filter(|other| other.uid != desired.uid && other.held).any(|other| {
        let in_namespace = other.key.namespace == secret.namespace;
        let Some(wants) = &other.wants else { return in_namespace || !desired.classes_of_secret.is_empty() };
        in_namespace && wants.secret.as_ref() == Some(&secret.name)
            || wants.class.as_ref().is_some_and(|class| desired.classes_of_secret.contains(class))
    })
}
