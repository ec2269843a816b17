//! Decides. Pure: no client, no clock, no randomness; what goes in is all that counts.
//!
//! | file | decides |
//! |---|---|
//! | `desired.rs` | is the spec servable, and what does it want |
//! | `bindings.rs` | which address leads to which broker |
//! | `class.rs` | what a platform team's class allows |
//! | `limits.rs` | how much an address may carry |
//! | `cost.rs` | what the addresses cost |
//! | `leftovers.rs` | what happens to addresses that no broker needs |
//! | `exposure.rs` | may an address be bound to a port at all |
//! | `listeners.rs` | what each broker should advertise, and how it learns it |
//! | `rollout.rs` | the listener by the pod template, and who restarts next |
//! | `rollback.rs` | how that goes again |
//! | `probes.rs` | what the probes through the addresses mean |
//! | `deletion.rs` | what goes when the object goes |
//! | `status.rs`, `findings.rs` | what people are told: brokers and outputs, conditions |

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::ConfigMap};

use crate::{
    api::{Mode, conditions::Reason},
    cloud::{
        Binding, NewFloatingIp,
        limits::{BandwidthLimits, QosPolicy},
    },
    domain::{AddressId, Endpoint, NodeId, Ordinal, OwnerMarker, QosPolicyId, Revision, Uid},
    kafka::SettingChange,
};

pub use crate::cloud::Outside;

mod adoption;
mod bindings;
pub mod class;
mod conditions;
pub mod cost;
pub mod deletion;
pub mod desired;
pub mod exposure;
pub mod failure;
mod findings;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod given_up;
mod leftovers;
mod limits;
mod listeners;
pub mod memory;
pub mod observed;
pub(crate) mod ownership;
pub mod probes;
mod roll;
mod rollback;
mod rollout;
pub mod status;
pub mod usage;
pub mod words;

use desired::{Desired, WantedProvider};
use memory::Memory;
use observed::{CloudState, CloudView, CredentialProblem, Observed};

/// How often the cloud is looked at although nothing happened.
const DRIFT: Duration = Duration::from_secs(300);
/// How soon to look again at something that is on its way and sends no event.
const SOON: Duration = Duration::from_secs(5);

/// Decides what to do now. With `observed.kafka == None` only bindings are decided, and `ask_kafka` says whether there
/// is more.
pub fn plan(desired: &Desired, observed: &Observed, memory: &Memory, now: Timestamp) -> Plan {
    let mut plan = if observed.own.deleting {
        deletion::plan(desired, observed, memory, now)
    } else {
        living(desired, observed, memory, now)
    };
    let words: Vec<String> = plan.actions.iter().map(|action| words::action(action, desired)).collect();
    plan.outstanding.splice(0..0, words);
    if desired.mode == Mode::Plan {
        plan.actions.clear();
    }
    let probes = if plan.addresses.values().any(Held::in_use) { desired.probe_interval } else { DRIFT };
    plan.wake_in(probes.min(DRIFT));
    // What happens meanwhile puts neither a reading of the cloud off nor a probe.
    if let CloudState::Seen(cloud) = &observed.cloud {
        plan.wake_in(cloud.due_in.max(SOON));
    }
    if let Some(due) = observed.kafka.as_ref().and_then(|kafka| kafka.probes_due_in) {
        plan.wake_in(due);
    }
    if desired.metrics.is_some() {
        plan.wake_in(observed.metering.due_in);
    }
    plan.warnings.extend(usage::unread(&memory.usage, desired));
    let kafka = observed.kafka.as_ref();
    plan.warnings.extend(kafka.and_then(|kafka| probes::first_to_renew(&desired.stateful_set, kafka, now)));
    plan
}

/// The road of a live object: is it servable at all, then addresses, then listeners.
fn living(desired: &Desired, observed: &Observed, memory: &Memory, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if let Some(problem) = refused_as_a_whole(desired, observed) {
        plan.problems.push(problem);
        return plan;
    }
    if class::refused(desired, observed, &mut plan) {
        hold_first(observed, &mut plan);
        return plan;
    }
    match &desired.provider {
        WantedProvider::Static => bindings::stated(desired, observed, &mut plan),
        WantedProvider::PodAddresses => bindings::pods(observed, &mut plan),
        WantedProvider::OpenStack { .. } => match seen(desired, observed) {
            Ok(cloud) => bindings::plan(desired, observed, cloud, memory, now, &mut plan),
            Err(problem) => {
                plan.problems.push(problem);
                bindings::as_before(observed, &mut plan);
            }
        },
    }
    plan.cloud_settled = nothing_for_the_cloud(&plan);
    listeners::plan(desired, observed, memory, now, &mut plan);
    hold_first(observed, &mut plan);
    plan
}

