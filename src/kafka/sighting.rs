//! What a client's machine has seen, handed to the operator: `check --report` writes it, the operator reads it.
//!
//! One ConfigMap for each object, called [`config_map`], with one key for each machine. It is created once by whoever
//! allows it, so that a machine needs one right only: `patch` on that ConfigMap.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::probe::Course;
use crate::domain::{Endpoint, NodeId};

/// Of one ConfigMap and of one value; what is more is not read.
const MOST_MACHINES: usize = 64;
const LONGEST_VALUE: usize = 64 << 10;
/// How long a sighting counts.
pub const FRESH: Duration = Duration::from_secs(300);

/// The ConfigMap that holds what is seen of the brokers of this object.
pub fn config_map(object: &str) -> String {
    format!("{object}-seen-from-outside")
}

/// What one machine saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    /// When, by that machine's clock.
    pub at: Timestamp,
    /// Which machine, for people: `vm-1 (192.0.2.7)`.
    pub from: String,
    /// Why nothing was seen at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The table of brokers that it was shown.
    #[serde(default)]
    pub table: BTreeMap<i32, String>,
    /// Each broker of the table, asked at its own endpoint.
    #[serde(default)]
    pub brokers: BTreeMap<i32, Asked>,
}

/// What came of asking one broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The broker that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<i32>,
    /// Why a client would fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The first end of a certificate that the broker showed.
    #[serde(default, rename = "certificateEnds", skip_serializing_if = "Option::is_none")]
    pub certificate_ends: Option<Timestamp>,
    /// The steps that succeeded, by name, in seconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub passed: BTreeMap<String, f64>,
    /// The step that failed, and the kind of fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<(String, String)>,
}

/// A broker and the table it shows, as somebody outside saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The broker that answered.
    pub node: NodeId,
    /// What it told about all of them.
    pub advertised: BTreeMap<NodeId, Endpoint>,
    /// The first end of a certificate that the broker showed.
    pub certificate_ends: Option<Timestamp>,
}

impl Sighting {
    /// What was seen of this broker; `Err`: why a client there would fail.
    pub fn of(&self, node: NodeId) -> Result<Seen, String> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let endpoint = |(node, text): (&i32, &String)| Some((NodeId(*node), text.parse().ok()?));
        let advertised = self.table.iter().filter_map(endpoint).collect();
        // Of a broker that is not in the table nobody knows where to ask it: the table says what is the matter.
        let Some(asked) = self.brokers.get(&node.0) else {
            return Ok(Seen { node, advertised, certificate_ends: None });
        };
        match &asked.error {
            Some(error) => Err(error.clone()),
            None => Ok(Seen {
                node: NodeId(asked.answered.unwrap_or(node.0)),
                advertised,
                certificate_ends: asked.certificate_ends,
            }),
        }
    }

    /// How far the machine came with this broker.
    pub fn course(&self, node: NodeId) -> Course {
        let asked = self.brokers.get(&node.0);
        asked.map(|asked| Course::told(&asked.passed, asked.failed.as_ref())).unwrap_or_default()
    }
}

/// The sightings that count now: those that can be read, and are neither old nor of a clock that is wrong by more than
/// [`FRESH`].
pub fn fresh(data: &BTreeMap<String, String>, now: Timestamp) -> Vec<Sighting> {
    let limit = SignedDuration::try_from(FRESH).unwrap_or_default();
    data.values()
        .take(MOST_MACHINES)
        .filter(|value| value.len() <= LONGEST_VALUE)
        .filter_map(|value| serde_json::from_str::<Sighting>(value).ok())
        .filter(|sighting| now.duration_since(sighting.at).abs() < limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Step;

    fn sighting(at: Timestamp) -> Sighting {
        let failed = Some(("Tcp".to_owned(), "timed_out".to_owned()));
        let unreachable = Asked { error: Some("Tcp: no answer".to_owned()), failed, ..Asked::default() };
        Sighting {
            at,
            from: "vm (192.0.2.7)".to_owned(),
            error: None,
            table: [(0, "203.0.113.10:9094".to_owned()), (1, "203.0.113.11:9094".to_owned())].into(),
            brokers: [(0, Asked { answered: Some(1), ..Asked::default() }), (1, unreachable)].into(),
        }
    }

    #[test]
    fn a_broker_is_seen_as_the_one_that_answered() {
        let seen = sighting(Timestamp::UNIX_EPOCH).of(NodeId(0)).expect("seen");
        assert_eq!((seen.node, seen.advertised.len()), (NodeId(1), 2));
        assert_eq!(sighting(Timestamp::UNIX_EPOCH).of(NodeId(1)), Err("Tcp: no answer".to_owned()));
        assert_eq!(sighting(Timestamp::UNIX_EPOCH).course(NodeId(1)).failed, Some((Step::Tcp, "timed_out")));
        let fenced = sighting(Timestamp::UNIX_EPOCH).of(NodeId(2)).expect("the table is seen");
        assert!(!fenced.advertised.contains_key(&NodeId(2)));
    }

    #[test]
    fn what_is_old_or_from_the_future_or_not_readable_does_not_count() {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        let at = |seconds: i64| {
            let at = now + SignedDuration::from_secs(seconds);
            serde_json::to_string(&sighting(at)).expect("JSON")
        };
        let data = [
            ("a", at(-299)),
            ("b", at(-301)),
            ("c", at(301)),
            ("d", "{".to_owned()),
            ("e", " ".repeat(LONGEST_VALUE + 1)),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), value)).into();
        assert_eq!(fresh(&data, now).len(), 1);
    }
}
