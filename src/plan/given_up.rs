//! The user wants the listener another way now, or not at all, while our roll still holds the update strategy.
//!
//! | seen | then |
//! |---|---|
//! | Kubernetes has not seen the template yet | wait |
//! | the user's own strategy is `OnDelete`, and a broker is of an older template | leave it: nobody restarts by it, and our roll can go on; in a deletion return it |
//! | another one was chosen meanwhile | return it: nothing changes by that |
//! | a broker is of an older template | the user has the word, since Kubernetes would restart brokers without looking: the patch is shown |
//! | a pod is on its way | wait: a `partition` would bring the older template back |
//! | otherwise | return it: nobody restarts |

use super::{
    Plan, Problem, SOON,
    desired::{Desired, WantedListener},
    observed::Observed,
    roll::{not_made, not_taken_in, outdated, return_strategy},
    rollout::patch_in_words,
};
use crate::{api::conditions::Reason, domain::Ordinal, listeners::restart::strategy};

/// Decides the next step. True when nothing of our roll is left.
pub fn plan(desired: &Desired, listener: &WantedListener, observed: &Observed, plan: &mut Plan) -> bool {
    let Some(set) = &observed.stateful_set else { return true };
    let ours = observed.in_template(&listener.name);
    let Some(target) = ours.then(|| strategy::returned(&set.object)).flatten() else { return true };
    if not_taken_in(set).is_some() {
        plan.wake_in(SOON);
        return false;
    }
    let stays = |ordinal: &Ordinal| observed.pods.get(ordinal).is_some_and(|pod| !pod.terminating);
    let waits = set.ordinals().filter(stays).any(|ordinal| outdated(set, observed, ordinal));
    let silently = strategy::returns_silently(&set.object);
    if silently && waits && strategy::rolling(&set.object) && !observed.own.deleting {
        // The user's own is `OnDelete`: should the listener be wanted by restarts again, they go on where they were.
        return false;
    }
    if silently || !waits {
        match not_made(set, observed).filter(|_| !silently) {
            Some(_) => plan.wake_in(SOON),
            None => plan.actions.push(return_strategy(target)),
        }
        return false;
    }
    let text = format!(
        "the restarts for listener {} are not wanted any more and were not finished, and updateStrategy of StatefulSet {} is still OnDelete; status.plan shows the patch that returns it, after which Kubernetes restarts the brokers of the older template",
        listener.name, desired.stateful_set
    );
    plan.warnings.push(Problem::new(Reason::ManualStepsOutstanding, text));
    plan.outstanding.push(patch_in_words(desired, set, &target));
    false
}
