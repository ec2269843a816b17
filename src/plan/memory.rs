//! What a process remembers between reconciles of one object. Losing it (a restart) only makes it wait longer.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Action, Plan, PodIdentity,
    desired::Desired,
    failure::Cause,
    observed::{CloudState, CloudView, Observed, StatefulSetView},
    ownership::Holdings,
    probes::{ProbeVerdict, judge},
    usage::{self, Usage},
};
use crate::{
    cloud::{Binding, CloudFault},
    domain::{AddressId, Endpoint, Ordinal, PortId, QosPolicyId, Uid},
    kubernetes::{KubernetesError, KubernetesFault},
    listeners::dynamic,
};

/// Between two sightings that must agree.
pub const SECOND_SIGHTING: Duration = Duration::from_secs(30);
/// A pod that is gone that long does not come back to its port.
pub const TARGET_GONE: Duration = Duration::from_secs(60);
/// After this a create call that was cut off does not succeed any more (seen: 170 s).
pub const LATE_CREATE: Duration = Duration::from_secs(300);
/// `whenScaled: Delete` releases then.
pub const IDLE: Duration = Duration::from_secs(24 * 3600);
const MOVES_WITHIN: Duration = Duration::from_secs(600);
const MOST_MOVES: usize = 3;
const CONTESTED: Duration = Duration::from_secs(1800);
/// A broker that takes longer to come back is told.
const RESTART: Duration = Duration::from_secs(300);
/// A broker that answers again may take so long until its replicas are in sync before that is told.
const CATCH_UP: Duration = Duration::from_secs(120);
const LISTENER_PAUSE: Duration = Duration::from_secs(300);
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Facts with a time, for decisions that need two sightings or a pause.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Since when this process leads; before that anything may have been sent by another one.
    pub started_at: Timestamp,
    /// This process, while it led, saw the object without our finalizer: nobody has allocated anything for it before.
    pub saw_unheld: bool,
    /// The last create call without a clear answer.
    pub unclear_create_at: Option<Timestamp>,
    /// This process has sent a create call, or may have.
    pub allocated: bool,
    /// The last request that was to hold the Secret may still come.
    pub unclear_hold: bool,
    /// Refused allocations in a row, the last refusal, and the moment before which no create call is sent.
    pub allocation: Option<AllocationPause>,
    /// Addresses of ours that are one too many, since when.
    pub surplus_since: BTreeMap<AddressId, Timestamp>,
    /// Brokers whose pod is gone while their address is still bound, since when.
    pub target_gone_since: BTreeMap<Ordinal, Timestamp>,
    /// Brokers that do not exist any more, since when (`whenScaled: Delete`).
    pub idle_since: BTreeMap<Ordinal, Timestamp>,
    /// Brokers from whose port somebody moved the address away.
    pub quarrels: BTreeMap<Ordinal, Quarrel>,
    /// Bindings we made and saw confirmed: who moves them now is somebody else.
    pub bound_by_us: BTreeMap<Ordinal, Binding>,
    /// First of the two lists that showed nothing of a deleted object.
    pub empty_since: Option<Timestamp>,
    /// Brokers that answered through their address at least once.
    pub reached: BTreeMap<Ordinal, std::net::Ipv4Addr>,
    /// Nothing was left to do at the last look, nor to wait for in the cloud.
    pub settled: bool,
    /// The moment of the last look.
    now: Timestamp,
    /// Brokers whose last probe was good.
    good: BTreeSet<Ordinal>,
    /// A probe that was good before is not any more: something happened.
    lost: bool,
    /// Brokers on which a change of listeners was taken back, with the words; not tried again before the time.
    pub listener_refused: BTreeMap<Ordinal, (Timestamp, String)>,
    /// What each broker was told to advertise and may have stored.
    pub told: BTreeMap<Ordinal, Endpoint>,
    /// The last restart by us of each broker that the StatefulSet has had ever since.
    pub restarted: BTreeMap<Ordinal, Restarted>,
    /// Whose pods those were.
    stateful_set: Option<Uid>,
    /// QoS policies of ours that something else has: they stay.
    pub policies_in_use: BTreeSet<QosPolicyId>,
    /// How much of its bandwidth each broker uses.
    pub usage: Usage,
}

/// A pod that was evicted so that its broker starts anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// The pod that went.
    pub pod: Uid,
    /// When.
    pub at: Timestamp,
    /// What the broker was to tell clients afterwards.
    pub goal: Option<Endpoint>,
    /// It did tell that from its start: a later restart for the same goal is another story.
    pub reached: bool,
}

