//! Parts that fail while users work and replicas are killed.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::Method;
use lab::cloud::Service;

use super::{Fire, replicas::LEASE};
use crate::{proxy, world::World};

const WHILE: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    RepliesLost,
    LeaderPaused,
    NeutronDown,
    ApiServerDown,
    Slow,
    KeystoneDown,
    EtcdDown,
}

impl Fault {
    pub const ALL: [Self; 7] = [
        Self::RepliesLost,
        Self::LeaderPaused,
        Self::NeutronDown,
        Self::ApiServerDown,
        Self::Slow,
        Self::KeystoneDown,
        Self::EtcdDown,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::RepliesLost => "times requests and replies of the cloud were lost",
            Self::LeaderPaused => "leaders stopped for longer than their lease (SIGSTOP)",
            Self::NeutronDown => "times Neutron was down",
            Self::ApiServerDown => "restarts of the API server",
            Self::Slow => "times the cloud was slow",
            Self::KeystoneDown => "times Keystone was down",
            Self::EtcdDown => "restarts of etcd",
        }
    }

    /// The part fails, users go on where they can, a replica is killed, and the part comes back.
    pub async fn strike(self, fire: &mut Fire<'_>) {
        let world = fire.world;
        match self {
            Self::RepliesLost => {
                world.neutron.faults(lossy());
                fire.act_and_kill().await;
                tokio::time::sleep(WHILE).await;
                world.neutron.heal();
            }
            Self::Slow => {
                let slow = |_: &Method, _: &str| Some(proxy::Fault::Delay(Duration::from_millis(1500)));
                world.neutron.faults(slow);
                world.keystone.faults(slow);
                fire.act_and_kill().await;
                tokio::time::sleep(WHILE).await;
                world.neutron.heal();
                world.keystone.heal();
            }
            Self::LeaderPaused => {
                let what = fire.users.act(world, &mut fire.random).await;
                fire.counts.add(what, 1);
                fire.wait_for_the_instant().await;
                fire.replicas.pause_the_leader(tokio::time::sleep(LEASE + WHILE)).await;
                fire.look("a leader was stopped").await;
            }
            Self::NeutronDown => cloud_down(fire, Service::Neutron).await,
            Self::KeystoneDown => cloud_down(fire, Service::Keystone).await,
            Self::ApiServerDown => control_plane_down(fire, "kube-apiserver").await,
            Self::EtcdDown => control_plane_down(fire, "etcd").await,
        }
    }
}

/// Of every three changes the first loses its reply and the second its request.
fn lossy() -> impl Fn(&Method, &str) -> Option<proxy::Fault> + Send + Sync {
    let changes = AtomicUsize::new(0);
    move |method, _| {
        if *method == Method::GET {
            return None;
        }
        match changes.fetch_add(1, Ordering::SeqCst) % 3 {
            0 => Some(proxy::Fault::DropReply),
            1 => Some(proxy::Fault::DropRequest),
            _ => None,
        }
    }
}

async fn cloud_down(fire: &mut Fire<'_>, service: Service) {
    let world = fire.world;
    let what = fire.users.act(world, &mut fire.random).await;
    fire.counts.add(what, 1);
    fire.wait_for_the_instant().await;
    world.cloud.stop(service).expect("the service stops");
    kill(fire);
    tokio::time::sleep(WHILE).await;
    world.cloud.start(service).expect("the service starts");
    fire.look("the cloud was down").await;
}

/// Replicas that start meanwhile wait for it.
async fn control_plane_down(fire: &mut Fire<'_>, part: &str) {
    let world = fire.world;
    let what = fire.users.act(world, &mut fire.random).await;
    fire.counts.add(what, 1);
    fire.wait_for_the_instant().await;
    let parts = world.lab.parts();
    let part = parts.iter().find(|known| known.name == part).expect("a part of the lab");
    // It would wait for open watches.
    part.stop(Duration::from_secs(2)).expect("it stops");
    kill(fire);
    tokio::time::sleep(WHILE).await;
    world.lab.start_control_plane().expect("the control plane starts");
    fire.look("the control plane was down").await;
}

/// Starts what has ended by itself after a failure of something else, as a kubelet does with the parts of a real control
/// plane: the scheduler of 1.36 may end on what it sees after a restart of the API server.
pub fn mend(world: &World) {
    if world.lab.parts().iter().any(|part| !part.alive()) {
        world.lab.start_control_plane().expect("the control plane starts");
    }
}

fn kill(fire: &mut Fire<'_>) {
    let killed = fire.replicas.kill(fire.world, &mut fire.random);
    fire.counts.add("kills", killed.replicas);
    fire.counts.add("kills of a leader", killed.leaders);
}
