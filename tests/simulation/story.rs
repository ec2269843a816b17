//! What people, machines and other systems do while the operator works, and how all of it is put right in the end.

use std::{sync::Arc, time::Duration};

use kafka_external_access::{
    cloud::{CloudFault, FloatingIp},
    domain::AccessKey,
};
use serde_json::{Value, json};

use crate::{
    executor::Group,
    ledger::owned,
    mending::Damage,
    setup::{self, Listener},
    world::{SET, World, key, parsed},
};

type Happening = fn(&Arc<World>, &mut Damage) -> bool;

/// Everything that can happen, how often beside the others, and how many calls to the cloud it may cost.
const HAPPENINGS: [(&str, u64, u64, Happening); 36] = [
    ("PodMoved", 12, 2, |world, _| world.pod_goes()),
    ("BrokerDown", 5, 0, |world, _| world.broker_pauses()),
    ("Scaled", 5, 3, |world, _| world.scale()),
    ("ScaledToZero", 2, 8, |world, _| world.scale_to_zero()),
    ("SetDeletedWithPods", 2, 6, |world, _| world.set_goes(true)),
    ("SetDeletedPodsLeft", 2, 6, |world, _| world.set_goes(false)),
    ("SetMadeAgain", 3, 0, |world, _| world.set_comes()),
    ("TemplateEdited", 3, 10, |world, _| world.edit_template()),
    ("TemplateHeldBack", 3, 0, |world, _| world.hold_template_back()),
    ("TemplateReverted", 2, 10, |world, _| world.revert_template()),
    ("RolloutSwitched", 3, 20, |world, _| world.switch_rollout()),
    ("OperatorKilled", 8, 1, |world, _| world.process_dies()),
    ("OperatorStopped", 6, 1, |world, _| world.process_stops()),
    ("OperatorTerminated", 3, 1, |world, _| world.process_ends()),
    ("WallClockJumped", 4, 0, |world, _| world.clock_jumps()),
    ("SecretRotated", 4, 0, |world, _| world.secret_changes()),
    ("SecretDeleted", 2, 0, |world, _| world.secret_goes()),
    ("AddressUnboundByHand", 4, 1, |world, _| world.unbind_by_hand()),
    ("AddressesSwappedByHand", 3, 3, |world, _| world.swap_by_hand()),
    ("MarkerAltered", 2, 1, World::alter_marker),
    ("AddressDeletedByHand", 2, 2, World::delete_by_hand),
    ("ForeignAddressAtPort", 3, 2, |world, _| world.foreign_at_port()),
    ("ForeignAddressFree", 1, 0, |world, _| world.foreign_free()),
    ("AddressOfAnotherCluster", 2, 0, |world, _| world.other_cluster()),
    ("QuotaExhausted", 3, 0, |world, _| world.quota_is_full()),
    ("PoolExhausted", 2, 0, |world, _| world.pool_is_empty()),
    ("CloudDown", 4, 0, |world, _| world.cloud_fails()),
    ("GroupOpened", 2, 0, |world, _| world.group_opens()),
    ("PartitionsTight", 3, 0, |world, _| world.partitions_tight()),
    ("SpecEdited", 6, 6, |world, _| world.edit_spec()),
    ("AddressAdopted", 3, 6, |world, _| world.adopt()),
    ("AdoptionEnded", 2, 4, |world, _| world.end_adoption()),
    ("ObjectDeleted", 4, 8, World::delete_object),
    ("ObjectMadeAgain", 3, 8, World::object_again),
    ("RivalObject", 2, 8, |world, _| world.rival()),
    ("FaultsMore", 3, 0, |world, _| world.more_faults()),
];

impl World {
    /// One thing happens, drawn by lot. Returns what it may cost.
    pub fn something_happens(self: &Arc<Self>, damage: &mut Damage) -> u64 {
        let all: u64 = HAPPENINGS.iter().map(|(_, weight, _, _)| weight).sum();
        for _ in 0..20 {
            let mut at = self.chance.below(all);
            let (name, _, cost, happening) = HAPPENINGS
                .iter()
                .find(|(_, weight, _, _)| {
                    let here = at < *weight;
                    at = at.wrapping_sub(*weight);
                    here
                })
                .expect("one of them");
            if happening(self, damage) {
                self.faults().count(*name);
                self.trace(|| format!("HAPPENS {name}"));
                self.after_effect();
                return *cost;
            }
        }
        0
    }

    pub fn happens(self: &Arc<Self>, name: &str, damage: &mut Damage) {
        let (_, _, _, happening) =
            HAPPENINGS.iter().find(|(known, ..)| *known == name).expect("a known happening");
        happening(self, damage);
        self.trace(|| format!("HAPPENS {name}"));
        self.after_effect();
    }

    fn some_ordinal(&self) -> u32 {
        u32::try_from(self.chance.below(u64::from(self.wanted_pods().max(1)))).expect("an ordinal")
    }

    fn some_replica(&self) -> usize {
        self.chance.index(self.setup.replicas)
    }

    fn ours(&self) -> Vec<FloatingIp> {
        self.cloud.addresses().into_iter().filter(|address| owned(&address.description).is_some()).collect()
    }

