//! The quota of floating IPs, where the cloud tells it.

use crate::{observe::credential, plan::desired::WantedProvider, preview::Look};

/// In use, and allowed (`None`: without a limit). `None`: not told; what fails here fails in the road itself as well.
pub async fn of(looked: &Look) -> Option<(u64, Option<u64>)> {
    let WantedProvider::OpenStack { cloud_name, secret, .. } = &looked.desired.provider else { return None };
    let secret = looked.kubernetes.secret(&secret.namespace, &secret.name).await.ok()??;
    let cloud = looked.clouds.open(&credential(&secret, cloud_name).ok()?).ok()?;
    let quota = cloud.quota().await.ok()??;
    Some((quota.used, quota.limit))
}
