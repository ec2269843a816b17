//! The listener goes from brokers that have it by the pod template, before their addresses do. Part of [`super::deletion`].
//!
//! | seen | then |
//! |---|---|
//! | the template has the listener of another object | nothing of this one is in it |
//! | `onDelete: Restore`, the template is not what it was, and somebody holds back one that is newer than some brokers | `RestartBlocked`: nothing is rolled out that somebody holds back |
//! | `onDelete: Restore`, and the template is not what it was | one patch back |
//! | `onDelete: Keep`, or nobody knows what the template was, and a broker's file advertises something | empty files: who restarts from now on advertises nothing more |
//! | Kubernetes itself restarts brokers | wait |
//! | the template refers to files, and there are none | write empty ones: no broker starts without |
//! | a broker advertises from its start what its file or template no longer says | the gate says who restarts next; one whose user holds a newer template back by `OnDelete` is not restarted |
//! | a broker does not answer | `ReleaseBlocked`: nobody knows what it advertises |
//! | a broker does not exist | fine in KRaft mode: when it starts, it advertises nothing; else it may have a listener stored, and [`super::deletion`] waits for it |
//! | our roll holds the update strategy | return it, once every pod is of the newest template; where nothing of ours is in the template, the annotation goes as well |
//! | nothing of ours is in the template, and neither it nor a pod refers to the ConfigMap | delete it |
//! | otherwise | its address may go |

use k8s_openapi::api::core::v1::ConfigMap;

use super::{
    Action, Plan, Problem, SOON, Verdict,
    desired::{Desired, WantedListener},
    memory::Memory,
    observed::{KafkaState, Observed, PodView, StatefulSetView},
    roll::{
        held_back, kubernetes_is_at_work, needs_files, not_made, only_by_hand, outdated, return_strategy,
        roll,
    },
    rollout::fixed_entry,
};
use crate::{
    api::conditions::Reason,
    domain::Ordinal,
    listeners::restart::{file, gate::Next, strategy, template},
};

struct Road<'a> {
    desired: &'a Desired,
    listener: &'a WantedListener,
    set: &'a StatefulSetView,
    kafka: &'a KafkaState,
    observed: &'a Observed,
    memory: &'a Memory,
}

/// Decides the next step; a broker whose verdict is `Releasing(None)` afterwards advertises nothing of ours. True when
/// nothing is left to be done.
pub fn plan(
    desired: &Desired,
    listener: &WantedListener,
    observed: &Observed,
    memory: &Memory,
    plan: &mut Plan,
) -> bool {
    let (Some(set), Some(kafka)) = (&observed.stateful_set, &observed.kafka) else { return true };
    let in_template = template::before(&set.object).ok().flatten();
    if in_template.is_some_and(|before| before.listener != listener.name) {
        return true;
    }
    let road = Road { desired, listener, set, kafka, observed, memory };
    for ordinal in set.ordinals() {
        plan.brokers.insert(ordinal, Verdict::Releasing(road.unknown(ordinal)));
    }
    if road.settings(plan) {
        return false;
    }
    if let Some(why) = kubernetes_is_at_work(set, observed) {
        road.hold_all(Reason::Releasing, &why, plan);
        return false;
    }
    road.restart(plan)
}

