//! Scenarios in which a process is killed at every call.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    mending::Damage,
    setup::{Listener, Setup},
    world::{SECRET, World, key},
};

pub struct Scenario {
    pub name: &'static str,
    pub setup: fn() -> Setup,
    /// It is about the first reconciles, not about a world at rest.
    pub from_start: bool,
    pub happens: fn(&Arc<World>, &mut Damage),
    /// Seconds in which calls are cut.
    pub lasts: u64,
    /// All ordered pairs of cuts are run in the record.
    pub core: bool,
}

fn one() -> Setup {
    Setup { brokers: 1, ..Setup::plain(Listener::Auto) }
}

fn auto() -> Setup {
    Setup { brokers: 2, ..Setup::plain(Listener::Auto) }
}

fn bare() -> Setup {
    Setup { brokers: 1, ..Setup::plain(Listener::None) }
}

fn restart() -> Setup {
    Setup { brokers: 2, ..Setup::plain(Listener::Restart) }
}

fn restore() -> Setup {
    Setup { restore: true, ..restart() }
}

/// As on Kubernetes by default: one pod after the other, each with its time to end.
fn slow_pods() -> Setup {
    let (pods_end_in, seen_in) = (Duration::from_secs(10), Duration::from_secs(2));
    Setup { parallel: false, pods_end_in, seen_in, ..restart() }
}

fn retain() -> Setup {
    Setup { retain: true, ..auto() }
}

fn two_replicas() -> Setup {
    Setup { replicas: 2, ..auto() }
}

const fn scenario(
    name: &'static str,
    setup: fn() -> Setup,
    lasts: u64,
    happens: fn(&Arc<World>, &mut Damage),
) -> Scenario {
    Scenario { name, setup, from_start: false, happens, lasts, core: false }
}

const fn at_start(of: Scenario) -> Scenario {
    Scenario { from_start: true, ..of }
}

const fn core(of: Scenario) -> Scenario {
    Scenario { core: true, ..of }
}

