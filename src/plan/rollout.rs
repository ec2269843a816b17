//! The listener by the pod template (`rollout: Restart`), step by step. Each step is taken only when the one before it was
//! seen in the world, so that an operator that is killed goes on where it was.
//!
//! | seen | then |
//! |---|---|
//! | the template is not understood | `ListenerSettingsNotUnderstood` |
//! | somebody else keeps the template as it is (Helm, Argo CD, ...), and our listener is not in it | `ManualStepsOutstanding`: the patch is shown |
//! | our listener was in the template and somebody took it out | `TemplateReverted`: the patch is shown, nothing is put back |
//! | an endpoint is wanted by two brokers, or told by another one | `EndpointTaken`; where that one is to tell something else, it goes first |
//! | the one that tells it has its own from its start, and a stored value hides that | delete the stored value |
//! | an endpoint was told to a broker that cannot be asked | `EndpointTaken`, until that one answers or goes |
//! | a ConfigMap of the user's has the name of the files | `FilesTaken` |
//! | something else has the port in a pod | `ListenerPortTaken` |
//! | a broker is of an older template, and not because of us | `RestartBlocked`: nothing is rolled out that somebody holds back |
//! | a broker's file does not say what its address is | write the ConfigMap |
//! | the listener is not in the template, and every broker has its address | one patch of the template |
//! | Kubernetes itself restarts brokers (an older revision, and the strategy is not `OnDelete`) | wait |
//! | a broker does not have its endpoint from its start, or is older than our patch | the gate ([`gate`]) says who restarts next |
//! | nobody is due, and our roll holds the update strategy | return it, once every pod is there: a `partition` would bring the older template back |
//! | nobody is due, and settings are stored in Kafka (an earlier `Dynamic`) | delete them |

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;

use super::{
    Action, Outside, Plan, Problem, SOON, Verdict,
    desired::{Desired, WantedListener},
    listeners::still_told,
    memory::Memory,
    observed::{KafkaState, Observed, StatefulSetView},
    roll::{
        Roll, held_back, kubernetes_is_at_work, not_made, not_taken_in, only_by_hand, outdated,
        return_strategy, roll,
    },
};
use crate::{
    api::conditions::Reason,
    domain::{Endpoint, NodeId, Ordinal},
    kafka::{BrokerView, ListenerSetting},
    kubernetes::patch,
    listeners::{
        dynamic,
        restart::{
            dialect::NotUnderstood,
            file::{self, Advertised},
            gate::Next,
            strategy,
            template::{self, State},
        },
        text::Listeners,
    },
};

/// What one broker shall tell clients, and the address that leads to it.
pub struct Goal {
    /// The address.
    pub outside: Outside,
    /// What it tells.
    pub endpoint: Endpoint,
}

/// What all steps look at.
struct Road<'a> {
    desired: &'a Desired,
    listener: &'a WantedListener,
    set: &'a StatefulSetView,
    observed: &'a Observed,
    kafka: &'a KafkaState,
    memory: &'a Memory,
}

/// Decides the next step for all brokers with a goal.
pub fn plan(
    desired: &Desired,
    listener: &WantedListener,
    observed: &Observed,
    memory: &Memory,
    goals: &BTreeMap<Ordinal, Goal>,
    plan: &mut Plan,
) {
    let (Some(set), Some(kafka)) = (&observed.stateful_set, &observed.kafka) else { return };
    let road = Road { desired, listener, set, observed, kafka, memory };
    let Some(free) = road.free(goals, plan) else { return };
    let missing = set.ordinals().find(|ordinal| !goals.contains_key(ordinal));
    let goals = &free;
    let map = kafka.protocol_map();
    let wanted = wanted(desired, listener, map.as_deref());
    let by_file = road.by_file();
    if by_file && observed.files.as_ref().is_some_and(|files| !file::is_ours(files)) {
        let text = format!(
            "ConfigMap {} is not the operator's; rename it, the brokers' files need that name",
            file::name(&desired.stateful_set)
        );
        return road.refuse_all(Reason::FilesTaken, &text, goals, plan);
    }
    let target = match template::state(&set.object, desired.container.as_deref(), &wanted) {
        Ok(State::InShape) => None,
        Ok(State::Reverted(target)) => {
            let text = format!(
                "listener {} is no longer in the pod template; merge the patch in status.plan into the manifest that is applied",
                listener.name
            );
            return road.show_patch(&target, Reason::TemplateReverted, &text, goals, plan);
        }
        Ok(State::Change(target)) => {
            if let Some(manager) = &set.manager {
                let text =
                    format!("the StatefulSet is managed by {manager}; merge the patch in status.plan there");
                return road.show_patch(&target, Reason::ManualStepsOutstanding, &text, goals, plan);
            }
            Some(target)
        }
        Err(problem) => return road.not_understood(&problem, goals, plan),
    };
    if target.is_some() && road.is_in_the_way(goals, plan) {
        return;
    }
    if by_file && road.write_files(goals, plan) {
        return;
    }
    match target {
        Some(target) => road.change_template(*target, goals, missing, plan),
        None => road.restart(goals, missing, plan),
    }
}

