//! All reading. One [`Observed`] value comes out; nobody else reads the world.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    api::KafkaExternalAccess,
    cloud::Clouds,
    domain::{AccessKey, ClusterId},
    kafka::Brokers,
    kubernetes::{Kubernetes, KubernetesError},
    plan::{desired::Desired, observed::Observed},
    seams::Clock,
};

mod cloud;
mod kafka;
mod kubernetes;
mod manager;

pub use cloud::{Freshness, credential};
pub use kafka::{ClientMaterial, external_security, internal_port};
pub use kubernetes::pod_view;

/// Reads Kubernetes, cloud and Kafka.
pub struct Observer {
    kubernetes: Arc<dyn Kubernetes>,
    clouds: Arc<dyn Clouds>,
    brokers: Arc<dyn Brokers>,
    clock: Arc<dyn Clock>,
    cluster: ClusterId,
    /// Where probes are measured from, for people.
    vantage: String,
    /// How often the cloud is looked at although nothing is known to have happened.
    drift: Duration,
    sightings: cloud::Sightings,
    probes: Mutex<BTreeMap<AccessKey, kafka::Probes>>,
}

impl Observer {
    /// Reads nothing yet.
    pub fn new(
        kubernetes: Arc<dyn Kubernetes>,
        clouds: Arc<dyn Clouds>,
        brokers: Arc<dyn Brokers>,
        clock: Arc<dyn Clock>,
        cluster: ClusterId,
        vantage: String,
        drift: Duration,
    ) -> Self {
        let (sightings, probes) = (cloud::Sightings::default(), Mutex::default());
        Self { kubernetes, clouds, brokers, clock, cluster, vantage, drift, sightings, probes }
    }

    /// Kubernetes, read now, and the cloud, as fresh as asked for or fresher: the second value. Kafka is asked by [`Self::ask_kafka`], when the plan wants to know.
    pub async fn observe(
        &self,
        object: &KafkaExternalAccess,
        desired: &Desired,
        freshness: Freshness,
    ) -> Result<(Observed, Freshness), KubernetesError> {
        let seen = self.observe_kubernetes(object, desired).await?;
        let (cloud, freshness) = self.observe_cloud(desired, &seen.pods, freshness).await?;
        let observed = Observed {
            cluster: self.cluster.clone(),
            own: kubernetes::own(object),
            others: seen.others,
            stateful_set: seen.stateful_set,
            pods: seen.pods,
            cloud,
            kafka: None,
            files: seen.files,
        };
        Ok((observed, freshness))
    }

    /// What was measured is not true any more.
    pub fn forget_probes(&self, key: &AccessKey) {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// The object is gone: nothing about it is kept.
    pub fn forget(&self, key: &AccessKey) {
        self.forget_probes(key);
        self.sightings.forget(key);
    }
}
