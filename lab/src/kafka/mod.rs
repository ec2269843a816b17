//! Kafka as users have it: a StatefulSet of three brokers.

mod image;
mod manifests;

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
const ZOOKEEPER_RELEASE: &str = "2.8.2";
const KRAFT_RELEASE: &str = "4.4.0";
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
}

impl Flavour {
    /// Its Kafka version.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::ZooKeeper => ZOOKEEPER_RELEASE,
            Self::KRaft | Self::KRaft100 => KRAFT_RELEASE,
        }
    }

    /// The node.id (broker.id) of ordinal 0.
    #[must_use]
    pub fn first_node_id(self) -> u32 {
        match self {
            Self::ZooKeeper | Self::KRaft => 0,
            Self::KRaft100 => 100,
        }
    }

    /// Name of its container image.
    #[must_use]
    pub fn image_name(self) -> String {
        image::name(self.version())
    }

    /// Its container image, built unless it is in the cache.
    pub fn image(self, cache: &Cache, progress: &Progress) -> Result<Image> {
        image::kafka(cache, progress, self.version(), self == Self::ZooKeeper)
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
        let manifests = manifests(self.flavour, &self.namespace, &self.volumes()?);
        self.cluster.kubectl().args(["apply", "-f", "-"]).text_with_input(manifests.as_bytes()).map(drop)
    }

    /// Waits until all pods are ready and every broker is registered, which a ready pod need not be.
    pub fn wait_ready(&self) -> Result<()> {
        let limit = format!("--timeout={}s", READY_LIMIT.as_secs());
        self.kubectl().args(["rollout", "status", "statefulset/kafka", &limit]).text()?;
        self.kubectl().args(["wait", "--for=condition=Ready", "pod/client", &limit]).text()?;
        let wanted = self
            .kubectl()
            .args(["get", "statefulset/kafka", "--output", "jsonpath={.spec.replicas}"])
            .text()?;
        wait_until("the brokers' registration", READY_LIMIT, || match self.registered() {
            Ok(count) if count.to_string() == wanted => Readiness::Ready,
            Ok(count) => Readiness::NotYet(format!("{count} of {wanted} are registered")),
            Err(error) => Readiness::NotYet(error.to_string()),
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

    fn registered(&self) -> Result<usize> {
        let listed = self.sandbox.command("kcat").args(["-L", "-m", "5", "-b", &self.bootstrap()]).text()?;
        Ok(listed.lines().filter(|line| line.trim_start().starts_with("broker ")).count())
    }

    fn kubectl(&self) -> crate::sandbox::Command {
        self.cluster.kubectl().args(["--namespace", &self.namespace])
    }

    fn volumes(&self) -> Result<std::path::PathBuf> {
        self.sandbox.paths().part("volumes").map(|folder| folder.join(&self.namespace))
    }
}
