//! The quota of floating IPs, where the cloud tells it.

use std::sync::Arc;

use crate::{
    cli::cluster::Cluster,
    cloud::{Clouds, openstack::OpenStackClouds},
    kubernetes::{Kubernetes, api::KubeApi},
    observe::credential,
    plan::desired::{Desired, WantedProvider},
    preview::Uncounted,
    reach::Reach,
    runtime::clock::SystemClock,
};

/// In use, and allowed (`None`: without a limit). `None`: not told; what fails here fails in the road itself as well.
pub async fn of(cluster: &Cluster, desired: &Desired, reach: Reach) -> Option<(u64, Option<u64>)> {
    let WantedProvider::OpenStack { cloud_name, secret, .. } = &desired.provider else { return None };
    let kubernetes = KubeApi::new(cluster.client.clone(), Vec::new());
    let secret = kubernetes.secret(&secret.namespace, &secret.name).await.ok()??;
    let clouds = OpenStackClouds::new(Arc::new(SystemClock::default()), Arc::new(Uncounted)).reaching(reach);
    let cloud = clouds.open(&credential(&secret, cloud_name).ok()?).ok()?;
    let quota = cloud.quota().await.ok()??;
    Some((quota.used, quota.limit))
}
