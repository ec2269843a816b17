use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use serde::Deserialize;

use super::gateway::Ways;
use super::records::{Direction, FloatingIp, Port, PortForwarding, SecurityRule};

/// Everything the router has to know of the cloud, in a fixed order: two pictures of the same cloud are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    pub pods: Vec<Pod>,
    pub addresses: Vec<Address>,
    pub ways: Ways,
}

/// A port of the pods' network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub fixed: Ipv4Addr,
    pub filter: Filter,
}

/// What a port lets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// Port security is off.
    Open,
    /// What no match accepts is dropped.
    Groups { ingress: Vec<Match>, egress: Vec<Match> },
}

/// One accepting rule of a security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// By its number; none is every protocol.
    pub protocol: Option<u8>,
    /// First and last port, or type and code of ICMP.
    pub range: (Option<u16>, Option<u16>),
    pub remote: Remote,
}

/// The other side of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remote {
    Prefix(Ipv4Net),
    Members(Vec<Ipv4Addr>),
}

/// A floating IP that leads somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub floating: Ipv4Addr,
    pub target: Target,
    pub limits: Limits,
}

/// Where a floating IP leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Pod(Ipv4Addr),
    Forwardings(Vec<Forwarding>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Forwarding {
    pub protocol: u8,
    pub external_port: u16,
    pub to: Ipv4Addr,
    pub internal_port: u16,
}

/// Bandwidth of a floating IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub towards_pod: Option<Limit>,
    pub from_pod: Option<Limit>,
}

