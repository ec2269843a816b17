//! What a machine is told about the names of an object's brokers, whichever way it asks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::block::{InvalidPair, Pair};
use crate::{
    api::{BrokerStatus, KafkaExternalAccessStatus},
    domain::{AccessKey, Endpoint, NodeId},
};

/// The names of an object's brokers; also the JSON that the operator's endpoint answers with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// How long ago the object was read from the API server.
    pub age_seconds: u64,
    /// One for each line of `status.hosts`: the operator has had the answer of that broker at that address.
    pub pairs: Vec<Named>,
}

/// A name, where it leads, and who answers there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    /// An IPv4 address.
    pub address: String,
    /// The name that the broker advertises.
    pub name: String,
    /// Left out: the status does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Broker>,
}

/// By what a broker is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Broker {
    /// Its id in Kafka.
    pub node_id: NodeId,
    /// The port that it advertises.
    pub port: u16,
}

impl Told {
    /// What a status says that was read `age` ago.
    pub fn of(status: &KafkaExternalAccessStatus, age: Duration) -> Self {
        let named = |line: &String| {
            let (address, name) = line.split_once(' ').unwrap_or((line, ""));
            let broker = identity(&status.brokers, address);
            Named { address: address.to_owned(), name: name.to_owned(), broker }
        };
        Self { age_seconds: age.as_secs(), pairs: status.hosts.iter().map(named).collect() }
    }
}

impl Named {
    /// The pair, if it may stand in a hosts file.
    pub fn pair(&self) -> Result<Pair, InvalidPair> {
        format!("{} {}", self.address, self.name).parse()
    }
}

/// Who should answer at an address, and at which port.
fn identity(brokers: &[BrokerStatus], address: &str) -> Option<Broker> {
    let at = |broker: &&BrokerStatus| {
        broker.address.as_ref().or(broker.target.as_ref()).is_some_and(|at| at == address)
    };
    let broker = brokers.iter().find(at)?;
    let endpoint: Endpoint = broker.advertised.as_ref()?.parse().ok()?;
    Some(Broker { node_id: NodeId(broker.node_id?), port: endpoint.port })
}

/// The path of an object's names at the operator's endpoint, in segments.
pub fn path(object: &AccessKey) -> [&str; 6] {
    ["v1", "namespaces", &object.namespace, "kafkaexternalaccesses", &object.name, "hosts"]
}

/// The object whose names have this path.
pub fn object_of(path: &str) -> Option<AccessKey> {
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    match segments.as_slice() {
        ["v1", "namespaces", namespace, "kafkaexternalaccesses", name, "hosts"] => {
            format!("{namespace}/{name}").parse().ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_known_by_its_address_outside_else_by_its_pods() {
        let status = serde_json::json!({
            "hosts": ["10.0.0.1 a.b", "203.0.113.9 c.d", "10.0.0.2 e.f", "10.0.0.3 g.h", "nonsense"],
            "brokers": [
                {"ordinal": 0, "nodeId": 5, "state": "Ready", "target": "10.0.0.1", "advertised": "a.b:9092"},
                {"ordinal": 1, "nodeId": 6, "state": "Ready", "target": "10.0.0.2", "address": "203.0.113.9", "advertised": "203.0.113.9:9094"},
                {"ordinal": 2, "state": "Waiting", "target": "10.0.0.3"}]});
        let status = serde_json::from_value(status).expect("a status");
        let told = Told::of(&status, Duration::from_secs(7));
        let known: Vec<_> = told
            .pairs
            .iter()
            .map(|named| named.broker.map(|broker| (broker.node_id.0, broker.port)))
            .collect();
        assert_eq!(known, [Some((5, 9092)), Some((6, 9094)), None, None, None]);
        let fit: Vec<_> = told.pairs.iter().map(|named| named.pair().is_ok()).collect();
        assert_eq!((told.age_seconds, fit), (7, vec![true, true, true, true, false]));
    }

    #[test]
    fn what_is_told_is_json_of_this_form() {
        let told = Told {
            age_seconds: 0,
            pairs: vec![
                Named {
                    address: "10.0.0.1".into(),
                    name: "a.b".into(),
                    broker: Some(Broker { node_id: NodeId(5), port: 9092 }),
                },
                Named { address: "10.0.0.2".into(), name: "c.d".into(), broker: None },
            ],
        };
        let json = serde_json::json!({"ageSeconds": 0, "pairs": [
            {"address": "10.0.0.1", "name": "a.b", "broker": {"nodeId": 5, "port": 9092}},
            {"address": "10.0.0.2", "name": "c.d"}]});
        assert_eq!(serde_json::to_value(&told).expect("JSON"), json);
        assert_eq!(serde_json::from_value::<Told>(json).expect("told"), told);
    }

    #[test]
    fn a_path_names_one_object_and_nothing_else_does() {
        let object: AccessKey = "ydata/kafka.one".parse().expect("a key");
        let path = format!("/{}", path(&object).join("/"));
        assert_eq!(path, "/v1/namespaces/ydata/kafkaexternalaccesses/kafka.one/hosts");
        assert_eq!(object_of(&path), Some(object));
        for other in [
            "",
            "/",
            "/v1/namespaces//kafkaexternalaccesses/kafka/hosts",
            "/v1/namespaces/ydata/kafkaexternalaccesses//hosts",
            "/v1/namespaces/ydata/kafkaexternalaccesses/kafka",
            "/v1/namespaces/ydata/kafkaexternalaccesses/kafka/hosts/",
            "/v1/namespaces/ydata/kafkaexternalaccesses/a/b/hosts",
            "//v1/namespaces/ydata/kafkaexternalaccesses/kafka/hosts",
        ] {
            assert_eq!(object_of(other), None, "{other}");
        }
    }
}
