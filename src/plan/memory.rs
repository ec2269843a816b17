//! What a process remembers between reconciles of one object. Losing it (a restart) only makes it wait longer.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    cloud::CloudFault,
    domain::{AddressId, Ordinal},
};

/// Facts with a time, for decisions that need two sightings or a pause.
#[derive(Clone, Debug)]
pub struct Memory {
    /// When this process began; before that anything may have been sent by another one.
    pub started_at: Timestamp,
    /// The last create call without a clear answer.
    pub unclear_create_at: Option<Timestamp>,
    /// Refused allocations in a row, the last refusal, and the moment before which no create call is sent.
    pub allocation: Option<AllocationPause>,
    /// Addresses of ours that are one too many, since when.
    pub surplus_since: BTreeMap<AddressId, Timestamp>,
    /// Brokers whose pod is gone while their address is still bound, since when.
    pub target_gone_since: BTreeMap<Ordinal, Timestamp>,
    /// Brokers that do not exist any more, since when (`whenScaled: Delete`).
    pub idle_since: BTreeMap<Ordinal, Timestamp>,
    /// Where we bound each address last, and when somebody moved it away (10 minutes back).
    pub moved_away: BTreeMap<Ordinal, Vec<Timestamp>>,
    /// Bindings we made and saw confirmed: who moves them now is somebody else.
    pub bound_by_us: BTreeMap<Ordinal, crate::cloud::Binding>,
    /// No bind before this moment: somebody keeps moving the address away.
    pub contested_until: BTreeMap<Ordinal, Timestamp>,
    /// First of the two lists that showed nothing of a deleted object.
    pub empty_since: Option<Timestamp>,
    /// Brokers that answered through their address at least once.
    pub reached: BTreeMap<Ordinal, std::net::Ipv4Addr>,
    /// Brokers on which a change of listeners was taken back, with the words; not tried again before the time.
    pub listener_refused: BTreeMap<Ordinal, (Timestamp, String)>,
}

/// Why and how long nothing is allocated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationPause {
    /// Refusals in a row.
    pub failures: u32,
    /// The last refusal.
    pub fault: CloudFault,
    /// No create call before this moment.
    pub until: Timestamp,
}

impl Memory {
    /// A process that knows nothing yet.
    pub fn new(started_at: Timestamp) -> Self {
        Self {
            started_at,
            unclear_create_at: None,
            allocation: None,
            surplus_since: BTreeMap::new(),
            target_gone_since: BTreeMap::new(),
            idle_since: BTreeMap::new(),
            moved_away: BTreeMap::new(),
            bound_by_us: BTreeMap::new(),
            contested_until: BTreeMap::new(),
            empty_since: None,
            reached: BTreeMap::new(),
            listener_refused: BTreeMap::new(),
        }
    }
}
