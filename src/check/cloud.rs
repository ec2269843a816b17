//! What only a check asks the cloud, and the operator never.

use std::sync::Arc;

use super::network::{self, Routed};
use crate::{cloud::FloatingIps, observe::credential, plan::desired::WantedProvider, preview::Look};

/// What came of it.
pub struct Answers {
    /// Floating IPs in use, and allowed (`None`: without a limit). `None`: not told; what fails here fails in the road
    /// itself as well.
    pub quota: Option<(u64, Option<u64>)>,
    /// Which pods a router joins with the external network.
    pub routed: Routed,
}

/// Asks both at once.
pub async fn ask(looked: &Look) -> Answers {
    let Some(cloud) = open(looked).await else { return Answers { quota: None, routed: Ok(None) } };
    let (quota, routed) = futures::join!(cloud.quota(), routed(&*cloud, looked));
    let quota = quota.ok().flatten().map(|quota| (quota.used, quota.limit));
    Answers { quota, routed }
}

async fn open(looked: &Look) -> Option<Arc<dyn FloatingIps>> {
    let WantedProvider::OpenStack { cloud_name, secret, .. } = &looked.desired.provider else { return None };
    let secret = looked.kubernetes.secret(&secret.namespace, &secret.name).await.ok()??;
    looked.clouds.open(&credential(&secret, cloud_name).ok()?).ok()
}

/// Where an address is bound a router is there, whether the project sees it or not: the cloud lets none go that an address
/// needs.
async fn routed(cloud: &dyn FloatingIps, looked: &Look) -> Routed {
    let Some(view) = looked.observed.cloud.seen() else { return Ok(None) };
    let targets = network::targets(&looked.observed).into_values().collect();
    let mut routed = cloud.routed(&view.floating_network, &targets).await?;
    let there = view.addresses.iter().filter(|address| address.network == view.floating_network);
    if let Some(routed) = &mut routed {
        routed.extend(there.filter_map(|address| address.binding.clone()));
    }
    Ok(routed)
}
