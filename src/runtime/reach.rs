//! Where the operator may call clouds, from the command line.

use clap::Args;

use crate::reach::{IpNet, Reach};

/// Where clouds are called
#[derive(Args, Clone, Debug, Default)]
pub struct ReachArgs {
    /// Call clouds in this network although it is a loopback, link-local or denied one, for example 127.0.0.0/8; repeatable
    #[arg(long = "allow-cloud-network", env = "KEA_ALLOW_CLOUD_NETWORKS", value_delimiter = ',')]
    pub allowed: Vec<IpNet>,
    /// Call no cloud in this network, for example that of the cluster's services; repeatable. With 0.0.0.0/0 and ::/0
    /// clouds are called in the allowed networks only
    #[arg(long = "deny-cloud-network", env = "KEA_DENY_CLOUD_NETWORKS", value_delimiter = ',')]
    pub denied: Vec<IpNet>,
}

impl ReachArgs {
    /// What the administrator says, and where the operator runs in a cluster, not its API server.
    pub fn reach(&self) -> Reach {
        let api_server = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok());
        let denied = self.denied.iter().copied().chain(api_server.map(|host: std::net::IpAddr| host.into()));
        Reach { allowed: self.allowed.clone(), denied: denied.collect() }
    }
}
