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
    plan::{cost::Prices, desired::Desired, observed::Observed},
    seams::Clock,
};

mod classes;
mod cloud;
mod kafka;
mod kubernetes;
mod manager;
mod metering;

pub use cloud::{Freshness, credential};
pub use kafka::{ClientMaterial, external_security, internal_port};
pub use kubernetes::{other, pod_view};

/// Reads Kubernetes, cloud and Kafka.
pub struct Observer {
    kubernetes: Arc<dyn Kubernetes>,
    clouds: Arc<dyn Clouds>,
    brokers: Arc<dyn Brokers>,
    clock: Arc<dyn Clock>,
    cluster: ClusterId,
    /// Where probes are measured from, for people.
    vantage: String,
    settings: Settings,
    sightings: cloud::Sightings,
    probes: Mutex<BTreeMap<AccessKey, kafka::Probes>>,
    reports: Mutex<BTreeMap<AccessKey, kafka::Reports>>,
    metered: Mutex<BTreeMap<AccessKey, Duration>>,
    kubelets: metering::Kubelets,
    allocating: tokio::sync::Mutex<()>,
}

/// What the operator was told at its start.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How often the cloud is looked at, although nothing is known to have happened.
    pub drift: Duration,
    /// How often the brokers' byte counters are read.
    pub metrics: Duration,
    /// What the cloud charges.
    pub prices: Option<Prices>,
    /// Where the Secrets of classes are.
    pub operator_namespace: String,
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
        settings: Settings,
    ) -> Self {
        Self {
            kubernetes,
            clouds,
            brokers,
            clock,
            cluster,
            vantage,
            settings,
            sightings: cloud::Sightings::default(),
            probes: Mutex::default(),
            reports: Mutex::default(),
            metered: Mutex::default(),
            kubelets: metering::Kubelets::default(),
            allocating: tokio::sync::Mutex::default(),
        }
    }

    /// Kubernetes, read now, and the cloud, as fresh as asked for or fresher: the second value. Kafka is asked by [`Self::ask_kafka`], when the plan wants to know.
    pub async fn observe(
        &self,
        object: &KafkaExternalAccess,
        desired: &Desired,
        freshness: Freshness,
    ) -> Result<(Observed, Freshness), KubernetesError> {
        let own = kubernetes::own(object);
        let seen = self.observe_kubernetes(desired, own.deleting).await?;
        let (cloud, freshness) = self.observe_cloud(desired, &own.status, &seen.pods, freshness).await?;
        let metering = self.meter(desired, &seen.pods).await;
        let grant = desired.grant.as_ref();
        let mut observed = Observed {
            cluster: self.cluster.clone(),
            own,
            others: seen.others,
            stateful_set: seen.stateful_set,
            pods: seen.pods,
            cloud,
            kafka: None,
            files: seen.files,
            metering,
            prices: grant.and_then(|grant| grant.prices.clone()).or_else(|| self.settings.prices.clone()),
        };
        if observed.stateful_set.is_none() {
            observed.pods = self.pods_left_alone(desired, &observed).await?;
        }
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
        self.clouds.forget(&key.namespace);
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.metered.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
