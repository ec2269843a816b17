//! The object a user writes: group `kafkaaccess.dev`, version `v1alpha1`, kind `KafkaExternalAccess`.
//!
//! A field that does not work yet does not exist yet. Every string and list is bounded, because the API server
//! computes the cost of validation rules from the bounds.

#![allow(clippy::duplicated_attributes, reason = "each printcolumn names its type and path")]

use std::net::Ipv4Addr;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod addresses;
mod class;
pub mod conditions;
mod status;

pub use addresses::{
    Addresses, Bandwidth, ClassReference, OpenStackProvider, Provider, ProviderType, Retention,
    RetentionPolicy, StaticProvider,
};
pub use class::{
    Adoption, AllowedNamespaces, ClassLimits, ClassPrices, KafkaExternalAccessClass,
    KafkaExternalAccessClassSpec, WhenRevoked,
};
pub use status::{
    BrokerBandwidth, BrokerHealth, BrokerState, BrokerStatus, Cost, KafkaExternalAccessStatus, Summary,
};

/// Finalizer on the object, and on a Secret in use by one: nothing of ours is left in the cloud when it goes.
pub const FINALIZER: &str = "kafkaaccess.dev/addresses";

/// Annotation on the object: ordinals, comma separated, whose lost address may be replaced by a new one.
pub const REPLACE_ANNOTATION: &str = "kafkaaccess.dev/replace";

/// Gives every broker of a Kafka an address outside the cluster that never changes.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "kafkaaccess.dev",
    version = "v1alpha1",
    kind = "KafkaExternalAccess",
    plural = "kafkaexternalaccesses",
    shortname = "kea",
    category = "kafka",
    namespaced,
    status = "KafkaExternalAccessStatus",
    derive = "PartialEq",
    doc = "KafkaExternalAccess makes a Kafka that runs on Kubernetes usable from outside the cluster, through one floating IP for each broker that stays the broker's for life.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "Brokers", type_ = "string", json_path = ".status.summary.ready"),
    printcolumn(name = "Bootstrap", type_ = "string", json_path = ".status.bootstrapServers"),
    printcolumn(name = "Egress", type_ = "string", json_path = ".status.summary.egress", priority = 1),
    printcolumn(name = "Ingress", type_ = "string", json_path = ".status.summary.ingress", priority = 1),
    printcolumn(name = "Cost", type_ = "string", json_path = ".status.summary.cost", priority = 1),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.kafka.statefulSet.name == oldSelf.kafka.statefulSet.name").message("kafka.statefulSet.name cannot change; create another object"),
    validation = Rule::new("!has(oldSelf.listener) || has(self.listener)").message("listener cannot be removed; delete the object, which withdraws it, and create one without"),
    validation = Rule::new("!has(oldSelf.listener) || !has(self.listener) || self.listener.name == oldSelf.listener.name").message("listener.name cannot change; create another object"),
    validation = Rule::new("!has(oldSelf.listener) || !has(self.listener) || self.listener.port == oldSelf.listener.port").message("listener.port cannot change; create another object"),
    validation = Rule::new("!has(oldSelf.addresses) || has(self.addresses)").message("addresses cannot be removed; delete the object, which gives them back, and create one without"),
    validation = Rule::new("has(self.addresses) || !has(self.listener)").message("listener needs addresses; without them brokers are reached at their pods, by the internal listener"),
    validation = Rule::new("has(self.addresses) || !has(self.brokers) || self.brokers.all(b, !has(b.address) && !has(b.bandwidth))").message("brokers[].address and brokers[].bandwidth need addresses"),
    validation = Rule::new("!has(self.brokers) || self.brokers.all(b, !has(b.address) || self.brokers.exists_one(o, has(o.address) && o.address == b.address))").message("brokers[].address must be unique"),
    validation = Rule::new("!has(self.brokers) || !has(oldSelf.brokers) || self.brokers.all(b, !has(b.address) || oldSelf.brokers.all(o, o.ordinal != b.ordinal || !has(o.address) || o.address == b.address))").message("brokers[].address may be set once, then only removed"),
    validation = Rule::new("!has(self.listener) || self.listener.name != self.kafka.internalListener").message("listener.name must differ from kafka.internalListener")
)]
pub struct KafkaExternalAccessSpec {
    /// `Apply` carries the plan out. `Plan` decides and reports: nothing is written anywhere, re-binding
    /// included; a deletion releases nothing and waits.
    #[serde(default)]
    pub mode: Mode,
    /// The Kafka to make reachable.
    pub kafka: KafkaSource,
    /// The listener that clients outside use. Left out: nothing in Kafka changes, and the addresses serve the
    /// internal listener under its own names (see `status.hosts`). Needs `addresses`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<Listener>,
    /// Where the addresses come from and what happens to them. Left out: brokers are reached at their pods' own addresses,
    /// by the internal listener under its own names, and `status.hosts` is what clients' machines need; nothing is
    /// allocated or changed anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Addresses>,
    /// Settings of single brokers. The set of brokers is always every ordinal of the StatefulSet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ordinal"]))]
    pub brokers: Vec<BrokerOverride>,
    /// How reachability is measured.
    #[serde(default)]
    pub probe: ProbeSettings,
    /// Where the brokers' byte counters are read from. Left out: no use of bandwidth is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
}

