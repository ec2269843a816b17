//! A one-to-one floating IP forwards every port; the port's security groups decide what that means.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{Problem, desired::Desired, observed::CloudView};
use crate::{
    api::conditions::Reason,
    cloud::{IngressRule, Port},
};

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
            covers && rule.remote_group.is_none() && outside(rule, port)
        })
}

/// Why nobody outside gets through to this port, with a rule that would let clients in.
pub fn blocked(port: &Port, cloud: &CloudView, served: u16) -> Option<Problem> {
    let group = port.security_groups.first().filter(|_| blocks(port, cloud, served))?;
    let text = format!(
        "no rule of the groups of port {} admits TCP {served} from outside; add one, for example: openstack security group rule create --protocol tcp --dst-port {served} --remote-ip YOUR_CLIENTS {group}",
        port.id
    );
    Some(Problem::new(Reason::SecurityGroupBlocks, text))
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

    use crate::{
        cloud::FloatingIp,
        domain::{NetworkId, PortId, ProjectId, SecurityGroupId},
    };

    const SERVED: u16 = 9094;

    fn port() -> Port {
        Port {
            id: PortId::new("port-0"),
            network: NetworkId::new("net-pods"),
            project: ProjectId::new("p1"),
            fixed_ips: vec![Ipv4Addr::new(10, 128, 0, 20)],
            security_groups: vec![SecurityGroupId::new("sg")],
            port_security_enabled: Some(true),
        }
    }

    /// From anywhere, by TCP over IPv4, to these ports.
    fn rule(ports: Option<(u16, u16)>) -> IngressRule {
        IngressRule {
            id: "rule-1".into(),
            group: SecurityGroupId::new("sg"),
            ipv4: true,
            tcp: true,
            ports,
            remote_ip_prefix: None,
            remote_group: None,
        }
    }

    fn with(rule: IngressRule) -> CloudView {
        CloudView {
            project: ProjectId::new("p1"),
            floating_network: NetworkId::new("net-public"),
            addresses: Vec::<FloatingIp>::new(),
            ports: [].into(),
            rules: Ok(vec![rule]),
            policies: [].into(),
            secret_held: true,
            due_in: std::time::Duration::from_secs(300),
        }
    }

    #[test]
    fn what_else_is_open_counts_where_the_broker_listens_on_it() {
        for (ports, listening, narrow) in [
            (Some((9094, 9094)), &[9092, 9094][..], true),
            (Some((9090, 9094)), &[9092, 9094], false),
            (Some((9094, 9096)), &[9092, 9094], true),
            (Some((9094, 9096)), &[9094], true),
            (Some((9094, 9096)), &[9095], false),
            (Some((9090, 9094)), &[9094], true),
            // Nothing is known about where it listens.
            (Some((9090, 9094)), &[], false),
            (Some((9094, 9096)), &[], false),
            (Some((9094, 9094)), &[], true),
            (None, &[9094], false),
        ] {
            let found = exposure(&port(), &with(rule(ports)), SERVED, &listening.iter().copied().collect());
            assert_eq!(found == Exposure::Narrow, narrow, "{ports:?} {listening:?}: {found:?}");
        }
    }

    #[test]
    fn a_rule_lets_clients_in_or_opens_more_only_if_it_is_about_them() {
        let tcp = rule(Some((9090, 9099)));
        let with_prefix = |prefix: &str| IngressRule { remote_ip_prefix: Some(prefix.into()), ..tcp.clone() };
        let of_group = IngressRule { remote_group: Some(SecurityGroupId::new("sg")), ..tcp.clone() };
        let elsewhere = IngressRule { group: SecurityGroupId::new("other"), ..tcp.clone() };
        for (case, rule, open, blocked) in [
            ("anywhere", tcp.clone(), true, false),
            ("anywhere, in words", with_prefix("0.0.0.0/0"), true, false),
            ("a network of clients", with_prefix("192.0.2.0/24"), false, false),
            ("the pods' own network", with_prefix("10.128.0.0/22"), false, true),
            ("a group", of_group, false, true),
            ("a group that the port does not have", elsewhere, false, true),
            ("UDP", IngressRule { tcp: false, ..tcp.clone() }, false, true),
            ("IPv6", IngressRule { ipv4: false, ..tcp.clone() }, false, true),
        ] {
            let cloud = with(rule);
            assert_eq!(exposure(&port(), &cloud, SERVED, &[].into()) != Exposure::Narrow, open, "{case}");
            assert_eq!(blocks(&port(), &cloud, SERVED), blocked, "{case}");
        }
        assert!(blocks(&port(), &with(rule(Some((9095, 9099)))), SERVED), "other ports");
        assert!(!blocks(&port(), &with(rule(None)), SERVED), "every port");
    }

    #[test]
    fn rules_are_enforced_where_port_security_is_not_off_and_there_is_a_group() {
        let nothing = with(rule(Some((1, 1))));
        let security = |port_security_enabled| Port { port_security_enabled, ..port() };
        assert!(blocks(&security(None), &nothing, SERVED));
        assert!(!blocks(&security(Some(false)), &nothing, SERVED));
        assert!(!blocks(&Port { security_groups: vec![], ..port() }, &nothing, SERVED));
        let open = exposure(&security(Some(false)), &nothing, SERVED, &[].into());
        assert_eq!(open, Exposure::Open("port security is off on port port-0".into()));
        assert_eq!(exposure(&security(None), &nothing, SERVED, &[SERVED].into()), Exposure::Narrow);
    }

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
