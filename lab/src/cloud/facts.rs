use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::addresses::{KEYSTONE_PORT, NEUTRON_PORT, POD_GATEWAY};
use crate::error::{LabError, Result, read_file, write_file};

/// A user of the cloud together with the project it works in. Its password is worth nothing outside of the lab.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Name of the user.
    pub user: String,
    /// Id of the user.
    pub user_id: String,
    /// Its password.
    pub password: String,
    /// Name of the project.
    pub project: String,
    /// Id of the project.
    pub project_id: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Account({} in {})", self.user, self.project)
    }
}

/// What was made in the cloud when it was set up. Nothing is looked up by name a second time: a name may be there twice, an id is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudFacts {
    /// URL of Keystone, with its version.
    pub keystone: String,
    /// URL of Neutron, without a version, as the catalogue has it.
    pub neutron: String,
    /// The cloud's administrator.
    pub admin: Account,
    /// Member of the project that owns the pods' network.
    pub demo: Account,
    /// Member of a second project.
    pub other: Account,
    /// The network floating IPs come from.
    pub external_network_id: String,
    /// The pods' network.
    pub pod_network_id: String,
    /// Its only subnet.
    pub pod_subnet_id: String,
    /// The router between the two.
    pub router_id: String,
    /// The security group of every pod's port.
    pub security_group_id: String,
    /// The shared policy [`CloudFacts::QOS_POLICY`].
    pub qos_policy_id: String,
}

impl CloudFacts {
    /// Name of the external network.
    pub const EXTERNAL_NETWORK: &str = "lab-public";
    /// Name of the pods' network.
    pub const POD_NETWORK: &str = "lab-pods";
    /// Name of the pods' security group: everything from the pods' subnet, TCP 9094 from anywhere.
    pub const SECURITY_GROUP: &str = "kafka";
    /// Name of a policy that every project may use: 100 Mbit/s in both directions.
    pub const QOS_POLICY: &str = "kafka-100";
    /// First and last floating IP of each pool: the address of the virtual machine is between them.
    pub const FLOATING_RANGES: [(&str, &str); 2] =
        [("203.0.113.10", "203.0.113.199"), ("203.0.113.201", "203.0.113.250")];
    /// The region whose endpoints are the services themselves.
    pub const REGION: &str = "RegionOne";
    /// A second region of the same services, whose endpoints are [`CloudFacts::PROXY_KEYSTONE`] and [`CloudFacts::PROXY_NEUTRON`]: who puts a proxy there sees every call.
    pub const PROXY_REGION: &str = "RegionProxy";
    /// Where a proxy before Keystone listens; no version in the path.
    pub const PROXY_KEYSTONE: &str = "http://10.128.0.1:15000";
    /// Where a proxy before Neutron listens.
    pub const PROXY_NEUTRON: &str = "http://10.128.0.1:19696";

    /// Reads the facts of the cloud that was set up.
    pub fn read(file: &Path) -> Result<Self> {
        let text = read_file(file)?;
        serde_json::from_str(&text)
            .map_err(|error| LabError::Malformed { file: file.to_owned(), reason: error.to_string() })
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| LabError::Malformed { file: file.to_owned(), reason: error.to_string() })?;
        // The gateway and the CNI plugin may read at any time: they see it whole or not at all.
        let new = file.with_extension("new");
        write_file(&new, text)?;
        crate::error::Context::to(std::fs::rename(&new, file), || format!("write {}", file.display()))
    }
}

/// URL of Keystone, with its version.
pub(super) fn keystone() -> String {
    format!("http://{POD_GATEWAY}:{KEYSTONE_PORT}/v3")
}

/// URL of Neutron, without a version.
pub(super) fn neutron() -> String {
    format!("http://{POD_GATEWAY}:{NEUTRON_PORT}")
}
