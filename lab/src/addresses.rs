//! The lab's addresses. All of them exist in the sandbox's network only.

/// The bridge every pod hangs on.
pub const POD_BRIDGE: &str = "cni0";
/// The pods' subnet.
pub const POD_SUBNET: &str = "10.128.0.0/22";
/// The pods' router: address of the bridge, of the node, of the cluster DNS, and of the cloud's API.
pub const POD_GATEWAY: &str = "10.128.0.1";
/// First and last address that a pod gets.
pub const POD_RANGE: (&str, &str) = ("10.128.0.20", "10.128.3.250");
/// The cluster addresses of services.
pub const SERVICE_SUBNET: &str = "10.96.0.0/16";
/// Where the API server is for pods: the first address of the service subnet.
pub const KUBERNETES_SERVICE: &str = "10.96.0.1";
/// Port of the API server.
pub const API_SERVER_PORT: u16 = 16443;
/// Port of Keystone on the pods' router.
pub const KEYSTONE_PORT: u16 = 5000;
/// Port of Neutron on the pods' router.
pub const NEUTRON_PORT: u16 = 9696;
/// The bridge of the external network.
pub const EXTERNAL_BRIDGE: &str = "ext0";
/// Floating IPs come from here (TEST-NET-3, RFC 5737).
pub const EXTERNAL_SUBNET: &str = "203.0.113.0/24";
/// Address of the router on the external network.
pub const EXTERNAL_GATEWAY: &str = "203.0.113.1";
/// Address of the virtual machine.
pub const MACHINE: &str = "203.0.113.200";