pub const SCENARIOS: [Scenario; 35] = [
    core(at_start(scenario("an object is made", one, 40, |_, _| ()))),
    core(at_start(scenario("an object without a listener is made", bare, 40, |_, _| ()))),
    at_start(scenario("an object of two brokers is made", auto, 40, |_, _| ())),
    at_start(scenario("brokers restart one after the other for their listener", restart, 150, |_, _| ())),
    at_start(scenario("pods that end slowly restart for their listener", slow_pods, 150, |_, _| ())),
    at_start(scenario("two replicas begin", two_replicas, 30, |_, _| ())),
    core(scenario("a pod moves", one, 40, |world, damage| world.happens("PodMoved", damage))),
    core(scenario("two pods move at once", auto, 40, |world, _| {
        (0..2).for_each(|ordinal| world.api.delete_pod(&format!("kafka-{ordinal}")));
        world.after_effect();
    })),
    scenario("a pod with its address in its file moves", restart, 40, |world, damage| {
        world.happens("PodMoved", damage);
    }),
    core(scenario("an object is deleted", one, 60, |world, damage| world.happens("ObjectDeleted", damage))),
    scenario("an object without a listener is deleted", bare, 60, |world, damage| {
        world.happens("ObjectDeleted", damage);
    }),
    scenario("an object is deleted and its addresses stay", retain, 60, |world, damage| {
        world.happens("ObjectDeleted", damage);
    }),
    scenario("an object with its listener in the template is deleted", restart, 120, |world, damage| {
        world.happens("ObjectDeleted", damage);
    }),
    scenario("an object is deleted and the template becomes what it was", restore, 150, |world, damage| {
        world.happens("ObjectDeleted", damage);
    }),
    at_start(scenario("an object is deleted while it is being served", auto, 60, |world, damage| {
        world.in_between(Duration::from_secs(9));
        world.happens("ObjectDeleted", damage);
    })),
    scenario("an object of the same name takes over what was retained", retain, 40, |world, damage| {
        world.happens("ObjectDeleted", damage);
        world.in_between(Duration::from_secs(450));
        world.happens("ObjectMadeAgain", damage);
    }),
    scenario("an object is made again while the former one goes", auto, 60, |world, damage| {
        world.happens("ObjectDeleted", damage);
        world.in_between(Duration::from_secs(450));
        world.happens("ObjectMadeAgain", damage);
    }),
    scenario("a broker is added", one, 60, |world, _| world.scaled(2)),
    scenario("a broker is taken away", auto, 90, |world, _| world.scaled(1)),
    scenario("all brokers are switched off and come back", auto, 60, |world, _| {
        world.scaled(0);
        world.in_between(Duration::from_secs(60));
        world.scaled(2);
    }),
    scenario("a StatefulSet is deleted with its pods", auto, 60, |world, damage| {
        world.happens("SetDeletedWithPods", damage);
    }),
    scenario("a StatefulSet is deleted and its pods stay", auto, 60, |world, damage| {
        world.happens("SetDeletedPodsLeft", damage);
    }),
    core(scenario("two addresses are swapped by hand", auto, 320, |world, damage| {
        world.happens("AddressesSwappedByHand", damage);
        world.probe_now();
    })),
    scenario("an address is unbound by hand", auto, 320, |world, damage| {
        world.happens("AddressUnboundByHand", damage);
    }),
    scenario("an address is deleted by hand and may be replaced", auto, 320, |world, damage| {
        world.happens("AddressDeletedByHand", damage);
        world.permit_replacement();
    }),
    scenario("a marker is altered by hand", auto, 320, |world, damage| {
        world.happens("MarkerAltered", damage);
    }),
    scenario("the user gives an address of his own", auto, 40, |world, damage| {
        world.happens("AddressAdopted", damage);
    }),
    scenario("the user takes his address back", auto, 40, |world, damage| {
        world.happens("AddressAdopted", damage);
        world.in_between(Duration::from_secs(100));
        world.happens("AdoptionEnded", damage);
    }),
    scenario("the user takes his address back at once", auto, 40, |world, damage| {
        world.happens("AddressAdopted", damage);
        world.in_between(Duration::from_secs(3));
        world.happens("AdoptionEnded", damage);
    }),
    scenario(
        "an address of the user comes with a pod that moves, and goes again",
        restart,
        200,
        |world, _| {
            world.adopt_for(0);
            world.in_between(Duration::from_millis(2_500));
            world.api.delete_pod("kafka-0");
            world.after_effect();
            world.in_between(Duration::from_secs(150));
            world.change(|spec| spec["brokers"] = json!([]));
        },
    ),
    scenario("a credential is rotated while a pod moves", auto, 40, |world, damage| {
        world.happens("SecretRotated", damage);
        world.happens("PodMoved", damage);
    }),
    scenario("the Secret is deleted first, then the object", auto, 60, |world, damage| {
        world.api.delete_secret(SECRET);
        world.happens("ObjectDeleted", damage);
    }),
    scenario("a limit is set and taken away", auto, 40, |world, _| {
        world.change(|spec| spec["addresses"]["bandwidth"] = json!({"egressMbps": 100}));
        world.in_between(Duration::from_secs(15));
        world.change(|spec| spec["addresses"]["bandwidth"] = json!({"egressMbps": 50}));
    }),
    scenario("the leader ends in order", two_replicas, 40, |world, damage| {
        world.happens("OperatorTerminated", damage);
        world.happens("PodMoved", damage);
    }),
    scenario("a rival object exists for a while", auto, 40, |world, damage| {
        world.happens("RivalObject", damage);
        world.in_between(Duration::from_secs(20));
        world.happens("ObjectDeleted", damage);
    }),
];

impl World {
    /// Time passes before the part in which calls are cut.
    fn in_between(self: &Arc<Self>, period: Duration) {
        let cuts = std::mem::take(&mut self.faults().cuts);
        crate::schedule::run_until(self, self.now() + period, &mut 0);
        let mut faults = self.faults();
        faults.cuts = cuts;
        faults.calls = 0;
    }

    fn adopt_for(self: &Arc<Self>, ordinal: u32) {
        let own = self.cloud.add_address("demo", "of the user", None).expect("an address");
        self.change(|spec| spec["brokers"] = json!([{"ordinal": ordinal, "address": own.address}]));
    }

    fn scaled(self: &Arc<Self>, replicas: i32) {
        self.scale_to(replicas);
        self.after_effect();
    }

    fn change(self: &Arc<Self>, change: impl FnOnce(&mut serde_json::Value)) {
        self.edit(change);
        self.after_effect();
    }

    /// An edit that changes nothing of substance brings the object into the queue.
    fn probe_now(self: &Arc<Self>) {
        self.change(|spec| spec["probe"]["interval"] = json!("30s"));
    }

    fn permit_replacement(self: &Arc<Self>) {
        self.api.edit_access(&key(), |object| {
            let annotations = object.metadata.annotations.get_or_insert_default();
            annotations.insert(kafka_external_access::api::REPLACE_ANNOTATION.into(), "0,1".into());
        });
        self.after_effect();
    }
}
