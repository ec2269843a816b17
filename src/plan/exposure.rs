//! A one-to-one floating IP forwards every port; the port's security groups decide what that means.

use std::{collections::BTreeSet, net::Ipv4Addr};

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
/// | on or unknown | every port, or a range with a port that the broker listens on besides the served one (any other port, where it is not known on which it listens) | open |
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
            let reached = listening.iter().any(|p| *p != served && (first..=last).contains(p));
            more && (reached || listening.is_empty())
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
            rule.tcp && covers && rule.remote_group.is_none() && outside(rule, port)
        })
}

fn rules_of<'a>(port: &'a Port, rules: &'a [IngressRule]) -> impl Iterator<Item = &'a IngressRule> {
    rules.iter().filter(|rule| rule.ipv4 && rule.tcp && port.security_groups.contains(&rule.group))
}

fn from_anywhere(rule: &IngressRule) -> bool {
    rule.remote_group.is_none()
        && matches!(rule.remote_ip_prefix.as_deref(), None | Some("0.0.0.0/0" | "::/0"))
}

/// A narrower rule is a way in for clients outside unless it is the pods' own network that it admits.
fn outside(rule: &IngressRule, port: &Port) -> bool {
    let own = |prefix: &String| port.fixed_ips.iter().any(|ip| contains(prefix, *ip));
    from_anywhere(rule) || rule.remote_ip_prefix.as_ref().is_some_and(|prefix| !own(prefix))
}

/// CIDR notation (RFC 4632). A text that is none contains nothing.
fn contains(prefix: &str, ip: Ipv4Addr) -> bool {
    let parsed = prefix.split_once('/').and_then(|(network, length)| {
        let length: u32 = length.parse().ok().filter(|length| *length <= 32)?;
        Some((network.parse::<Ipv4Addr>().ok()?, u32::MAX.checked_shl(32 - length).unwrap_or(0)))
    });
    parsed.is_some_and(|(network, mask)| u32::from(network) & mask == u32::from(ip) & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_its_addresses_only() {
        let ip = Ipv4Addr::new(10, 128, 0, 25);
        for (prefix, expected) in [
            ("10.128.0.0/22", true),
            ("10.128.4.0/22", false),
            ("0.0.0.0/0", true),
            ("10.128.0.25/32", true),
            ("x/8", false),
            ("10.0.0.0/40", false),
        ] {
            assert_eq!(contains(prefix, ip), expected, "{prefix}");
        }
    }
}
