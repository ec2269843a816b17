//! What people are told. Byte-identical when nothing changed.

use std::{collections::BTreeMap, net::Ipv4Addr};

use jiff::Timestamp;

use super::{
    Plan, Problem, Verdict,
    conditions::{Finding, LONGEST_MESSAGE, LONGEST_STEP, Status, merge, shortened, to_seconds},
    cost,
    desired::{Desired, WantedProvider},
    failure::Failure,
    limits,
    listeners::told_before,
    memory::Memory,
    observed::{CloudState, Observed},
    probes::{ProbeVerdict, judge, to_renew},
    usage,
};
use crate::{
    api::{
        BrokerBandwidth, BrokerHealth, BrokerState, BrokerStatus, Cost, KafkaExternalAccess,
        KafkaExternalAccessStatus, Retention, Summary,
        conditions::{ConditionType, Reason},
    },
    domain::{AddressId, Ordinal, ProjectId},
};

/// The status after a reconcile.
pub fn status(
    desired: &Desired,
    observed: &Observed,
    memory: &Memory,
    plan: &Plan,
    failures: &[Failure],
    now: Timestamp,
) -> KafkaExternalAccessStatus {
    let teller = Teller { desired, observed, memory, plan, failures, now };
    let previous = &observed.own.status;
    let brokers = teller.brokers();
    let project = match &observed.cloud {
        // The first project stays recorded: a credential of another one must be told apart (I9).
        CloudState::Seen(cloud) => previous.project_id.clone().or_else(|| Some(cloud.project.to_string())),
        _ => previous.project_id.clone(),
    };
    let cost = observed.prices.as_ref().map(|prices| cost::now(prices, &brokers));
    KafkaExternalAccessStatus {
        observed_generation: Some(observed.own.generation),
        conditions: merge(&previous.conditions, teller.findings(), observed.own.generation, now),
        project_id: project,
        bootstrap_servers: teller.bootstrap(),
        hosts: teller.hosts(),
        managed_policies: limits::recorded(desired, observed, memory),
        summary: Some(teller.summary(&brokers, cost.as_ref())),
        cost,
        brokers,
        plan: plan.outstanding.iter().take(512).map(|step| shortened(step, LONGEST_STEP)).collect(),
    }
}

/// The status of a spec that cannot be served: what was achieved before stays recorded.
pub fn rejected(
    object: &KafkaExternalAccess,
    problem: &Problem,
    now: Timestamp,
) -> KafkaExternalAccessStatus {
    let previous = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let refused = |kind| Finding { kind, status: Status::False, problem: problem.clone() };
    let findings = vec![
        refused(ConditionType::Accepted),
        refused(ConditionType::Programmed),
        Finding::plain(ConditionType::Progressing, Status::False, Reason::Stopped),
        refused(ConditionType::Ready),
    ];
    let mut conditions = merge(&previous.conditions, findings, generation, now);
    conditions.extend(previous.conditions.iter().filter(|c| c.type_ == "Reachable").cloned());
    KafkaExternalAccessStatus {
        observed_generation: Some(generation),
        conditions,
        plan: Vec::new(),
        ..previous
    }
}

/// Says that an address of the user's is a broker's, before it is bound: that it was adopted is known from here alone.
pub fn adopt(
    status: &mut KafkaExternalAccessStatus,
    project: &ProjectId,
    ordinal: Ordinal,
    id: &AddressId,
    address: Ipv4Addr,
) {
    status.project_id.get_or_insert_with(|| project.to_string());
    let position = status.brokers.partition_point(|broker| broker.ordinal < ordinal.0);
    if status.brokers.get(position).is_none_or(|broker| broker.ordinal != ordinal.0) {
        status.brokers.insert(position, BrokerStatus::waiting(ordinal.0));
    }
    let broker = &mut status.brokers[position];
    broker.address = Some(address.to_string());
    broker.address_id = Some(id.to_string());
    broker.adopted = Some(true);
    broker.state = BrokerState::Waiting;
    broker.reason = Some(Reason::InProgress.to_string());
    broker.message = Some("the address is being bound".to_owned());
}

