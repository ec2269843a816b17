//! What people are told. Byte-identical when nothing changed.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    Plan, Problem, Verdict,
    conditions::{Finding, Status, merge, shortened, to_seconds},
    cost,
    desired::Desired,
    exposure,
    failure::Failure,
    limits,
    listeners::{ProbeVerdict, judge},
    memory::Memory,
    observed::{CloudState, Observed},
    usage,
};
use crate::{
    api::{
        BrokerBandwidth, BrokerHealth, BrokerState, BrokerStatus, Cost, KafkaExternalAccess,
        KafkaExternalAccessStatus, Mode, Summary, Vantage,
        conditions::{ConditionType, Reason},
    },
    domain::{AddressId, ErrorClass, Ordinal},
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
        plan: plan.outstanding.iter().take(512).map(|line| shortened(line)).collect(),
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

/// Reasons that say that the object, or what it names, cannot be served.
const NOT_ACCEPTED: [Reason; 6] = [
    Reason::InvalidSpec,
    Reason::StatefulSetNotFound,
    Reason::TargetInUse,
    Reason::SecretNotFound,
    Reason::SecretMalformed,
    Reason::HostNetworkRefused,
];

struct Teller<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    memory: &'a Memory,
    plan: &'a Plan,
    failures: &'a [Failure],
    now: Timestamp,
}

