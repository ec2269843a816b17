//! What the probes through the addresses mean.
//!
//! | the probe through the address of broker N | then |
//! |---|---|
//! | failed because its certificate has ended | `CertificateExpired` |
//! | failed otherwise | `Unreachable` |
//! | another broker answers | `WrongBroker` |
//! | no other broker tells clients of N (where there is no other: N itself does not) | `BrokerNotRegistered`: fenced, or not registered |
//! | N tells another endpoint for a broker than that should have | `StaleAdvertisement` |
//! | N does not tell of a broker that runs, and others do | `StaleAdvertisement` |
//! | the same, and nobody tells of it | nothing about N: it is that broker's own case |
//! | none of these, and its certificate ends within 30 days | good; `CertificateExpiresSoon` is told, and once as an event |
//! | none of these | good |

use jiff::Timestamp;

use super::{
    Plan, Problem,
    observed::{KafkaState, ProbeResult},
    words::and_more,
};
use crate::{
    api::conditions::Reason,
    domain::{NodeId, Ordinal},
    kafka::{probe::ends_soon, sighting::Seen},
};

/// What a probe through a broker's address says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeVerdict {
    /// The right broker, with the right table.
    Good,
    /// Something is wrong; a client would notice.
    Bad(Problem),
}

fn bad(reason: Reason, text: String) -> ProbeVerdict {
    ProbeVerdict::Bad(Problem::new(reason, text))
}

/// The last probe of a broker. `None`: not probed, or there is nothing to compare with.
pub fn judge(plan: &Plan, kafka: &KafkaState, ordinal: Ordinal) -> Option<ProbeVerdict> {
    judge_one(plan, kafka, ordinal, kafka.probes.get(&ordinal)?)
}

/// One probe of a broker, beside the last of the others.
pub fn judge_one(
    plan: &Plan,
    kafka: &KafkaState,
    ordinal: Ordinal,
    probe: &ProbeResult,
) -> Option<ProbeVerdict> {
    let at = probe.through;
    let seen = match &probe.outcome {
        Ok(seen) => seen,
        Err(error) => {
            let text = format!("{at} does not work, seen from {}: {error}", probe.from);
            let ended = probe.course.certificate_has_ended();
            return Some(bad(if ended { Reason::CertificateExpired } else { Reason::Unreachable }, text));
        }
    };
    let expected = kafka.internal.get(&ordinal)?.as_ref().ok()?.node;
    if seen.node != expected {
        let text = format!("{at} should lead to broker {expected} and leads to broker {}", seen.node);
        return Some(bad(Reason::WrongBroker, text));
    }
    if !is_told_of(kafka, expected, seen) {
        let text = format!(
            "broker {expected} answers, and the brokers do not tell clients of it: the controller has fenced it, or has not registered it; see the broker's log"
        );
        return Some(bad(Reason::BrokerNotRegistered, text));
    }
    Some(
        stale(plan, kafka, seen).map_or(ProbeVerdict::Good, |text| {
            bad(Reason::StaleAdvertisement, format!("through {at} {text}"))
        }),
    )
}

/// Whose certificate is to be renewed, and until when.
pub fn to_renew(kafka: &KafkaState, ordinal: Ordinal, now: Timestamp) -> Option<Problem> {
    let probe = kafka.probes.get(&ordinal)?;
    let ends = probe.outcome.as_ref().ok()?.certificate_ends.filter(|ends| ends_soon(*ends, now))?;
    let text =
        format!("the certificate at {} ends on {}; renew it before", probe.through, ends.strftime("%F"));
    Some(Problem::new(Reason::CertificateExpiresSoon, text))
}

/// The first broker with a certificate to renew, and how many more there are: one warning for what is mostly one renewal.
pub fn first_to_renew(set: &str, kafka: &KafkaState, now: Timestamp) -> Option<Problem> {
    let mut found =
        kafka.probes.keys().filter_map(|ordinal| Some((ordinal, to_renew(kafka, *ordinal, now)?)));
    let (ordinal, first) = found.next()?;
    let text = format!("{set}-{ordinal}: {}{}", first.message, and_more(found.count()));
    Some(Problem::new(first.reason, text))
}

/// What is wrong with the table that a broker shows.
fn stale(plan: &Plan, kafka: &KafkaState, seen: &Seen) -> Option<String> {
    let running = plan
        .endpoints
        .iter()
        .filter_map(|(ordinal, endpoint)| Some((kafka.internal.get(ordinal)?.as_ref().ok()?.node, endpoint)));
    for (node, endpoint) in running {
        match seen.advertised.get(&node) {
            Some(advertised) if advertised == endpoint => {}
            Some(other) => {
                return Some(format!("broker {node} is advertised as {other} instead of {endpoint}"));
            }
            None if tables(kafka)
                .any(|table| ![node, seen.node].contains(&table.node) && tells(table, node)) =>
            {
                return Some(format!(
                    "clients are not told of broker {node}, and through other addresses they are"
                ));
            }
            None => {}
        }
    }
    None
}

fn tables(kafka: &KafkaState) -> impl Iterator<Item = &Seen> {
    kafka.probes.values().filter_map(|probe| probe.outcome.as_ref().ok())
}

fn tells(table: &Seen, node: NodeId) -> bool {
    table.advertised.contains_key(&node)
}

/// A broker that is cut off from the controllers goes on telling of itself: only the others know better.
fn is_told_of(kafka: &KafkaState, node: NodeId, by_itself: &Seen) -> bool {
    let mut others = tables(kafka).filter(|table| table.node != node).peekable();
    if others.peek().is_none() { tells(by_itself, node) } else { others.any(|table| tells(table, node)) }
}
