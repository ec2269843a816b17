//! Two replicas as two processes: one acts, and the other goes on when it ends.

use std::time::{Duration, Instant};

use kube::api::DeleteParams;
use nix::sys::signal::Signal;

use crate::{
    operator::Operator,
    world::{World, in_lab},
};

const READY: Duration = Duration::from_secs(60);
/// The lease of the operators under test.
const LEASE: Duration = Duration::from_secs(5);

/// Two replicas, of which the first leads.
fn pair(world: &World, test: &'static str) -> (Operator, Operator) {
    let first = Operator::start_replica(world.lab, test, 0);
    first.wait_until_it_leads();
    let second = Operator::start_replica(world.lab, test, 1);
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
        let (mut first, second) = pair(world, "two_replicas");
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        assert_eq!(world.neutron.mutations().len(), 3, "both together");
        assert!(first.leads() && !second.leads());

        assert!(first.terminate(Duration::from_secs(15)), "it ends in order");
        println!("taken over {:?} after a graceful end", until_it_leads(&second));
        world.neutron.forget();
        world.pods().delete("kafka-1", &DeleteParams::default()).await.expect("a pod can be deleted");
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.brokers_registered(3).await;
        world.condition("Ready", "True", READY).await;
        world.assert_bound(0..3).await;
        assert_eq!(world.neutron.mutations().len(), 1, "one PUT for the pod that moved");
    });
}

#[test]
fn a_leader_that_was_stopped_for_longer_than_its_lease_writes_nothing_more() {
    in_lab("stopped_leader", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let (first, second) = pair(world, "stopped_leader");
        first.signal(Signal::SIGSTOP);
        // It has seen the object, and would act on it when it goes on.
        println!("taken over {:?} after the leader was stopped", until_it_leads(&second));
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        let ids = || world.ledger().into_values().map(|address| address.id).collect::<Vec<_>>();
        let before = ids();
        assert_eq!(world.neutron.mutations().len(), 3);
        first.signal(Signal::SIGCONT);
        tokio::time::sleep(2 * LEASE).await;
        assert!(second.leads() && !first.leads());
        assert_eq!(world.neutron.mutations().len(), 3, "nothing was written twice");
        assert_eq!(ids(), before);
    });
}

#[test]
fn a_leader_that_is_stopped_in_the_middle_of_a_call_binds_nothing_twice() {
    in_lab("stopped_in_a_call", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let (first, second) = pair(world, "stopped_in_a_call");
        // Its first create call reaches Neutron late: it is stopped while it waits for the answer.
        world.neutron.faults(|method, path| {
            let create = *method == http::Method::POST && path.ends_with("/floatingips");
            create.then_some(crate::proxy::Fault::Delay(Duration::from_millis(1500)))
        });
        world.create(|_| {}).await;
        world
            .eventually("a create call is under way", READY, async || {
                if world.neutron.mutations().is_empty() { Err(()) } else { Ok(()) }
            })
            .await;
        first.signal(Signal::SIGSTOP);
        until_it_leads(&second);
        world.neutron.heal();
        world.condition("Ready", "True", Duration::from_secs(90)).await;
        let mutations = world.neutron.mutations().len();
        first.signal(Signal::SIGCONT);
        tokio::time::sleep(2 * LEASE).await;
        assert_eq!(world.neutron.mutations().len(), mutations, "its next call is not sent");
        assert!(second.leads() && !first.leads());
        assert_eq!(world.ledger().keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(world.demo.floating_ips().expect("floating IPs").len(), 3, "nothing is left over");
    });
}