/// Tells one object's state; the conditions are in `findings.rs`.
pub(super) struct Teller<'a> {
    pub(super) desired: &'a Desired,
    pub(super) observed: &'a Observed,
    pub(super) memory: &'a Memory,
    pub(super) plan: &'a Plan,
    pub(super) failures: &'a [Failure],
    pub(super) now: Timestamp,
}

impl Teller<'_> {
    pub(super) fn previous(&self, ordinal: Ordinal) -> Option<&BrokerStatus> {
        self.observed.recorded(ordinal)
    }

    /// One entry for each broker that is wanted or has an address; without a view of the cloud, those of before.
    fn brokers(&self) -> Vec<BrokerStatus> {
        let mut ordinals: Vec<Ordinal> =
            self.plan.brokers.keys().chain(self.plan.addresses.keys()).copied().collect();
        // An address that is recorded stays recorded until the cloud, seen whole, gives another or the object ends (I9).
        let set = self.observed.stateful_set.as_ref();
        let none_wanted =
            self.plan.problems.is_empty() && set.is_some_and(|set| set.ordinals().next().is_none());
        let decided = (none_wanted || !self.plan.brokers.is_empty())
            && matches!(self.observed.cloud, CloudState::Seen(_) | CloudState::NotUsed);
        let kept = self.observed.own.status.brokers.iter().filter(|broker| !decided || self.stays(broker));
        ordinals.extend(kept.map(|broker| Ordinal(broker.ordinal)));
        ordinals.sort_unstable();
        ordinals.dedup();
        ordinals.into_iter().map(|ordinal| self.broker(ordinal)).collect()
    }

    /// What was allocated for a broker that is scaled away goes with it by `whenScaled: Delete`; the user's own is the
    /// broker's as long as the spec names it.
    fn stays(&self, broker: &BrokerStatus) -> bool {
        let chosen = self.desired.chosen_addresses.get(&Ordinal(broker.ordinal)).map(ToString::to_string);
        let is_its = match broker.adopted {
            Some(true) => chosen == broker.address,
            _ => self.desired.retention.when_scaled == Retention::Retain,
        };
        is_its && broker.address_id.is_some() && !self.observed.own.deleting
    }

    fn is_wanted(&self, ordinal: u32) -> bool {
        self.observed
            .stateful_set
            .as_ref()
            .is_some_and(|set| set.ordinals().any(|wanted| wanted.0 == ordinal))
    }

    fn broker(&self, ordinal: Ordinal) -> BrokerStatus {
        let previous = self.previous(ordinal);
        // A pod's own address stands in `target`.
        let of_pods = self.desired.provider == WantedProvider::PodAddresses;
        let held = self.plan.addresses.get(&ordinal).filter(|_| !of_pods);
        let pod = self.observed.pods.get(&ordinal);
        let view = self.observed.kafka.as_ref().and_then(|kafka| kafka.internal.get(&ordinal)?.as_ref().ok());
        let (state, problem) = self.state(ordinal);
        let kept = |of: fn(&BrokerStatus) -> Option<String>| previous.and_then(of);
        BrokerStatus {
            ordinal: ordinal.0,
            node_id: view.map(|view| view.node.0).or_else(|| previous?.node_id),
            pod: pod.map(|pod| pod.identity.name.clone()),
            node: pod.and_then(|pod| pod.node.clone()),
            target: pod.and_then(|pod| pod.ip).map(|ip| ip.to_string()),
            address: held.map(|held| held.address.to_string()).or_else(|| kept(|b| b.address.clone())),
            address_id: match held {
                Some(held) => held.id.as_ref().map(ToString::to_string),
                None => kept(|b| b.address_id.clone()),
            },
            adopted: match held {
                Some(held) => (held.adopted && held.id.is_some()).then_some(true),
                None => previous.and_then(|b| b.adopted),
            },
            advertised: match state {
                BrokerState::Ready => self
                    .plan
                    .endpoints
                    .get(&ordinal)
                    .map(ToString::to_string)
                    .or_else(|| kept(|b| b.advertised.clone())),
                BrokerState::Waiting | BrokerState::Refused => kept(|b| b.advertised.clone()),
                BrokerState::Idle | BrokerState::Releasing => None,
            },
            state,
            reason: problem.as_ref().map(|problem| problem.reason.to_string()),
            message: problem.as_ref().map(|problem| shortened(&problem.message, LONGEST_MESSAGE)),
            bandwidth: self.bandwidth(ordinal, held.and_then(|held| held.id.as_ref())),
            health: self.health(ordinal, previous),
        }
    }

    fn bandwidth(&self, ordinal: Ordinal, address: Option<&AddressId>) -> Option<BrokerBandwidth> {
        let limits = match (&self.observed.cloud, address) {
            (CloudState::Seen(cloud), Some(id)) => limits::told(self.desired, cloud, ordinal, id),
            _ => self.previous(ordinal).and_then(|broker| broker.bandwidth.as_ref()).and_then(limits::only),
        };
        usage::told(&self.memory.usage, ordinal, limits, self.observed.metering.interval)
    }

    fn state(&self, ordinal: Ordinal) -> (BrokerState, Option<Problem>) {
        let idle = || (BrokerState::Idle, Some(Problem::new(Reason::Idle, Reason::Idle.meaning())));
        let failed = self.failures.iter().find(|failure| failure.action.ordinal() == Some(ordinal));
        if let Some(problem) = failed.and_then(|failure| failure.cause.problem()) {
            return (BrokerState::Refused, Some(problem));
        }
        match self.plan.brokers.get(&ordinal) {
            Some(Verdict::Settled) => (BrokerState::Ready, None),
            Some(Verdict::Waiting(problem)) => (BrokerState::Waiting, Some(problem.clone())),
            Some(Verdict::Refused(problem)) => (BrokerState::Refused, Some(problem.clone())),
            Some(Verdict::Idle) => idle(),
            Some(Verdict::Releasing(problem)) => (BrokerState::Releasing, problem.clone()),
            // Its address is lost, and told as lost when the broker is wanted again.
            None if self.plan.problems.is_empty() && !self.is_wanted(ordinal.0) => idle(),
            // Nothing was decided about it: the object's problem is the broker's.
            None => (BrokerState::Waiting, self.plan.problems.first().cloned()),
        }
    }

    fn health(&self, ordinal: Ordinal, previous: Option<&BrokerStatus>) -> Option<BrokerHealth> {
        let before = previous.and_then(|broker| broker.health.clone());
        let Some(kafka) = &self.observed.kafka else { return before };
        let Some(probe) = kafka.probes.get(&ordinal) else { return before };
        let (reachable, problem) = match judge(self.plan, kafka, ordinal)? {
            ProbeVerdict::Good => (Status::True, to_renew(kafka, ordinal, self.now)),
            ProbeVerdict::Bad(problem) => {
                let may_be_normal = self.may_be_normal(ordinal, &problem);
                (if may_be_normal { Status::Unknown } else { Status::False }, Some(problem))
            }
        };
        // A certificate that has ended is not shown any more.
        let shown =
            probe.outcome.as_ref().ok().map(|seen| seen.certificate_ends.map(|ends| ends.to_string()));
        let certificate_ends = shown.unwrap_or_else(|| before.as_ref()?.certificate_ends.clone());
        let unchanged = before.filter(|before| before.reachable == reachable.word());
        let since =
            unchanged.map_or_else(|| to_seconds(self.now).to_string(), |before| before.last_transition_time);
        Some(BrokerHealth {
            reachable: reachable.word().to_owned(),
            from: probe.from.clone(),
            reason: problem.as_ref().map(|problem| problem.reason.to_string()),
            message: problem.as_ref().map(|problem| shortened(&problem.message, LONGEST_MESSAGE)),
            certificate_ends,
            last_transition_time: since,
        })
    }

    /// Set when every broker advertises; afterwards an entry goes only when its broker is not wanted any more.
    fn bootstrap(&self) -> Option<String> {
        if self.observed.own.deleting {
            return None;
        }
        let previous = self.observed.own.status.bootstrap_servers.as_deref();
        if self.plan.brokers.is_empty() {
            return previous.map(str::to_owned);
        }
        let wanted = self.plan.brokers.iter().filter(|(_, verdict)| **verdict != Verdict::Idle);
        let mut entries = BTreeMap::new();
        let mut complete = true;
        for (ordinal, verdict) in wanted {
            let now = self
                .plan
                .endpoints
                .get(ordinal)
                .filter(|_| *verdict == Verdict::Settled)
                .map(ToString::to_string);
            let before = || {
                let advertised = self.previous(*ordinal)?.advertised.clone()?;
                previous?.split(',').any(|entry| entry == advertised).then_some(advertised)
            };
            match now.clone().or_else(before) {
                Some(entry) => {
                    entries.insert(*ordinal, entry);
                }
                None => complete = false,
            }
        }
        if entries.is_empty() || (previous.is_none() && !complete) {
            return None;
        }
        Some(entries.into_values().collect::<Vec<_>>().join(","))
    }

    /// `address name`: the name that the broker advertises outside where that is a name, else its internal name.
    ///
    /// | the brokers | pairs |
    /// |---|---|
    /// | were asked | of those that answered, and of those that have answered there before |
    /// | were not asked, addresses are the broker's for life | as before |
    /// | were not asked, addresses are the pods' own | of those that have answered there before |
    fn hosts(&self) -> Vec<String> {
        let of_pods = self.desired.provider == WantedProvider::PodAddresses;
        let kafka = match &self.observed.kafka {
            None if !of_pods => return self.observed.own.status.hosts.clone(),
            kafka => kafka.as_ref(),
        };
        let line = |(ordinal, held): (&Ordinal, &super::Held)| {
            let address = held.address.to_string();
            let outside = self
                .plan
                .endpoints
                .get(ordinal)
                .map(|endpoint| endpoint.host.clone())
                .filter(|host| *host != address);
            let inside = || {
                let view = kafka?.internal.get(ordinal)?.as_ref().ok()?;
                view.advertised.get(&view.node).map(|endpoint| endpoint.host.clone())
            };
            match outside.or_else(inside) {
                // Brokers that advertise addresses inside have no names to look up.
                Some(name) if name.parse::<Ipv4Addr>().is_ok() => None,
                Some(name) => Some(format!("{address} {name}")),
                None => told_before(self.observed, *ordinal, held).map(str::to_owned),
            }
        };
        let known = self
            .plan
            .addresses
            .iter()
            .filter(|(ordinal, _)| self.plan.brokers.get(ordinal) != Some(&Verdict::Idle));
        known.filter_map(line).collect()
    }

    fn summary(&self, brokers: &[BrokerStatus], cost: Option<&Cost>) -> Summary {
        let used = |rate: fn(&BrokerBandwidth) -> Option<u32>| {
            usage::column(brokers.iter().filter_map(|broker| broker.bandwidth.as_ref()), rate)
        };
        let (egress, ingress) = (used(|used| used.egress_mbps), used(|used| used.ingress_mbps));
        let wanted = brokers.iter().filter(|broker| broker.state != BrokerState::Idle);
        let ready = brokers.iter().filter(|broker| broker.state == BrokerState::Ready).count();
        let cost = cost.map(|cost| format!("{} {}", cost.per_month, cost.currency));
        Summary { ready: format!("{ready}/{}", wanted.count()), egress, ingress, cost }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adoption_changes_the_entry_of_its_broker_or_comes_in_order_before_the_next() {
        let (project, id) = (ProjectId::new("p1"), AddressId::new("u"));
        let mut status = KafkaExternalAccessStatus::default();
        for ordinal in [2, 0, 1, 2] {
            adopt(&mut status, &project, Ordinal(ordinal), &id, [203, 0, 113, 50].into());
        }
        assert_eq!(status.brokers.iter().map(|broker| broker.ordinal).collect::<Vec<_>>(), [0, 1, 2]);
        status.brokers[1].state = BrokerState::Ready;
        status.brokers[1].advertised = Some("203.0.113.11:9094".into());
        status.project_id = Some("p0".into());
        let id = AddressId::new("v");
        adopt(&mut status, &project, Ordinal(1), &id, [203, 0, 113, 51].into());
        let broker = &status.brokers[1];
        assert_eq!((broker.state, broker.adopted), (BrokerState::Waiting, Some(true)));
        assert_eq!(
            (broker.address.as_deref(), broker.address_id.as_deref()),
            (Some("203.0.113.51"), Some("v"))
        );
        assert_eq!(broker.advertised.as_deref(), Some("203.0.113.11:9094"), "the broker still tells it");
        assert_eq!(status.project_id.as_deref(), Some("p0"), "the first project stays");
    }
}
