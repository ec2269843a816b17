//! What holds of the object as a whole: its conditions, each with the gravest reason.

use super::{
    Problem, Verdict,
    conditions::{Finding, Status},
    exposure,
    observed::CloudState,
    probes::{ProbeVerdict, first_to_renew, judge},
    status::Teller,
    words::and_more,
};
use crate::{
    api::{
        Mode, Vantage,
        conditions::{ConditionType, Reason},
    },
    domain::{ErrorClass, Ordinal},
};

/// Reasons that say that the object, or what it names, cannot be served.
const NOT_ACCEPTED: [Reason; 9] = [
    Reason::InvalidSpec,
    Reason::StatefulSetNotFound,
    Reason::TargetInUse,
    Reason::ClassNotFound,
    Reason::NamespaceNotAllowed,
    Reason::SecretNotFound,
    Reason::SecretMalformed,
    Reason::HostNetworkRefused,
    Reason::TooManyBrokers,
];

impl Teller<'_> {
    /// Every condition.
    pub(super) fn findings(&self) -> Vec<Finding> {
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
        if let Some(problem) = self.failures.iter().find_map(|failure| failure.cause.problem()) {
            return finding(&problem);
        }
        if self.observed.own.deleting {
            let held_up = self.named(|verdict| match verdict {
                Verdict::Releasing(Some(problem)) => Some(problem),
                _ => None,
            });
            let going = || Finding::plain(kind, Status::False, Reason::Releasing);
            return held_up.as_ref().map_or_else(going, finding);
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
        let (set, more) = (&self.desired.stateful_set, and_more(found.count()));
        let text = format!("{set}-{ordinal}: {}{more}", first.message);
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
    /// | the cloud cannot be read | the addresses that brokers advertised before are judged as above; without any: Unknown `NotProbed` |
    /// | all good, and a certificate ends soon | True `CertificateExpiresSoon` |
    /// | all good | True |
    fn reachable(&self) -> Finding {
        let kind = ConditionType::Reachable;
        if let Some(problem) = self.blocked() {
            return Finding { kind, status: Status::False, problem };
        }
        let Some(kafka) = &self.observed.kafka else { return self.reachable_as_before() };
        let mut unknown = None;
        let mut good = false;
        let served = self.plan.brokers.iter().filter(|(_, verdict)| **verdict != Verdict::Idle);
        let before = self.plan.addresses.iter().filter(|(_, held)| held.as_before);
        for ordinal in served.map(|(ordinal, _)| ordinal).chain(before.map(|(ordinal, _)| ordinal)) {
            match judge(self.plan, kafka, *ordinal) {
                Some(ProbeVerdict::Good) => good = true,
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
            None if !good => Finding::plain(kind, Status::Unknown, Reason::NotProbed),
            None => match first_to_renew(&self.desired.stateful_set, kafka, self.now) {
                Some(problem) => Finding { kind, status: Status::True, problem },
                None => Finding::plain(kind, Status::True, Reason::Reachable),
            },
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
        let kind = ConditionType::Reachable;
        let before = self.observed.own.status.condition(kind);
        match before.filter(|condition| condition.status == "True") {
            Some(before) if before.reason == Reason::CertificateExpiresSoon.to_string() => {
                let problem = Problem::new(Reason::CertificateExpiresSoon, &before.message);
                Finding { kind, status: Status::True, problem }
            }
            Some(_) => Finding::plain(kind, Status::True, Reason::Reachable),
            _ => Finding::plain(kind, Status::Unknown, Reason::NotProbed),
        }
    }

    /// An address that never worked from the operator's place may still work for clients.
    pub(super) fn may_be_normal(&self, ordinal: Ordinal, problem: &Problem) -> bool {
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
        let mut ports = bound.filter_map(|ordinal| cloud.ports.get(ordinal)?.first());
        ports.find_map(|port| exposure::blocked(port, cloud, served))
    }

    fn progressing(&self, programmed: &Finding) -> Finding {
        let kind = ConditionType::Progressing;
        let stopped = [
            Reason::PlanOnly,
            Reason::TargetInUse,
            Reason::InvalidSpec,
            Reason::HostNetworkRefused,
            Reason::TooManyBrokers,
        ];
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
}
