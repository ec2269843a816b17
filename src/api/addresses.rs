//! Where addresses come from and what happens to them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::SecretReference;

/// Where the addresses come from and what happens to them.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.provider) != has(self.classRef)").message("set either addresses.provider or addresses.classRef"),
    validation = Rule::new("has(self.provider) == has(oldSelf.provider)").message("addresses.provider and addresses.classRef cannot be exchanged; create another object"),
    validation = Rule::new("!has(self.classRef) || !has(oldSelf.classRef) || self.classRef.name == oldSelf.classRef.name").message("addresses.classRef.name cannot change; create another object"),
    validation = Rule::new("!has(self.provider) || !has(oldSelf.provider) || self.provider.type == oldSelf.provider.type").message("addresses.provider.type cannot change; create another object"),
    validation = Rule::new("!has(self.provider) || !has(oldSelf.provider) || !has(self.provider.openstack) || !has(oldSelf.provider.openstack) || self.provider.openstack.floatingNetwork == oldSelf.provider.openstack.floatingNetwork").message("floatingNetwork cannot change: addresses belong to their network")
)]
pub struct Addresses {
    /// The provider, with a credential of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// A platform team's class instead, which holds the credential and says what this namespace may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_ref: Option<ClassReference>,
    /// What happens to addresses that are no longer in use; words and values of StatefulSet.
    #[serde(default)]
    pub retention_policy: RetentionPolicy,
    /// A floating IP forwards every port. `true` accepts that the port's security group admits more than the listener from anywhere.
    #[serde(default)]
    pub accept_exposure: bool,
    /// How much traffic an address may carry. Left out: the policy that the cloud or somebody gave it stays. An address
    /// of the user's own (`brokers[].address`) is never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
}

/// How much traffic an address may carry.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.qosPolicy) != (has(self.egressMbps) || has(self.ingressMbps))").message("set either qosPolicy, or egressMbps and ingressMbps or one of them")
)]
pub struct Bandwidth {
    /// Name or identifier of a QoS policy that the project may use, for example `kafka-100mbit`. It is set by the call
    /// that allocates the address, and changed while connections stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub qos_policy: Option<String>,
    /// Most that leaves the broker through its address, in Mbit/s, for example `100`. The operator makes one QoS policy
    /// for each distinct limit, which brokers and objects of the project share, and removes it when no address has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_000_000))]
    pub egress_mbps: Option<u32>,
    /// Most that reaches the broker through its address, in Mbit/s, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_000_000))]
    pub ingress_mbps: Option<u32>,
}

/// A `KafkaExternalAccessClass`.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassReference {
    /// Its name. Cannot change.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A provider of addresses: `type` and the member of that name.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.type == 'OpenStack' ? has(self.openstack) : !has(self.openstack)").message("openstack must be set exactly when type is OpenStack"),
    validation = Rule::new("self.type == 'Static' || !has(self.static)").message("static may be set only when type is Static")
)]
pub struct Provider {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: ProviderType,
    /// Settings of `OpenStack`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openstack: Option<OpenStackProvider>,
    /// Settings of `Static`: none. Addresses come from `brokers[].address`, and no cloud is called.
    #[serde(default, rename = "static", skip_serializing_if = "Option::is_none")]
    pub static_: Option<StaticProvider>,
}

/// Kinds of providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProviderType {
    /// Floating IPs of an OpenStack cloud (Neutron).
    OpenStack,
    /// Addresses that somebody else binds.
    Static,
}

/// Floating IPs of an OpenStack cloud.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenStackProvider {
    /// Entry of `clouds.yaml` to use.
    #[schemars(length(min = 1, max = 255))]
    pub cloud_name: String,
    /// Secret with the key `clouds.yaml` and, for a private authority, `cacert`.
    pub credentials_secret_ref: SecretReference,
    /// Name or identifier of the external network that addresses are taken from. Cannot change.
    #[schemars(length(min = 1, max = 255))]
    pub floating_network: String,
    /// Name or identifier of the network that the pods' ports are on. Default: wherever the project has exactly one port with the pod's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub pod_network: Option<String>,
}

/// No settings.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticProvider {}

/// What happens to addresses that are no longer in use.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetentionPolicy {
    /// When this object is deleted. `Retain` keeps addresses bound; an object of the same name takes them back.
    #[serde(default = "delete")]
    pub when_deleted: Retention,
    /// When the StatefulSet is scaled down. `Delete` releases 24 h later.
    #[serde(default = "retain")]
    pub when_scaled: Retention,
}

impl Default for RetentionPolicy {
    fn default() -> Self {
        Self { when_deleted: delete(), when_scaled: retain() }
    }
}

/// Keep or give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retention {
    /// Keep it.
    Retain,
    /// Give it back.
    Delete,
}

fn delete() -> Retention {
    Retention::Delete
}

fn retain() -> Retention {
    Retention::Retain
}
