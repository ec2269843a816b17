//! Kafka as the product needs it: one connection to one **chosen** address, never following Metadata.
//!
//! The wire client is own code because a client that follows advertised addresses cannot say who really answered
//! behind a floating IP.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    domain::{Endpoint, ErrorClass, NodeId},
    seams::WritePermit,
};

/// Where to connect and how to speak there.
#[derive(Clone, Debug)]
pub struct Target {
    /// The address to dial.
    pub at: SocketAddr,
    /// How to protect and authenticate the connection.
    pub security: Security,
    /// Limit for each step (connect, handshake, each request), not for their sum.
    pub step_timeout: Duration,
}

/// Protection of a connection: Kafka's `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT`, `SASL_SSL`.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// TLS, or none.
    pub tls: Option<Tls>,
    /// SASL, or none.
    pub sasl: Option<Sasl>,
}

/// TLS of a client.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The name that the broker's certificate must cover (also sent as SNI).
    pub server_name: String,
    /// PEM certificates of the authorities to trust.
    pub ca_pem: Arc<str>,
    /// PEM client certificate chain and key, for mutual TLS.
    pub identity_pem: Option<(Arc<str>, Arc<SecretText>)>,
}

/// A text that Debug does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// SASL of a client (KIP-152 framing).
#[derive(Clone, Debug)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: SaslMechanism,
    /// The user.
    pub username: String,
    /// The password.
    pub password: SecretText,
}

/// Mechanisms that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// RFC 4616.
    Plain,
    /// RFC 5802 with SHA-256 (RFC 7677).
    ScramSha256,
    /// RFC 5802 with SHA-512.
    ScramSha512,
}

/// The three settings that make a listener, and those that name the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListenerSetting {
    /// `listeners`: what the broker binds.
    Listeners,
    /// `advertised.listeners`: what it tells clients.
    AdvertisedListeners,
    /// `listener.security.protocol.map`.
    SecurityProtocolMap,
}

impl ListenerSetting {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Listeners, Self::AdvertisedListeners, Self::SecurityProtocolMap];

    /// The key in the broker's configuration.
    pub fn key(self) -> &'static str {
        match self {
            Self::Listeners => "listeners",
            Self::AdvertisedListeners => "advertised.listeners",
            Self::SecurityProtocolMap => "listener.security.protocol.map",
        }
    }
}

/// One setting of a broker with where its values come from (DescribeConfigs with synonyms).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingValue {
    /// Stored for this broker in Kafka itself (`config_source` 1.. = DYNAMIC_BROKER_CONFIG); outlives the pod.
    pub dynamic: Option<String>,
    /// From server.properties, environment or arguments (STATIC_BROKER_CONFIG), else Kafka's default.
    pub fixed: Option<String>,
    /// The broker's own answer: the value in force.
    pub effective: Option<String>,
}

/// How the cluster keeps its metadata; decides whether listeners can change without a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataMode {
    /// Kafka 2.8 - 3.9 with ZooKeeper.
    ZooKeeper,
    /// With ZooKeeper, on the way to KRaft (`zookeeper.metadata.migration.enable`, KIP-866).
    Migrating,
    /// KRaft.
    KRaft,
}

/// What one broker says about itself and its cluster over one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerView {
    /// Who really answered (DescribeConfigs of a wrong id names the right one).
    pub node: NodeId,
    /// The cluster's identifier.
    pub cluster: String,
    /// The brokers that are registered for the listener of this connection, at the addresses they advertise there.
    pub advertised: BTreeMap<NodeId, Endpoint>,
    /// The listener settings of this broker.
    pub settings: BTreeMap<ListenerSetting, SettingValue>,
    /// ZooKeeper or KRaft.
    pub mode: MetadataMode,
}

impl BrokerView {
    /// One setting; absent means that the broker does not know it.
    pub fn setting(&self, setting: ListenerSetting) -> SettingValue {
        self.settings.get(&setting).cloned().unwrap_or_default()
    }
}

/// What a restart of a broker would cost, as one broker tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterState {
    /// Every partition of every topic that the operator's user may see.
    pub partitions: Vec<Partition>,
    /// The active controller; in KRaft mode any broker is named here.
    pub controller: Option<NodeId>,
    /// The controllers of KRaft; `None`: ZooKeeper keeps the metadata.
    pub quorum: Option<Quorum>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its topic.
    pub topic: String,
    /// Its number in the topic.
    pub number: i32,
    /// Brokers that hold it.
    pub replicas: Vec<NodeId>,
    /// Those in sync.
    pub in_sync: Vec<NodeId>,
    /// `min.insync.replicas` of its topic.
    pub min_in_sync: u32,
}

