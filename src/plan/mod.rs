//! Decides. Pure: no client, no clock, no randomness; what goes in is all that counts.
//!
//! | file | decides |
//! |---|---|
//! | `desired.rs` | is the spec servable, and what does it want |
//! | `bindings.rs` | which address leads to which broker |
//! | `exposure.rs` | may an address be bound to a port at all |
//! | `listeners.rs` | what each broker should advertise, and how it learns it |
//! | `deletion.rs` | what goes when the object goes |
//! | `status.rs` | what people are told |

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::conditions::Reason,
    cloud::{Binding, BoundAddress, NewFloatingIp},
    domain::{AddressId, Endpoint, NodeId, Ordinal, OwnerMarker, Revision, Uid},
    kafka::SettingChange,
};

pub mod desired;
pub mod memory;
pub mod observed;

/// What to do now, what is outstanding after that, and what every broker should be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be carried out now, in this order; empty in mode Plan. After them the world is observed again.
    pub actions: Vec<Action>,
    /// Everything outstanding, in order, in words: `actions` and what must wait for them.
    pub outstanding: Vec<String>,
    /// Where each broker stands, and why; refusals of one broker leave the others alone.
    pub brokers: BTreeMap<Ordinal, Verdict>,
    /// What is wrong with the object as a whole, gravest first.
    pub problems: Vec<Problem>,
    /// The Kafka side must be observed before more can be decided.
    pub ask_kafka: bool,
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Removes the annotation that allowed a replacement, after the replacement exists.
    ClearReplace,
}

/// A pod at one moment: the same name with another UID is another pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodIdentity {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: Uid,
}

/// An address that may be advertised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Bound by us, as read in this reconcile.
    Bound(BoundAddress),
    /// Bound by somebody else, as the user states (provider Static).
    Stated(std::net::Ipv4Addr),
}
