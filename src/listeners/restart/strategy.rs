//! The update strategy of a StatefulSet while our roll runs, and afterwards. It is `OnDelete` then, so that only the gate
//! says who restarts; what was there is in annotation [`BEFORE`](super::template::BEFORE).

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetUpdateStrategy};

use super::template::{Before, annotate, before};

const ON_DELETE: &str = "OnDelete";

/// Our roll is over: the update strategy is the user's again, who may have chosen another one meanwhile. `None`: it is so
/// already.
pub fn returned(set: &StatefulSet) -> Option<StatefulSet> {
    let mut kept = before(set).ok().flatten()?;
    let strategy = kept.strategy.take()?;
    let mut target = set.clone();
    if on_delete(set) {
        target.spec.get_or_insert_default().update_strategy = Some(strategy);
    }
    annotate(&mut target, Some(&kept));
    Some(target)
}

/// Our roll holds the update strategy, and nobody has chosen another one since.
pub fn rolling(set: &StatefulSet) -> bool {
    on_delete(set) && before(set).ok().flatten().is_some_and(|kept| kept.strategy.is_some())
}

/// To return the update strategy changes nothing that Kubernetes does: it is the user's already.
pub fn returns_silently(set: &StatefulSet) -> bool {
    returned(set).is_some_and(|target| target.spec == set.spec)
}

/// Kubernetes restarts nothing by itself.
pub fn on_delete(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some(ON_DELETE)
}

/// How many brokers, counted from the first, Kubernetes leaves as they are.
pub fn partition(set: &StatefulSet) -> u32 {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let partition = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition);
    partition.and_then(|partition| u32::try_from(partition).ok()).unwrap_or(0)
}

/// `OnDelete` from now on, also where it is so already: what was there is remembered once.
pub(super) fn hold(target: &mut StatefulSet, mut kept: Before) {
    if kept.strategy.is_none() || !on_delete(target) {
        let spec = target.spec.get_or_insert_default();
        let on_delete = StatefulSetUpdateStrategy { type_: Some(ON_DELETE.to_owned()), rolling_update: None };
        kept.strategy =
            spec.update_strategy.replace(on_delete).or(Some(StatefulSetUpdateStrategy::default()));
    }
    annotate(target, Some(&kept));
}
