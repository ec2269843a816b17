//! What users do while replicas are killed.

use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;

use super::plots;
use crate::world::{NAME, NAMESPACE, World};

/// Plots at the same time; each has up to four brokers.
const MOST_PLOTS: usize = 4;

/// The users, and what they have made.
pub struct Users {
    /// An address of theirs.
    address: String,
    adopted: bool,
    plots: Vec<String>,
    made: usize,
}

impl Users {
    pub fn new(address: String) -> Self {
        Self { address, adopted: false, plots: Vec::new(), made: 0 }
    }

    /// One action; its name.
    pub async fn act(&mut self, world: &World, random: &mut StdRng) -> &'static str {
        let plot = self.plots.choose(random).cloned();
        match (random.random_range(0..20), plot) {
            (0..5, _) | (_, None) if self.plots.len() < MOST_PLOTS => self.make_plot(world, random),
            (5..9, Some(plot)) => move_pod(world, &plot, random).await,
            (9..12, Some(plot)) => scale(world, &plot, random).await,
            (12..14, Some(plot)) => self.delete_object(world, &plot).await,
            (14..16, Some(plot)) => self.delete_namespace(world, &plot).await,
            (16, Some(plot)) => unbind(world, &plot),
            (17, _) => self.adopt_or_give_up(world).await,
            (18, _) => move_pod(world, NAMESPACE, random).await,
            _ => edit(world, random).await,
        }
    }

    fn make_plot(&mut self, world: &World, random: &mut StdRng) -> &'static str {
        self.made += 1;
        let namespace = format!("fire-{}-{}", std::process::id(), self.made);
        plots::make(world, &namespace, random.random_range(1..4));
        self.plots.push(namespace);
        "objects made"
    }

    fn leave(&mut self, plot: &str) {
        self.plots.retain(|other| other != plot);
    }

    async fn delete_object(&mut self, world: &World, plot: &str) -> &'static str {
        self.leave(plot);
        plots::delete_object(world, plot).await;
        "objects deleted"
    }

    async fn delete_namespace(&mut self, world: &World, plot: &str) -> &'static str {
        self.leave(plot);
        plots::delete_namespace(world, plot).await;
        "namespaces deleted, Secret first"
    }

    async fn adopt_or_give_up(&mut self, world: &World) -> &'static str {
        self.adopted = !self.adopted;
        let chosen = json!([{"ordinal": 0, "address": self.address}]);
        world.patch(json!({"spec": {"brokers": if self.adopted { chosen } else { json!([]) }}})).await;
        if self.adopted { "addresses adopted" } else { "adopted addresses given up" }
    }

    /// Everything that is left.
    pub async fn delete_everything(&mut self, world: &World) {
        for plot in std::mem::take(&mut self.plots) {
            plots::delete_namespace(world, &plot).await;
        }
        world.accesses().delete(NAME, &DeleteParams::default()).await.expect("the deletion is accepted");
    }
}

/// A pod that is deleted comes back with another port.
async fn move_pod(world: &World, namespace: &str, random: &mut StdRng) -> &'static str {
    let pods: Api<Pod> = Api::namespaced(world.kube.clone(), namespace);
    if namespace == NAMESPACE {
        // One broker at a time: in-cluster clients must not notice.
        world.brokers_in_sync().await;
    }
    let name = format!("kafka-{}", random.random_range(0..if namespace == NAMESPACE { 3 } else { 1 }));
    // It may be on its way.
    let _ = pods.delete(&name, &DeleteParams::default()).await;
    if namespace == NAMESPACE { "brokers moved" } else { "pods moved" }
}

async fn scale(world: &World, namespace: &str, random: &mut StdRng) -> &'static str {
    let sets: Api<StatefulSet> = Api::namespaced(world.kube.clone(), namespace);
    let patch = Patch::Merge(json!({"spec": {"replicas": random.random_range(1..5)}}));
    sets.patch("kafka", &PatchParams::default(), &patch).await.expect("the StatefulSet scales");
    "StatefulSets scaled"
}

/// Somebody unbinds an address by hand.
fn unbind(world: &World, namespace: &str) -> &'static str {
    let of_plot = format!(" n={namespace}/{NAME} ");
    let addresses = world.demo.floating_ips().expect("floating IPs can be listed");
    if let Some(address) = addresses.iter().find(|a| a.port_id.is_some() && a.description.contains(&of_plot))
    {
        // It may be released in this moment.
        let _ = world.demo.update_floating_ip(&address.id, &json!({"port_id": null}));
    }
    "addresses unbound by hand"
}

async fn edit(world: &World, random: &mut StdRng) -> &'static str {
    let interval = format!("{}s", random.random_range(5..9));
    world.patch(json!({"spec": {"probe": {"interval": interval}}})).await;
    "objects edited"
}