/// Before anything was decided about listeners: every address leads where it shall, as far as there is a pod.
fn nothing_for_the_cloud(plan: &Plan) -> bool {
    let settled = |verdict: &Verdict| match verdict {
        Verdict::Settled | Verdict::Idle => true,
        // Another pod is another look at the cloud.
        Verdict::Waiting(problem) => problem.reason == Reason::WaitingForPod,
        Verdict::Refused(_) | Verdict::Releasing(_) => false,
    };
    plan.actions.is_empty() && plan.problems.is_empty() && plan.brokers.values().all(settled)
}

/// | the object | then |
/// |---|---|
/// | an older one wants the same StatefulSet and listener (the older creationTimestamp wins, then the UID) | `TargetInUse` |
/// | its StatefulSet does not exist | `StatefulSetNotFound`; nothing is touched, since pods may live on |
/// | its StatefulSet has more than 128 replicas | `TooManyBrokers` |
/// | its pods use the node's network, and addresses are wanted | `HostNetworkRefused` |
fn refused_as_a_whole(desired: &Desired, observed: &Observed) -> Option<Problem> {
    if let Some(rival) = ownership::older_rival(desired, observed) {
        let text = format!(
            "{rival} is older and serves StatefulSet {} with the same listener; delete one of the two",
            desired.stateful_set
        );
        return Some(Problem::new(Reason::TargetInUse, text));
    }
    let Some(set) = &observed.stateful_set else {
        let text = format!(
            "StatefulSet {} does not exist in namespace {}; addresses are kept as they are",
            desired.stateful_set, desired.key.namespace
        );
        return Some(Problem::new(Reason::StatefulSetNotFound, text));
    };
    if set.replicas > observed::MOST_BROKERS {
        let text =
            format!("StatefulSet {} has more than {} replicas", desired.stateful_set, observed::MOST_BROKERS);
        return Some(Problem::new(Reason::TooManyBrokers, text));
    }
    (set.host_network && desired.provider != WantedProvider::PodAddresses).then(|| {
        let text = "the brokers run with hostNetwork, so an address would expose the node; run them without";
        Problem::new(Reason::HostNetworkRefused, text)
    })
}

/// The cloud, or why nothing is decided about it.
fn seen<'a>(desired: &Desired, observed: &'a Observed) -> Result<&'a CloudView, Problem> {
    let whose = match &desired.grant {
        Some(grant) => format!("class {} cannot be used, tell the platform team: ", grant.class),
        None => String::new(),
    };
    match &observed.cloud {
        CloudState::Seen(view) => Ok(view),
        CloudState::NotUsed => Err(Problem::new(Reason::InvalidSpec, "the provider needs no cloud")),
        CloudState::NoCredential(CredentialProblem::SecretMissing { name }) => Err(Problem::new(
            Reason::SecretNotFound,
            match desired.grant {
                Some(_) => format!("{whose}Secret {name} does not exist in the operator's namespace"),
                None => format!("Secret {name} does not exist in this namespace; create it"),
            },
        )),
        CloudState::NoCredential(CredentialProblem::Malformed { name, problem }) => {
            Err(Problem::new(Reason::SecretMalformed, format!("{whose}Secret {name}: {problem}")))
        }
        CloudState::Failed(error) => Err(failure::problem_of_cloud(error)),
    }
}

/// I4: the finalizers are confirmed before the first write anywhere else.
///
/// | the object | then |
/// |---|---|
/// | something is to be written | the finalizers come first |
/// | the cloud shows addresses of it, and somebody took the finalizers off | they come back: a deletion would leave all behind |
/// | neither | nobody holds it |
fn hold_first(observed: &Observed, plan: &mut Plan) {
    let seen = matches!(&observed.cloud, CloudState::Seen(_));
    let keeps = seen && plan.addresses.values().any(|address| address.id.is_some());
    if plan.actions.is_empty() && !keeps {
        return;
    }
    let mut first = Vec::new();
    if !observed.own.held {
        first.push(Action::HoldObject);
    }
    if matches!(&observed.cloud, CloudState::Seen(view) if !view.secret_held) {
        first.push(Action::HoldSecret);
    }
    plan.actions.splice(0..0, first);
}

