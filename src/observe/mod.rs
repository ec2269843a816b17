//! All reading. One [`Observed`] value comes out; nobody else reads the world.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
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

pub use cloud::credential;
pub use kafka::{ClientMaterial, external_security, internal_port};

/// Reads Kubernetes, cloud and Kafka.
pub struct Observer {
    kubernetes: Arc<dyn Kubernetes>,
    clouds: Arc<dyn Clouds>,
    brokers: Arc<dyn Brokers>,
    clock: Arc<dyn Clock>,
    cluster: ClusterId,
    /// Where probes are measured from, for people.
    vantage: String,
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
    ) -> Self {
        Self { kubernetes, clouds, brokers, clock, cluster, vantage, probes: Mutex::default() }
    }

    /// Kubernetes and the cloud, read now. Kafka is asked by [`Self::ask_kafka`], when the plan wants to know.
    pub async fn observe(
        &self,
        object: &KafkaExternalAccess,
        desired: &Desired,
    ) -> Result<Observed, KubernetesError> {
        let seen = self.observe_kubernetes(object, desired).await?;
        let cloud = self.observe_cloud(desired, &seen.pods).await?;
        Ok(Observed {
            cluster: self.cluster.clone(),
            own: kubernetes::own(object),
            others: seen.others,
            stateful_set: seen.stateful_set,
            pods: seen.pods,
            cloud,
            kafka: None,
        })
    }

    /// The object is gone: nothing about it is kept.
    pub fn forget(&self, key: &AccessKey) {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