impl KafkaExternalAccessSpec {
    /// OpenStack with a credential of the object's own namespace.
    pub fn own_openstack(&self) -> Option<&OpenStackProvider> {
        self.addresses.as_ref()?.provider.as_ref()?.openstack.as_ref()
    }

    /// Name of the class.
    pub fn class(&self) -> Option<&str> {
        Some(self.addresses.as_ref()?.class_ref.as_ref()?.name.as_str())
    }
}

/// What the operator may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Carry the plan out.
    #[default]
    Apply,
    /// Decide and report only.
    Plan,
}

/// The Kafka to make reachable.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSource {
    /// The StatefulSet whose pods are the brokers.
    pub stateful_set: StatefulSetSource,
    /// Name of the listener that in-cluster clients use. It is never changed.
    #[serde(default = "default_internal_listener")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z0-9_.-]+$"))]
    pub internal_listener: String,
    /// `host:port` list of in-cluster clients. Only its first port is used, as the internal listener's, where the pod
    /// template does not show one; each broker is reached at its pod's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 1024))]
    pub bootstrap_servers: Option<String>,
    /// How the operator talks to the internal listener, where it is not plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<KafkaClient>,
}

fn default_internal_listener() -> String {
    "INTERNAL".into()
}

/// The StatefulSet whose pods are the brokers.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StatefulSetSource {
    /// Its name, in the namespace of this object. Cannot change.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// The container that runs the broker. Default: the one that carries the listener settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
}

/// How the operator talks to Kafka.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaClient {
    /// TLS; left out: plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaClientTls>,
    /// SASL; left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaClientSasl>,
}

/// TLS towards Kafka.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaClientTls {
    /// Secret of this namespace with `ca.crt`, and `tls.crt` and `tls.key` where the brokers ask for a client certificate.
    pub secret_ref: SecretReference,
}

/// SASL towards Kafka.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaClientSasl {
    /// The mechanism.
    pub mechanism: SaslMechanism,
    /// Secret of this namespace with `username` and `password`.
    pub secret_ref: SecretReference,
}

/// SASL mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// RFC 4616.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// RFC 5802 with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

/// A Secret of the namespace of this object.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// The listener for clients outside.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Its name in Kafka, for example `EXTERNAL`. Cannot change.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Z][A-Z0-9_]*$"))]
    pub name: String,
    /// The port that the broker binds and the addresses serve. Cannot change.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Protocol of the listener.
    #[serde(default)]
    pub security_protocol: SecurityProtocol,
    /// How the listener comes into the brokers.
    #[serde(default)]
    pub rollout: Rollout,
    /// Name to advertise instead of the address, with `{ordinal}`, `{podName}` or `{nodeId}` in it. DNS for it is the user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.contains('{ordinal}') || self.contains('{podName}') || self.contains('{nodeId}')").message("advertisedHostTemplate must contain {ordinal}, {podName} or {nodeId}: each broker needs a name of its own"))]
    pub advertised_host_template: Option<String>,
    /// With `rollout: Restart`: what happens to the pod template when this object is deleted.
    #[serde(default)]
    pub on_delete: OnDelete,
    /// With `rollout: Restart`: a broker may restart although partitions without spare replicas take no records meanwhile.
    #[serde(default)]
    pub allow_unavailable: bool,
}

/// What happens to the pod template when the object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDelete {
    /// It stays; the brokers advertise nothing more after one restart each.
    #[default]
    Keep,
    /// It becomes what it was before, by one restart of each broker.
    Restore,
}