impl Plan {
    /// More must be seen before this plan is whole.
    fn asks(&self) -> bool {
        self.ask_kafka || self.ask_cluster
    }

    /// Looks again no later than this.
    fn wake_in(&mut self, wait: Duration) {
        self.look_again = Some(self.look_again.map_or(wait, |other| other.min(wait)));
    }

    fn wake_at(&mut self, at: Timestamp, now: Timestamp) {
        self.wake_in(
            Duration::try_from(at.duration_since(now)).unwrap_or_default() + Duration::from_millis(100),
        );
    }

    fn wait(&mut self, ordinal: Ordinal, reason: Reason, message: impl Into<String>) {
        self.brokers.insert(ordinal, Verdict::Waiting(Problem::new(reason, message)));
    }

    fn refuse(&mut self, ordinal: Ordinal, reason: Reason, message: impl Into<String>) {
        self.brokers.insert(ordinal, Verdict::Refused(Problem::new(reason, message)));
    }
}

/// What to do now, what is outstanding after that, and what every broker should be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To be carried out now, in this order; empty in mode Plan. After them the world is observed again.
    pub actions: Vec<Action>,
    /// Everything outstanding, in order, in words: `actions` and what must wait for them.
    pub outstanding: Vec<String>,
    /// Where each broker stands, and why; refusals of one broker leave the others alone.
    pub brokers: BTreeMap<Ordinal, Verdict>,
    /// What is wrong with the object as a whole, gravest first.
    pub problems: Vec<Problem>,
    /// Nothing that keeps anything from working, but somebody should know.
    pub warnings: Vec<Problem>,
    /// The address of each broker, as the cloud or the user states it.
    pub addresses: BTreeMap<Ordinal, Held>,
    /// What each broker shall tell clients outside, once it is known.
    pub endpoints: BTreeMap<Ordinal, Endpoint>,
    /// The Kafka side must be observed before more can be decided.
    pub ask_kafka: bool,
    /// What a restart would cost must be asked before more can be decided.
    pub ask_cluster: bool,
    /// The cloud is as it shall be: what is outstanding is for Kubernetes, Kafka or people.
    pub cloud_settled: bool,
    /// Brokers that are restarted before nothing is outstanding any more.
    pub restarts: usize,
    /// When to look again although nothing happened; `None`: only when something happens.
    pub look_again: Option<Duration>,
}

/// A refusal or a wait: a listed reason and the sentence for this case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The reason, from the list.
    pub reason: Reason,
    /// What is the matter and what to do.
    pub message: String,
}

impl Problem {
    /// A listed reason with the sentence for this case.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// An address that belongs to a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The address.
    pub address: Ipv4Addr,
    /// Its identifier in the cloud; `None` with provider Static and for a pod's own.
    pub id: Option<AddressId>,
    /// It is the user's own.
    pub adopted: bool,
    /// Set when it leads to the broker.
    pub outside: Option<Outside>,
    /// The cloud cannot be asked; when it could, the broker advertised the address.
    pub as_before: bool,
}

impl Held {
    /// Whether clients use it.
    pub fn in_use(&self) -> bool {
        self.outside.is_some() || self.as_before
    }
}

/// Where one broker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Bound, and advertised where a listener is wanted.
    Settled,
    /// Something has to happen first.
    Waiting(Problem),
    /// Not served until somebody changes something.
    Refused(Problem),
    /// The address is kept; the broker does not exist.
    Idle,
    /// On the way out.
    Releasing(Option<Problem>),
}

