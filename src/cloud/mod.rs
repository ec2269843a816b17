//! Floating IPs of a cloud: one trait, its errors by class, and the providers.
//!
//! | provider | file | what it is |
//! |---|---|---|
//! | OpenStack | `openstack/` | Keystone v3 and Networking API v2.0 by hand |
//! | Static | none: addresses come from the spec and no call is made | |
//! | Simulated | `simulated.rs` | an in-memory cloud for tests in virtual time |

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use async_trait::async_trait;

use crate::{
    domain::{
        AddressId, ErrorClass, NetworkId, Ordinal, PortId, ProjectId, QosPolicyId, Revision, SecurityGroupId,
    },
    seams::WritePermit,
};

pub mod limits;
pub mod openstack;
pub mod simulated;

use limits::{BandwidthLimits, Direction, QosPolicy};

/// A floating IP as the cloud shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatingIp {
    /// Its identifier.
    pub id: AddressId,
    /// The public address.
    pub address: Ipv4Addr,
    /// The external network it comes from.
    pub network: NetworkId,
    /// The project that owns it.
    pub project: ProjectId,
    /// What it is bound to; `None` with an empty `port_forwardings` means free.
    pub binding: Option<Binding>,
    /// True when the address serves port forwardings: not bound, and not free either.
    pub has_port_forwardings: bool,
    /// Free text; ours holds a [`crate::domain::Marker`].
    pub description: String,
    /// Bandwidth policy set on the address itself.
    pub qos_policy: Option<QosPolicyId>,
    /// Goes up with each change.
    pub revision: Revision,
    /// When it was created, RFC 3339; orders several of ours.
    pub created_at: Option<jiff::Timestamp>,
}

impl FloatingIp {
    /// True when it is neither bound nor serves port forwardings.
    pub fn is_free(&self) -> bool {
        self.binding.is_none() && !self.has_port_forwardings
    }

    /// The address as one that may be advertised for broker `ordinal`: only when this read shows it bound to `target`.
    pub fn bound_to(&self, target: &Binding, ordinal: Ordinal) -> Option<BoundAddress> {
        (self.binding.as_ref() == Some(target)).then_some(BoundAddress { address: self.address, ordinal })
    }
}

/// A floating IP that a read showed bound to the target of a broker. Only [`FloatingIp::bound_to`] makes one, so an
/// address that is not bound cannot be advertised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundAddress {
    address: Ipv4Addr,
    ordinal: Ordinal,
}

impl BoundAddress {
    /// The address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The broker it leads to.
    pub fn ordinal(&self) -> Ordinal {
        self.ordinal
    }
}

/// How many floating IPs a project has and may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// In use, and about to be.
    pub used: u64,
    /// Most that there may be; `None`: no limit.
    pub limit: Option<u64>,
}

/// A port and the fixed IP of it that a floating IP leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The port.
    pub port: PortId,
    /// One of the port's fixed IPs.
    pub fixed_ip: Ipv4Addr,
}

/// A network port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its identifier.
    pub id: PortId,
    /// Its network.
    pub network: NetworkId,
    /// The project that owns it.
    pub project: ProjectId,
    /// Its addresses on that network.
    pub fixed_ips: Vec<Ipv4Addr>,
    /// The groups whose rules admit traffic to it.
    pub security_groups: Vec<SecurityGroupId>,
    /// False: no rule is applied to this port. `None`: the cloud does not say.
    pub port_security_enabled: Option<bool>,
}

/// A rule that admits traffic **to** a port (direction `ingress`, `ethertype` IPv4 or IPv6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressRule {
    /// Its identifier, named to the user.
    pub id: String,
    /// The group it belongs to.
    pub group: SecurityGroupId,
    /// True for IPv4, false for IPv6.
    pub ipv4: bool,
    /// True when the rule covers TCP (`tcp`, `6`, or any protocol).
    pub tcp: bool,
    /// First and last destination port; `None`: every port.
    pub ports: Option<(u16, u16)>,
    /// Sources, CIDR text; `None` with no remote group: everybody.
    pub remote_ip_prefix: Option<String>,
    /// Sources by group: never "everybody".
    pub remote_group: Option<SecurityGroupId>,
}

