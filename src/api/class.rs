//! The object a platform team writes, so that application teams need no credential of the cloud.

#![allow(clippy::duplicated_attributes, reason = "each printcolumn names its type and path")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Provider;

/// Addresses of a cloud for the namespaces of others. Nobody may use it until `namespaces` says who.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kafkaaccess.dev",
    version = "v1alpha1",
    kind = "KafkaExternalAccessClass",
    plural = "kafkaexternalaccessclasses",
    shortname = "keaclass",
    category = "kafka",
    derive = "PartialEq",
    doc = "KafkaExternalAccessClass lets namespaces use floating IPs of a cloud without a credential of their own, within limits.",
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.provider.openstack.floatingNetwork"),
    printcolumn(name = "Max-Addresses", type_ = "integer", json_path = ".spec.limits.addressesPerNamespace"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.provider.type == 'OpenStack'").message("provider.type must be OpenStack: with other providers nobody needs a credential"),
    validation = Rule::new("!has(self.provider.openstack) || !has(oldSelf.provider.openstack) || self.provider.openstack.floatingNetwork == oldSelf.provider.openstack.floatingNetwork").message("floatingNetwork cannot change: addresses belong to their network; create another class")
)]
pub struct KafkaExternalAccessClassSpec {
    /// The cloud, as in an object's own provider. The Secret is one of the operator's namespace.
    pub provider: Provider,
    /// Who may use the class. Left out: nobody.
    #[serde(default)]
    pub namespaces: AllowedNamespaces,
    /// Addresses that exist already and may be named in `brokers[].address`. Left out: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub adoption: Vec<Adoption>,
    /// How much a namespace may have.
    #[serde(default)]
    pub limits: ClassLimits,
    /// What the cloud charges, where it differs from the operator's own prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<ClassPrices>,
}

/// The namespaces that may use a class: those that are named, and those whose labels match.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowedNamespaces {
    /// By name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 63)))]
    pub names: Vec<String>,
    /// By labels of the namespace; an empty selector matches every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// What happens to addresses that are bound in a namespace that may not use the class any more. They are never
    /// released by it.
    #[serde(default)]
    pub when_revoked: WhenRevoked,
}

/// What happens to bound addresses when a namespace may not use the class any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WhenRevoked {
    /// They stay bound where they are; a pod that moves is not followed.
    #[default]
    Keep,
    /// They are unbound within a minute.
    Unbind,
}

/// Addresses that may be adopted.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Adoption {
    /// A network in CIDR notation, for example `203.0.113.16/28`; one address is `203.0.113.16/32`.
    #[schemars(
        length(min = 9, max = 18),
        regex(
            pattern = r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])/(3[0-2]|[12]?[0-9])$"
        )
    )]
    pub addresses: String,
    /// In these namespaces only. Left out: in each that may use the class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 63)))]
    pub namespaces: Vec<String>,
}

/// How much a namespace may have.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassLimits {
    /// Most addresses that are allocated for a namespace, idle and retained ones as well: counted in the cloud. Left
    /// out: as many as the project's quota allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub addresses_per_namespace: Option<u32>,
    /// QoS policies that `bandwidth.qosPolicy` may name, as they are to be written there. Left out: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    pub qos_policies: Vec<String>,
    /// Most that may leave a broker through its address, in Mbit/s. An object that asks for nothing gets this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_000_000))]
    pub egress_mbps: Option<u32>,
    /// Most that may reach a broker through its address, in Mbit/s, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_000_000))]
    pub ingress_mbps: Option<u32>,
}

/// What a cloud charges. What is left out costs nothing.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassPrices {
    /// For example `EUR`.
    #[schemars(length(min = 1, max = 8))]
    pub currency: String,
    /// For one address and hour, for example `0.004`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"))]
    pub address_hour: Option<String>,
    /// For one Mbit/s of an address's limit and hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"))]
    pub mbps_hour: Option<String>,
    /// For one GB that leaves a broker through its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"))]
    pub gb: Option<String>,
}