/// One change of the outside world. Each is carried out by one function of `act`, under its own permit.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Our finalizer on the object; before the first write to the cloud.
    HoldObject,
    /// The last write of all.
    LetObjectGo,
    /// Our finalizer on the credential's Secret, so that a deletion can still be carried out.
    HoldSecret,
    /// The Secret is not needed by any object any more.
    LetSecretGo,
    /// One POST that creates and binds.
    Allocate {
        /// For this broker.
        ordinal: Ordinal,
        /// The pod that must still be there.
        pod: PodIdentity,
        /// The create call.
        new: NewFloatingIp,
    },
    /// One PUT that binds, or moves, an address.
    Bind {
        /// For this broker.
        ordinal: Ordinal,
        /// The pod that must still be there.
        pod: PodIdentity,
        /// The address.
        id: AddressId,
        /// Its revision when it was read.
        read_at: Revision,
        /// Where it shall lead.
        to: Binding,
        /// The new marker, when it changes hands by this call.
        marker: Option<OwnerMarker>,
        /// The user's address, where the status does not say yet that it is adopted. It says so first: once the address is
        /// bound, nothing else tells that we did it, and nobody would unbind it when it is given up.
        adopts: Option<Ipv4Addr>,
    },
    /// One PUT that unbinds.
    Unbind {
        /// The broker it was bound for.
        ordinal: Ordinal,
        /// The address.
        id: AddressId,
        /// Its revision when it was read.
        read_at: Revision,
    },
    /// One PUT that sets the bandwidth policy; the binding and its connections stay.
    Limit {
        /// The broker it is for.
        ordinal: Ordinal,
        /// The address.
        id: AddressId,
        /// Its revision when it was read.
        read_at: Revision,
        /// The policy.
        policy: QosPolicyId,
    },
    /// A QoS policy of these limits: a POST for it, and one for each rule that it lacks.
    MakePolicy {
        /// What it says.
        limits: BandwidthLimits,
        /// One that was begun.
        unfinished: Option<QosPolicy>,
    },
    /// One DELETE of a QoS policy of ours.
    RemovePolicy {
        /// Its identifier.
        id: QosPolicyId,
        /// Its name.
        name: String,
    },
    /// One PUT that turns our marker into the retained one; the binding stays.
    Retain {
        /// The broker it is for.
        ordinal: Ordinal,
        /// The address.
        id: AddressId,
        /// Its revision when it was read.
        read_at: Revision,
        /// The marker it has now.
        marker: OwnerMarker,
    },
    /// One DELETE; the marker is read again first.
    Release {
        /// The broker it was for.
        ordinal: Ordinal,
        /// The address.
        id: AddressId,
        /// The marker that must still be there.
        marker: OwnerMarker,
    },
    /// Kafka's stored settings of one broker: validated, applied, confirmed at the listener, or taken back.
    Advertise {
        /// The address it stands for.
        address: Outside,
        /// The broker's position.
        ordinal: Ordinal,
        /// Its id in Kafka.
        node: NodeId,
        /// What it shall tell clients.
        endpoint: Endpoint,
        /// The change.
        changes: Vec<SettingChange>,
    },
    /// Removes our stored settings from one broker, confirmed by its view.
    Withdraw {
        /// The broker's position.
        ordinal: Ordinal,
        /// Its id in Kafka.
        node: NodeId,
        /// The change.
        changes: Vec<SettingChange>,
    },
    /// The ConfigMap with the brokers' files, as it shall be.
    WriteFiles {
        /// With the version that was read; without one it is created.
        files: Box<ConfigMap>,
    },
    /// Removes the ConfigMap; no template refers to it any more.
    DeleteFiles {
        /// As it was read.
        files: Box<ConfigMap>,
    },
    /// One patch of the StatefulSet.
    ChangeTemplate {
        /// What it shall be.
        target: Box<StatefulSet>,
        /// The change in words.
        what: String,
    },
    /// Evicts a pod; the StatefulSet makes it anew.
    Restart {
        /// The broker's position.
        ordinal: Ordinal,
        /// The pod that must still be there.
        pod: PodIdentity,
        /// What it shall tell clients afterwards; `None`: nothing outside.
        goal: Option<Endpoint>,
    },
    /// Removes the annotation that allowed a replacement, after the replacement exists.
    ClearReplace,
}

impl Action {
    /// The broker it is about.
    pub fn ordinal(&self) -> Option<Ordinal> {
        match self {
            Self::Allocate { ordinal, .. }
            | Self::Bind { ordinal, .. }
            | Self::Unbind { ordinal, .. }
            | Self::Limit { ordinal, .. }
            | Self::Retain { ordinal, .. }
            | Self::Release { ordinal, .. }
            | Self::Advertise { ordinal, .. }
            | Self::Restart { ordinal, .. }
            | Self::Withdraw { ordinal, .. } => Some(*ordinal),
            Self::HoldObject
            | Self::LetObjectGo
            | Self::HoldSecret
            | Self::LetSecretGo
            | Self::WriteFiles { .. }
            | Self::DeleteFiles { .. }
            | Self::ChangeTemplate { .. }
            | Self::MakePolicy { .. }
            | Self::RemovePolicy { .. }
            | Self::ClearReplace => None,
        }
    }
}

/// A pod at one moment: the same name with another UID is another pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: Uid,
}
