//! What the owners of the StatefulSet do to it, beside the operator.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use serde_json::json;

use crate::{
    setup::{self, Listener},
    workload::pod_name,
    world::{SET, World, parsed},
};

impl World {
    pub fn scale(&self) -> bool {
        // The controllers of a quorum are not scaled away.
        let fewest = if self.setup.listener == Listener::Restart { u64::from(self.wanted_pods()) } else { 1 };
        let to = i32::try_from(self.chance.between(fewest, 4)).expect("a small number");
        self.scale_to(to)
    }

    pub fn scale_to(&self, replicas: i32) -> bool {
        let added = self.wanted_pods()..u32::try_from(replicas).unwrap_or(0);
        self.are_not_up_yet(added);
        self.edit_spec_of_set(|spec| spec.replicas = Some(replicas))
    }

    /// Everything is switched off for a while.
    pub fn scale_to_zero(self: &Arc<Self>) -> bool {
        let Ok(before @ 1..) = i32::try_from(self.wanted_pods()) else { return false };
        self.later(self.chance.millis(5_000, 300_000), move |world| {
            if world.wanted_pods() == 0 {
                world.scale_to(before);
            }
        });
        self.scale_to(0)
    }

    pub fn set_goes(self: &Arc<Self>, with_pods: bool) -> bool {
        if self.api.stateful_set_now(SET).is_none() {
            return false;
        }
        if with_pods {
            self.api.delete_stateful_set(SET);
            // Those that were to be scaled away as well.
            (0..8).for_each(|ordinal| self.api.delete_pod(&pod_name(ordinal)));
        } else {
            self.api.orphan_stateful_set(SET);
        }
        self.later(self.chance.millis(5_000, 200_000), |world| {
            world.set_comes();
        });
        true
    }

    pub fn set_comes(&self) -> bool {
        if self.api.stateful_set_now(SET).is_some() {
            return false;
        }
        self.api.put_stateful_set(parsed(setup::stateful_set(&self.setup)));
        // A controller takes over pods that fit its selector and template; others it replaces.
        true
    }

    /// `kubectl set env`, beside the operator's own changes.
    pub fn edit_template(&self) -> bool {
        let heap = json!({"name": "KAFKA_HEAP_OPTS", "value": format!("-Xmx{}m", self.chance.below(4096))});
        self.edit_spec_of_set(|spec| {
            let pod = spec.template.spec.get_or_insert_default();
            let env = pod.containers[0].env.get_or_insert_default();
            env.retain(|variable| variable.name != "KAFKA_HEAP_OPTS");
            env.push(parsed(heap));
        })
    }

    /// The manifest without our listener is applied again.
    pub fn revert_template(&self) -> bool {
        let manifest: StatefulSet = parsed(setup::stateful_set(&self.setup));
        let was = self.api.stateful_set_now(SET).and_then(|set| set.spec).map(|spec| spec.template);
        let template = manifest.spec.expect("a spec").template;
        let changes = was.is_some_and(|was| was != template);
        changes && self.edit_spec_of_set(|spec| spec.template = template)
    }

    /// A new template comes to none or some of the brokers, for a while.
    pub fn hold_template_back(self: &Arc<Self>) -> bool {
        let partition = i32::try_from(self.chance.between(1, 4)).expect("a small number");
        self.later(self.chance.millis(5_000, 300_000), |world| {
            world.set_partition(None);
        });
        self.set_partition(Some(partition))
    }

    /// False: Kubernetes admits one with `RollingUpdate` only, or it is so already.
    pub fn set_partition(&self, partition: Option<i32>) -> bool {
        let now = self.api.of_stateful_set(SET, |set| set.spec.as_ref()?.update_strategy.clone()).flatten();
        let on_delete = now.as_ref().is_some_and(|now| now.type_.as_deref() == Some("OnDelete"));
        let is = now.and_then(|now| now.rolling_update?.partition);
        if on_delete || is == partition {
            return false;
        }
        let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": partition}});
        self.edit_spec_of_set(|spec| spec.update_strategy = Some(parsed(rolling)))
    }

    fn edit_spec_of_set(&self, edit: impl FnOnce(&mut StatefulSetSpec)) -> bool {
        let there = self.api.of_stateful_set(SET, |_| ()).is_some();
        self.api.edit_stateful_set(SET, |set| edit(set.spec.get_or_insert_default()));
        there
    }

    /// The user wants the listener another way, and some time later as before.
    pub fn switch_rollout(self: &Arc<Self>) -> bool {
        let other = match self.setup.listener {
            Listener::None => return false,
            Listener::Auto => *self.chance.pick(&["Restart", "Manual"]),
            Listener::Restart => *self.chance.pick(&["Manual", "Auto"]),
        };
        self.later(self.chance.millis(5_000, 300_000), |world| {
            // Later on people do as they are told.
            if !world.around().healed {
                world.choose_rollout();
            }
        });
        self.edit(|spec| spec["listener"]["rollout"] = json!(other))
    }

    pub fn choose_rollout(self: &Arc<Self>) {
        self.edit(|spec| {
            if let Some(listener) = spec.get_mut("listener") {
                listener["rollout"] = json!(self.chosen_rollout());
            }
        });
    }

    pub fn chosen_rollout(&self) -> &'static str {
        if self.setup.listener == Listener::Restart { "Restart" } else { "Auto" }
    }
}