    fn some_of_ours(&self) -> Option<FloatingIp> {
        let ours = self.ours();
        (!ours.is_empty()).then(|| self.chance.pick(&ours).clone())
    }

    /// After `period`, whatever becomes of everybody.
    pub fn later(self: &Arc<Self>, period: Duration, then: impl FnOnce(&Arc<World>) + Send + 'static) {
        let world = self.clone();
        self.executor.spawn(Group::World, async move {
            world.executor.time.sleep(period).await;
            then(&world);
            world.after_effect();
        });
    }

    fn pod_goes(&self) -> bool {
        let name = format!("{SET}-{}", self.some_ordinal());
        let there = self.api.pod_now(&name).is_some();
        self.api.delete_pod(&name);
        there
    }

    fn broker_pauses(self: &Arc<Self>) -> bool {
        let ordinal = self.some_ordinal();
        if !self.is_up(ordinal) {
            return false;
        }
        let Some(uid) = self.pod_uid(ordinal) else { return false };
        self.broker_ends(ordinal);
        let (world, pause) = (self.clone(), self.chance.millis(2_000, 90_000));
        self.executor.spawn(Group::World, async move {
            world.executor.time.sleep(pause).await;
            if !world.is_up(ordinal) {
                world.start_until_up(ordinal, &uid).await;
                world.after_effect();
            }
        });
        true
    }

    fn process_dies(self: &Arc<Self>) -> bool {
        let replica = self.some_replica();
        let ran = self.runs(replica);
        if ran {
            self.kill_process(replica);
            self.comes_back(replica, self.chance.millis(50, 40_000));
        }
        ran
    }

    pub fn comes_back(self: &Arc<Self>, replica: usize, after: Duration) {
        self.later(after, move |world| {
            if !world.runs(replica) {
                world.start_process(replica);
            }
        });
    }

    fn process_stops(&self) -> bool {
        let replica = self.some_replica();
        self.executor.stop(Group::Replica(replica), self.chance.millis(500, 60_000));
        self.runs(replica)
    }

    fn process_ends(self: &Arc<Self>) -> bool {
        let replica = self.some_replica();
        let ran = self.runs(replica);
        if ran {
            self.terminate_process(replica);
            self.later(self.chance.millis(100, 10_000), move |world| {
                world.kill_process(replica);
                world.comes_back(replica, world.chance.millis(50, 20_000));
            });
        }
        ran
    }

    fn clock_jumps(&self) -> bool {
        let seconds = i64::try_from(self.chance.between(1, 7200)).expect("a small number");
        let seconds = if self.chance.permille(500) { -seconds } else { seconds };
        self.machines[self.some_replica()].jump(seconds);
        true
    }

    fn secret_changes(&self) -> bool {
        self.make_secret();
        true
    }

    fn secret_goes(self: &Arc<Self>) -> bool {
        self.api.delete_secret(crate::world::SECRET);
        self.later(self.chance.millis(5_000, 100_000), |world| {
            world.secret_comes();
        });
        true
    }

    /// Its user makes it again as soon as the deleted one is gone.
    pub fn secret_comes(self: &Arc<Self>) {
        match self.api.secret_now(crate::world::SECRET) {
            None => self.make_secret(),
            Some(secret) if secret.metadata.deletion_timestamp.is_some() => {
                self.later(Duration::from_secs(10), World::secret_comes);
            }
            Some(_) => {}
        }
    }

    fn unbind_by_hand(&self) -> bool {
        let Some(address) = self.some_of_ours().filter(|address| address.binding.is_some()) else {
            return false;
        };
        self.cloud.by_hand(&address.id, |address| address.binding = None)
    }

    fn swap_by_hand(&self) -> bool {
        let ours = self.ours();
        let [one, .., other] = ours.as_slice() else { return false };
        self.cloud.by_hand(&one.id, |address| address.binding = other.binding.clone());
        self.cloud.by_hand(&other.id, |address| address.binding = one.binding.clone())
    }

    fn alter_marker(self: &Arc<Self>, damage: &mut Damage) -> bool {
        let Some(address) = self.some_of_ours() else { return false };
        damage.altered.push((address.id.clone(), address.description.clone()));
        self.ledger().by_hand += 1;
        self.ledger().marker_altered(&address);
        self.cloud.by_hand(&address.id, |address| address.description = "for the demo".into());
        true
    }

    fn delete_by_hand(self: &Arc<Self>, damage: &mut Damage) -> bool {
        let Some(address) = self.some_of_ours() else { return false };
        damage.lost = true;
        self.cloud.delete_by_hand(&address.id);
        true
    }

    /// Somebody binds an address of his own to the pod's port, where it is free.
    fn foreign_at_port(&self) -> bool {
        let binding = self.pod_ip(self.some_ordinal()).and_then(|ip| self.cloud.binding_of(ip));
        let taken = self.cloud.addresses().iter().any(|address| address.binding == binding);
        if binding.is_none() || taken {
            return false;
        }
        self.foreign(binding)
    }

    fn foreign_free(&self) -> bool {
        self.foreign(None)
    }