/// Somebody moves an address away from a port, to which we have bound it. It ends with the port: where a pod was on its
/// way out, its address may have been seen unbound while its port was still listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarrel {
    /// The port that the address was moved away from.
    pub port: PortId,
    /// When (10 minutes back).
    pub moves: Vec<Timestamp>,
    /// No bind before this moment.
    pub until: Option<Timestamp>,
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
            saw_unheld: false,
            unclear_create_at: None,
            allocated: false,
            unclear_hold: false,
            allocation: None,
            surplus_since: BTreeMap::new(),
            target_gone_since: BTreeMap::new(),
            idle_since: BTreeMap::new(),
            quarrels: BTreeMap::new(),
            bound_by_us: BTreeMap::new(),
            empty_since: None,
            reached: BTreeMap::new(),
            settled: false,
            good: BTreeSet::new(),
            lost: false,
            listener_refused: BTreeMap::new(),
            told: BTreeMap::new(),
            restarted: BTreeMap::new(),
            stateful_set: None,
            policies_in_use: BTreeSet::new(),
            usage: Usage::new(),
            now: started_at,
        }
    }
}

impl Memory {
    /// What another leader did in between is not remembered; a broker may still have stored what it was told before.
    pub fn led_again(self, since: Timestamp) -> Self {
        Self { told: self.told, ..Self::new(since) }
    }

    /// Takes in what was seen. Call it after each observation, before the plan.
    pub fn see(&mut self, desired: &Desired, observed: &Observed, now: Timestamp) {
        self.now = now;
        self.saw_unheld |= !observed.own.held;
        self.forget_restarts(observed.stateful_set.as_ref());
        usage::see(&mut self.usage, &observed.metering, now);
        let CloudState::Seen(cloud) = &observed.cloud else { return };
        let holdings = Holdings::of(cloud, desired, observed);
        let surplus = holdings.ours.values().filter(|several| several.len() > 1).flatten();
        self.surplus_since = since(&self.surplus_since, surplus.map(|address| address.id.clone()), now);
        let gone = holdings.ours.iter().filter(|(ordinal, several)| {
            observed.stateful_set.is_some()
                && !observed.pods.contains_key(ordinal)
                && several.iter().any(|address| address.binding.is_some())
        });
        self.target_gone_since = since(&self.target_gone_since, gone.map(|(ordinal, _)| *ordinal), now);
        if let Some(set) = &observed.stateful_set {
            let wanted: Vec<Ordinal> = set.ordinals().collect();
            let idle = holdings.ours.keys().filter(|ordinal| !wanted.contains(ordinal)).copied();
            self.idle_since = since(&self.idle_since, idle, now);
        }
        let nothing_left = observed.own.deleting && holdings.ours.is_empty();
        self.empty_since = nothing_left.then(|| self.empty_since.unwrap_or(now));
        self.quarrels.retain(|ordinal, quarrel| is_listed(cloud, *ordinal, &quarrel.port));
        for quarrel in self.quarrels.values_mut() {
            quarrel.moves.retain(|at| *at + MOVES_WITHIN > now);
        }
        self.watch_for_moves(cloud, &holdings, now);
    }

    /// A pod of another StatefulSet, or of a broker that was scaled away meanwhile, did not come of our restart.
    fn forget_restarts(&mut self, set: Option<&StatefulSetView>) {
        let uid = set.map(|set| set.uid.clone());
        if self.stateful_set.is_some() && self.stateful_set != uid {
            self.restarted.clear();
        }
        self.stateful_set = uid;
        let wanted: BTreeSet<Ordinal> = set.iter().flat_map(|set| set.ordinals()).collect();
        self.restarted.retain(|ordinal, _| wanted.contains(ordinal));
    }