/// The controllers of KRaft (DescribeQuorum, KIP-595, KIP-836).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The active controller.
    pub leader: NodeId,
    /// Who votes, and whether it has caught up with the leader.
    pub voters: BTreeMap<NodeId, bool>,
}

/// A change of one stored (dynamic) setting of one broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingChange {
    /// Store this value.
    Set(ListenerSetting, String),
    /// Remove the stored value; the fixed one holds again.
    Delete(ListenerSetting),
}

/// Whether a change is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validate {
    /// The broker checks the change and does nothing (`validate_only`).
    Only,
    /// The broker checks and applies it.
    AndApply,
}

/// Brokers behind addresses.
#[async_trait]
pub trait Brokers: Send + Sync {
    /// Asks the broker at `target` who it is and what it advertises.
    async fn describe(&self, target: &Target) -> Result<BrokerView, KafkaError>;

    /// The advertised table as seen through `target`, with each step timed; see [`probe::Report`].
    async fn probe(&self, target: &Target) -> probe::Report;

    /// True when something accepts TCP at `target`, whatever it speaks.
    async fn accepts(&self, target: &Target) -> bool;

    /// Asks the broker at `target` about partitions and controllers of its cluster.
    async fn cluster(&self, target: &Target) -> Result<ClusterState, KafkaError>;

    /// Reads how many bytes a listener has carried.
    async fn traffic(&self, meter: &traffic::Meter) -> Result<traffic::Traffic, traffic::TrafficError>;

    /// Changes stored settings of broker `node`, all or nothing (IncrementalAlterConfigs, KIP-339). The broker
    /// applies asynchronously: a success says "stored", not "in force".
    async fn alter(
        &self,
        permit: WritePermit,
        target: &Target,
        node: NodeId,
        changes: &[SettingChange],
        validate: Validate,
    ) -> Result<(), KafkaError>;
}

pub mod admin;
mod cluster;
pub mod counted;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod probe;
mod sasl;
pub mod sighting;
pub mod simulated;
pub mod traffic;
mod wire;

/// The steps of a conversation, in order.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
)]
pub enum Step {
    /// TCP connect.
    Tcp,
    /// TLS handshake, name of the certificate included.
    Tls,
    /// ApiVersions v0: a Kafka broker speaks.
    ApiVersions,
    /// SaslHandshake and SaslAuthenticate.
    Sasl,
    /// DescribeCluster (KIP-700): the advertised table.
    DescribeCluster,
    /// DescribeConfigs of the broker: who answers, and its settings.
    DescribeConfigs,
    /// IncrementalAlterConfigs.
    AlterConfigs,
    /// Metadata of all topics.
    Metadata,
    /// DescribeQuorum.
    DescribeQuorum,
}

/// A step that failed, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {fault}")]
pub struct KafkaError {
    /// The step that failed.
    pub step: Step,
    /// Why.
    pub fault: KafkaFault,
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum KafkaFault {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// Another network error.
    #[error("{0}")]
    Network(String),
    /// The listener wants TLS and got none, or the other way round.
    #[error("the listener does not speak the expected protocol: {0}")]
    Protocol(String),
    /// The certificate does not fit or is not trusted.
    #[error("certificate: {0}")]
    Certificate(String),
    /// A certificate of the broker's chain has ended.
    #[error("the broker's certificate ended on {}", .0.strftime("%F"))]
    CertificateExpired(Timestamp),
    /// SASL refused.
    #[error("authentication refused: {0}")]
    Authentication(String),
    /// The user lacks a right (29, 31).
    #[error("not authorized: {0}")]
    Authorization(String),
    /// The broker refuses a change, in its own words (code 40, 42, 44).
    #[error("{0}")]
    Rejected(String),
    /// Another error code of the broker.
    #[error("error {code}: {message}")]
    Code {
        /// Kafka's error code.
        code: i16,
        /// The broker's words, cut to 300 characters.
        message: String,
    },
    /// The answer is malformed or larger than allowed.
    #[error("malformed answer: {0}")]
    Malformed(String),
    /// The broker does not offer a request that is needed.
    #[error("the broker does not offer {0}")]
    Unsupported(&'static str),
}

impl KafkaError {
    /// What should happen next.
    pub fn class(&self) -> ErrorClass {
        match self.fault {
            KafkaFault::Certificate(_)
            | KafkaFault::CertificateExpired(_)
            | KafkaFault::Authentication(_)
            | KafkaFault::Authorization(_)
            | KafkaFault::Rejected(_)
            | KafkaFault::Protocol(_)
            | KafkaFault::Unsupported(_) => ErrorClass::Terminal,
            KafkaFault::Refused
            | KafkaFault::TimedOut(_)
            | KafkaFault::Network(_)
            | KafkaFault::Code { .. }
            | KafkaFault::Malformed(_) => ErrorClass::Transient,
        }
    }
}
