//! How all is put right in the end: nothing goes wrong any more, and people do what only people can.

use std::sync::Arc;

use kafka_external_access::{api::REPLACE_ANNOTATION, domain::AddressId};
use serde_json::{Value, json};

use crate::{
    ledger::owned,
    setup::{self, Listener},
    story::rival_key,
    world::{SET, World, key, parsed},
};

/// What people have done that somebody must put right.
#[derive(Default)]
pub struct Damage {
    /// Descriptions before somebody changed them.
    pub altered: Vec<(AddressId, String)>,
    /// Deleted by hand.
    pub lost: bool,
    /// The user has deleted the object and does not want it back.
    pub deleted: bool,
    /// What is wrong with the first broker stays so: the others are served.
    pub poisoned: bool,
}

impl Damage {
    pub fn new(poisoned: bool) -> Self {
        Self { poisoned, ..Self::default() }
    }
}

impl World {
    /// Nothing goes wrong from here on, and people put right what only people can.
    pub fn heal(self: &Arc<Self>, damage: &Damage) {
        self.trace(|| "HEAL".into());
        self.around().healed = true;
        self.faults().permille = 0;
        self.cloud.set_down(None);
        self.cloud.set_quota(500);
        self.cloud.set_pool((1..250).map(|host| std::net::Ipv4Addr::new(198, 51, 100, host)));
        self.cloud.set_rules(vec![setup::rule(self.setup.served_port())]);
        *self.tight.lock().expect("not poisoned") = None;
        self.machines.iter().for_each(|machine| machine.set_right());
        for (id, description) in &damage.altered {
            let objects = self.api.accesses_now();
            let lives = objects.iter().filter(|object| object.metadata.deletion_timestamp.is_none());
            let lives = lives.filter_map(|object| object.metadata.uid.as_ref());
            // Whose object has gone meanwhile, or goes, is the altering person's to remove.
            match lives.into_iter().any(|uid| description.contains(&format!("u={uid} "))) {
                true => drop(self.cloud.by_hand(id, |address| address.description.clone_from(description))),
                false => self.cloud.delete_by_hand(id),
            }
        }
        // A controller may be gone for good.
        let without_majority = |spec: &mut Value| {
            if self.setup.listener == Listener::Restart {
                spec["listener"]["allowUnavailable"] = json!(true);
            }
        };
        if self.edit_object(&rival_key(), without_majority) {
            self.api.delete_access(&rival_key());
        }
        self.choose_rollout();
        self.edit(|spec| {
            spec["mode"] = json!("Apply");
            spec["brokers"] = json!([]);
            without_majority(spec);
        });
        if damage.lost && self.api.access_now(&key()).is_some() {
            self.api.edit_access(&key(), |object| {
                let annotations = object.metadata.annotations.get_or_insert_default();
                annotations.insert(REPLACE_ANNOTATION.into(), "0,1,2,3".into());
            });
        }
        self.take_foreign_addresses_away();
        self.set_comes();
        let goes = damage.deleted || self.api.access_now(&rival_key()).is_some();
        if goes && self.setup.listener == Listener::Auto {
            // What is stored for brokers that were scaled away can be taken out when they run.
            self.scale_to(4);
        } else if self.wanted_pods() == 0 {
            self.scale_to(i32::try_from(self.setup.brokers).expect("a small number"));
        }
        self.secret_comes();
        (0..self.setup.replicas).filter(|replica| !self.runs(*replica)).for_each(|r| self.start_process(r));
        if !damage.deleted && self.api.access_now(&key()).is_none() {
            self.add_object(key(), setup::object(&self.setup));
        }
        // The address that was lost may be another broker's now, and stays told until its broker has a new one.
        if damage.poisoned && !damage.lost {
            self.poison();
        }
        self.after_effect();
    }

    fn take_foreign_addresses_away(&self) {
        for address in self.cloud.addresses() {
            if owned(&address.description).is_none() && !address.description.starts_with("kea-retained") {
                self.cloud.delete_by_hand(&address.id);
            }
        }
    }

    /// What only people can do about what they are told.
    pub fn follow_the_word(self: &Arc<Self>) {
        let told = |of| self.api.access_now(&of).and_then(|object| object.status).unwrap_or_default();
        let (told, of_rival) = (told(key()), told(rival_key()));
        for (object, status) in [(key(), &told), (rival_key(), &of_rival)] {
            let mut messages = status.brokers.iter().filter_map(|broker| broker.message.as_ref());
            let rollout = messages.find_map(|text| match text {
                _ if text.contains("set rollout: Restart") => Some("Restart"),
                _ => text.contains("set rollout: Dynamic").then(|| self.chosen_rollout()),
            });
            let Some(rollout) = rollout else { continue };
            if rollout == "Restart" {
                // With a restart, what holds one broker up holds all up.
                self.take_foreign_addresses_away();
            }
            self.edit_object(&object, |spec| spec["listener"]["rollout"] = json!(rollout));
            self.after_effect();
        }
        let patch =
            told.plan.iter().find_map(|line| line.split_once("--type=json -p '")?.1.strip_suffix('\''));
        let patched = patch.is_some_and(|patch| self.patch_stateful_set(patch));
        let mut words = [&told, &of_rival].into_iter().flat_map(|status| {
            let brokers = status.brokers.iter().filter_map(|broker| broker.message.as_ref());
            brokers.chain(status.conditions.iter().map(|condition| &condition.message))
        });
        let held_back =
            words.any(|text| text.contains("updateStrategy") || text.contains("older pod template"));
        if patched || held_back && (self.set_partition(None) || self.setup.on_delete && self.roll_by_hand()) {
            self.after_effect();
        }
    }

    /// `kubectl patch statefulset --type=json`.
    fn patch_stateful_set(&self, patch: &str) -> bool {
        let patch: json_patch::Patch = serde_json::from_str(patch).expect("a JSON patch");
        let Some(set) = self.api.stateful_set_now(SET) else { return false };
        let mut value = serde_json::to_value(&set).expect("a StatefulSet");
        let done = json_patch::patch(&mut value, &patch);
        let fits = done.is_ok();
        self.trace(|| format!("a person applies {patch}: {done:?}"));
        if fits {
            self.faults().count("PlanFollowed");
            self.api.edit_stateful_set(SET, |set| *set = parsed(value));
        }
        fits
    }

    /// Somebody else's address takes the place of ours at the first broker.
    fn poison(&self) {
        let binding = self.pod_ip(0).and_then(|ip| self.cloud.binding_of(ip));
        let Some(binding) = binding else { return };
        for ours in self.cloud.addresses().iter().filter(|a| a.binding.as_ref() == Some(&binding)) {
            self.cloud.by_hand(&ours.id, |address| address.binding = None);
        }
        let _ = self.cloud.add_address("demo", "not ours", Some(binding));
        self.faults().count("FirstBrokerPoisoned");
    }
}
