//! Two replicas of the operator that are killed and started again.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use nix::sys::signal::Signal;
use rand::{Rng, rngs::StdRng};

use crate::{
    operator::Operator,
    world::{READY, World},
};

/// How long a leader that was killed keeps the other from taking over. Short, so that more happens in a run.
pub const LEASE: Duration = Duration::from_secs(3);

pub struct Replicas {
    test: &'static str,
    running: [Option<Operator>; 2],
}

/// Who was killed.
pub struct Killed {
    pub replicas: usize,
    pub leaders: usize,
}

impl Replicas {
    /// Both, of which one leads.
    pub fn start(world: &World, test: &'static str) -> Self {
        let running = [0, 1].map(|replica| Some(Operator::start_leased(world.lab, test, replica, LEASE)));
        let replicas = Self { test, running };
        let start = Instant::now();
        while replicas.leader().is_none() {
            assert!(start.elapsed() < READY, "nobody leads\n{}", replicas.log_tail());
            std::thread::sleep(Duration::from_millis(100));
        }
        // See `World::start_operator`.
        std::thread::sleep(Duration::from_millis(1100));
        replicas
    }

    pub fn leader(&self) -> Option<usize> {
        (0..2).find(|replica| self.running[*replica].as_ref().is_some_and(Operator::leads))
    }

    /// Waits until one leads, but not for ever: a part that it needs may be down.
    pub async fn until_one_leads(&self) {
        let start = Instant::now();
        while self.leader().is_none() && start.elapsed() < 4 * LEASE {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn log_tail(&self) -> String {
        self.running.iter().flatten().next().map(Operator::log_tail).unwrap_or_default()
    }

    /// SIGKILL of the leader mostly, sometimes of the other or of both; each is started again at once.
    pub fn kill(&mut self, world: &World, random: &mut StdRng) -> Killed {
        let leader = self.leader();
        let first = leader.unwrap_or_else(|| random.random_range(0..2));
        let victims = match random.random_range(0..10) {
            0 => vec![1 - first],
            1 => vec![0, 1],
            _ => vec![first],
        };
        let leaders = victims.iter().filter(|victim| Some(**victim) == leader).count();
        for victim in &victims {
            if let Some(operator) = self.running[*victim].take() {
                operator.kill();
            }
        }
        for victim in &victims {
            self.running[*victim] = Some(Operator::start_leased(world.lab, self.test, *victim, LEASE));
        }
        Killed { replicas: victims.len(), leaders }
    }

    /// Stops the leader for longer than its lease while the other goes on, and lets it go on as well.
    pub async fn pause_the_leader(&self, meanwhile: impl Future<Output = ()>) {
        let leader = self.leader().unwrap_or(0);
        let operator = self.running[leader].as_ref().expect("it runs");
        operator.signal(Signal::SIGSTOP);
        meanwhile.await;
        operator.signal(Signal::SIGCONT);
    }

    /// How often the lease has changed hands, as its record counts.
    pub async fn take_overs(&self, world: &World) -> usize {
        let leases: Api<Lease> = Api::namespaced(world.kube.clone(), "default");
        let lease = leases.get("kafka-external-access").await.expect("the lease");
        let transitions = lease.spec.and_then(|spec| spec.lease_transitions).unwrap_or_default();
        usize::try_from(transitions).unwrap_or_default()
    }
}