impl Teller<'_> {
    fn findings(&self) -> Vec<Finding> {
        let accepted = self.accepted();
        let programmed = self.programmed();
        let reachable = self.reachable();
        let progressing = self.progressing(&programmed);
        let ready = self.ready(&accepted, &programmed, &reachable);
        vec![accepted, programmed, reachable, progressing, ready]
    }

    fn accepted(&self) -> Finding {
        let problem = self.plan.problems.iter().find(|problem| NOT_ACCEPTED.contains(&problem.reason));
        match problem {
            Some(problem) => {
                Finding { kind: ConditionType::Accepted, status: Status::False, problem: problem.clone() }
            }
            None => Finding::plain(ConditionType::Accepted, Status::True, Reason::Accepted),
        }
    }

    /// Gravest first: the object's own problem, a failed action, a refused broker, a waiting one.
    fn programmed(&self) -> Finding {
        let kind = ConditionType::Programmed;
        let finding = |problem: &Problem| Finding { kind, status: Status::False, problem: problem.clone() };
        if let Some(problem) = self.plan.problems.first() {
            return finding(problem);
        }
        if self.observed.own.deleting {
            return Finding::plain(kind, Status::False, Reason::Releasing);
        }
        if let Some(problem) = self.failures.iter().find_map(|failure| failure.cause.problem()) {
            return finding(&problem);
        }
        if let Some(problem) = self.named(|verdict| match verdict {
            Verdict::Refused(problem) => Some(problem),
            _ => None,
        }) {
            return finding(&problem);
        }
        let outstanding = !self.plan.outstanding.is_empty();
        if self.desired.mode == Mode::Plan && outstanding {
            return Finding::plain(kind, Status::False, Reason::PlanOnly);
        }
        if let Some(problem) = self.named(|verdict| match verdict {
            Verdict::Waiting(problem) => Some(problem),
            _ => None,
        }) {
            return finding(&problem);
        }
        if outstanding {
            return Finding::plain(kind, Status::False, Reason::InProgress);
        }
        Finding::plain(kind, Status::True, Reason::Programmed)
    }

    /// The first broker's problem of a kind, with its name in front and the number of others like it.
    fn named(&self, pick: impl Fn(&Verdict) -> Option<&Problem>) -> Option<Problem> {
        let mut found =
            self.plan.brokers.iter().filter_map(|(ordinal, verdict)| Some((ordinal, pick(verdict)?)));
        let (ordinal, first) = found.next()?;
        let more = match found.count() {
            0 => String::new(),
            others => format!(" (and {others} more brokers)"),
        };
        let text = format!("{}-{ordinal}: {}{more}", self.desired.stateful_set, first.message);
        Some(Problem::new(first.reason, text))
    }

    /// | rules and probes | then |
    /// |---|---|
    /// | no rule admits the served port | False `SecurityGroupBlocks` |
    /// | a probe that contradicts the spec, or fails after it once worked | False, with its reason |
    /// | a probe that never worked from here | Unknown `NeverReachedFromHere` |
    /// | the same, seen by a client's machine | False `Unreachable` |
    /// | nothing to probe yet | Unknown `NotProbed` |
    /// | no client's machine has reported lately | Unknown `NoReport` |
    /// | the cloud cannot be read, so nobody knows which address is whose | Unknown `NotProbed`, in these words |
    /// | all good | True |
    fn reachable(&self) -> Finding {
        let kind = ConditionType::Reachable;
        if let Some(problem) = self.blocked() {
            return Finding { kind, status: Status::False, problem };
        }
        let Some(kafka) = &self.observed.kafka else { return self.reachable_as_before() };
        let mut unknown = match self.observed.cloud {
            CloudState::Seen(_) | CloudState::NotUsed => None,
            CloudState::Failed(_) | CloudState::NoCredential(_) => Some(Problem::new(
                Reason::NotProbed,
                "Addresses are not probed while the cloud cannot be read.",
            )),
        };
        let mut good = 0;
        let served = self.plan.brokers.iter().filter(|(_, verdict)| **verdict != Verdict::Idle);
        for ordinal in served.map(|(ordinal, _)| ordinal) {
            match judge(self.plan, kafka, *ordinal) {
                Some(ProbeVerdict::Good) => good += 1,
                Some(ProbeVerdict::Bad(problem)) => {
                    if !self.may_be_normal(*ordinal, &problem) {
                        return Finding { kind, status: Status::False, problem };
                    }
                    unknown.get_or_insert_with(|| {
                        Problem::new(
                            Reason::NeverReachedFromHere,
                            format!("{}. {}", problem.message, Reason::NeverReachedFromHere.remedy()),
                        )
                    });
                }
                None => {
                    unknown.get_or_insert_with(|| self.not_seen());
                }
            }
        }
        match unknown {
            Some(problem) => Finding { kind, status: Status::Unknown, problem },
            None if good == 0 => Finding::plain(kind, Status::Unknown, Reason::NotProbed),
            None => Finding::plain(kind, Status::True, Reason::Reachable),
        }
    }

    /// What does not work there does not work, whatever was before.
    fn clients_tell(&self) -> bool {
        self.desired.probe_from == Vantage::Reports
    }

    fn not_seen(&self) -> Problem {
        let reason = if self.clients_tell() { Reason::NoReport } else { Reason::NotProbed };
        Problem::new(reason, [reason.meaning(), reason.remedy()].join(" ").trim())
    }

    fn reachable_as_before(&self) -> Finding {
        let before =
            self.observed.own.status.conditions.iter().find(|condition| condition.type_ == "Reachable");
        let kind = ConditionType::Reachable;
        match before.map(|condition| condition.status.as_str()) {
            Some("True") => Finding::plain(kind, Status::True, Reason::Reachable),
            _ => Finding::plain(kind, Status::Unknown, Reason::NotProbed),
        }
    }

    /// An address that never worked from the operator's place may still work for clients.
    fn may_be_normal(&self, ordinal: Ordinal, problem: &Problem) -> bool {
        let worked = self.memory.reached.contains_key(&ordinal) || self.worked_before(ordinal);
        problem.reason == Reason::Unreachable && !worked && !self.clients_tell()
    }

    fn worked_before(&self, ordinal: Ordinal) -> bool {
        let before = self.previous(ordinal).and_then(|broker| broker.health.as_ref());
        before.is_some_and(|health| health.reachable != Status::Unknown.word())
    }

    fn blocked(&self) -> Option<Problem> {
        let CloudState::Seen(cloud) = &self.observed.cloud else { return None };
        let internal = self.observed.stateful_set.as_ref().and_then(|set| set.internal_port);
        let served = exposure::served_port(self.desired, internal)?;
        let bound =
            self.plan.addresses.iter().filter(|(_, held)| held.outside.is_some()).map(|(ordinal, _)| ordinal);
        let port = bound
            .filter_map(|ordinal| cloud.ports.get(ordinal)?.first())
            .find(|port| exposure::blocks(port, cloud, served))?;
        let group = port.security_groups.first()?;
        let text = format!(
            "no rule of the groups of port {} admits TCP {served} from outside; add one, for example: openstack security group rule create --protocol tcp --dst-port {served} --remote-ip YOUR_CLIENTS {group}",
            port.id
        );
        Some(Problem::new(Reason::SecurityGroupBlocks, text))
    }

    fn progressing(&self, programmed: &Finding) -> Finding {
        let kind = ConditionType::Progressing;
        let stopped =
            [Reason::PlanOnly, Reason::TargetInUse, Reason::InvalidSpec, Reason::HostNetworkRefused];
        if programmed.status == Status::True {
            return Finding::plain(kind, Status::False, Reason::UpToDate);
        }
        if stopped.contains(&programmed.problem.reason) {
            return Finding::plain(kind, Status::False, Reason::Stopped);
        }
        let failed = self.failures.iter().any(|failure| failure.cause.class() != ErrorClass::Waiting)
            || matches!(self.observed.cloud, CloudState::Failed(_))
            || self.plan.brokers.values().any(|verdict| matches!(verdict, Verdict::Refused(_)));
        Finding::plain(kind, Status::True, if failed { Reason::Retrying } else { Reason::Reconciling })
    }

    fn ready(&self, accepted: &Finding, programmed: &Finding, reachable: &Finding) -> Finding {
        let kind = ConditionType::Ready;
        let hindrance =
            [accepted, programmed, reachable].into_iter().find(|finding| finding.status == Status::False);
        match hindrance {
            Some(finding) => Finding { kind, status: Status::False, problem: finding.problem.clone() },
            None => Finding::plain(kind, Status::True, Reason::Ready),
        }
    }

    fn previous(&self, ordinal: Ordinal) -> Option<&BrokerStatus> {
        self.observed.own.status.brokers.iter().find(|broker| broker.ordinal == ordinal.0)
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
        let kept = self.observed.own.status.brokers.iter();
        let kept = kept.filter(|broker| {
            !decided
                || (broker.address_id.is_some()
                    && broker.adopted != Some(true)
                    && !self.observed.own.deleting)
        });
        ordinals.extend(
            kept.filter(|broker| self.is_wanted(broker.ordinal) || !decided)
                .map(|broker| Ordinal(broker.ordinal)),
        );
        ordinals.sort_unstable();
        ordinals.dedup();
        ordinals.into_iter().map(|ordinal| self.broker(ordinal)).collect()
    }

    fn is_wanted(&self, ordinal: u32) -> bool {
        self.observed
            .stateful_set
            .as_ref()
            .is_some_and(|set| set.ordinals().any(|wanted| wanted.0 == ordinal))
    }

    fn broker(&self, ordinal: Ordinal) -> BrokerStatus {
        let previous = self.previous(ordinal);
        let held = self.plan.addresses.get(&ordinal);
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
            message: problem.as_ref().map(|problem| shortened(&problem.message)),
            bandwidth: self.bandwidth(ordinal, held.and_then(|held| held.id.as_ref())),
            health: self.health(ordinal, previous),
        }
    }

    fn bandwidth(&self, ordinal: Ordinal, address: Option<&AddressId>) -> Option<BrokerBandwidth> {
        let limits = match (&self.observed.cloud, address) {
            (CloudState::Seen(cloud), Some(id)) => limits::told(self.desired, cloud, ordinal, id),
            _ => self.previous(ordinal).and_then(|broker| broker.bandwidth.as_ref()).and_then(limits::only),
        };
        usage::told(&self.memory.usage, ordinal, limits)
    }

    fn state(&self, ordinal: Ordinal) -> (BrokerState, Option<Problem>) {
        let failed = self.failures.iter().find(|failure| failure.action.ordinal() == Some(ordinal));
        if let Some(problem) = failed.and_then(|failure| failure.cause.problem()) {
            return (BrokerState::Refused, Some(problem));
        }
        match self.plan.brokers.get(&ordinal) {
            Some(Verdict::Settled) => (BrokerState::Ready, None),
            Some(Verdict::Waiting(problem)) => (BrokerState::Waiting, Some(problem.clone())),
            Some(Verdict::Refused(problem)) => (BrokerState::Refused, Some(problem.clone())),
            Some(Verdict::Idle) => {
                (BrokerState::Idle, Some(Problem::new(Reason::Idle, Reason::Idle.meaning())))
            }
            Some(Verdict::Releasing(problem)) => (BrokerState::Releasing, problem.clone()),
            // Nothing was decided about it: the object's problem is the broker's.
            None => (BrokerState::Waiting, self.plan.problems.first().cloned()),
        }
    }

    fn health(&self, ordinal: Ordinal, previous: Option<&BrokerStatus>) -> Option<BrokerHealth> {
        let before = previous.and_then(|broker| broker.health.clone());
        let Some(kafka) = &self.observed.kafka else { return before };
        let Some(probe) = kafka.probes.get(&ordinal) else { return before };
        let (reachable, problem) = match judge(self.plan, kafka, ordinal)? {
            ProbeVerdict::Good => (Status::True, None),
            ProbeVerdict::Bad(problem) => {
                let may_be_normal = self.may_be_normal(ordinal, &problem);
                (if may_be_normal { Status::Unknown } else { Status::False }, Some(problem))
            }
        };
        let unchanged = before.filter(|before| before.reachable == reachable.word());
        let since =
            unchanged.map_or_else(|| to_seconds(self.now).to_string(), |before| before.last_transition_time);
        Some(BrokerHealth {
            reachable: reachable.word().to_owned(),
            from: probe.from.clone(),
            reason: problem.as_ref().map(|problem| problem.reason.to_string()),
            message: problem.as_ref().map(|problem| shortened(&problem.message)),
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
    fn hosts(&self) -> Vec<String> {
        let previous = &self.observed.own.status.hosts;
        let Some(kafka) = &self.observed.kafka else { return previous.clone() };
        let line = |(ordinal, held): (&Ordinal, &super::Held)| {
            let address = held.address.to_string();
            let outside = self
                .plan
                .endpoints
                .get(ordinal)
                .map(|endpoint| endpoint.host.clone())
                .filter(|host| *host != address);
            let inside = || {
                let view = kafka.internal.get(ordinal)?.as_ref().ok()?;
                view.advertised.get(&view.node).map(|endpoint| endpoint.host.clone())
            };
            match outside.or_else(inside) {
                Some(name) => Some(format!("{address} {name}")),
                None => previous.iter().find(|line| line.starts_with(&format!("{address} "))).cloned(),
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
            usage::column(brokers.iter().map(|broker| broker.bandwidth.as_ref().and_then(rate)))
        };
        let (egress, ingress) = (used(|used| used.egress_mbps), used(|used| used.ingress_mbps));
        let wanted = brokers.iter().filter(|broker| broker.state != BrokerState::Idle);
        let ready = brokers.iter().filter(|broker| broker.state == BrokerState::Ready).count();
        let cost = cost.map(|cost| format!("{} {}", cost.per_month, cost.currency));
        Summary { ready: format!("{ready}/{}", wanted.count()), egress, ingress, cost }
    }
}
