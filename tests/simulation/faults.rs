//! What goes wrong on the way, drawn for each call, and what has gone wrong so far.

use std::{collections::BTreeMap, time::Duration};

use crate::chance::Chance;

/// What a call is, for the faults that can meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    KubernetesRead,
    KubernetesWrite,
    Eviction,
    Lease,
    CloudRead,
    CloudWrite,
    KafkaRead,
    KafkaWrite,
}

impl Kind {
    /// It changes something outside and so needs leadership.
    pub fn writes(self) -> bool {
        matches!(self, Self::KubernetesWrite | Self::Eviction | Self::CloudWrite | Self::KafkaWrite)
    }
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    RequestLost,
    ReplyLost,
    /// The effect comes after the client has given up, up to 170 s later.
    Late,
    ServerError,
    ServerErrorAfterEffect,
    /// 401.
    Unauthorized,
    /// 403 of the API server.
    Forbidden,
    /// The three 409 of the cloud.
    Quota,
    Pool,
    PortBound,
    /// 412.
    RevisionChanged,
    /// 409 of the API server.
    Conflict,
    /// 429 without Retry-After.
    Throttled,
    /// 429 with Retry-After.
    ThrottledFor,
    /// 429 of an eviction: a disruption budget.
    NotNow,
}

/// The point of a call at which its process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    BeforeSend,
    /// The effect is done, and the reply never comes.
    AfterEffect,
    AfterReply,
}

pub const MOMENTS: [Moment; 3] = [Moment::BeforeSend, Moment::AfterEffect, Moment::AfterReply];

/// Where a process is killed: at this call of it, counted from the start of the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub call: usize,
    pub moment: Moment,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    pub index: usize,
    pub fault: Option<Fault>,
    pub there: Duration,
    pub back: Duration,
}

/// Draws faults and counts them.
pub struct Faults {
    chance: Chance,
    /// In a thousand calls; 0: everything works.
    pub permille: u64,
    pub counts: BTreeMap<String, u64>,
    /// Faults of writes to the cloud, for the budget of calls.
    pub of_cloud: u64,
    pub calls: usize,
    /// Next cuts, in order.
    pub cuts: Vec<Cut>,
    /// The replica that is to be killed now.
    pub crashed: Option<usize>,
    /// Writes of each kind that were sent.
    pub sent: BTreeMap<Kind, u64>,
}

const OF_READS: [Fault; 3] = [Fault::RequestLost, Fault::ReplyLost, Fault::ServerError];

impl Faults {
    pub fn new(chance: Chance, permille: u64) -> Self {
        Self {
            chance,
            permille,
            counts: BTreeMap::new(),
            of_cloud: 0,
            calls: 0,
            cuts: Vec::new(),
            crashed: None,
            sent: BTreeMap::new(),
        }
    }

    pub fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    pub fn draw(&mut self, _replica: usize, _name: &str, kind: Kind) -> Fate {
        let index = self.calls;
        self.calls += 1;
        if kind.writes() {
            *self.sent.entry(kind).or_default() += 1;
        }
        let (first, last) = match kind {
            Kind::CloudRead | Kind::CloudWrite => (40, 600),
            _ => (1, 20),
        };
        let mut there = self.chance.millis(first, last);
        let back = self.chance.millis(1, 20);
        let fault = self.chance.permille(self.permille).then(|| self.fault_of(kind));
        if let Some(fault) = fault {
            self.count(format!("{fault:?}"));
            if kind == Kind::CloudWrite {
                self.of_cloud += 1;
            }
            if fault == Fault::Late {
                // From the moment the client gives up.
                let limit = if kind == Kind::CloudWrite { 60_000 } else { 10_000 };
                there = self.chance.millis(limit + 1, limit + 170_000);
            }
        }
        Fate { index, fault, there, back }
    }

    fn fault_of(&self, kind: Kind) -> Fault {
        let lost = [Fault::RequestLost, Fault::ReplyLost];
        let all: Vec<Fault> = match kind {
            Kind::KubernetesRead | Kind::Lease => OF_READS.to_vec(),
            Kind::KubernetesWrite => [
                &lost[..],
                &[Fault::Late, Fault::ServerError, Fault::Conflict, Fault::Throttled, Fault::Forbidden],
            ]
            .concat(),
            Kind::Eviction => {
                [&lost[..], &[Fault::ServerError, Fault::NotNow, Fault::NotNow, Fault::Throttled]].concat()
            }
            Kind::CloudRead => {
                [&OF_READS[..], &[Fault::Throttled, Fault::ThrottledFor, Fault::Unauthorized]].concat()
            }
            Kind::CloudWrite => [
                &lost[..],
                &[Fault::ReplyLost, Fault::Late, Fault::Late, Fault::ServerError],
                &[Fault::ServerErrorAfterEffect, Fault::Unauthorized, Fault::Quota, Fault::Pool],
                &[Fault::PortBound, Fault::RevisionChanged, Fault::Throttled, Fault::ThrottledFor],
            ]
            .concat(),
            Kind::KafkaRead | Kind::KafkaWrite => lost.to_vec(),
        };
        *self.chance.pick(&all)
    }

    /// True when the process is killed here.
    pub fn reached(&mut self, replica: usize, call: usize, moment: Moment) -> bool {
        if self.cuts.first() != Some(&Cut { call, moment }) {
            return false;
        }
        self.cuts.remove(0);
        self.crashed = Some(replica);
        true
    }
}