/// What the template should have.
fn wanted<'a>(desired: &Desired, listener: &'a WantedListener, map: Option<&'a str>) -> template::Wanted<'a> {
    template::Wanted {
        name: &listener.name,
        port: listener.port,
        protocol: listener.protocol.to_string(),
        host: host(desired, listener),
        map,
    }
}

/// The name that the template itself can state for all brokers.
fn host<'a>(desired: &Desired, listener: &'a WantedListener) -> Option<&'a str> {
    let only_pod_name =
        |host: &&str| host.contains("{podName}") && !host.contains("{ordinal}") && !host.contains("{nodeId}");
    let host = listener.host_template.as_deref().filter(only_pod_name);
    host.filter(|_| desired.advertised_hosts.is_empty())
}

impl Road<'_> {
    fn pod(&self, ordinal: Ordinal) -> String {
        format!("{}-{ordinal}", self.desired.stateful_set)
    }

    /// Each broker's own file says what it advertises.
    fn by_file(&self) -> bool {
        host(self.desired, self.listener).is_none()
    }

    /// The goals that may be pursued; `None`: none may. Kafka 4 accepts duplicates silently, so this is ours to check.
    ///
    /// | an endpoint | then |
    /// |---|---|
    /// | is wanted by two brokers | nothing goes on |
    /// | is told by another broker, which does not cease to by a restart that may come now | nothing goes on |
    /// | was told to another broker that cannot be asked, and is not in force | nothing goes on |
    /// | is told by another broker, which has another goal | that one goes first, and this one waits |
    fn free<'g>(
        &self,
        goals: &'g BTreeMap<Ordinal, Goal>,
        plan: &mut Plan,
    ) -> Option<BTreeMap<Ordinal, &'g Goal>> {
        let mut free: BTreeMap<Ordinal, &Goal> =
            goals.iter().map(|(ordinal, goal)| (*ordinal, goal)).collect();
        let mut tellers = Vec::new();
        let mut twice = false;
        for (ordinal, goal) in goals {
            if let Some((teller, node)) = self.teller(*ordinal, goal) {
                let text = format!("broker {node} advertises {} already", goal.endpoint);
                plan.refuse(*ordinal, Reason::EndpointTaken, text);
                tellers.push((teller, &goal.endpoint));
            } else if let Some(other) = self
                .memory
                .absent_teller(self.observed, *ordinal, &goal.endpoint)
                .filter(|_| !self.in_force(*ordinal, goal))
            {
                plan.refuse(*ordinal, Reason::EndpointTaken, still_told(self.desired, other, &goal.endpoint));
            } else if goals.iter().any(|(other, wanted)| other != ordinal && wanted.endpoint == goal.endpoint)
            {
                let text = format!("{} is wanted for two brokers; each needs its own", goal.endpoint);
                plan.refuse(*ordinal, Reason::EndpointTaken, text);
                twice = true;
            } else {
                continue;
            }
            free.remove(ordinal);
        }
        if free.len() < goals.len() {
            plan.wake_in(self.desired.probe_interval);
        }
        // What it has from its start is another one after its restart.
        let ceases = |(teller, endpoint): &(Ordinal, &Endpoint)| {
            free.contains_key(teller) && self.told_since_start(*teller).as_ref() == Some(*endpoint)
        };
        if free.len() == goals.len() || (!twice && tellers.iter().any(ceases)) {
            return Some(free);
        }
        // A stored value may hide what the teller has from its start by now.
        let hides = |teller: &Ordinal| goals.get(teller).is_some_and(|goal| self.in_force(*teller, goal));
        for (teller, _) in tellers.iter().filter(|(teller, _)| hides(teller)) {
            self.delete_stored(*teller, plan);
        }
        let waiting =
            "the endpoint of another broker is taken; no broker restarts before it has one of its own";
        for (ordinal, goal) in free {
            if !self.in_force(ordinal, goal) {
                plan.wait(ordinal, Reason::InProgress, waiting);
            }
        }
        None
    }

    /// Another broker that tells this endpoint.
    fn teller(&self, ordinal: Ordinal, goal: &Goal) -> Option<(Ordinal, NodeId)> {
        let others = self.kafka.internal.iter().filter(|(other, _)| **other != ordinal);
        let mut views = others.filter_map(|(other, view)| Some((*other, view.as_ref().ok()?)));
        views
            .find(|(_, view)| dynamic::advertises_anywhere(view, &goal.endpoint))
            .map(|(other, view)| (other, view.node))
    }

    fn show_patch(
        &self,
        target: &StatefulSet,
        reason: Reason,
        text: &str,
        goals: &BTreeMap<Ordinal, &Goal>,
        plan: &mut Plan,
    ) {
        if reason == Reason::ManualStepsOutstanding && self.by_file() && self.write_files(goals, plan) {
            return;
        }
        // What our own roll would need besides is not the user's business.
        let mut target = target.clone();
        target.metadata = self.set.object.metadata.clone();
        let strategy = self.set.object.spec.as_ref().and_then(|spec| spec.update_strategy.clone());
        target.spec.get_or_insert_default().update_strategy = strategy;
        plan.outstanding.push(patch_in_words(self.desired, self.set, &target));
        for (ordinal, goal) in goals {
            if !self.in_force(*ordinal, goal) {
                plan.wait(*ordinal, reason, text);
            }
        }
    }

    fn not_understood(&self, problem: &NotUnderstood, goals: &BTreeMap<Ordinal, &Goal>, plan: &mut Plan) {
        let text = format!("{problem}; choose rollout: Manual");
        self.refuse_all(Reason::ListenerSettingsNotUnderstood, &text, goals, plan);
    }

    fn refuse_all(&self, reason: Reason, text: &str, goals: &BTreeMap<Ordinal, &Goal>, plan: &mut Plan) {
        for ordinal in goals.keys() {
            plan.refuse(*ordinal, reason, text);
        }
    }

    fn wait_all(&self, reason: Reason, text: &str, goals: &BTreeMap<Ordinal, &Goal>, plan: &mut Plan) {
        for ordinal in goals.keys() {
            plan.wait(*ordinal, reason, text);
        }
    }

    /// What the listener must not come into the template for: its brokers would not start, or what somebody holds back
    /// would be rolled out with it.
    fn is_in_the_way(&self, goals: &BTreeMap<Ordinal, &Goal>, plan: &mut Plan) -> bool {
        let busy = |ordinal: &&Ordinal| self.kafka.port_busy.get(ordinal) == Some(&true);
        if let Some(ordinal) = goals.keys().find(busy) {
            let port = self.listener.port;
            let text = format!("something listens on port {port} in {} already", self.pod(*ordinal));
            self.refuse_all(Reason::ListenerPortTaken, &text, goals, plan);
            plan.wake_in(self.desired.probe_interval);
            return true;
        }
        if let Some(why) = not_taken_in(self.set) {
            self.wait_all(Reason::InProgress, why, goals, plan);
            plan.wake_in(SOON);
            return true;
        }
        if let Some(ordinal) =
            self.set.ordinals().find(|ordinal| held_back(self.set, self.observed, *ordinal))
        {
            let text = format!(
                "{} is of an older pod template; the listener comes into the template when all brokers are of the newest, so that nothing else is rolled out with it",
                self.pod(ordinal)
            );
            self.wait_all(Reason::RestartBlocked, &text, goals, plan);
            plan.wake_in(SOON);
            return true;
        }
        false
    }

    /// True when they had to be written: the next step waits until that was read back.
    fn write_files(&self, goals: &BTreeMap<Ordinal, &Goal>, plan: &mut Plan) -> bool {
        let advertised = goals.iter().map(|(ordinal, goal)| {
            (*ordinal, Advertised::of(&self.listener.name, &goal.outside, &goal.endpoint))
        });
        let present = self.observed.files.as_ref();
        let files = file::wanted(&self.set.object, present, &advertised.collect());
        let differs = present.is_none_or(|present| present.data != files.data);
        if differs {
            plan.actions.push(Action::WriteFiles { files: Box::new(files) });
            self.wait_all(Reason::InProgress, "the listener is being prepared", goals, plan);
            self.foresee(goals, plan);
        }
        differs
    }

    fn change_template(
        &self,
        target: StatefulSet,
        goals: &BTreeMap<Ordinal, &Goal>,
        missing: Option<Ordinal>,
        plan: &mut Plan,
    ) {
        for ordinal in goals.keys() {
            let text = match missing {
                Some(missing) => format!(
                    "the pod template changes when every broker has its address; {} has none yet",
                    self.pod(missing)
                ),
                None => "the listener comes into the pod template".to_owned(),
            };
            plan.wait(*ordinal, Reason::InProgress, text);
        }
        if missing.is_none() {
            plan.actions.push(Action::ChangeTemplate {
                target: Box::new(target),
                what: format!("add listener {} to the pod template", self.listener.name),
            });
        }
        self.foresee(goals, plan);
    }

    /// The restarts that follow, with their number.
    fn foresee(&self, goals: &BTreeMap<Ordinal, &Goal>, plan: &mut Plan) {
        let due = goals.iter().filter(|(ordinal, goal)| !self.in_force(**ordinal, goal)).count();
        plan.restarts = due;
        if due > 0 {
            plan.outstanding.push(format!("then restart {due} brokers, one after the other"));
        }
    }

    /// The broker has its endpoint from its own start, not from a stored value.
    fn in_force(&self, ordinal: Ordinal, goal: &Goal) -> bool {
        self.told_since_start(ordinal).as_ref() == Some(&goal.endpoint)
    }

    /// What the broker tells from its own start.
    fn told_since_start(&self, ordinal: Ordinal) -> Option<Endpoint> {
        fixed_entry(self.kafka.internal.get(&ordinal)?.as_ref().ok()?, &self.listener.name)
    }

    /// The broker has the listener in its template or file, whatever it advertises.
    fn binds(&self, ordinal: Ordinal) -> bool {
        let view = self.kafka.internal.get(&ordinal).and_then(|view| view.as_ref().ok());
        let text = view.and_then(|view| view.setting(ListenerSetting::Listeners).fixed).unwrap_or_default();
        Listeners::parse(&text).is_ok_and(|listeners| listeners.get(&self.listener.name).is_some())
    }

    fn restart(&self, goals: &BTreeMap<Ordinal, &Goal>, missing: Option<Ordinal>, plan: &mut Plan) {
        if let Some(why) = kubernetes_is_at_work(self.set, self.observed) {
            let due = goals.iter().filter(|(ordinal, goal)| !self.in_force(**ordinal, goal));
            for (ordinal, _) in due {
                plan.wait(*ordinal, Reason::InProgress, why.clone());
            }
            return plan.wake_in(SOON);
        }
        let due = |ordinal: Ordinal| {
            let old = strategy::rolling(&self.set.object) && outdated(self.set, self.observed, ordinal);
            old || goals.get(&ordinal).is_some_and(|goal| !self.in_force(ordinal, goal))
        };
        let roll = roll(self.set, self.observed, self.kafka, due);
        match roll.next(self.listener.allow_unavailable, plan) {
            None => self.tell(&roll, "the brokers are looked at before one restarts", plan),
            Some(Next::Done) => self.finish(plan),
            Some(Next::Restart(ordinal)) => {
                self.tell(&roll, "a restart is due; one broker after the other", plan);
                // Its address must lead to it again before the next one goes.
                if missing.is_some() {
                    return plan.wake_in(SOON);
                }
                self.restart_one(ordinal, goals, plan);
            }
            Some(Next::Blocked(cause)) => self.blocked(&roll, &cause, plan),
        }
    }

    fn restart_one(&self, ordinal: Ordinal, goals: &BTreeMap<Ordinal, &Goal>, plan: &mut Plan) {
        let Some(pod) = self.observed.pods.get(&ordinal) else { return };
        let goal = goals.get(&ordinal).map(|goal| goal.endpoint.clone());
        let in_vain = self.memory.in_vain(ordinal, &pod.identity, goal.as_ref());
        let old = outdated(self.set, self.observed, ordinal);
        if let Some(text) = only_by_hand(self.set, self.observed, ordinal) {
            return plan.wait(ordinal, Reason::RestartBlocked, text);
        }
        let held_back = held_back(self.set, self.observed, ordinal);
        if held_back && !self.binds(ordinal) {
            let text = format!(
                "{} is of an older pod template without listener {}, which updateStrategy holds back; let it be rolled out",
                self.pod(ordinal),
                self.listener.name
            );
            return plan.wait(ordinal, Reason::RestartBlocked, text);
        }
        if in_vain && (!old || held_back) {
            let text = format!(
                "{} was restarted and still does not advertise what it should; see its log; nothing more is restarted",
                self.pod(ordinal)
            );
            return plan.wait(ordinal, Reason::RestartBlocked, text);
        }
        plan.wait(ordinal, Reason::InProgress, "the broker restarts");
        plan.actions.push(Action::Restart { ordinal, pod: pod.identity.clone(), goal });
    }

    fn tell(&self, roll: &Roll<'_>, text: &str, plan: &mut Plan) {
        for ordinal in roll.due() {
            plan.wait(ordinal, Reason::InProgress, text);
        }
        let rest = roll.due().count();
        plan.restarts = rest;
        if rest > 1 {
            plan.outstanding.push(format!("then restart {} more, one after the other", rest - 1));
        }
    }

    fn blocked(&self, roll: &Roll<'_>, cause: &str, plan: &mut Plan) {
        let restarting = self.memory.restarting(self.observed);
        for ordinal in roll.due() {
            match restarting {
                Some(other) => {
                    let text = format!("{} restarts and is waited for: {cause}", self.pod(other));
                    plan.wait(ordinal, Reason::InProgress, text);
                }
                None => plan.wait(ordinal, Reason::RestartBlocked, self.with_a_way_out(cause)),
            }
        }
        plan.restarts = roll.due().count();
        plan.outstanding.push(format!("restart {} brokers, one after the other", plan.restarts));
        plan.wake_in(SOON);
    }

    /// A broker that does not come up waits in our own roll for a template that would mend it.
    fn with_a_way_out(&self, cause: &str) -> String {
        let mut ordinals = self.set.ordinals().filter(|_| strategy::rolling(&self.set.object));
        let broken = ordinals.find(|ordinal| {
            let ready = self.observed.pods.get(ordinal).is_none_or(|pod| pod.ready || pod.terminating);
            !ready && outdated(self.set, self.observed, *ordinal)
        });
        match broken {
            Some(ordinal) => format!(
                "{cause}; the pod template has changed since {} was made: delete that pod, and it is made of the newest",
                self.pod(ordinal)
            ),
            None => cause.to_owned(),
        }
    }

    /// Nobody is due any more.
    fn finish(&self, plan: &mut Plan) {
        if let Some(target) = strategy::returned(&self.set.object) {
            let silently = strategy::returns_silently(&self.set.object);
            if not_made(self.set, self.observed).is_some() && !silently {
                return plan.wake_in(SOON);
            }
            return plan.actions.push(return_strategy(target));
        }
        self.kafka.internal.keys().for_each(|ordinal| self.delete_stored(*ordinal, plan));
    }

    /// What an earlier `Dynamic` has stored. A broker that has not restarted yet has no other listener than that.
    fn delete_stored(&self, ordinal: Ordinal, plan: &mut Plan) {
        let Some(Ok(view)) = self.kafka.internal.get(&ordinal) else { return };
        let changes = dynamic::withdraw(view, &self.listener.name);
        if !changes.is_empty() && fixed_entry(view, &self.listener.name).is_some() {
            plan.wait(ordinal, Reason::InProgress, "the stored settings are deleted");
            plan.actions.push(Action::Withdraw { ordinal, node: view.node, changes });
        }
    }
}

/// What a user would type.
pub fn patch_in_words(desired: &Desired, set: &StatefulSetView, target: &StatefulSet) -> String {
    let patch = serde_json::to_string(&patch(&set.object, target)).unwrap_or_default();
    let patch = patch.replace('\'', r"'\''");
    let (namespace, name) = (&desired.key.namespace, &desired.stateful_set);
    format!("kubectl -n {namespace} patch statefulset {name} --type=json -p '{patch}'")
}

/// The entry of a listener in the value that the broker has from its start.
pub fn fixed_entry(view: &BrokerView, name: &str) -> Option<Endpoint> {
    let text = view.setting(ListenerSetting::AdvertisedListeners).fixed?;
    let listeners = Listeners::parse(&text).ok()?;
    let entry = listeners.get(name)?;
    Some(Endpoint { host: entry.host.clone(), port: entry.port })
}

/// Verdicts of brokers that restart are theirs to give.
pub fn is_restarting(memory: &Memory, observed: &Observed, ordinal: Ordinal) -> Option<Verdict> {
    (memory.restarting(observed) == Some(ordinal))
        .then(|| Verdict::Waiting(Problem::new(Reason::InProgress, "the broker restarts")))
}
