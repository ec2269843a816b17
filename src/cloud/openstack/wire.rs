//! The JSON of Keystone and Neutron, read leniently: fields of extensions may be missing.

use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;
use serde_json::{Value, json};

use super::clouds_yaml::{ApplicationCredential, Domain, Identity, Name};
use crate::{
    cloud::{
        Binding, Change, FloatingIp, IngressRule, NewFloatingIp, Port, Quota,
        limits::{BandwidthLimits, Direction, MANAGED, QosPolicy},
    },
    domain::{AddressId, NetworkId, PortId, ProjectId, QosPolicyId, Revision, SecurityGroupId},
};

/// Body of `POST /v3/auth/tokens` (Identity API v3). An application credential must not carry a scope.
pub fn login(identity: &Identity) -> Value {
    match identity {
        Identity::Password { user, password, project } => {
            let mut user = name(user);
            user["password"] = json!(password.reveal());
            json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": name(project)},
            }})
        }
        Identity::ApplicationCredential { credential, secret } => {
            let mut application = match credential {
                ApplicationCredential::Id(id) => json!({"id": id}),
                ApplicationCredential::Name(called, user) => json!({"name": called, "user": name(user)}),
            };
            application["secret"] = json!(secret.reveal());
            json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": application}}})
        }
    }
}

fn name(of: &Name) -> Value {
    match of {
        Name::Id(id) => json!({"id": id}),
        Name::Named { name, domain: Domain::Id(id) } => json!({"name": name, "domain": {"id": id}}),
        Name::Named { name, domain: Domain::Name(domain) } => {
            json!({"name": name, "domain": {"name": domain}})
        }
    }
}

#[derive(Deserialize)]
pub struct TokenBody {
    pub token: TokenFields,
}

#[derive(Deserialize)]
pub struct TokenFields {
    pub issued_at: Option<jiff::Timestamp>,
    pub expires_at: jiff::Timestamp,
    pub project: Option<TokenProject>,
    #[serde(default)]
    pub catalog: Vec<Service>,
}

#[derive(Deserialize)]
pub struct TokenProject {
    pub id: String,
}

#[derive(Deserialize)]
pub struct Service {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub endpoints: Vec<CatalogEndpoint>,
}

#[derive(Deserialize)]
pub struct CatalogEndpoint {
    pub interface: String,
    pub region_id: Option<String>,
    pub url: String,
}

#[derive(Deserialize)]
pub struct One<T> {
    #[serde(alias = "network", alias = "port", alias = "policy")]
    pub floatingip: T,
}

/// A page of a collection; `links` says whether there is another.
#[derive(Deserialize)]
pub struct Page<T> {
    #[serde(
        alias = "floatingips",
        alias = "ports",
        alias = "networks",
        alias = "security_group_rules",
        alias = "policies",
        alias = "routers"
    )]
    pub items: Vec<T>,
    #[serde(
        default,
        alias = "floatingips_links",
        alias = "ports_links",
        alias = "networks_links",
        alias = "security_group_rules_links",
        alias = "policies_links",
        alias = "routers_links"
    )]
    pub links: Vec<Link>,
}

#[derive(Deserialize)]
pub struct Link {
    pub rel: String,
}

#[derive(Deserialize)]
pub struct WireNetwork {
    pub id: String,
    #[serde(default)]
    pub name: String,
    #[serde(default, rename = "router:external")]
    pub external: bool,
}

/// Newer releases send both names, older ones only the second.
#[derive(Deserialize)]
struct WireOwner {
    project_id: Option<String>,
    tenant_id: Option<String>,
}

impl WireOwner {
    fn project(self) -> ProjectId {
        ProjectId::new(self.project_id.or(self.tenant_id).unwrap_or_default())
    }
}

#[derive(Deserialize)]
pub struct WireFloatingIp {
    pub id: String,
    floating_ip_address: Ipv4Addr,
    floating_network_id: String,
    #[serde(flatten)]
    owner: WireOwner,
    port_id: Option<String>,
    fixed_ip_address: Option<Ipv4Addr>,
    #[serde(default)]
    port_forwardings: Vec<Value>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    qos_policy_id: Option<String>,
    #[serde(default)]
    revision_number: u64,
    #[serde(default)]
    created_at: Option<jiff::Timestamp>,
}