/// What one create call makes: an address that is bound from its first moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFloatingIp {
    /// The external network to take it from.
    pub network: NetworkId,
    /// The owner marker.
    pub description: String,
    /// Where it leads.
    pub binding: Binding,
    /// Bandwidth policy.
    pub qos_policy: Option<QosPolicyId>,
}

/// One change of a floating IP. There is no empty change: an empty PUT unbinds (Networking API v2.0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Leads to this port and fixed IP from now on; optionally with a new description in the same call.
    Bind {
        /// The new target.
        to: Binding,
        /// The new description, when a marker changes hands.
        description: Option<String>,
    },
    /// Leads nowhere from now on; optionally with a new description in the same call.
    Unbind {
        /// The new description, when a marker changes hands.
        description: Option<String>,
    },
    /// Only the description.
    Describe(String),
    /// Only the bandwidth policy; the binding and its connections stay.
    Limit(QosPolicyId),
}

/// Which kind of network a name should mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkKind {
    /// Floating IPs come from it (`router:external`).
    External,
    /// Pods have ports on it.
    Internal,
}

/// The floating IPs of one project, through one credential.
///
/// Reads may be repeated. `create` is never repeated by an implementation: after [`CloudFault::Unclear`] the
/// caller looks again by marker. `update` and `delete` carry the revision that the caller read; `delete` of an
/// address that is gone is a success.
#[async_trait]
pub trait FloatingIps: Send + Sync {
    /// The project the credential is scoped to.
    async fn project(&self) -> Result<ProjectId, CloudError>;

    /// The one network of that name or identifier. Errors: [`CloudFault::NetworkUnknown`], [`CloudFault::NetworkAmbiguous`].
    async fn network(&self, name_or_id: &str, kind: NetworkKind) -> Result<NetworkId, CloudError>;

    /// The bandwidth policies of that name or identifier that the project may use, with their limits.
    async fn qos_policies(&self, name_or_id: &str) -> Result<Vec<QosPolicy>, CloudError>;

    /// The project's quota of floating IPs. `None`: the cloud does not tell.
    async fn quota(&self) -> Result<Option<Quota>, CloudError> {
        Ok(None)
    }

    /// Of these targets of the project, those that a router joins with `external`: it has an interface on the subnet of the
    /// fixed IP, and a gateway there (Networking API v2.0, "Routers"). Without one a binding is refused
    /// ([`CloudFault::NoRouter`]). A router that the project does not see, as it may not see another project's, is left
    /// out. `None`: the cloud does not tell.
    async fn routed(
        &self,
        _external: &NetworkId,
        _targets: &BTreeSet<Binding>,
    ) -> Result<Option<BTreeSet<Binding>>, CloudError> {
        Ok(None)
    }

    /// **All** floating IPs of the project: every page, or an error. Checked against the project on the client.
    async fn list(&self) -> Result<Vec<FloatingIp>, CloudError>;

    /// One floating IP, read now. `None`: the cloud says that it does not exist.
    async fn get(&self, id: &AddressId) -> Result<Option<FloatingIp>, CloudError>;

    /// The ports that hold one of `fixed_ips`, on `network` where given, else on any network of the project.
    /// Re-checked on the client, since a filter may be ignored.
    async fn ports(
        &self,
        network: Option<&NetworkId>,
        fixed_ips: &BTreeSet<Ipv4Addr>,
    ) -> Result<Vec<Port>, CloudError>;

    /// The ingress rules of these groups.
    async fn ingress_rules(&self, groups: &BTreeSet<SecurityGroupId>)
    -> Result<Vec<IngressRule>, CloudError>;

