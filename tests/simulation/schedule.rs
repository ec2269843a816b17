//! One schedule: a seed decides everything. Things happen and go wrong; then nothing does any more, and the world must
//! become as its user wants it, in a bounded time, and stay so without a single write.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    chance::Chance,
    faults::{Cut, Kind},
    mending::Damage,
    setup::{Listener, Setup},
    world::World,
};

/// In virtual time: the longest pause of all is the one after a quarrel about an address (30 minutes).
const CONVERGES_WITHIN: Duration = Duration::from_secs(3600);
/// More than a drift interval and a probe interval.
const STAYS_FOR: Duration = Duration::from_secs(330);
/// After that everything is as it is wanted to be, and nothing is written.
const CLEARED_WITHIN: Duration = Duration::from_secs(900);
/// Between two looks whether people have something to do.
const LOOKS_EVERY: Duration = Duration::from_secs(20);

/// What came of a schedule.
pub struct Outcome {
    pub seed: u64,
    pub violation: Option<String>,
    pub trace: Vec<String>,
    pub counts: BTreeMap<String, u64>,
    pub simulated: Duration,
    pub steps: u64,
}

/// Runs tasks until `end`, or until something is wrong. A process that reached its cut is killed there.
pub fn run_until(world: &Arc<World>, end: Duration, steps: &mut u64) -> bool {
    loop {
        let goes_on = world.executor.step(end);
        *steps += 1;
        let crashed = world.faults().crashed.take();
        if let Some(replica) = crashed {
            world.faults().count("CrashPoint");
            world.kill_process(replica);
            world.faults().calls = 0;
            world.comes_back(replica, Duration::from_millis(100));
        }
        if world.violation().is_some() {
            return false;
        }
        if !goes_on {
            return true;
        }
    }
}

pub fn run(seed: u64, traced: bool) -> Outcome {
    let chance = Chance::new(seed ^ 0x5EED);
    let setup = Setup::drawn(&chance);
    let world = World::new(seed, setup, traced);
    // A template changes when every broker has its address, so there one holds all up.
    let poisoned = world.setup.listener != Listener::Restart && chance.permille(80);
    let mut damage = Damage::new(poisoned);
    let mut steps = 0;
    let mut allowed = 0;
    let happenings = chance.between(2, 10);
    for _ in 0..happenings {
        let long = chance.permille(300);
        let pause = if long { chance.millis(10_000, 150_000) } else { chance.millis(5, 4_000) };
        if !run_until(&world, world.now() + pause, &mut steps) {
            return finished(seed, &world, steps);
        }
        allowed += world.something_happens(&mut damage);
    }
    let rest = chance.millis(10, 200_000);
    if run_until(&world, world.now() + rest, &mut steps) {
        world.heal(&damage);
        comes_to_rest(&world, &mut steps);
        spends_no_more_than(&world, allowed);
    }
    finished(seed, &world, steps)
}

/// I7.
pub fn comes_to_rest(world: &Arc<World>, steps: &mut u64) {
    let start = world.now();
    let mut open = Some("not looked at".to_owned());
    while open.is_some() && world.now() < start + CONVERGES_WITHIN {
        if !run_until(world, world.now() + LOOKS_EVERY, steps) {
            return;
        }
        open = world.unfinished();
        if open.is_some() {
            world.follow_the_word();
        }
    }
    if let Some(open) = open {
        return world.violate(format!("I7: after {} s {open}", CONVERGES_WITHIN.as_secs()));
    }
    // What was put aside on the way is cleared up: addresses that were one too many, objects that were deleted, calls
    // that were late. Then nothing is written any more.
    let cleared_by = world.now() + CLEARED_WITHIN;
    let mut before = world.ledger().done.clone();
    let mut quiet_since = world.now();
    while world.now() < quiet_since + STAYS_FOR {
        if !run_until(world, world.now() + LOOKS_EVERY, steps) {
            return;
        }
        if world.unfinished().is_some() {
            world.follow_the_word();
        }
        let after = world.ledger().done.clone();
        if before != after {
            quiet_since = world.now();
            if quiet_since > cleared_by {
                return world.violate(format!("I7: at rest, and yet it writes: {before:?} became {after:?}"));
            }
            before = after;
        }
    }
    if let Some(open) = world.unfinished() {
        world.violate(format!("I7: it does not stay: {open}"));
    }
}

/// I8: one call for each thing that happened, and at most two more for each fault.
fn spends_no_more_than(world: &Arc<World>, allowed: u64) {
    let (sent, faults) = {
        let faults = world.faults();
        (faults.sent.get(&Kind::CloudWrite).copied().unwrap_or(0), faults.of_cloud)
    };
    let disturbed = u64::from(world.ledger().disturbed);
    let budget = 8 + allowed + 2 * faults + 2 * disturbed;
    if world.violation().is_none() && sent > budget {
        world.violate(format!("I8: {sent} changes of the cloud, and {budget} are enough"));
    }
}

/// A world without faults, in which a process is killed at these calls.
pub fn run_cut(scenario: &crate::scenarios::Scenario, cuts: &[Cut], traced: bool) -> (Outcome, usize) {
    let world = World::new(7, (scenario.setup)(), traced);
    let mut steps = 0;
    let mut damage = Damage::default();
    let mut calls = 0;
    let mut good = true;
    if !scenario.from_start {
        comes_to_rest(&world, &mut steps);
        good = world.violation().is_none();
    }
    if good {
        world.faults().calls = 0;
        world.faults().cuts = cuts.to_vec();
        (scenario.happens)(&world, &mut damage);
        let mut run = |period: u64| run_until(&world, world.now() + Duration::from_secs(period), &mut steps);
        if run(scenario.lasts) {
            calls = world.faults().calls;
            world.heal(&damage);
            comes_to_rest(&world, &mut steps);
        }
    }
    (finished(0, &world, steps), calls)
}

fn finished(seed: u64, world: &Arc<World>, steps: u64) -> Outcome {
    let counts = world.faults().counts.clone();
    let outcome = Outcome {
        seed,
        violation: world.violation(),
        trace: world.take_trace(),
        counts,
        simulated: world.now(),
        steps,
    };
    world.end();
    outcome
}
