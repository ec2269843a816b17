//! The brokers of a StatefulSet as a restart sequence looks at them: who is of an older template, whether Kubernetes restarts
//! brokers by itself, and what the gate says.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

use super::{
    Action, Plan,
    observed::{KafkaState, Observed, StatefulSetView},
};
use crate::{
    domain::Ordinal,
    kafka::BrokerView,
    listeners::restart::{
        gate::{self, Next},
        strategy,
    },
};

/// Made from an older template than the StatefulSet has.
pub fn outdated(set: &StatefulSetView, observed: &Observed, ordinal: Ordinal) -> bool {
    let revision = set.object.status.as_ref().and_then(|status| status.update_revision.as_ref());
    let pod = observed.pods.get(&ordinal).and_then(|pod| pod.revision.as_ref());
    revision.zip(pod).is_some_and(|(now, of_pod)| now != of_pod)
}

/// The first broker without a pod that stays and is of the newest template; one that was scaled away and whose pod still
/// ends may come back before it has.
pub fn not_made(set: &StatefulSetView, observed: &Observed) -> Option<Ordinal> {
    set.ordinals().chain(observed.pods.keys().copied()).find(|ordinal| {
        let stays = observed.pods.get(ordinal).is_some_and(|pod| !pod.terminating);
        !stays || outdated(set, observed, *ordinal)
    })
}

/// The first broker whose pod would not start again without our files, or comes again of a template that nobody knows.
pub fn needs_files(set: &StatefulSetView, observed: &Observed) -> Option<Ordinal> {
    set.ordinals().chain(observed.pods.keys().copied()).find(|ordinal| {
        comes_of_unknown(set, observed, *ordinal)
            || observed.pods.get(ordinal).is_none_or(|pod| pod.terminating || pod.reads_files)
    })
}

/// A pod that is made anew below `partition` is of the revision that the last finished roll left, whatever it is of now;
/// what that revision reads is known from another pod of it.
pub fn comes_of_unknown(set: &StatefulSetView, observed: &Observed, ordinal: Ordinal) -> bool {
    let Some(status) = &set.object.status else { return false };
    let partition = usize::try_from(strategy::partition(&set.object)).unwrap_or(usize::MAX);
    let left = status.current_revision.as_ref();
    left.is_some()
        && left != status.update_revision.as_ref()
        && set.ordinals().take(partition).any(|held_back| held_back == ordinal)
        && !observed.pods.values().any(|pod| pod.revision.as_ref() == left && !pod.reads_files)
}

/// Of an older template because somebody holds the newest back, and not because of our roll.
pub fn held_back(set: &StatefulSetView, observed: &Observed, ordinal: Ordinal) -> bool {
    outdated(set, observed, ordinal) && !strategy::rolling(&set.object)
}

/// One that a restart would make of a template that its user's strategy `OnDelete` holds back; what the user can do.
pub fn only_by_hand(set: &StatefulSetView, observed: &Observed, ordinal: Ordinal) -> Option<String> {
    let only = held_back(set, observed, ordinal) && strategy::on_delete(&set.object);
    only.then(|| {
        format!(
            "{}-{ordinal} is of an older pod template, which updateStrategy OnDelete holds back, and a restart would roll out the newest; delete the pod yourself when it may",
            set.object.name_any()
        )
    })
}

/// Kubernetes has not seen the template yet: nobody is of an older one, as far as it knows.
pub fn not_taken_in(set: &StatefulSetView) -> Option<&'static str> {
    let seen = set.object.status.as_ref().and_then(|status| status.observed_generation);
    let generation = set.object.metadata.generation;
    (generation.is_some() && seen != generation)
        .then_some("Kubernetes has not taken the new pod template in yet")
}

/// Kubernetes has not seen the template yet, or restarts brokers by itself: two must not do that at once.
pub fn kubernetes_is_at_work(set: &StatefulSetView, observed: &Observed) -> Option<String> {
    if let Some(why) = not_taken_in(set) {
        return Some(why.to_owned());
    }
    let held_back = strategy::partition(&set.object);
    let rolled = set.ordinals().skip(usize::try_from(held_back).unwrap_or(usize::MAX));
    let old = rolled.into_iter().find(|ordinal| outdated(set, observed, *ordinal));
    old.filter(|_| !strategy::on_delete(&set.object)).map(|ordinal| {
        format!(
            "Kubernetes restarts the brokers for a new pod template; broker {ordinal} is next or under way"
        )
    })
}

/// Our roll is over: the StatefulSet has its user's strategy again.
pub fn return_strategy(target: StatefulSet) -> Action {
    let what = "return the update strategy to the StatefulSet".to_owned();
    Action::ChangeTemplate { target: Box::new(target), what }
}

/// All brokers as the gate looks at them.
pub struct Roll<'a> {
    kafka: &'a KafkaState,
    views: BTreeMap<Ordinal, Result<&'a BrokerView, String>>,
    due: BTreeMap<Ordinal, bool>,
}

/// Looks at all brokers of the StatefulSet.
pub fn roll<'a>(
    set: &StatefulSetView,
    observed: &Observed,
    kafka: &'a KafkaState,
    due: impl Fn(Ordinal) -> bool,
) -> Roll<'a> {
    let view = |ordinal: Ordinal| match kafka.internal.get(&ordinal) {
        // It may answer before the next readiness probe: until then its Service does not lead to it.
        Some(Ok(_)) if observed.pods.get(&ordinal).is_some_and(|pod| !pod.ready) => {
            Err("its pod is not Ready".to_owned())
        }
        Some(Ok(view)) => Ok(view),
        Some(Err(error)) => Err(error.to_string()),
        None if observed.pods.contains_key(&ordinal) => Err("its pod has no address or ends".to_owned()),
        None => Err("its pod does not exist".to_owned()),
    };
    Roll {
        kafka,
        views: set.ordinals().map(|ordinal| (ordinal, view(ordinal))).collect(),
        due: set.ordinals().map(|ordinal| (ordinal, due(ordinal))).collect(),
    }
}

impl Roll<'_> {
    /// The brokers that must restart.
    pub fn due(&self) -> impl Iterator<Item = Ordinal> {
        self.due.iter().filter(|(_, due)| **due).map(|(ordinal, _)| *ordinal)
    }

    /// What the gate says; `None`: it cannot be asked before the cluster is, which `plan` then says.
    pub fn next(&self, allow_unavailable: bool, plan: &mut Plan) -> Option<Next> {
        if self.due().next().is_none() {
            return Some(Next::Done);
        }
        let brokers = self.views.iter().map(|(ordinal, view)| {
            let view = view.as_ref().map(|view| *view).map_err(String::as_str);
            (*ordinal, gate::Broker { view, due: self.due.get(ordinal).copied().unwrap_or(false) })
        });
        let brokers = brokers.collect();
        match &self.kafka.cluster {
            None if self.views.values().any(Result::is_ok) => {
                plan.ask_cluster = true;
                None
            }
            None => Some(gate::next(&brokers, &crate::kafka::ClusterState::default(), allow_unavailable)),
            Some(Err(error)) => Some(Next::Blocked(format!("the cluster cannot be looked at: {error}"))),
            Some(Ok(cluster)) => Some(gate::next(&brokers, cluster, allow_unavailable)),
        }
    }
}