    /// An address that we bound, whose target is still there, and that leads elsewhere: somebody moved it.
    fn watch_for_moves(&mut self, cloud: &CloudView, holdings: &Holdings<'_>, now: Timestamp) {
        let moved: Vec<Ordinal> = self
            .bound_by_us
            .iter()
            .filter(|(ordinal, ours)| {
                let exists = holdings.ours.contains_key(ordinal);
                let bound = cloud.addresses.iter().any(|address| address.binding.as_ref() == Some(*ours));
                is_listed(cloud, **ordinal, &ours.port) && exists && !bound
            })
            .map(|(ordinal, _)| *ordinal)
            .collect();
        for ordinal in moved {
            let Some(Binding { port, .. }) = self.bound_by_us.remove(&ordinal) else { continue };
            let quarrel = Quarrel { port, moves: Vec::new(), until: None };
            let quarrel = self.quarrels.entry(ordinal).or_insert(quarrel);
            quarrel.moves.push(now);
            if quarrel.moves.len() >= MOST_MOVES {
                quarrel.moves.clear();
                quarrel.until = Some(now + CONTESTED);
            }
        }
    }

    /// When somebody keeps moving the address of this broker away, and until when it stays where it is.
    pub fn contested_until(&self, ordinal: Ordinal, now: Timestamp) -> Option<Timestamp> {
        self.quarrels.get(&ordinal)?.until.filter(|until| *until > now)
    }

    /// The broker that we restarted last, while it may still be on its way: not yet back, for five minutes at most.
    pub fn restarting(&self, observed: &Observed) -> Option<Ordinal> {
        let last = self.restarted.iter().max_by_key(|(_, restarted)| restarted.at);
        let (ordinal, restarted) = last.filter(|(_, last)| self.now < last.at + RESTART)?;
        let back = observed.kafka.as_ref().and_then(|kafka| kafka.internal.get(ordinal));
        let pod = observed.pods.get(ordinal).map(|pod| &pod.identity.uid);
        let up = matches!(back, Some(Ok(_))) && pod != Some(&restarted.pod);
        (!up || self.now < restarted.at + CATCH_UP).then_some(*ordinal)
    }

    /// Another broker that was told this endpoint and cannot be asked now. It may still have it stored, and Kafka does
    /// not start a broker whose endpoint another one has. Of one that was switched off since, its address is left: the
    /// cloud gives it to the next one when somebody has deleted it there. What this process has told it may not stand in
    /// the status yet.
    pub fn absent_teller(
        &self,
        observed: &Observed,
        ordinal: Ordinal,
        endpoint: &Endpoint,
    ) -> Option<Ordinal> {
        let kafka = observed.kafka.as_ref()?;
        let whole = endpoint.to_string();
        let recorded = observed.own.status.brokers.iter().filter(|broker| match &broker.advertised {
            Some(advertised) => *advertised == whole,
            None => broker.address.as_ref() == Some(&endpoint.host),
        });
        let told = self.told.iter().filter(|(_, told)| *told == endpoint).map(|(ordinal, _)| *ordinal);
        let mut others = recorded.map(|broker| Ordinal(broker.ordinal)).chain(told);
        others.find(|other| *other != ordinal && !matches!(kafka.internal.get(other), Some(Ok(_))))
    }

    /// The pod is one that we have made start anew for this goal already, which was not reached.
    pub fn in_vain(&self, ordinal: Ordinal, pod: &PodIdentity, goal: Option<&Endpoint>) -> bool {
        self.restarted
            .get(&ordinal)
            .is_some_and(|before| !before.reached && before.pod != pod.uid && before.goal.as_ref() == goal)
    }

    /// A broker that was to tell something else meanwhile was not restarted in vain for what it is to tell now.
    fn forget_other_goals(&mut self, plan: &Plan) {
        self.restarted.retain(|ordinal, restarted| {
            let wanted = plan.endpoints.get(ordinal).zip(restarted.goal.as_ref());
            wanted.is_none_or(|(wanted, then)| wanted == then)
        });
    }

    /// Takes in what the probes say about the plan that was made.
    pub fn see_probes(&mut self, plan: &Plan, observed: &Observed) {
        self.forget_other_goals(plan);
        let Some(kafka) = &observed.kafka else { return };
        for (ordinal, restarted) in &mut self.restarted {
            let view = kafka.internal.get(ordinal).and_then(|view| view.as_ref().ok());
            restarted.reached |=
                view.zip(restarted.goal.as_ref()).is_some_and(|(view, goal)| dynamic::in_file(view, goal));
        }
        let mut good = BTreeSet::new();
        for (ordinal, probe) in &kafka.probes {
            if judge(plan, kafka, *ordinal) == Some(ProbeVerdict::Good) {
                self.reached.insert(*ordinal, probe.through);
                good.insert(*ordinal);
            }
        }
        self.lost = !self.good.is_subset(&good);
        self.good = good;
    }