/// In kbit/s and kbit, as Neutron has them in spite of the name `max_burst_kbps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Limit {
    #[serde(rename = "max_kbps")]
    pub rate: u32,
    #[serde(rename = "max_burst_kbps", default)]
    pub burst: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Group {
    pub id: String,
    pub security_group_rules: Vec<SecurityRule>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Policy {
    pub id: String,
    pub rules: Vec<PolicyRule>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct PolicyRule {
    #[serde(rename = "type")]
    pub kind: String,
    /// Rules of other kinds may have none.
    pub direction: Option<Direction>,
    #[serde(flatten)]
    pub limit: Option<Limit>,
}

/// What Neutron says, as it came.
pub(super) struct Records {
    pub floating_ips: Vec<FloatingIp>,
    /// Ports of the pods' network.
    pub ports: Vec<Port>,
    pub groups: Vec<Group>,
    pub policies: Vec<Policy>,
}

impl Records {
    pub fn picture(&self, ways: Ways) -> Picture {
        let members = self.members();
        let mut pods: Vec<Pod> = self
            .ports
            .iter()
            // The router's own ports are no pods.
            .filter(|port| !port.device_owner.starts_with("network:"))
            .flat_map(|port| fixed_ips(port).map(|fixed| Pod { fixed, filter: self.filter(port, &members) }))
            .collect();
        pods.sort_by_key(|pod| pod.fixed);
        let mut addresses: Vec<Address> =
            self.floating_ips.iter().filter_map(|fip| self.address(fip)).collect();
        addresses.sort_by_key(|address| address.floating);
        Picture { pods, addresses, ways }
    }

    fn members(&self) -> BTreeMap<&str, BTreeSet<Ipv4Addr>> {
        let mut members: BTreeMap<&str, BTreeSet<Ipv4Addr>> = BTreeMap::new();
        for port in &self.ports {
            for group in &port.security_groups {
                members.entry(group).or_default().extend(fixed_ips(port));
            }
        }
        members
    }

    fn filter(&self, port: &Port, members: &BTreeMap<&str, BTreeSet<Ipv4Addr>>) -> Filter {
        if !port.port_security_enabled {
            return Filter::Open;
        }
        let groups = self.groups.iter().filter(|group| port.security_groups.contains(&group.id));
        let rules: Vec<&SecurityRule> = groups.flat_map(|group| &group.security_group_rules).collect();
        let matches = |direction| {
            let rules = rules.iter().filter(|rule| rule.direction == direction && rule.ethertype == "IPv4");
            rules.filter_map(|rule| accepted(rule, members)).collect()
        };
        Filter::Groups { ingress: matches(Direction::Ingress), egress: matches(Direction::Egress) }
    }

    fn address(&self, fip: &FloatingIp) -> Option<Address> {
        let target = match (&fip.port_id, fip.fixed_ip_address) {
            (Some(_), Some(fixed)) => Target::Pod(fixed),
            _ if !fip.port_forwardings.is_empty() => {
                let mut list: Vec<Forwarding> = fip.port_forwardings.iter().filter_map(forwarding).collect();
                list.sort();
                Target::Forwardings(list)
            }
            _ => return None,
        };
        let policy = fip.qos_policy_id.as_ref().or(fip.qos_network_policy_id.as_ref());
        let policy = policy.and_then(|id| self.policies.iter().find(|policy| policy.id == *id));
        let limit = |direction| {
            let rules = policy.map(|policy| &policy.rules[..]).unwrap_or_default();
            let rule =
                rules.iter().find(|rule| rule.kind == "bandwidth_limit" && rule.direction == Some(direction));
            rule.and_then(|rule| rule.limit)
        };
        let limits = Limits { towards_pod: limit(Direction::Ingress), from_pod: limit(Direction::Egress) };
        Some(Address { floating: fip.floating_ip_address, target, limits })
    }
}

fn fixed_ips(port: &Port) -> impl Iterator<Item = Ipv4Addr> {
    port.fixed_ips.iter().filter_map(|fixed| match fixed.ip_address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    })
}

/// None for a rule that cannot match here: what is not understood opens nothing.
fn accepted(rule: &SecurityRule, members: &BTreeMap<&str, BTreeSet<Ipv4Addr>>) -> Option<Match> {
    let protocol = match rule.protocol.as_deref() {
        None | Some("any" | "0") => None,
        Some(name) => Some(protocol_number(name)?),
    };
    let remote = match (&rule.remote_ip_prefix, &rule.remote_group_id, &rule.remote_address_group_id) {
        (Some(prefix), None, None) => Remote::Prefix(prefix.parse().ok()?),
        (None, Some(group), None) => {
            let members = members.get(group.as_str()).into_iter().flatten().copied().collect::<Vec<_>>();
            Remote::Members((!members.is_empty()).then_some(members)?)
        }
        (None, None, None) => Remote::Prefix(Ipv4Net::default()),
        _ => return None,
    };
    Some(Match { protocol, range: (rule.port_range_min, rule.port_range_max), remote })
}

/// Protocol numbers (IANA) of the names that Neutron accepts.
fn protocol_number(name: &str) -> Option<u8> {
    const NAMES: [(&str, u8); 15] = [
        ("icmp", 1),
        ("igmp", 2),
        ("ipip", 4),
        ("tcp", 6),
        ("egp", 8),
        ("udp", 17),
        ("dccp", 33),
        ("rsvp", 46),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("ospf", 89),
        ("vrrp", 112),
        ("pgm", 113),
        ("sctp", 132),
    ];
    let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    known.or_else(|| if name == "udplite" { Some(136) } else { name.parse().ok() })
}

fn forwarding(record: &PortForwarding) -> Option<Forwarding> {
    Some(Forwarding {
        protocol: protocol_number(&record.protocol)?,
        external_port: record.external_port,
        to: record.internal_ip_address,
        internal_port: record.internal_port,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("a record as Neutron gives it")
    }

    fn port(fixed: &str, security: bool, groups: &[&str]) -> Port {
        parsed(json!({"id": fixed, "name": "", "network_id": "n", "device_id": "", "device_owner": "lab:pod",
            "fixed_ips": [{"subnet_id": "s", "ip_address": fixed}], "security_groups": groups, "port_security_enabled": security}))
    }

    fn fip(floating: &str, fixed: Option<&str>, policy: Option<&str>) -> FloatingIp {
        parsed(
            json!({"id": floating, "floating_ip_address": floating, "fixed_ip_address": fixed, "port_id": fixed, "status": "DOWN",
            "description": "", "revision_number": 1, "project_id": "p", "qos_policy_id": policy}),
        )
    }

    fn rule(direction: &str, protocol: Value, ports: (Value, Value), prefix: Value, group: Value) -> Value {
        json!({"direction": direction, "ethertype": "IPv4", "protocol": protocol, "port_range_min": ports.0, "port_range_max": ports.1,
            "remote_ip_prefix": prefix, "remote_group_id": group, "remote_address_group_id": null})
    }

    fn records(rules: Value, ports: Vec<Port>) -> Records {
        let group = parsed(json!({"id": "g", "security_group_rules": rules}));
        Records { floating_ips: Vec::new(), ports, groups: vec![group], policies: Vec::new() }
    }

    #[test]
    fn a_port_without_port_security_is_open_and_one_without_rules_is_closed() {
        let records =
            records(json!([]), vec![port("10.128.0.6", true, &["g"]), port("10.128.0.5", false, &[])]);
        let pods = records.picture(Ways::default()).pods;
        assert_eq!(pods[0].filter, Filter::Open);
        assert_eq!(pods[1].filter, Filter::Groups { ingress: vec![], egress: vec![] });
    }

    #[test]
    fn a_rule_keeps_its_protocol_ports_and_remote_and_ipv6_rules_are_left_out() {
        let mut ipv6 = rule("ingress", Value::Null, (Value::Null, Value::Null), Value::Null, Value::Null);
        ipv6["ethertype"] = json!("IPv6");
        let rules = json!([
            rule("ingress", json!("tcp"), (json!(9094), json!(9096)), json!("203.0.113.0/24"), Value::Null),
            rule("egress", json!("132"), (Value::Null, Value::Null), Value::Null, Value::Null),
            ipv6,
        ]);
        let picture = records(rules, vec![port("10.128.0.5", true, &["g"])]).picture(Ways::default());
        let prefix: Ipv4Net = "203.0.113.0/24".parse().expect("a prefix");
        let tcp =
            Match { protocol: Some(6), range: (Some(9094), Some(9096)), remote: Remote::Prefix(prefix) };
        let sctp =
            Match { protocol: Some(132), range: (None, None), remote: Remote::Prefix(Ipv4Net::default()) };
        assert_eq!(picture.pods[0].filter, Filter::Groups { ingress: vec![tcp], egress: vec![sctp] });
    }

    #[test]
    fn a_remote_group_is_the_addresses_of_its_members_and_an_empty_or_unknown_remote_opens_nothing() {
        let mut unknown = rule("ingress", Value::Null, (Value::Null, Value::Null), Value::Null, Value::Null);
        unknown["remote_address_group_id"] = json!("a");
        let rules = json!([
            rule("ingress", Value::Null, (Value::Null, Value::Null), Value::Null, json!("g")),
            rule("ingress", Value::Null, (Value::Null, Value::Null), Value::Null, json!("nobody")),
            unknown,
        ]);
        let ports = vec![port("10.128.0.6", true, &["g"]), port("10.128.0.5", true, &["g"])];
        let picture = records(rules, ports).picture(Ways::default());
        let members = vec![Ipv4Addr::new(10, 128, 0, 5), Ipv4Addr::new(10, 128, 0, 6)];
        let expected = Match { protocol: None, range: (None, None), remote: Remote::Members(members) };
        assert_eq!(picture.pods[0].filter, Filter::Groups { ingress: vec![expected], egress: vec![] });
    }

    #[test]
    fn an_address_has_the_limits_of_its_policy_and_an_unbound_one_leads_nowhere() {
        let policy = json!({"id": "q", "rules": [
            {"type": "dscp_marking", "dscp_mark": 8},
            {"type": "bandwidth_limit", "max_kbps": 1000, "max_burst_kbps": 0, "direction": "ingress"}]});
        let mut records = records(json!([]), vec![]);
        records.policies = vec![parsed(policy)];
        records.floating_ips =
            vec![fip("203.0.113.9", Some("10.128.0.5"), Some("q")), fip("203.0.113.8", None, None)];
        let limits = Limits { towards_pod: Some(Limit { rate: 1000, burst: 0 }), from_pod: None };
        let expected = Address {
            floating: Ipv4Addr::new(203, 0, 113, 9),
            target: Target::Pod(Ipv4Addr::new(10, 128, 0, 5)),
            limits,
        };
        assert_eq!(records.picture(Ways::default()).addresses, vec![expected]);
    }
}
