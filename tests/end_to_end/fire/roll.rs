//! Brokers and replicas killed in the middle of a restart sequence.

use std::collections::BTreeMap;

use kube::{ResourceExt, api::ListParams};
use rand::{SeedableRng, rngs::StdRng};

use super::{Settings, replicas::Replicas};
use crate::{
    restart::{Watch, restart},
    witness::Witness,
    world::{NAMESPACE, READY, ROLLED, World, in_lab},
};

/// Names and UIDs of the brokers' pods.
async fn pods(world: &World) -> BTreeMap<String, String> {
    let pods = world.pods().list(&ListParams::default().labels("app=kafka")).await.expect("pods");
    pods.into_iter().map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())).collect()
}

/// Waits until `count` pods are others than before, and names the one that came last.
async fn made_anew(world: &World, before: &BTreeMap<String, String>, known: &[String]) -> String {
    world
        .eventually("the next broker is restarted", ROLLED, async || {
            let now = pods(world).await;
            let mut new = now.iter().filter(|(name, uid)| {
                before.get(*name).is_some_and(|old| old != *uid) && !known.contains(name)
            });
            new.next().map(|(name, _)| name.clone()).ok_or(now.clone())
        })
        .await
}

/// SIGKILL of a broker's process; its pod stays and starts it again. The processes of pods are those of the lab.
fn kill_broker(world: &World, pod: &str) -> bool {
    let script = format!(
        "for p in /proc/[0-9]*; do \
           grep -qsz '^POD_NAME={pod}$' $p/environ && grep -qs kafka.Kafka $p/cmdline && kill -9 ${{p#/proc/}} && exit 0; \
         done; exit 1"
    );
    let status = world.lab.command("sh").args(["-c", &script]).status().expect("a shell");
    status.success()
}

async fn until_it_dies(world: &World, pod: &str) {
    world
        .eventually("the broker's process is killed", READY, async || {
            if kill_broker(world, pod) { Ok(()) } else { Err("no process yet") }
        })
        .await;
}

#[test]
fn brokers_killed_in_the_middle_of_a_restart_sequence_are_waited_for_and_none_restarts_twice() {
    in_lab("fire_roll", async |world| {
        let mut random = StdRng::seed_from_u64(Settings::of_environment().seed);
        let witness = Witness::start(world.lab, NAMESPACE);
        witness.running(world).await;
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let mut replicas = Replicas::start(world, "fire_roll");
        let before = pods(world).await;
        let lives = Watch::start(&world.kube, NAMESPACE);
        world.create(restart).await;
        let first = made_anew(world, &before, &[]).await;
        // On its way up, and nobody knows who takes over.
        until_it_dies(world, &first).await;
        replicas.kill(world, &mut random);
        let second = made_anew(world, &before, std::slice::from_ref(&first)).await;
        // One that was done already, while another is down.
        until_it_dies(world, &first).await;
        replicas.kill(world, &mut random);
        let third = made_anew(world, &before, &[first.clone(), second.clone()]).await;
        world.condition("Ready", "True", ROLLED).await;
        world.condition("Reachable", "True", ROLLED).await;
        lives.end().await.assert_pods_made_anew(1);
        world.assert_bound(0..3).await;
        assert_eq!(world.demo.floating_ips().expect("floating IPs").len(), 3);
        println!("restarted in this order: {first}, {second}, {third}; two brokers and two replicas killed");
        // Two of three brokers were away at times: more than `min.insync.replicas` allows.
        witness.lost_nothing(world).await;
    });
}