/// Kafka's security protocols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, strum::Display)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    #[default]
    #[serde(rename = "PLAINTEXT")]
    #[strum(serialize = "PLAINTEXT")]
    Plaintext,
    /// TLS.
    #[serde(rename = "SSL")]
    #[strum(serialize = "SSL")]
    Ssl,
    /// SASL without TLS.
    #[serde(rename = "SASL_PLAINTEXT")]
    #[strum(serialize = "SASL_PLAINTEXT")]
    SaslPlaintext,
    /// SASL within TLS.
    #[serde(rename = "SASL_SSL")]
    #[strum(serialize = "SASL_SSL")]
    SaslSsl,
}

/// How the listener comes into the brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rollout {
    /// Ask Kafka: without a restart where that is possible, else stop and say what is needed. Never restarts a broker.
    #[default]
    Auto,
    /// Change the running brokers through Kafka's own configuration (ZooKeeper mode 2.8 - 3.9); nothing in Kubernetes changes.
    Dynamic,
    /// Consent to restarts: the listener comes into the pod template, and the brokers restart one after the other, each
    /// only while no partition and no majority of controllers depends on it. A changed address restarts its broker.
    Restart,
    /// Change nothing in Kafka; show what to change, and go on when it is done.
    Manual,
}

/// Settings of one broker.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BrokerOverride {
    /// The broker's position in the StatefulSet.
    #[schemars(range(min = 0, max = 127))]
    pub ordinal: u32,
    /// Use this IPv4 address, which exists already, for example `203.0.113.10`. It is bound and unbound, never described, tagged or deleted. May be set once, then only removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        with = "Option<String>",
        length(min = 7, max = 15),
        regex(
            pattern = r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$"
        )
    )]
    pub address: Option<Ipv4Addr>,
    /// Name to advertise for this broker instead of its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub advertised_host: Option<String>,
    /// How much traffic this broker's address may carry, where it differs from `addresses.bandwidth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
}

/// Where the brokers' byte counters are read from, once a minute.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.source == 'Kubelet' ? !has(self.port) : has(self.port)").message("metrics.port must be set exactly when metrics.source is Endpoint")
)]
pub struct Metrics {
    /// Whose counters.
    #[serde(default)]
    pub source: MetricsSource,
    /// Port of the pod, for example `9404`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// With `source: Endpoint`: path, for example `/metrics`.
    #[serde(default = "default_metrics_path")]
    #[schemars(length(max = 253), regex(pattern = r"^/[A-Za-z0-9/_.-]*$"))]
    pub path: String,
    /// With `source: Endpoint`: counter of bytes that the listener has sent, with label `listener`.
    #[serde(default = "default_sent_bytes")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub sent_bytes: String,
    /// With `source: Endpoint`: counter of bytes that the listener has received, with label `listener`.
    #[serde(default = "default_received_bytes")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-zA-Z_:][a-zA-Z0-9_:]*$"))]
    pub received_bytes: String,
}

/// Whose counters of bytes are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MetricsSource {
    /// The listener's own, from the metrics endpoint of the broker's pod, in Prometheus' text format, without TLS:
    /// usually the Prometheus JMX exporter.
    #[default]
    Endpoint,
    /// The pod's, from the kubelet of its node. What brokers copy from each other is in it. The operator needs the right
    /// `get` on `nodes/proxy`.
    Kubelet,
}

fn default_metrics_path() -> String {
    "/metrics".into()
}

fn default_sent_bytes() -> String {
    "kafka_server_socket_server_metrics_outgoing_byte_total".into()
}

fn default_received_bytes() -> String {
    "kafka_server_socket_server_metrics_incoming_byte_total".into()
}

/// How reachability is measured.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProbeSettings {
    /// Time between two probes of a broker, for example `30s`.
    #[serde(default = "default_interval")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,3}(s|m)$"))]
    pub interval: String,
    /// Limit for each step of a probe, for example `5s`.
    #[serde(default = "default_timeout")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,1}s$"))]
    pub timeout: String,
    /// Whose view `Reachable` rests on: the operator's, or that of the clients' machines.
    #[serde(default)]
    pub from: Vantage,
}

/// Where reachability is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Vantage {
    /// The operator probes through the addresses. Where the cloud does not lead a pod to a floating IP (no hairpin), it
    /// reaches none.
    #[default]
    Operator,
    /// Clients' machines run `kafka-external-access check --report`, and what they saw within five minutes counts. The
    /// operator probes nothing.
    Reports,
}

fn default_interval() -> String {
    "30s".into()
}

fn default_timeout() -> String {
    "5s".into()
}

impl Default for ProbeSettings {
    fn default() -> Self {
        Self { interval: default_interval(), timeout: default_timeout(), from: Vantage::default() }
    }
}
