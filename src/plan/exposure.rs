//! A one-to-one floating IP forwards every port; the port's security groups decide what that means.

use std::collections::BTreeSet;

use super::{desired::Desired, observed::CloudView};
use crate::cloud::{IngressRule, Port};

/// The port that clients outside use: the listener's, else the internal one.
pub fn served_port(desired: &Desired, internal_port: Option<u16>) -> Option<u16> {
    desired.listener.as_ref().map(|listener| listener.port).or(internal_port)
}

/// What the rules mean for one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Only the served port is open to everybody, or the rules could not be read (a warning).
    Narrow,
    /// More than the served port is open to everybody; the sentence names the rule.
    Open(String),
}

/// | port security | rules from anywhere (0.0.0.0/0, no prefix and no group) | then |
/// |---|---|---|
/// | off | | open |
/// | on or unknown | every port, or a range with a port that the broker listens on besides the served one | open |
/// | on or unknown | the served port only, or none | narrow |
///
/// IPv6 rules do not count: a floating IP is IPv4 and leads to an IPv4 fixed IP.
pub fn exposure(port: &Port, cloud: &CloudView, served: u16, listening: &BTreeSet<u16>) -> Exposure {
    if port.port_security_enabled == Some(false) {
        return Exposure::Open(format!("port security is off on port {}", port.id));
    }
    let Ok(rules) = &cloud.rules else { return Exposure::Narrow };
    let open = rules_of(port, rules).filter(|rule| from_anywhere(rule)).find(|rule| match rule.ports {
        None => true,
        Some((first, last)) => {
            let more = first != served || last != served;
            let known = listening.iter().any(|p| *p != served && (first..=last).contains(p));
            more && (known || listening.iter().all(|p| *p == served))
        }
    });
    match open {
        Some(rule) => Exposure::Open(format!(
            "security group rule {} of group {} admits {} from anywhere",
            rule.id,
            rule.group,
            rule.ports.map_or("every port".to_owned(), |(first, last)| format!("ports {first} to {last}")),
        )),
        None => Exposure::Narrow,
    }
}

/// True when no rule admits the served port from any address at all: then nobody outside gets through.
pub fn blocks(port: &Port, cloud: &CloudView, served: u16) -> bool {
    let Ok(rules) = &cloud.rules else { return false };
    let enforced = port.port_security_enabled != Some(false) && !port.security_groups.is_empty();
    enforced
        && !rules_of(port, rules).any(|rule| {
            let covers = rule.ports.is_none_or(|(first, last)| (first..=last).contains(&served));
            rule.tcp && covers && rule.remote_group.is_none() && outside(rule)
        })
}

fn rules_of<'a>(port: &'a Port, rules: &'a [IngressRule]) -> impl Iterator<Item = &'a IngressRule> {
    rules.iter().filter(|rule| rule.ipv4 && rule.tcp && port.security_groups.contains(&rule.group))
}

fn from_anywhere(rule: &IngressRule) -> bool {
    rule.remote_group.is_none()
        && matches!(rule.remote_ip_prefix.as_deref(), None | Some("0.0.0.0/0" | "::/0"))
}

/// A prefix of private addresses may be the pods' own network; it is no way in for clients behind a floating IP
/// unless it is the only rule a user has, so any prefix that is not the pod network's counts.
fn outside(rule: &IngressRule) -> bool {
    from_anywhere(rule) || rule.remote_ip_prefix.is_some()
}
