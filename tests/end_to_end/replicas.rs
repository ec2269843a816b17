//! Two replicas as two processes: one acts, and the other goes on when it ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::Method;
use kube::api::DeleteParams;
use nix::sys::signal::Signal;

use crate::{
    operator::{LEASE, Operator},
    proxy::Fault,
    world::{READY, World, in_lab},
};

/// The lease of operators whose take-over is measured.
const SHORT: Duration = Duration::from_secs(5);

/// Two replicas, of which the first leads.
fn pair(world: &World, test: &'static str, lease: Duration) -> (Operator, Operator) {
    let first = Operator::start_leased(world.lab, test, 0, lease);
    first.wait_until_it_leads();
    let second = Operator::start_leased(world.lab, test, 1, lease);
    // Creation times have whole seconds; see `World::start_operator`.
    std::thread::sleep(Duration::from_millis(1100));
    (first, second)
}

fn until_it_leads(operator: &Operator) -> Duration {
    let start = Instant::now();
    operator.wait_until_it_leads();
    start.elapsed()
}

#[test]
fn one_of_two_replicas_acts_and_the_other_takes_over_when_it_ends() {
    in_lab("two_replicas", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let (mut first, second) = pair(world, "two_replicas", LEASE);
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        assert_eq!(world.neutron.mutations().len(), 3, "both together");
        assert!(first.leads() && !second.leads());

        assert!(first.terminate(), "it ends in order");
        println!("taken over {:?} after a graceful end", until_it_leads(&second));
        world.neutron.forget();
        world.pods().delete("kafka-1", &DeleteParams::default()).await.expect("a pod can be deleted");
        world
            .eventually("the address follows the pod", READY, async || {
                match world.neutron.mutations().len() {
                    0 => Err("no PUT yet"),
                    _ => Ok(()),
                }
            })
            .await;
        world.brokers_registered(3).await;
        world.condition("Ready", "True", READY).await;
        world.assert_bound(0..3).await;
        assert_eq!(world.neutron.mutations().len(), 1, "one PUT for the pod that moved");
    });
}

/// Create calls reach Neutron late, so that something can be done to who waits for the answer; how many have begun.
fn late_creates(world: &World) -> Arc<AtomicUsize> {
    let begun = Arc::new(AtomicUsize::new(0));
    let creates = begun.clone();
    world.neutron.faults(move |method, path| {
        let create = *method == Method::POST && path.ends_with("/floatingips");
        creates.fetch_add(usize::from(create), Ordering::SeqCst);
        create.then_some(Fault::Delay(Duration::from_secs(6)))
    });
    begun
}

async fn until_one_is_under_way(world: &World, begun: &AtomicUsize) {
    world
        .eventually("a create call is under way", READY, async || match begun.load(Ordering::SeqCst) {
            0 => Err(()),
            _ => Ok(()),
        })
        .await;
}

/// Times of take-over, shortest first.
fn shown(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    times.iter().map(|time| format!("{:.2} s", time.as_secs_f64())).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_follower_is_ready_and_takes_over_however_the_leader_ends() {
    in_lab("take_over", async |world| {
        let (first, second) = pair(world, "take_over", SHORT);
        let (mut leader, mut follower) = ((0, first), (1, second));
        let (mut graceful, mut crashed) = (Vec::new(), Vec::new());
        for round in 0..6 {
            world
                .eventually("both are ready, and one leads", READY, async || {
                    match [&leader, &follower].map(|(_, replica)| (replica.is_ready(), replica.leads())) {
                        [(true, one), (true, other)] if one != other => Ok(()),
                        seen => Err(seen),
                    }
                })
                .await;
            // On a busy machine the lease may have changed hands.
            if follower.1.leads() {
                std::mem::swap(&mut leader, &mut follower);
            }
            let (number, mut ended) = leader;
            let start = Instant::now();
            if round % 2 == 0 {
                assert!(ended.terminate(), "exit code 0");
                follower.1.wait_until_it_leads();
                graceful.push(start.elapsed());
            } else {
                ended.kill();
                follower.1.wait_until_it_leads();
                crashed.push(start.elapsed());
            }
            leader = follower;
            follower = (number, Operator::start_leased(world.lab, "take_over", number, SHORT));
        }
        println!("taken over after SIGTERM (goal: 1 s): {}", shown(graceful));
        println!("taken over after SIGKILL (goal: lease of {SHORT:?} + 1 s): {}", shown(crashed));
    });
}

#[test]
fn sigterm_lets_the_write_under_way_end_and_begins_no_other() {
    in_lab("sigterm_in_a_call", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let (mut first, second) = pair(world, "sigterm_in_a_call", LEASE);
        let begun = late_creates(world);
        world.create(|_| {}).await;
        until_one_is_under_way(world, &begun).await;
        assert!(first.terminate(), "exit code 0");
        assert_eq!(world.ledger().len(), 1, "what was begun is done");
        world.neutron.heal();
        until_it_leads(&second);
        world.condition("Ready", "True", READY).await;
        let creates = world.neutron.mutations().iter().filter(|call| call.method == Method::POST).count();
        assert_eq!(creates, 3, "nothing was asked for twice");
        assert_eq!(world.demo.floating_ips().expect("floating IPs").len(), 3);
    });
}

#[test]
fn a_leader_that_was_stopped_for_longer_than_its_lease_writes_nothing_more() {
    in_lab("stopped_leader", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let (first, second) = pair(world, "stopped_leader", LEASE);
        first.signal(Signal::SIGSTOP);
        // It has seen the object, and would act on it when it goes on.
        println!("taken over {:?} after the leader was stopped", until_it_leads(&second));
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        let ids = || world.ledger().into_values().map(|address| address.id).collect::<Vec<_>>();
        let before = ids();
        assert_eq!(world.neutron.mutations().len(), 3);
        first.signal(Signal::SIGCONT);
        tokio::time::sleep(LEASE).await;
        assert!(second.leads() && !first.leads());
        assert_eq!(world.neutron.mutations().len(), 3, "nothing was written twice");
        assert_eq!(ids(), before);
    });
}

#[test]
fn a_leader_that_is_stopped_in_the_middle_of_a_call_binds_nothing_twice() {
    in_lab("stopped_in_a_call", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let (first, second) = pair(world, "stopped_in_a_call", LEASE);
        let begun = late_creates(world);
        world.create(|_| {}).await;
        until_one_is_under_way(world, &begun).await;
        first.signal(Signal::SIGSTOP);
        until_it_leads(&second);
        world.neutron.heal();
        world.condition("Ready", "True", READY).await;
        let mutations = world.neutron.mutations().len();
        first.signal(Signal::SIGCONT);
        tokio::time::sleep(LEASE).await;
        assert_eq!(world.neutron.mutations().len(), mutations, "its next call is not sent");
        assert!(second.leads() && !first.leads());
        assert_eq!(world.ledger().keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(world.demo.floating_ips().expect("floating IPs").len(), 3, "nothing is left over");
    });
}