    /// Creates and binds in one call.
    async fn create(&self, permit: WritePermit, new: &NewFloatingIp) -> Result<FloatingIp, CloudError>;

    /// Changes an address if its revision is still `read_at`, else [`CloudFault::RevisionChanged`].
    async fn update(
        &self,
        permit: WritePermit,
        id: &AddressId,
        read_at: Revision,
        change: &Change,
    ) -> Result<FloatingIp, CloudError>;

    /// Releases an address if its revision is still `read_at`. Gone already: `Ok`.
    async fn delete(&self, permit: WritePermit, id: &AddressId, read_at: Revision) -> Result<(), CloudError>;

    /// Creates the policy of these limits, marked as managed and without rules: those come by `add_rule`.
    async fn create_policy(
        &self,
        permit: WritePermit,
        limits: &BandwidthLimits,
    ) -> Result<QosPolicyId, CloudError>;

    /// Adds the rule of one direction, in kilobits per second. It has one already: [`CloudFault::RevisionChanged`].
    async fn add_rule(
        &self,
        permit: WritePermit,
        policy: &QosPolicyId,
        rule: (Direction, u32),
    ) -> Result<(), CloudError>;

    /// Removes a policy. Gone already: `Ok`; something has it: [`CloudFault::QosPolicyInUse`].
    async fn delete_policy(&self, permit: WritePermit, policy: &QosPolicyId) -> Result<(), CloudError>;
}

/// A refused or failed call: what was tried, and why it did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation}: {fault}")]
pub struct CloudError {
    /// What was tried, in words: "create a floating IP".
    pub operation: &'static str,
    /// Why it failed.
    pub fault: CloudFault,
}

impl CloudError {
    /// What should happen next.
    pub fn class(&self) -> ErrorClass {
        self.fault.class()
    }
}

/// The reasons a cloud call fails for, told apart by `NeutronError.type`, never by text alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudFault {
    /// 401 after one renewal, or Keystone refuses the credential.
    #[error("the credential was refused: {0}")]
    Unauthorized(String),
    /// 403: the credential is good, its rights do not suffice.
    #[error("the credential may not do this: {0}")]
    Forbidden(String),
    /// 409 `OverQuota`.
    #[error("the project's quota of floating IPs is used up: {0}")]
    QuotaExceeded(String),
    /// 409 `IpAddressGenerationFailure`.
    #[error("the external network has no free address: {0}")]
    PoolEmpty(String),
    /// 409 `FloatingIPPortAlreadyAssociated`: look again.
    #[error("the port already has a floating IP: {0}")]
    PortAlreadyBound(String),
    /// 409 `FipInUseByPortForwarding`.
    #[error("the address serves port forwardings: {0}")]
    InUseByPortForwarding(String),
    /// 412 `RevisionNumberConstraintFailed`, 409 `QoSRulesConflict`: look again.
    #[error("it changed since it was read")]
    RevisionChanged,
    /// 404 of the object that the call was about.
    #[error("not found: {0}")]
    NotFound(String),
    /// No network of that name or identifier.
    #[error("no {kind} network is called \"{name}\"", kind = match kind { NetworkKind::External => "external", NetworkKind::Internal => "internal" })]
    NetworkUnknown {
        /// The name or identifier asked for.
        name: String,
        /// The kind asked for.
        kind: NetworkKind,
    },
    /// Several networks of that name.
    #[error("{count} networks are called \"{name}\"; give the identifier")]
    NetworkAmbiguous {
        /// The name asked for.
        name: String,
        /// How many answer to it.
        count: usize,
    },
    /// No bandwidth policy of that name or identifier.
    #[error("no QoS policy is called \"{name}\"")]
    QosPolicyUnknown {
        /// The name asked for.
        name: String,
    },
    /// Several bandwidth policies of that name.
    #[error("{count} QoS policies are called \"{name}\"; give the identifier")]
    QosPolicyAmbiguous {
        /// The name asked for.
        name: String,
        /// How many answer to it.
        count: usize,
    },
    /// 409 `QosPolicyInUse`: an address, a port or a network has it.
    #[error("the QoS policy is in use: {0}")]
    QosPolicyInUse(String),
    /// 403 to the creation of a policy or a rule: by default administrators and project managers only.
    #[error(
        "the credential may not make QoS policies; ask an administrator for a shared policy \"{name}\" ({limits}), or for the role manager in the project, or name a policy in bandwidth.qosPolicy",
        name = limits.policy_name()
    )]
    QosPolicyNotPermitted {
        /// What the policy should say.
        limits: BandwidthLimits,
    },
    /// 404 `ExternalGatewayForFloatingIPNotFound`.
    #[error("no router joins the pod network with the external network: {0}")]
    NoRouter(String),
    /// Another 4xx: the cloud understood the request and refuses it.
    #[error("the cloud refuses the request: {0}")]
    Refused(String),
    /// 429; `retry_after` as the cloud asked for it.
    #[error("the cloud asks for fewer calls")]
    RateLimited {
        /// How long to wait; `None`: it did not say.
        retry_after: Option<Duration>,
    },
    /// Not reached, or 5xx to a read: nothing has changed.
    #[error("the cloud cannot be reached: {0}")]
    Unavailable(String),
    /// A write was sent and no clear answer came: it may be done, undone, or done later (Neutron: up to 170 s).
    #[error("no clear answer, the change may have happened: {0}")]
    Unclear(String),
    /// The reply is too large or not what the API reference describes.
    #[error("the reply cannot be understood: {0}")]
    BadReply(String),
    /// The credential cannot be used as it is written (clouds.yaml, cacert, catalogue, region).
    #[error("{0}")]
    Configuration(String),
}

