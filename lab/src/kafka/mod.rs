//! Kafka as users have it: a StatefulSet of three brokers.

mod image;
mod manifests;
mod runtime;

use std::time::Duration;

pub use image::PACKAGES;
pub use manifests::manifests;

use crate::cache::{Cache, remove_folder};
use crate::error::Result;
use crate::kubernetes::{Cluster, Image};
use crate::process::{Readiness, wait_until};
use crate::progress::Progress;
use crate::sandbox::Sandbox;

/// The namespace of the Kafka that `up` deploys.
pub const NAMESPACE: &str = "ydata";
const READY_LIMIT: Duration = Duration::from_secs(180);

/// Which Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavour {
    /// Kafka 2.8.2 with ZooKeeper.
    #[value(name = "zookeeper")]
    ZooKeeper,
    /// The newest Kafka 4, every broker also a controller; a broker's node.id is its ordinal.
    #[value(name = "kraft")]
    KRaft,
    /// The same with node.id = ordinal + 100.
    #[value(name = "kraft-100")]
    KRaft100,
    /// Kafka 3.9 with ZooKeeper, the last that has it.
    #[value(name = "zookeeper-3.9")]
    ZooKeeper39,
    /// Kafka 3.9 in KRaft mode, with the controller in a StatefulSet of its own.
    #[value(name = "kraft-3.9")]
    KRaft39,
}

impl Flavour {
    /// Its Kafka version.
    #[must_use]
    pub fn version(self) -> &'static str {
        self.release().version
    }

    fn release(self) -> &'static image::Release {
        match self {
            Self::ZooKeeper => &image::KAFKA_2,
            Self::ZooKeeper39 | Self::KRaft39 => &image::KAFKA_3,
            Self::KRaft | Self::KRaft100 => &image::KAFKA_4,
        }
    }

    /// The node.id (broker.id) of ordinal 0.
    #[must_use]
    pub fn first_node_id(self) -> u32 {
        match self {
            Self::KRaft100 => 100,
            _ => 0,
        }
    }

    /// Name of its container image.
    #[must_use]
    pub fn image_name(self) -> String {
        image::name(self.version())
    }

    /// Its container image, built unless it is in the cache.
    pub fn image(self, cache: &Cache, progress: &Progress) -> Result<Image> {
        image::kafka(cache, progress, self.release())
    }
}

/// The image of the container that holds a pod's namespaces, built unless it is in the cache.
pub fn pause_image(cache: &Cache, progress: &Progress) -> Result<Image> {
    image::pause(cache, progress)
}

/// One Kafka in one namespace of the cluster.
pub struct Kafka<'a> {
    sandbox: &'a Sandbox,
    cluster: &'a Cluster,
    flavour: Flavour,
    namespace: String,
}

impl<'a> Kafka<'a> {
    /// Not deployed by this.
    #[must_use]
    pub fn new(sandbox: &'a Sandbox, cluster: &'a Cluster, flavour: Flavour, namespace: &str) -> Self {
        Self { sandbox, cluster, flavour, namespace: namespace.to_owned() }
    }

    /// Applies its manifests; nothing changes where they were applied before. The image is built and imported when it is missing.
    pub fn deploy(&self, progress: &Progress) -> Result<()> {
        let image = self.flavour.image(&Cache::new(self.sandbox.paths()), progress)?;
        self.cluster.import(&image)?;
        self.make_namespace()?;
        let manifests = manifests(self.flavour, &self.namespace, &self.volumes()?);
        self.cluster.kubectl().args(["apply", "-f", "-"]).text_with_input(manifests.as_bytes()).map(drop)
    }

    /// With the service account that a pod of no StatefulSet needs from its first moment.
    fn make_namespace(&self) -> Result<()> {
        let namespace = format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {{\"name\": \"{}\"}}}}",
            self.namespace
        );
        self.cluster.kubectl().args(["apply", "-f", "-"]).text_with_input(namespace.as_bytes())?;
        let limit = format!("--timeout={}s", READY_LIMIT.as_secs());
        self.kubectl().args(["wait", "--for=create", "serviceaccount/default", &limit]).text().map(drop)
    }

    /// Waits until all pods are ready, every broker is registered, which a ready pod need not be, and every partition has a leader.
    pub fn wait_ready(&self) -> Result<()> {
        let limit = format!("--timeout={}s", READY_LIMIT.as_secs());
        self.kubectl().args(["rollout", "status", "statefulset/kafka", &limit]).text()?;
        self.kubectl().args(["wait", "--for=condition=Ready", "pod/client", &limit]).text()?;
        let wanted = self
            .kubectl()
            .args(["get", "statefulset/kafka", "--output", "jsonpath={.spec.replicas}"])
            .text()?;
        wait_until("the brokers", READY_LIMIT, || {
            let listed = self.sandbox.command("kcat").args(["-L", "-m", "5", "-b", &self.bootstrap()]).text();
            listed.map_or_else(
                |error| Readiness::NotYet(error.to_string()),
                |listed| readiness(&listed, &wanted),
            )
        })
    }

    /// Removes its namespace and the brokers' logs.
    pub fn remove(&self) -> Result<()> {
        let namespace = format!("namespace/{}", self.namespace);
        self.cluster.kubectl().args(["delete", "--ignore-not-found", &namespace]).text()?;
        remove_folder(&self.volumes()?)
    }

    /// Where in-cluster clients start: the first broker by its INTERNAL name.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("kafka-0.kafka-headless.{}.svc:9092", self.namespace)
    }

    fn kubectl(&self) -> crate::sandbox::Command {
        self.cluster.kubectl().args(["--namespace", &self.namespace])
    }

    fn volumes(&self) -> Result<std::path::PathBuf> {
        self.sandbox.paths().part("volumes").map(|folder| folder.join(&self.namespace))
    }
}

/// Of what `kcat -L` lists: brokers as `broker ID at HOST:PORT`, partitions as `partition N, leader ID, ...` with -1 for none.
fn readiness(listed: &str, wanted: &str) -> Readiness {
    let lines = || listed.lines().map(str::trim_start);
    let brokers = lines().filter(|line| line.starts_with("broker ")).count();
    if brokers.to_string() != wanted {
        return Readiness::NotYet(format!("{brokers} of {wanted} are registered"));
    }
    match lines().find(|line| line.starts_with("partition ") && line.contains("leader -1")) {
        Some(partition) => Readiness::NotYet(partition.to_owned()),
        None => Readiness::Ready,
    }
}

#[cfg(test)]
mod tests {
    use super::{Readiness, readiness};

    const LISTED: &str = " 2 brokers:\n  broker 0 at a:9092\n  broker 1 at b:9092 (controller)\n 1 topics:\n  topic \"t\" with 1 partitions:\n    partition 0, leader 1, replicas: 1,0, isrs: 1\n";

    #[test]
    fn brokers_are_ready_when_all_are_registered_and_every_partition_has_a_leader() {
        let missing = |listed: &str, wanted| match readiness(listed, wanted) {
            Readiness::Ready => String::new(),
            Readiness::NotYet(reason) => reason,
        };
        assert_eq!(missing(LISTED, "2"), "");
        assert_eq!(missing(LISTED, "3"), "2 of 3 are registered");
        assert!(missing(&LISTED.replace("leader 1", "leader -1"), "2").contains("leader -1"));
    }
}