    fn foreign(&self, binding: Option<kafka_external_access::cloud::Binding>) -> bool {
        self.cloud.add_address("demo", "not ours", binding).is_ok()
    }

    /// Another installation shares the project, and its object has the same name.
    fn other_cluster(&self) -> bool {
        let text = format!("kea/v1 c=elsewhere n=ydata/kafka u=uid-9 o={}", self.some_ordinal());
        self.cloud.add_address("demo", &text, None).is_ok()
    }

    fn quota_is_full(&self) -> bool {
        self.cloud.set_quota(self.cloud.addresses().len());
        true
    }

    fn pool_is_empty(&self) -> bool {
        self.cloud.set_pool([]);
        true
    }

    fn cloud_fails(self: &Arc<Self>) -> bool {
        let faults = [
            CloudFault::Unavailable("no route".into()),
            CloudFault::Unauthorized("the user is disabled".into()),
            CloudFault::RateLimited { retry_after: Some(Duration::from_secs(30)) },
        ];
        self.cloud.set_down(Some(self.chance.pick(&faults).clone()));
        self.later(self.chance.millis(2_000, 300_000), |world| world.cloud.set_down(None));
        true
    }

    fn group_opens(self: &Arc<Self>) -> bool {
        self.cloud.set_rules(vec![setup::rule(9094), setup::rule(9092), setup::rule(22)]);
        self.later(self.chance.millis(5_000, 200_000), |world| {
            world.cloud.set_rules(vec![setup::rule(world.setup.served_port())]);
        });
        true
    }

    fn partitions_tight(self: &Arc<Self>) -> bool {
        self.tight.lock().expect("not poisoned").get_or_insert(self.now());
        self.later(self.chance.millis(5_000, 300_000), |world| {
            *world.tight.lock().expect("not poisoned") = None;
        });
        self.setup.listener == Listener::Restart
    }

    pub fn edit(&self, edit: impl FnOnce(&mut Value)) -> bool {
        self.edit_object(&key(), edit)
    }

    pub fn edit_object(&self, key: &AccessKey, edit: impl FnOnce(&mut Value)) -> bool {
        if self.api.access_now(key).is_none() {
            return false;
        }
        self.api.edit_access(key, |object| {
            let mut spec = serde_json::to_value(&object.spec).expect("a spec");
            edit(&mut spec);
            object.spec = parsed(spec);
        });
        true
    }

    fn edit_spec(self: &Arc<Self>) -> bool {
        match self.chance.below(5) {
            0 => {
                self.later(self.chance.millis(5_000, 200_000), |world| {
                    world.edit(|spec| spec["mode"] = json!("Apply"));
                });
                self.edit(|spec| spec["mode"] = json!("Plan"))
            }
            1 => self.edit(|spec| spec["probe"]["interval"] = json!("30s")),
            2 => self.edit(|spec| spec["addresses"]["bandwidth"] = json!({"egressMbps": 100})),
            3 => self.edit(|spec| spec["addresses"]["retentionPolicy"]["whenScaled"] = json!("Delete")),
            _ => self.edit(|spec| spec["addresses"]["retentionPolicy"]["whenDeleted"] = json!("Retain")),
        }
    }

    /// The user names a free address of his for a broker.
    fn adopt(&self) -> bool {
        let Ok(own) = self.cloud.add_address("demo", "of the user", None) else { return false };
        let ordinal = self.some_ordinal();
        self.edit(|spec| spec["brokers"] = json!([{"ordinal": ordinal, "address": own.address}]))
    }

    fn end_adoption(&self) -> bool {
        let adopts = self.api.access_now(&key()).is_some_and(|object| !object.spec.brokers.is_empty());
        adopts && self.edit(|spec| spec["brokers"] = json!([]))
    }

    fn delete_object(self: &Arc<Self>, damage: &mut Damage) -> bool {
        let there = self.api.access_now(&key()).is_some_and(|o| o.metadata.deletion_timestamp.is_none());
        if there {
            damage.deleted = true;
            self.api.delete_access(&key());
        }
        there
    }

    fn object_again(self: &Arc<Self>, damage: &mut Damage) -> bool {
        let gone = self.api.access_now(&key()).is_none();
        if gone {
            damage.deleted = false;
            self.add_object(key(), setup::object(&self.setup));
        }
        gone
    }

    /// A second object wants the same StatefulSet and listener.
    fn rival(self: &Arc<Self>) -> bool {
        let rival = rival_key();
        if self.api.access_now(&rival).is_some() || self.api.access_now(&key()).is_none() {
            return false;
        }
        let mut object = setup::object(&self.setup);
        object["metadata"]["name"] = json!("rival");
        // What it would leave bound is for people to take away.
        object["spec"]["addresses"]["retentionPolicy"] = json!({"whenDeleted": "Delete"});
        self.add_object(rival, object);
        true
    }

    fn more_faults(&self) -> bool {
        let mut faults = self.faults();
        let most = faults.permille > 0;
        if most {
            faults.permille = (faults.permille * 2).min(250);
        }
        most
    }
}

pub fn rival_key() -> AccessKey {
    AccessKey { name: "rival".into(), ..key() }
}
