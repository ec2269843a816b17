//! The listener goes from brokers that have it by the pod template, before their addresses do. Part of [`super::deletion`].
//!
//! | seen | then |
//! |---|---|
//! | the template has the listener of another object | nothing of this one is in it |
//! | `onDelete: Restore`, and the template is not what it was | one patch back |
//! | `onDelete: Keep`, or nobody knows what the template was, and a broker's file advertises something | empty files: who restarts from now on advertises nothing more |
//! | Kubernetes itself restarts brokers | wait |
//! | the template refers to files, and there are none | write empty ones: no broker starts without |
//! | a broker advertises from its start what its file or template no longer says | the gate says who restarts next |
//! | a broker does not answer | `ReleaseBlocked`: nobody knows what it advertises |
//! | a broker does not exist | fine in KRaft mode: when it starts, it advertises nothing; else it may have a listener stored, and [`super::deletion`] waits for it |
//! | our roll holds the update strategy | return it, once every pod is of the newest template; with Restore the annotation goes as well |
//! | `onDelete: Restore`, and nothing refers to the ConfigMap | delete it |
//! | otherwise | its address may go |

use k8s_openapi::api::core::v1::ConfigMap;

use super::{
    Action, Plan, Problem, SOON, Verdict,
    desired::{Desired, WantedListener},
    memory::Memory,
    observed::{KafkaState, Observed, PodView, StatefulSetView},
    roll::{kubernetes_is_at_work, not_made, outdated, roll},
    rollout::fixed_entry,
};
use crate::{
    api::conditions::Reason,
    domain::Ordinal,
    listeners::restart::{file, gate::Next, template},
};

struct Road<'a> {
    desired: &'a Desired,
    listener: &'a WantedListener,
    set: &'a StatefulSetView,
    kafka: &'a KafkaState,
    observed: &'a Observed,
    memory: &'a Memory,
}

/// Decides the next step; a broker whose verdict is `Releasing(None)` afterwards advertises nothing of ours.
pub fn plan(
    desired: &Desired,
    listener: &WantedListener,
    observed: &Observed,
    memory: &Memory,
    plan: &mut Plan,
) {
    let (Some(set), Some(kafka)) = (&observed.stateful_set, &observed.kafka) else { return };
    let in_template = template::before(&set.object).ok().flatten();
    if in_template.is_some_and(|before| before.listener != listener.name) {
        return;
    }
    let road = Road { desired, listener, set, kafka, observed, memory };
    for ordinal in set.ordinals() {
        plan.brokers.insert(ordinal, Verdict::Releasing(road.unknown(ordinal)));
    }
    if road.settings(plan) {
        return;
    }
    if let Some(why) = kubernetes_is_at_work(set, observed) {
        road.hold_all(&why, plan);
        return;
    }
    road.restart(plan);
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

    fn hold_all(&self, text: &str, plan: &mut Plan) {
        for ordinal in self.set.ordinals() {
            let verdict = plan.brokers.entry(ordinal).or_insert(Verdict::Releasing(None));
            if *verdict == Verdict::Releasing(None) {
                *verdict = Verdict::Releasing(Some(Problem::new(Reason::Releasing, text)));
            }
        }
        plan.wake_in(SOON);
    }

    /// What brokers read when they start; true when it had to be changed.
    fn settings(&self, plan: &mut Plan) -> bool {
        if self.listener.restore && self.set.manager.is_none() {
            let before = template::restored(&self.set.object, self.desired.container.as_deref());
            if let Ok(Some(target)) = before {
                let what = format!("take listener {} out of the pod template", self.listener.name);
                plan.restarts = self.set.ordinals().count();
                plan.actions.push(Action::ChangeTemplate { target: Box::new(target), what });
                self.hold_all("the pod template becomes what it was", plan);
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
            self.hold_all("the listener is being withdrawn", plan);
        }
        differs
    }

    fn due(&self, ordinal: Ordinal) -> bool {
        let old = template::rolling(&self.set.object) && outdated(self.set, self.observed, ordinal);
        let view = self.kafka.internal.get(&ordinal).and_then(|view| view.as_ref().ok());
        // Without files the template itself states a name, which stays with it.
        let by_file = self.files().is_some();
        old || by_file && view.is_some_and(|view| fixed_entry(view, &self.listener.name).is_some())
    }

    /// Why no further restart of this broker helps; who is of an older template restarts for that.
    fn in_vain(&self, ordinal: Ordinal, pod: &PodView) -> Option<String> {
        let old = outdated(self.set, self.observed, ordinal);
        let rolls = old && template::on_delete(&self.set.object);
        if rolls || !self.memory.in_vain(ordinal, &pod.identity, None) {
            return None;
        }
        let name = &pod.identity.name;
        Some(match old {
            true => format!(
                "{name} is of an older pod template, which updateStrategy holds back; let it be rolled out"
            ),
            false => format!("{name} was restarted and still advertises; see its log"),
        })
    }

    fn restart(&self, plan: &mut Plan) {
        let roll = roll(self.set, self.observed, self.kafka, |ordinal| self.due(ordinal));
        plan.restarts = roll.due().count();
        let told = match roll.next(self.listener.allow_unavailable, plan) {
            None => return,
            Some(Next::Done) => return self.finish(plan),
            Some(Next::Blocked(cause)) => {
                let waited_for = self.memory.restarting(self.observed).is_some();
                let reason = if waited_for { Reason::Releasing } else { Reason::RestartBlocked };
                Problem::new(reason, cause)
            }
            Some(Next::Restart(ordinal)) => match self.observed.pods.get(&ordinal) {
                Some(pod) => match self.in_vain(ordinal, pod) {
                    Some(why) => Problem::new(Reason::RestartBlocked, why),
                    None => {
                        plan.actions.push(Action::Restart { ordinal, pod: pod.identity.clone(), goal: None });
                        Problem::new(Reason::Releasing, "the brokers restart one after the other")
                    }
                },
                None => Problem::new(Reason::Releasing, "the pod is being made"),
            },
        };
        for ordinal in self.set.ordinals() {
            let verdict = plan.brokers.entry(ordinal).or_insert(Verdict::Releasing(None));
            if *verdict == Verdict::Releasing(None) {
                *verdict = Verdict::Releasing(Some(told.clone()));
            }
        }
        plan.wake_in(SOON);
    }

    fn finish(&self, plan: &mut Plan) {
        let restored = self.listener.restore
            && self.set.manager.is_none()
            && !template::refers_to_files(&self.set.object);
        let target = match restored {
            true => template::forgotten(&self.set.object),
            false => template::strategy_returned(&self.set.object),
        };
        if let Some(target) = target {
            let missing = not_made(self.set, self.observed).filter(|_| template::rolling(&self.set.object));
            if let Some(ordinal) = missing {
                let text = format!(
                    "the update strategy is returned when every pod is of the newest template, and {}-{ordinal} is not; bring it up, or delete the StatefulSet",
                    self.desired.stateful_set
                );
                return self.hold_all(&text, plan);
            }
            let what = "return the update strategy to the StatefulSet".to_owned();
            plan.actions.push(Action::ChangeTemplate { target: Box::new(target), what });
            self.hold_all("the update strategy is being returned", plan);
        } else if let Some(files) = self.files().filter(|_| restored) {
            plan.actions.push(Action::DeleteFiles { files: Box::new(files.clone()) });
        }
    }
}
