//! What one thing costs: calls, writes and bytes beside their goals, then times, which are printed and not judged.
//! Exit code 1: a count misses its goal. `make bench`.
//!
//! The goals are those of the design; the peer is ORC v2.6.0 (openstack-resource-controller), measured on real Neutron 29.

#![allow(dead_code, reason = "the simulated world is shared with tests/road, which uses all of it")]

#[path = "../tests/road/brokers.rs"]
mod brokers;
#[path = "../tests/road/kubernetes.rs"]
mod kubernetes;
#[path = "../tests/road/tap.rs"]
mod tap;
#[path = "../tests/road/world.rs"]
mod world;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::json;
use tap::Seam;
use world::{DRIFT, World};

/// Of one object in a day: what a look every 30 s for the probe may read.
const IDLE_READS: usize = 24 * 120 * 6;

/// One line of the table.
struct Row {
    what: &'static str,
    seen: usize,
    goal: usize,
    peer: &'static str,
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn count(&mut self, what: &'static str, seen: usize, goal: usize, peer: &'static str) {
        self.0.push(Row { what, seen, goal, peer });
    }

    /// Prints it; true when every count keeps its goal.
    fn print(&self) -> bool {
        println!("{:<62} {:>6} {:>8}  peer", "count", "seen", "at most");
        for Row { what, seen, goal, peer } in &self.0 {
            let mark = if seen > goal { "  MISSED" } else { "" };
            println!("{what:<62} {seen:>6} {goal:>8}  {peer}{mark}");
        }
        self.0.iter().all(|row| row.seen <= row.goal)
    }
}

fn reads(world: &World) -> usize {
    world.tap.calls().iter().filter(|call| call.seam == Seam::Cloud && !call.write).count()
}

fn named(world: &World, name: &str) -> usize {
    world.tap.calls().iter().filter(|call| call.seam == Seam::Cloud && call.name == name).count()
}

fn changes(world: &World) -> usize {
    world.tap.writes(Seam::Cloud).len()
}

async fn first_apply(table: &mut Table) {
    let world = World::of_three_brokers().await;
    world.settle_until_ready().await;
    table.count("3 brokers, apply to Ready: changes in the cloud", changes(&world), 3, "3");
    table.count(
        "3 brokers, apply to Ready: writes to the API server, events apart",
        world.tap.writes(Seam::Kubernetes).len(),
        3,
        "21 and 6 by the user",
    );
    let many = World::with_spec(30, |_| ()).await;
    many.cloud.set_quota(100);
    many.settle_until_ready().await;
    let calls = changes(&many) + reads(&many);
    table.count("30 brokers, apply to Ready: calls to the cloud, reads and all", calls, 60, "120");
    let bytes = serde_json::to_string(&many.status()).map_or(usize::MAX, |text| text.len());
    table.count("30 brokers: bytes of status", bytes, 30 * 512, "");
}

async fn life(table: &mut Table) {
    let world = World::ready().await;
    world.move_pod(1);
    world.reconcile().await;
    table.count("a pod moves: changes in the cloud", changes(&world), 1, "never re-bound");
    let chain = world.tap.sequential_cloud_reads_before_the_first_write();
    table.count("a pod moves: reads one after the other before the change", chain, 2, "");
    table.count("a pod moves: writes to Kafka", world.tap.writes(Seam::Kafka).len(), 0, "");

    let world = World::ready().await;
    world.swap_addresses(0, 1);
    world.clock.pass(DRIFT);
    world.reconcile().await;
    table.count("two addresses swapped by hand: changes in the cloud", changes(&world), 3, "not seen");

    let world = World::ready().await;
    world.cloud.by_hand(&world.address_of(0).id, |address| address.binding = None);
    world.clock.pass(DRIFT);
    world.reconcile().await;
    table.count("an address unbound by hand: changes in the cloud", changes(&world), 1, "not seen");

    let world = World::ready().await;
    world.cloud.delete_by_hand(&world.address_of(0).id);
    world.clock.pass(DRIFT);
    world.settle().await;
    table.count(
        "an address deleted by hand: create calls without consent",
        named(&world, "create"),
        0,
        "not seen",
    );

    let world = World::ready().await;
    world.cloud.add_policy("p", Some(1000), None);
    world.edit(|spec| spec["addresses"]["bandwidth"] = json!({"qosPolicy": "p"}));
    world.settle_until_ready().await;
    table.count("another limit for 3 addresses: changes in the cloud", changes(&world), 3, "");

    let world = World::ready().await;
    for _ in 0..24 * 3600 / 30 {
        world.clock.pass(Duration::from_secs(30));
        world.reconcile().await;
    }
    let written = [Seam::Cloud, Seam::Kafka, Seam::Kubernetes].map(|seam| world.tap.writes(seam).len());
    table.count("a day in which nothing happens: writes anywhere", written.iter().sum(), 0, "0");
    let asked = world.tap.calls().iter().filter(|call| call.seam == Seam::Kubernetes && !call.write).count();
    table.count(
        "a day in which nothing happens: reads of the API server",
        asked,
        IDLE_READS,
        "0: nothing seen",
    );
    table.count(
        "a day in which nothing happens: lists of addresses",
        named(&world, "list"),
        288,
        "0: no drift seen",
    );

    let world = World::ready().await;
    world.delete();
    world.settle_until_gone().await;
    table.count("deletion of 3 brokers: changes in the cloud", changes(&world), 3, "3");
}

async fn quota(table: &mut Table) {
    let world = World::of_three_brokers().await;
    world.cloud.set_quota(2);
    let mut passed = Duration::ZERO;
    while passed < Duration::from_secs(60) {
        let outcome = world.reconcile().await;
        let wait = outcome.look_again.unwrap_or(DRIFT).min(Duration::from_secs(5));
        world.clock.pass(wait);
        passed += wait;
    }
    table.count("quota of 2 for 3: create calls in the first minute", named(&world, "create"), 7, "14");
}

/// Median and 99th percentile.
fn spread(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

async fn times() {
    println!("\n{:<62} {:>12} {:>12}", "time of the operator alone, simulated parts", "median", "p99");
    for brokers in [3, 30, 100] {
        let world = World::with_spec(brokers, |_| ()).await;
        world.cloud.set_quota(200);
        world.settle_until_ready().await;
        let mut taken = Vec::new();
        for _ in 0..300 {
            let start = Instant::now();
            world.reconcile().await;
            taken.push(start.elapsed());
        }
        let (median, worst) = spread(taken);
        let what = format!("a reconcile that finds {brokers} brokers in order (goal: p99 5 ms with 3)");
        println!("{what:<62} {median:>12.1?} {worst:>12.1?}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut table = Table::default();
    first_apply(&mut table).await;
    life(&mut table).await;
    quota(&mut table).await;
    let kept = table.print();
    times().await;
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