    /// Whether the next plan may rest on a reading of the cloud that is as old as the drift interval: nothing is to be
    /// done now, the cloud is as it shall be, nobody has moved an address of late, and nothing that worked has ceased to.
    /// So nothing is written but after a reading of that moment.
    pub fn may_rest(&self, plan: &Plan) -> bool {
        plan.actions.is_empty()
            && plan.cloud_settled
            && self.surplus_since.is_empty()
            && self.quarrels.values().all(|quarrel| quarrel.moves.is_empty())
            && !self.lost
    }

    /// Takes in how an action ended. `jitter` in 0..1 spreads retries.
    pub fn record(&mut self, action: &Action, result: &Result<(), Cause>, now: Timestamp, jitter: f64) {
        match (action, result) {
            (Action::Allocate { ordinal, new, .. }, Ok(())) => {
                self.allocated = true;
                self.allocation = None;
                self.bound_by_us.insert(*ordinal, new.binding.clone());
            }
            (Action::Allocate { .. }, Err(cause)) => self.record_failed_allocation(cause, now, jitter),
            // Every other answer says that the version it was meant for is not the Secret's any more, or that it was
            // carried out.
            (Action::HoldSecret, result) => {
                self.unclear_hold = matches!(
                    result,
                    Err(Cause::Kubernetes(KubernetesError { fault: KubernetesFault::Unavailable(_), .. }))
                );
            }
            // Moved away at once is bound and moved: the next look counts it.
            (Action::Bind { ordinal, to, .. }, Ok(()) | Err(Cause::MovedAway)) => {
                self.bound_by_us.insert(*ordinal, to.clone());
            }
            (
                Action::Unbind { ordinal, .. }
                | Action::Release { ordinal, .. }
                | Action::Retain { ordinal, .. },
                Ok(()),
            ) => {
                self.bound_by_us.remove(ordinal);
            }
            (Action::RemovePolicy { id, .. }, Err(Cause::Cloud(error)))
                if matches!(error.fault, CloudFault::QosPolicyInUse(_)) =>
            {
                self.policies_in_use.insert(id.clone());
            }
            (Action::Restart { ordinal, pod, goal }, Ok(())) => {
                let restarted =
                    Restarted { pod: pod.uid.clone(), at: now, goal: goal.clone(), reached: false };
                self.restarted.insert(*ordinal, restarted);
            }
            (Action::Advertise { ordinal, .. }, Err(Cause::ListenerNotApplied(text))) => {
                self.listener_refused.insert(*ordinal, (now + LISTENER_PAUSE, text.clone()));
            }
            (Action::Advertise { ordinal, endpoint, .. }, result) => {
                self.told.insert(*ordinal, endpoint.clone());
                if result.is_ok() {
                    self.listener_refused.remove(ordinal);
                }
            }
            (Action::Withdraw { ordinal, .. }, Ok(())) => {
                self.told.remove(ordinal);
            }
            _ => {}
        }
    }

    fn record_failed_allocation(&mut self, cause: &Cause, now: Timestamp, jitter: f64) {
        // It may be there whatever failed: the pod is looked at once more after the call.
        self.allocated = true;
        let Cause::Cloud(error) = cause else { return };
        match &error.fault {
            CloudFault::Unclear(_) => self.unclear_create_at = Some(now),
            CloudFault::PortAlreadyBound(_) | CloudFault::RevisionChanged | CloudFault::NotFound(_) => {}
            fault => {
                let failures = self.allocation.as_ref().map_or(0, |pause| pause.failures) + 1;
                let doubled =
                    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.min(16) - 1)).min(LONGEST_PAUSE);
                let until = now + doubled.mul_f64(1.0 + 0.2 * jitter);
                self.allocation = Some(AllocationPause { failures, fault: fault.clone(), until });
            }
        }
    }
}

fn is_listed(cloud: &CloudView, ordinal: Ordinal, port: &PortId) -> bool {
    cloud.ports.get(&ordinal).is_some_and(|ports| ports.iter().any(|listed| listed.id == *port))
}

/// Keeps the first time of what is still there, starts one for what is new, drops the rest.
fn since<K: Ord>(
    before: &BTreeMap<K, Timestamp>,
    now_there: impl Iterator<Item = K>,
    now: Timestamp,
) -> BTreeMap<K, Timestamp> {
    now_there
        .map(|key| {
            let first = before.get(&key).copied().unwrap_or(now);
            (key, first)
        })
        .collect()
}

#[cfg(test)]
mod tests;