impl From<WireFloatingIp> for FloatingIp {
    fn from(wire: WireFloatingIp) -> Self {
        let binding = wire.port_id.zip(wire.fixed_ip_address);
        Self {
            id: AddressId::new(wire.id),
            address: wire.floating_ip_address,
            network: NetworkId::new(wire.floating_network_id),
            project: wire.owner.project(),
            binding: binding.map(|(port, fixed_ip)| Binding { port: PortId::new(port), fixed_ip }),
            has_port_forwardings: !wire.port_forwardings.is_empty(),
            description: wire.description.unwrap_or_default(),
            qos_policy: wire.qos_policy_id.map(QosPolicyId::new),
            revision: Revision(wire.revision_number),
            created_at: wire.created_at,
        }
    }
}

#[derive(Deserialize)]
pub struct WirePort {
    pub id: String,
    pub network_id: String,
    #[serde(flatten)]
    owner: WireOwner,
    #[serde(default)]
    device_id: Option<String>,
    #[serde(default)]
    device_owner: Option<String>,
    #[serde(default)]
    fixed_ips: Vec<WireFixedIp>,
    #[serde(default)]
    security_groups: Vec<String>,
    #[serde(default)]
    port_security_enabled: Option<bool>,
}

#[derive(Deserialize)]
struct WireFixedIp {
    ip_address: IpAddr,
    subnet_id: Option<String>,
}

/// `device_owner` of a port by which a router is on a subnet: a usual router, a distributed and a replicated one.
pub const ROUTER_INTERFACES: [&str; 3] = [
    "network:router_interface",
    "network:router_interface_distributed",
    "network:ha_router_replicated_interface",
];

impl WirePort {
    /// The router whose interface it is (`device_id`).
    pub fn router(&self) -> Option<&str> {
        let owner = self.device_owner.as_deref()?;
        self.device_id.as_deref().filter(|_| ROUTER_INTERFACES.contains(&owner))
    }

    /// The subnets that it has an address of.
    pub fn subnets(&self) -> impl Iterator<Item = &str> {
        self.fixed_ips.iter().filter_map(|fixed| fixed.subnet_id.as_deref())
    }

    /// The subnet of this address of it.
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<&str> {
        let fixed = self.fixed_ips.iter().find(|fixed| fixed.ip_address == address)?;
        fixed.subnet_id.as_deref()
    }
}

impl From<WirePort> for Port {
    fn from(wire: WirePort) -> Self {
        let ipv4 = |fixed: WireFixedIp| match fixed.ip_address {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        };
        Self {
            id: PortId::new(wire.id),
            network: NetworkId::new(wire.network_id),
            project: wire.owner.project(),
            fixed_ips: wire.fixed_ips.into_iter().filter_map(ipv4).collect(),
            security_groups: wire.security_groups.into_iter().map(SecurityGroupId::new).collect(),
            port_security_enabled: wire.port_security_enabled,
        }
    }
}

#[derive(Deserialize)]
pub struct WireRule {
    pub id: String,
    security_group_id: String,
    pub direction: String,
    ethertype: Option<String>,
    protocol: Option<String>,
    port_range_min: Option<u16>,
    port_range_max: Option<u16>,
    remote_ip_prefix: Option<String>,
    remote_group_id: Option<String>,
    /// Extension `security-groups-remote-address-group`.
    #[serde(default)]
    remote_address_group_id: Option<String>,
}

impl From<WireRule> for IngressRule {
    fn from(wire: WireRule) -> Self {
        let protocol = wire.protocol.as_deref().map(str::to_ascii_lowercase);
        Self {
            id: wire.id,
            group: SecurityGroupId::new(wire.security_group_id),
            ipv4: wire.ethertype.as_deref() != Some("IPv6"),
            tcp: matches!(protocol.as_deref(), None | Some("tcp" | "6" | "any" | "0")),
            ports: wire.port_range_min.zip(wire.port_range_max),
            // A list of networks that somebody keeps: narrow, and in no notation of ours.
            remote_ip_prefix: wire.remote_ip_prefix.or(wire.remote_address_group_id),
            remote_group: wire.remote_group_id.map(SecurityGroupId::new),
        }
    }
}

/// `GET /routers` (Networking API v2.0, "Routers").
#[derive(Deserialize)]
pub struct WireRouter {
    pub id: String,
    #[serde(default)]
    external_gateway_info: Option<WireGateway>,
    /// Extension `external-gateway-multihoming`: every gateway, the one above among them.
    #[serde(default)]
    external_gateways: Option<Vec<WireGateway>>,
}

#[derive(Deserialize)]
struct WireGateway {
    network_id: Option<String>,
}

