use serde::{Deserialize, Serialize};

/// A floating IP as Neutron shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FloatingIp {
    /// Its id.
    pub id: String,
    /// The address.
    pub floating_ip_address: std::net::Ipv4Addr,
    /// The pod's address it leads to.
    pub fixed_ip_address: Option<std::net::Ipv4Addr>,
    /// The port it is bound to.
    pub port_id: Option<String>,
    /// ACTIVE or DOWN, reported by the gateway.
    pub status: String,
    /// Free text.
    pub description: String,
    /// Tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Goes up with every change.
    pub revision_number: u64,
    /// Its owner.
    pub project_id: String,
    /// Its QoS policy.
    pub qos_policy_id: Option<String>,
    /// The policy of its network, which holds when it has none of its own.
    #[serde(default)]
    pub qos_network_policy_id: Option<String>,
    /// Its port forwardings.
    #[serde(default)]
    pub port_forwardings: Vec<PortForwarding>,
}

/// A port forwarding of a floating IP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortForwarding {
    /// Its id; none in a request, nor in the list that a floating IP shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// tcp or udp.
    pub protocol: String,
    /// Port at the floating IP.
    pub external_port: u16,
    /// Where it leads to.
    pub internal_ip_address: std::net::Ipv4Addr,
    /// And to which port.
    pub internal_port: u16,
    /// The Neutron port; a floating IP's own list leaves it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_port_id: Option<String>,
}

/// A Neutron port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Port {
    /// Its id.
    pub id: String,
    /// `namespace/name` of a pod.
    pub name: String,
    /// Its network.
    pub network_id: String,
    /// What the port belongs to.
    pub device_id: String,
    /// What kind of thing that is.
    pub device_owner: String,
    /// Its addresses.
    pub fixed_ips: Vec<FixedIp>,
    /// Its security groups.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Whether the security groups are enforced.
    #[serde(default = "enabled")]
    pub port_security_enabled: bool,
}

fn enabled() -> bool {
    true
}

/// An address of a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FixedIp {
    /// The subnet.
    pub subnet_id: String,
    /// The address.
    pub ip_address: std::net::IpAddr,
}

/// Which way traffic goes, seen from the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the port.
    Ingress,
    /// From the port.
    Egress,
}

/// What a security group rule says: everything that is `None` matches all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityRule {
    /// Which way.
    pub direction: Direction,
    /// IPv4 or IPv6.
    pub ethertype: String,
    /// A name (tcp, udp, icmp ...) or a number.
    pub protocol: Option<String>,
    /// First port; the type for ICMP.
    pub port_range_min: Option<u16>,
    /// Last port; the code for ICMP.
    pub port_range_max: Option<u16>,
    /// The other side.
    pub remote_ip_prefix: Option<String>,
    /// Or the members of a group as the other side.
    pub remote_group_id: Option<String>,
    /// Or an address group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_address_group_id: Option<String>,
}

impl SecurityRule {
    /// TCP to one port from anywhere.
    #[must_use]
    pub fn tcp(port: u16) -> Self {
        Self {
            protocol: Some("tcp".to_owned()),
            port_range_min: Some(port),
            port_range_max: Some(port),
            ..Self::everything(Direction::Ingress, "0.0.0.0/0")
        }
    }

    /// Every protocol, to or from a prefix.
    #[must_use]
    pub fn everything(direction: Direction, prefix: &str) -> Self {
        Self {
            direction,
            ethertype: "IPv4".to_owned(),
            protocol: None,
            port_range_min: None,
            port_range_max: None,
            remote_ip_prefix: Some(prefix.to_owned()),
            remote_group_id: None,
            remote_address_group_id: None,
        }
    }
}

/// A security group rule that exists.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// What it says.
    #[serde(flatten)]
    pub rule: SecurityRule,
}

/// A credential that needs no password.
#[derive(Clone, Deserialize)]
pub struct ApplicationCredential {
    /// Its id.
    pub id: String,
    /// Its secret, shown once.
    pub secret: String,
}

impl std::fmt::Debug for ApplicationCredential {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "ApplicationCredential({})", self.id)
    }
}

impl ApplicationCredential {
    /// The text of a `clouds.yaml` with one cloud `lab`.
    #[must_use]
    pub fn clouds_yaml(&self, auth_url: &str, region: &str) -> String {
        format!(
            "clouds:\n  lab:\n    auth_type: v3applicationcredential\n    auth:\n      auth_url: {auth_url}\n      application_credential_id: {}\n      \
             application_credential_secret: {}\n    region_name: {region}\n",
            self.id, self.secret
        )
    }
}
