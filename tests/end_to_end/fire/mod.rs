//! Real processes under fire: two replicas are killed at random instants while users work and parts fail; after every
//! kill the cloud's own records are compared with the objects.
//!
//! `make fire KILLS=300 SEED=7` for more than the share of every run (`MINUTES=60`: no round begins later). The seed gives the users' actions, the instants and
//! who is hit; how the processes run between them is the machine's.

mod faults;
mod ledger;
pub mod plots;
mod replicas;
mod roll;
mod users;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use crate::{
    witness::Witness,
    world::{NAMESPACE, READY, World, in_lab},
};

use faults::Fault;
use ledger::{Ledger, Seen};
use replicas::Replicas;
use users::Users;

/// The addresses of a round are in order again after this, faults and take-overs included.
const ORDER: Duration = Duration::from_secs(600);
/// A deletion that another process began is not finished before (design: a create call that was cut off may succeed late).
const GONE: Duration = Duration::from_secs(600);
/// A replica is killed no later than this after a user's action.
const INSTANTS: Duration = Duration::from_millis(2500);

/// How much fire.
struct Settings {
    kills: usize,
    seed: u64,
    /// No round begins after this.
    longest: Duration,
    /// Waits until the last deleted object is gone; minutes, in which nothing else happens.
    to_the_end: bool,
}

impl Settings {
    fn of_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let kills = number("KILLS").unwrap_or(20);
        Self {
            kills: usize::try_from(kills).unwrap_or(usize::MAX),
            seed: number("SEED").unwrap_or(1),
            longest: Duration::from_secs(60 * number("MINUTES").unwrap_or(120)),
            to_the_end: kills > 20,
        }
    }

    /// Between two moments in which everything must be in order. A short run has every fault as well.
    fn kills_per_round(&self) -> usize {
        if self.to_the_end { 6 } else { 2 }
    }
}

/// What happened, by name.
#[derive(Default)]
pub struct Counts(BTreeMap<&'static str, usize>);

impl Counts {
    pub fn add(&mut self, what: &'static str, count: usize) {
        *self.0.entry(what).or_default() += count;
    }

    fn of(&self, what: &str) -> usize {
        self.0.get(what).copied().unwrap_or_default()
    }

    fn see(&mut self, seen: &Seen) {
        self.add("ledgers read", 1);
        self.add("leaks", seen.leaks.len());
        self.add("double bindings", seen.double_bindings.len());
        self.add("bound to another's port", seen.astray.len());
        self.add("foreign addresses touched", seen.touched.len());
        self.add("sightings of a second address for one broker", seen.surplus.len());
    }
}

/// A run under way.
pub struct Fire<'w> {
    world: &'w World,
    random: StdRng,
    replicas: Replicas,
    users: Users,
    ledger: Ledger,
    counts: Counts,
}

impl<'w> Fire<'w> {
    async fn begin(world: &'w World, seed: u64) -> Self {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let replicas = Replicas::start(world, "fire");
        world.create(|object| object["spec"]["probe"] = json!({"interval": "5s", "timeout": "2s"})).await;
        let ledger = Ledger::open(world).await;
        world.eventually("every broker has its address", ORDER, async || ledger.in_order(world).await).await;
        let users = Users::new(ledger.to_adopt());
        Self {
            world,
            random: StdRng::seed_from_u64(seed),
            replicas,
            users,
            ledger,
            counts: Counts::default(),
        }
    }

    /// A user does something, and at a random instant afterwards a replica is killed.
    async fn act_and_kill(&mut self) {
        // Who was killed before has left the lease to the other: else most kills would hit nobody who does anything.
        self.replicas.until_one_leads().await;
        let what = self.users.act(self.world, &mut self.random).await;
        self.counts.add(what, 1);
        self.wait_for_the_instant().await;
        let killed = self.replicas.kill(self.world, &mut self.random);
        self.counts.add("kills", killed.replicas);
        self.counts.add("kills of a leader", killed.leaders);
        self.look(what).await;
    }

    async fn wait_for_the_instant(&mut self) {
        tokio::time::sleep(INSTANTS.mul_f64(self.random.random())).await;
    }

    /// What must be so at every moment.
    async fn look(&mut self, after: &str) {
        let seen = self.ledger.read(self.world).await;
        self.counts.see(&seen);
        assert!(seen.harm().is_empty(), "after {after}: {:#?}", seen.harm());
    }

    /// What must be so when nothing has happened for a while.
    async fn settle(&mut self) {
        let (world, ledger) = (self.world, &self.ledger);
        world
            .eventually("every broker has its address, and nothing else has one", ORDER, async || {
                faults::mend(world);
                ledger.in_order(world).await
            })
            .await;
        self.counts.add("rounds that ended in order", 1);
        self.look("a round").await;
        world.neutron.forget();
        world.keystone.forget();
    }

    async fn burn(&mut self, settings: &Settings) {
        let start = Instant::now();
        for round in 0.. {
            for _ in 0..settings.kills_per_round() {
                self.act_and_kill().await;
            }
            let fault = Fault::ALL[round % Fault::ALL.len()];
            fault.strike(self).await;
            self.counts.add(fault.name(), 1);
            self.settle().await;
            let kills = self.counts.of("kills");
            println!("{:?}: {kills} kills, {} in order after {}", start.elapsed(), round + 1, fault.name());
            let enough = kills >= settings.kills && round + 1 >= Fault::ALL.len();
            if enough || start.elapsed() > settings.longest {
                break;
            }
        }
    }

    /// Nothing more happens, so nothing more is written.
    async fn rest(&mut self) {
        self.world.condition("Ready", "True", READY).await;
        self.world.neutron.forget();
        tokio::time::sleep(Duration::from_secs(11)).await;
        let written = self.world.neutron.mutations();
        assert_eq!(written, [], "in order, and still something is changed");
    }

    async fn end(mut self, settings: &Settings) {
        self.rest().await;
        let transitions = self.replicas.take_overs(self.world).await;
        self.counts.add("take-overs", transitions);
        if settings.to_the_end {
            self.users.delete_everything(self.world).await;
            let (world, ledger) = (self.world, &self.ledger);
            world.eventually("every object is gone", GONE, async || ledger.nothing_left(world).await).await;
            self.look("the end").await;
        }
        self.ledger.close(self.world);
        println!("fire, seed {}, {} kills wanted:", settings.seed, settings.kills);
        for (what, count) in &self.counts.0 {
            println!("{count:>6}  {what}");
        }
    }
}

#[test]
fn replicas_killed_at_random_instants_while_parts_fail_leak_nothing_and_bind_nothing_twice() {
    in_lab("fire", async |world| {
        let settings = Settings::of_environment();
        let witness = Witness::start(world.lab, NAMESPACE);
        witness.running(world).await;
        let mut fire = Fire::begin(world, settings.seed).await;
        fire.burn(&settings).await;
        witness.noticed_nothing(world).await;
        fire.end(&settings).await;
    });
}