impl WireRouter {
    /// True when it has a gateway on this network.
    pub fn leads_to(&self, external: &NetworkId) -> bool {
        let several = self.external_gateways.iter().flatten();
        let mut gateways = self.external_gateway_info.iter().chain(several);
        gateways.any(|gateway| gateway.network_id.as_deref() == Some(external.as_str()))
    }
}

#[derive(Deserialize)]
pub struct WireQosPolicy {
    pub id: String,
    pub name: String,
    project_id: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    rules: Vec<WireQosRule>,
}

#[derive(Deserialize)]
struct WireQosRule {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    direction: String,
    max_kbps: Option<u32>,
}

impl From<WireQosPolicy> for QosPolicy {
    fn from(wire: WireQosPolicy) -> Self {
        let limit = |direction: &str| {
            let limits = wire.rules.iter().filter(|rule| rule.kind == "bandwidth_limit");
            limits.filter(|rule| rule.direction == direction).find_map(|rule| rule.max_kbps)
        };
        let (egress_kbps, ingress_kbps) = (limit("egress"), limit("ingress"));
        Self {
            id: QosPolicyId::new(wire.id),
            name: wire.name,
            project: ProjectId::new(wire.project_id.unwrap_or_default()),
            description: wire.description.unwrap_or_default(),
            egress_kbps,
            ingress_kbps,
        }
    }
}

/// Body of `POST /v2.0/floatingips`: creation, marker and binding in one.
pub fn create(new: &NewFloatingIp) -> Value {
    let mut floatingip = json!({
        "floating_network_id": new.network,
        "port_id": new.binding.port,
        "fixed_ip_address": new.binding.fixed_ip,
        "description": new.description,
    });
    if let Some(policy) = &new.qos_policy {
        floatingip["qos_policy_id"] = json!(policy);
    }
    json!({ "floatingip": floatingip })
}

/// Body of `PUT /v2.0/floatingips/{id}`. Never empty: an empty one unbinds.
pub fn update(change: &Change) -> Value {
    let mut floatingip = match change {
        Change::Bind { to, .. } => json!({"port_id": to.port, "fixed_ip_address": to.fixed_ip}),
        Change::Unbind { .. } => json!({"port_id": null}),
        Change::Describe(description) => json!({"description": description}),
        Change::Limit(policy) => json!({"qos_policy_id": policy}),
    };
    if let Change::Bind { description: Some(text), .. } | Change::Unbind { description: Some(text) } = change
    {
        floatingip["description"] = json!(text);
    }
    json!({ "floatingip": floatingip })
}

/// Body of `POST /v2.0/qos/policies`.
pub fn create_policy(limits: &BandwidthLimits) -> Value {
    json!({"policy": {"name": limits.policy_name(), "description": MANAGED}})
}

/// Body of `POST /v2.0/qos/policies/{id}/bandwidth_limit_rules`. Without a burst the cloud chooses a fit one.
pub fn add_rule((direction, kbps): (Direction, u32)) -> Value {
    json!({"bandwidth_limit_rule": {"direction": direction.to_string(), "max_kbps": kbps}})
}

/// Error bodies: Neutron's `{"NeutronError": {type, message}}`, Keystone's `{"error": {message}}`.
#[derive(Default, Deserialize)]
pub struct ErrorBody {
    #[serde(rename = "NeutronError")]
    neutron: Option<ErrorFields>,
    error: Option<ErrorFields>,
}

#[derive(Default, Deserialize)]
struct ErrorFields {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    message: String,
}

impl ErrorBody {
    /// Type (empty when there is none) and message, as long as it is.
    pub fn read(body: &[u8]) -> (String, String) {
        let parsed: Self = serde_json::from_slice(body).unwrap_or_default();
        let fields = parsed.neutron.or(parsed.error).unwrap_or_default();
        (fields.kind, fields.message)
    }
}

/// `GET /quotas/{project}/details.json` (Networking API v2.0, "Show quota details for a tenant").
#[derive(Debug, Deserialize)]
pub struct WireQuotas {
    pub quota: WireQuotaOfProject,
}

#[derive(Debug, Deserialize)]
pub struct WireQuotaOfProject {
    pub floatingip: WireQuota,
}

#[derive(Debug, Deserialize)]
pub struct WireQuota {
    pub used: u64,
    #[serde(default)]
    pub reserved: u64,
    /// -1: none.
    pub limit: i64,
}

impl From<WireQuota> for Quota {
    fn from(wire: WireQuota) -> Self {
        Self { used: wire.used.saturating_add(wire.reserved), limit: u64::try_from(wire.limit).ok() }
    }
}