impl CloudFault {
    /// What should happen next.
    pub fn class(&self) -> ErrorClass {
        use CloudFault::*;
        match self {
            Unauthorized(_)
            | Forbidden(_)
            | QuotaExceeded(_)
            | PoolEmpty(_)
            | InUseByPortForwarding(_)
            | NetworkUnknown { .. }
            | NetworkAmbiguous { .. }
            | QosPolicyUnknown { .. }
            | QosPolicyAmbiguous { .. }
            | QosPolicyNotPermitted { .. }
            | NoRouter(_)
            | Refused(_)
            | Configuration(_) => ErrorClass::Terminal,
            PortAlreadyBound(_) | RevisionChanged | NotFound(_) | RateLimited { .. } | QosPolicyInUse(_) => {
                ErrorClass::Waiting
            }
            Unavailable(_) | Unclear(_) | BadReply(_) => ErrorClass::Transient,
        }
    }
}

/// A credential as the user gave it: the data of a Secret. Debug shows no content.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of the Secret.
    pub secret: String,
    /// UID of the Secret.
    pub version: String,
    /// Entry of `clouds.yaml` to use.
    pub cloud_name: String,
    /// Content of the key `clouds.yaml`.
    pub clouds_yaml: String,
    /// Content of the key `cacert`: PEM certificates to trust besides none other.
    pub cacert: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({}/{}@{} cloud {})", self.namespace, self.secret, self.version, self.cloud_name)
    }
}

/// Opens clouds. One connection pool, token, rate limiter and capability record per credential version.
pub trait Clouds: Send + Sync {
    /// The cloud behind a credential. Makes no call; errors are [`CloudFault::Configuration`].
    fn open(&self, credential: &Credential) -> Result<std::sync::Arc<dyn FloatingIps>, CloudError>;
    /// An object of the namespace is gone: its credentials are not kept. What is opened again logs in again.
    fn forget(&self, _namespace: &str) {}
}

/// An address that may be advertised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Bound by us, as read in this reconcile.
    Bound(BoundAddress),
    /// Bound by somebody else, as the user states (provider Static), or the pod's own.
    Stated(Ipv4Addr),
}