impl<'a> Road<'a> {
    /// A ConfigMap of the user's is not ours to change.
    fn files(&self) -> Option<&'a ConfigMap> {
        self.observed.files.as_ref().filter(|files| file::is_ours(files))
    }

    /// A broker that runs and does not say what it advertises.
    fn unknown(&self, ordinal: Ordinal) -> Option<Problem> {
        match self.kafka.internal.get(&ordinal) {
            Some(Err(error)) if self.memory.restarting(self.observed) != Some(ordinal) => Some(Problem::new(
                Reason::ReleaseBlocked,
                format!(
                    "{}-{ordinal} cannot be asked what it advertises ({error}); bring it up, or delete the StatefulSet",
                    self.desired.stateful_set
                ),
            )),
            _ => None,
        }
    }

    fn hold_all(&self, reason: Reason, text: &str, plan: &mut Plan) {
        for ordinal in self.set.ordinals() {
            let verdict = plan.brokers.entry(ordinal).or_insert(Verdict::Releasing(None));
            if *verdict == Verdict::Releasing(None) {
                *verdict = Verdict::Releasing(Some(Problem::new(reason, text)));
            }
        }
        plan.wake_in(SOON);
    }

    /// What brokers read when they start; true when it had to be changed.
    fn settings(&self, plan: &mut Plan) -> bool {
        if self.listener.restore && self.set.manager.is_none() {
            let before = template::restored(&self.set.object, self.desired.container.as_deref());
            if let Ok(Some(target)) = before {
                if let Some(why) = kubernetes_is_at_work(self.set, self.observed) {
                    self.hold_all(Reason::Releasing, &why, plan);
                    return true;
                }
                let held_back = |ordinal: &Ordinal| held_back(self.set, self.observed, *ordinal);
                if let Some(ordinal) = self.set.ordinals().find(held_back) {
                    let text = format!(
                        "{}-{ordinal} is of an older pod template, and to take listener {} out would roll out the newest; let it be rolled out first (updateStrategy), or set onDelete: Keep",
                        self.desired.stateful_set, self.listener.name
                    );
                    self.hold_all(Reason::RestartBlocked, &text, plan);
                    return true;
                }
                let what = format!("take listener {} out of the pod template", self.listener.name);
                plan.restarts = self.set.ordinals().count();
                plan.actions.push(Action::ChangeTemplate { target: Box::new(target), what });
                self.hold_all(Reason::Releasing, "the pod template becomes what it was", plan);
                return true;
            }
            if !template::refers_to_files(&self.set.object) {
                return false;
            }
        }
        let present = self.files();
        // Without the files that it reads no broker starts.
        let lost = self.observed.files.is_none() && template::refers_to_files(&self.set.object);
        if present.is_none() && !lost {
            return false;
        }
        let files = file::empty(&self.set.object, present);
        let differs = present.is_none_or(|present| files.data != present.data);
        if differs {
            plan.restarts = self.set.ordinals().filter(|ordinal| self.due(*ordinal)).count();
            plan.actions.push(Action::WriteFiles { files: Box::new(files) });
            self.hold_all(Reason::Releasing, "the listener is being withdrawn", plan);
        }
        differs
    }

    fn due(&self, ordinal: Ordinal) -> bool {
        let old = strategy::rolling(&self.set.object) && outdated(self.set, self.observed, ordinal);
        let view = self.kafka.internal.get(&ordinal).and_then(|view| view.as_ref().ok());
        let tells = view.is_some_and(|view| fixed_entry(view, &self.listener.name).is_some());
        old || tells && self.ceases_by_restart()
    }

    /// Files are empty by now. A name that the template itself states stays with it.
    fn ceases_by_restart(&self) -> bool {
        let container = self.desired.container.as_deref();
        template::refers_to_files(&self.set.object)
            || template::states_name(&self.set.object, container, &self.listener.name) == Ok(false)
    }

    /// Why this broker is not restarted; who is of an older template by our roll restarts for that.
    fn refused(&self, ordinal: Ordinal, pod: &PodView) -> Option<String> {
        if let Some(why) = only_by_hand(self.set, self.observed, ordinal) {
            return Some(why);
        }
        let held_back = held_back(self.set, self.observed, ordinal);
        let rolls = outdated(self.set, self.observed, ordinal) && !held_back;
        let in_vain = !rolls && self.memory.in_vain(ordinal, &pod.identity, None);
        // Without files, what it tells is in the template that it would be made of again.
        if !in_vain && (!held_back || template::refers_to_files(&self.set.object)) {
            return None;
        }
        let name = &pod.identity.name;
        Some(match held_back {
            true => format!(
                "{name} is of an older pod template, which updateStrategy holds back; let it be rolled out"
            ),
            false => format!("{name} was restarted and still advertises; see its log"),
        })
    }

    fn restart(&self, plan: &mut Plan) -> bool {
        let roll = roll(self.set, self.observed, self.kafka, |ordinal| self.due(ordinal));
        plan.restarts = roll.due().count();
        let told = match roll.next(self.listener.allow_unavailable, plan) {
            None => return false,
            Some(Next::Done) => return self.finish(plan),
            Some(Next::Blocked(cause)) => {
                let waited_for = self.memory.restarting(self.observed).is_some();
                let reason = if waited_for { Reason::Releasing } else { Reason::RestartBlocked };
                Problem::new(reason, cause)
            }
            Some(Next::Restart(ordinal)) => match self.observed.pods.get(&ordinal) {
                Some(pod) => match self.refused(ordinal, pod) {
                    Some(why) => Problem::new(Reason::RestartBlocked, why),
                    None => {
                        plan.actions.push(Action::Restart { ordinal, pod: pod.identity.clone(), goal: None });
                        Problem::new(Reason::Releasing, "the brokers restart one after the other")
                    }
                },
                None => Problem::new(Reason::Releasing, "the pod is being made"),
            },
        };
        self.hold_all(told.reason, &told.message, plan);
        false
    }

    fn finish(&self, plan: &mut Plan) -> bool {
        let container = self.desired.container.as_deref();
        let missing = not_made(self.set, self.observed);
        let needed = needs_files(self.set, self.observed).is_some();
        let clean = match template::restored(&self.set.object, container) {
            Ok(left) => left.is_none(),
            // The user has taken out what it stands in.
            Err(_) => self.listener.restore,
        };
        let nothing_of_ours = self.set.manager.is_none()
            && !template::refers_to_files(&self.set.object)
            && clean
            && (self.listener.restore || missing.is_none());
        let target = match nothing_of_ours {
            true => template::forgotten(&self.set.object),
            false => strategy::returned(&self.set.object),
        };
        if let Some(target) = target {
            if let Some(ordinal) = missing.filter(|_| strategy::rolling(&self.set.object)) {
                let text = format!(
                    "the update strategy is returned when every pod is of the newest template, and {}-{ordinal} is not; bring it up, or delete the StatefulSet",
                    self.desired.stateful_set
                );
                self.hold_all(Reason::Releasing, &text, plan);
            } else if nothing_of_ours && needed {
                plan.wake_in(SOON);
            } else {
                plan.actions.push(return_strategy(target));
                self.hold_all(Reason::Releasing, "the update strategy is being returned", plan);
            }
            return false;
        }
        if let Some(files) = self.files().filter(|_| nothing_of_ours) {
            if needed {
                plan.wake_in(SOON);
                return false;
            }
            plan.actions.push(Action::DeleteFiles { files: Box::new(files.clone()) });
        }
        true
    }
}
