//! What the object shows.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::ConditionType;

/// What is true now, and what comes next. A record for people: it may hold the operator back, it never makes it act.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaExternalAccessStatus {
    /// The `metadata.generation` that this status answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`, `Programmed`, `Reachable`, `Progressing`, `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The project that the addresses belong to.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "projectID")]
    #[schemars(length(max = 64))]
    pub project_id: Option<String>,
    /// What clients outside are given. Set when every broker advertises; afterwards it shrinks only by the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 35000))]
    pub bootstrap_servers: Option<String>,
    /// Lines for a hosts file: address and the name that the broker advertises. Each is there because the broker of that
    /// name answered there; without `spec.addresses` a pair goes with its pod, and comes again when the broker has answered
    /// at its new address. `kafka-external-access hosts` keeps a machine's /etc/hosts in step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 320)))]
    pub hosts: Vec<String>,
    /// Texts for columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// One entry for each broker, and for each address that waits for its broker.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ordinal"]))]
    pub brokers: Vec<BrokerStatus>,
    /// What the addresses cost, where the operator knows prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// QoS policies that the operator keeps for this object, by name; each goes when no address has it any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 64)))]
    pub managed_policies: Vec<String>,
    /// What is outstanding, in order, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), inner(length(max = 16384)))]
    pub plan: Vec<String>,
}

impl KafkaExternalAccessStatus {
    /// The condition of this type, where it has been told yet.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        let name: &str = kind.into();
        self.conditions.iter().find(|condition| condition.type_ == name)
    }
}

/// An estimate of what the object's addresses cost in a month of 730 hours, from the operator's prices. The user's own
/// addresses are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// For example `EUR`.
    #[schemars(length(max = 8))]
    pub currency: String,
    /// The sum of the three below, for example `173.74`.
    #[schemars(length(max = 48))]
    pub per_month: String,
    /// For having the addresses, idle ones as well.
    #[schemars(length(max = 48))]
    pub addresses: String,
    /// For their limits: the greater of both directions.
    #[schemars(length(max = 48))]
    pub bandwidth: String,
    /// For what the brokers send, if they go on as they do now.
    #[schemars(length(max = 48))]
    pub traffic: String,
}

/// Texts for columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Brokers that are ready, of all: `3/3`.
    #[schemars(length(max = 16))]
    pub ready: String,
    /// What the listeners of all brokers send: `50 Mbit/s`, in the steps of the brokers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub egress: Option<String>,
    /// What the listeners of all brokers receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub ingress: Option<String>,
    /// What the addresses cost in a month: `173.74 EUR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cost: Option<String>,
}

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerStatus {
    /// Position in the StatefulSet.
    pub ordinal: u32,
    /// The broker's id in Kafka, once it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<i32>,
    /// The pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// The node that the pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// The address inside that the address outside leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub target: Option<String>,
    /// The address outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub address: Option<String>,
    /// The address's identifier in the cloud.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "addressID")]
    #[schemars(length(max = 64))]
    pub address_id: Option<String>,
    /// The address is the user's own, named in `spec.brokers`: it is bound and unbound, never changed or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<bool>,
    /// `host:port` that the broker advertises to clients outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub advertised: Option<String>,
    /// Where the broker stands.
    pub state: BrokerState,
    /// Why it stands there, one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why, and what to do, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// What the address may carry, where a policy of the spec says so, and what the listener does carry, where
    /// `spec.metrics` says how to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<BrokerBandwidth>,
    /// What the last probe through the address found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<BrokerHealth>,
}

impl BrokerStatus {
    /// A broker of which nothing is known yet.
    pub fn waiting(ordinal: u32) -> Self {
        Self {
            ordinal,
            state: BrokerState::Waiting,
            node_id: None,
            pod: None,
            node: None,
            target: None,
            address: None,
            address_id: None,
            adopted: None,
            advertised: None,
            reason: None,
            message: None,
            bandwidth: None,
            health: None,
        }
    }
}

/// Where a broker stands.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumIter,
    strum::IntoStaticStr,
)]
pub enum BrokerState {
    /// Address bound and advertised as the spec says.
    Ready,
    /// Something has to happen first; `reason` says what.
    Waiting,
    /// The address is kept for a broker that does not exist now.
    Idle,
    /// Refused or lost; `message` says what to do. The other brokers go on.
    Refused,
    /// On the way out after a deletion.
    Releasing,
}

/// What the last probe through an address found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerHealth {
    /// `True`, `False` or `Unknown`.
    #[schemars(length(max = 8))]
    pub reachable: String,
    /// Where it was measured from.
    #[schemars(length(max = 253))]
    pub from: String,
    /// Why a client would fail: a reason of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// For this broker: the step of the probe that failed, or what is wrong with the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When the first certificate ends that the listener shows, RFC 3339; left out without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub certificate_ends: Option<String>,
    /// When `reachable` changed last, RFC 3339.
    #[schemars(length(max = 64))]
    pub last_transition_time: String,
}

/// What an address may carry, and what the broker's listener does carry, in Mbit/s.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerBandwidth {
    /// Limit from the broker; left out: none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_egress_mbps: Option<u32>,
    /// Limit towards the broker; left out: none is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_ingress_mbps: Option<u32>,
    /// What the listener, or the pod, sends: the mean over the window, in steps 0 (less than one half), 1, 2, 5, 10,
    /// ...; it moves once in that time at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_mbps: Option<u32>,
    /// What the listener, or the pod, receives, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_mbps: Option<u32>,
    /// What the use is of: `metrics`, the listener by the broker's own counters; `podEgress`, the pod by the kubelet's,
    /// with what brokers copy from each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub source: Option<String>,
    /// The time that the mean is taken over: five readings, for example `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub window: Option<String>,
    /// Set while the mean of five readings is at least 80 % of a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near_limit: Option<bool>,
}
