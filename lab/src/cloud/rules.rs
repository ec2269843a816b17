use std::fmt::{Display, Write};
use std::net::Ipv4Addr;

use super::picture::{Filter, Forwarding, Limit, Match, Picture, Remote, Target};
use super::shaping::class;
use crate::addresses::{EXTERNAL_BRIDGE, EXTERNAL_GATEWAY, EXTERNAL_SUBNET, MACHINE, POD_BRIDGE, POD_SUBNET};

const ICMP: u8 = 1;

/// The router's rules as one transaction of nft(8), which takes the place of the one before as a whole.
///
/// What is told apart by address: packets to and from pods that carry an address of the external network are traffic with the outside (or with a floating IP), all
/// others are the cluster's own and are left alone. A security group is asked about every packet of a connection's original direction, so that a rule that is
/// taken away also stops connections that exist; answers pass.
pub(super) fn ruleset(picture: &Picture) -> String {
    let tables = Tables::of(picture);
    let chains: String = picture.pods.iter().map(|pod| pod_chains(pod.fixed, &pod.filter)).collect();
    let hairpin = if picture.ways.hairpin { "" } else { "ip daddr @floating drop" };
    let machine = match picture.ways.machine_to_pods {
        true => format!("ip saddr {MACHINE} ip daddr {POD_SUBNET} accept"),
        false => String::new(),
    };
    format!(
        r#"table ip lab_gateway
delete table ip lab_gateway
table ip lab_gateway {{
{tables}{chains}
  chain before_routing {{
    type filter hook prerouting priority mangle - 10; policy accept;
    iifname "{POD_BRIDGE}" goto from_pods
    iifname "{EXTERNAL_BRIDGE}" goto from_outside
  }}
  chain from_outside {{
    ct direction reply accept
    ct state related accept
    ip daddr @whole accept
    ip daddr . meta l4proto . th dport @entrances accept
    {machine}
    ip daddr {EXTERNAL_GATEWAY} icmp type echo-request accept
    drop
  }}
  chain from_pods {{
    ip daddr != {EXTERNAL_SUBNET} accept
    ct direction reply accept
    ct state related accept
    {hairpin}
    ip saddr vmap @egress
    drop
  }}
  chain from_node {{
    type filter hook output priority mangle - 10; policy accept;
    {hairpin}
  }}
  chain to_pods {{
    type nat hook prerouting priority dstnat - 10; policy accept;
    dnat to ip daddr . meta l4proto . th dport map @forwarded
    dnat to ip daddr map @one_to_one
  }}
  chain node_to_pods {{
    type nat hook output priority -110; policy accept;
    dnat to ip daddr . meta l4proto . th dport map @forwarded
    dnat to ip daddr map @one_to_one
  }}
  chain sources {{
    type nat hook postrouting priority srcnat - 10; policy accept;
    oifname "{EXTERNAL_BRIDGE}" ip saddr {POD_SUBNET} goto own_address
    oifname "{POD_BRIDGE}" ct original ip daddr @floating ip saddr {POD_SUBNET} goto own_address
    oifname "{POD_BRIDGE}" ct original ip daddr @floating ip saddr @floating snat to {EXTERNAL_GATEWAY}
  }}
  chain own_address {{
    snat to ip saddr map @own
    snat to {EXTERNAL_GATEWAY}
  }}
  chain shape {{
    type filter hook forward priority 10; policy accept;
    iifname "{EXTERNAL_BRIDGE}" oifname "{POD_BRIDGE}" meta priority set ip daddr map @towards_pod
    iifname "{EXTERNAL_BRIDGE}" oifname "{POD_BRIDGE}" meta priority set ip daddr . meta l4proto . th dport map @towards_port
    iifname "{POD_BRIDGE}" oifname "{EXTERNAL_BRIDGE}" meta priority set ip saddr map @from_pod
    iifname "{POD_BRIDGE}" oifname "{EXTERNAL_BRIDGE}" meta priority set ip saddr . meta l4proto . th sport map @from_port
  }}
  chain into_pods {{
    type filter hook postrouting priority srcnat + 10; policy accept;
    oifname != "{POD_BRIDGE}" accept
    ip saddr != {EXTERNAL_SUBNET} accept
    ct direction reply accept
    ct state related accept
    ip daddr vmap @ingress
    drop
  }}
}}
"#
    )
}

/// The named sets and maps.
#[derive(Default)]
struct Tables {
    floating: Vec<String>,
    whole: Vec<String>,
    entrances: Vec<String>,
    one_to_one: Vec<String>,
    own: Vec<String>,
    forwarded: Vec<String>,
    towards_pod: Vec<String>,
    from_pod: Vec<String>,
    towards_port: Vec<String>,
    from_port: Vec<String>,
    ingress: Vec<String>,
    egress: Vec<String>,
}

impl Tables {
    fn of(picture: &Picture) -> Self {
        let mut tables = Self::default();
        for pod in &picture.pods {
            let name = chain_name(pod.fixed);
            tables.ingress.push(format!("{} : jump in_{name}", pod.fixed));
            tables.egress.push(format!("{} : jump out_{name}", pod.fixed));
        }
        for address in &picture.addresses {
            let floating = address.floating;
            let class = class(floating);
            let (towards, from) = (address.limits.towards_pod, address.limits.from_pod);
            tables.floating.push(floating.to_string());
            match &address.target {
                Target::Pod(fixed) => {
                    tables.whole.push(floating.to_string());
                    tables.one_to_one.push(format!("{floating} : {fixed}"));
                    tables.own.push(format!("{fixed} : {floating}"));
                    limited(&mut tables.towards_pod, towards, fixed, &class);
                    limited(&mut tables.from_pod, from, fixed, &class);
                }
                Target::Forwardings(list) => {
                    for Forwarding { protocol, external_port, to, internal_port } in list {
                        let entrance = format!("{floating} . {protocol} . {external_port}");
                        tables.forwarded.push(format!("{entrance} : {to} . {internal_port}"));
                        tables.entrances.push(entrance);
                        let port = format!("{to} . {protocol} . {internal_port}");
                        limited(&mut tables.towards_port, towards, &port, &class);
                        limited(&mut tables.from_port, from, &port, &class);
                    }
                }
            }
        }
        tables
    }
}

fn limited(elements: &mut Vec<String>, limit: Option<Limit>, key: &dyn Display, class: &str) {
    if limit.is_some() {
        elements.push(format!("{key} : {class}"));
    }
}

impl Display for Tables {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const PORT: &str = "ipv4_addr . inet_proto . inet_service";
        let all = [
            ("set floating", "ipv4_addr".to_owned(), &self.floating),
            ("set whole", "ipv4_addr".to_owned(), &self.whole),
            ("set entrances", PORT.to_owned(), &self.entrances),
            ("map one_to_one", "ipv4_addr : ipv4_addr".to_owned(), &self.one_to_one),
            ("map own", "ipv4_addr : ipv4_addr".to_owned(), &self.own),
            ("map forwarded", format!("{PORT} : ipv4_addr . inet_service"), &self.forwarded),
            ("map towards_pod", "ipv4_addr : classid".to_owned(), &self.towards_pod),
            ("map from_pod", "ipv4_addr : classid".to_owned(), &self.from_pod),
            ("map towards_port", format!("{PORT} : classid"), &self.towards_port),
            ("map from_port", format!("{PORT} : classid"), &self.from_port),
            ("map ingress", "ipv4_addr : verdict".to_owned(), &self.ingress),
            ("map egress", "ipv4_addr : verdict".to_owned(), &self.egress),
        ];
        for (name, kind, elements) in all {
            writeln!(out, "  {name} {{\n    type {kind};")?;
            if !elements.is_empty() {
                writeln!(out, "    elements = {{ {} }}", elements.join(", "))?;
            }
            writeln!(out, "  }}")?;
        }
        Ok(())
    }
}

fn chain_name(fixed: Ipv4Addr) -> String {
    fixed.to_string().replace('.', "_")
}

fn pod_chains(fixed: Ipv4Addr, filter: &Filter) -> String {
    let name = chain_name(fixed);
    let (ingress, egress) = match filter {
        Filter::Open => ("    accept\n".to_owned(), "    accept\n".to_owned()),
        Filter::Groups { ingress, egress } => (accepting(ingress, "saddr"), accepting(egress, "daddr")),
    };
    format!("  chain in_{name} {{\n{ingress}  }}\n  chain out_{name} {{\n{egress}  }}\n")
}

fn accepting(matches: &[Match], remote: &str) -> String {
    matches.iter().fold(String::new(), |mut text, rule| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "    {}accept", condition(rule, remote));
        text
    })
}

fn condition(rule: &Match, side: &str) -> String {
    let mut text = match &rule.remote {
        Remote::Prefix(prefix) if prefix.prefix_len() == 0 => String::new(),
        Remote::Prefix(prefix) => format!("ip {side} {prefix} "),
        Remote::Members(members) => {
            let members: Vec<String> = members.iter().map(Ipv4Addr::to_string).collect();
            format!("ip {side} {{ {} }} ", members.join(", "))
        }
    };
    if let Some(protocol) = rule.protocol {
        text += &format!("meta l4proto {protocol} ");
    }
    match (rule.protocol, rule.range) {
        (Some(ICMP), (kind, code)) => {
            text += &kind.map(|kind| format!("icmp type {kind} ")).unwrap_or_default();
            text += &code.map(|code| format!("icmp code {code} ")).unwrap_or_default();
        }
        (Some(_), (Some(first), last)) => text += &format!("th dport {first}-{} ", last.unwrap_or(first)),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use ipnet::Ipv4Net;

    use super::super::gateway::Ways;
    use super::super::picture::{Address, Limits, Pod};
    use super::*;

    const FLOATING: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
    const FIXED: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 20);

    fn bound(limits: Limits) -> Picture {
        let tcp = Match {
            protocol: Some(6),
            range: (Some(9094), Some(9094)),
            remote: Remote::Prefix(Ipv4Net::default()),
        };
        Picture {
            pods: vec![Pod { fixed: FIXED, filter: Filter::Groups { ingress: vec![tcp], egress: vec![] } }],
            addresses: vec![Address { floating: FLOATING, target: Target::Pod(FIXED), limits }],
            ways: Ways::default(),
        }
    }

    #[test]
    fn a_bound_address_is_translated_in_both_directions() {
        let rules = ruleset(&bound(Limits::default()));
        assert!(rules.contains("elements = { 203.0.113.7 : 10.128.0.20 }"), "{rules}");
        assert!(rules.contains("elements = { 10.128.0.20 : 203.0.113.7 }"), "{rules}");
        assert!(!rules.contains(": 1:"), "nothing is shaped without a limit: {rules}");
    }

    #[test]
    fn a_security_group_becomes_the_chain_of_its_pod() {
        let rules = ruleset(&bound(Limits::default()));
        assert!(
            rules.contains("chain in_10_128_0_20 {\n    meta l4proto 6 th dport 9094-9094 accept\n  }"),
            "{rules}"
        );
        assert!(rules.contains("chain out_10_128_0_20 {\n  }"), "no egress rule lets nothing out: {rules}");
    }

    #[test]
    fn a_limit_puts_packets_of_that_direction_into_the_class_of_the_address() {
        let limits = Limits { towards_pod: None, from_pod: Some(Limit { rate: 1000, burst: 0 }) };
        let rules = ruleset(&bound(limits));
        assert!(rules.contains(
            "map from_pod {\n    type ipv4_addr : classid;\n    elements = { 10.128.0.20 : 1:7107 }"
        ));
        assert!(rules.contains("map towards_pod {\n    type ipv4_addr : classid;\n  }"), "{rules}");
    }

    #[test]
    fn a_port_forwarding_opens_its_own_port_only() {
        let mut picture = bound(Limits::default());
        let forwarding = Forwarding { protocol: 6, external_port: 80, to: FIXED, internal_port: 8080 };
        picture.addresses[0].target = Target::Forwardings(vec![forwarding]);
        let rules = ruleset(&picture);
        assert!(rules.contains("elements = { 203.0.113.7 . 6 . 80 : 10.128.0.20 . 8080 }"), "{rules}");
        assert!(rules.contains("set whole {\n    type ipv4_addr;\n  }"), "{rules}");
    }

    #[test]
    fn without_hairpin_pods_and_node_do_not_get_to_a_floating_ip() {
        let mut picture = bound(Limits::default());
        assert_eq!(ruleset(&picture).matches("ip daddr @floating drop").count(), 0);
        picture.ways.hairpin = false;
        assert_eq!(ruleset(&picture).matches("ip daddr @floating drop").count(), 2);
    }

    #[test]
    fn the_machine_gets_to_pods_only_where_that_is_so_and_through_their_security_groups() {
        let mut picture = bound(Limits::default());
        let way = "ip saddr 203.0.113.200 ip daddr 10.128.0.0/22 accept";
        assert!(!ruleset(&picture).contains(way));
        picture.ways.machine_to_pods = true;
        let rules = ruleset(&picture);
        let (admitted, asked) = (rules.find(way), rules.find("ip daddr vmap @ingress"));
        assert!(admitted.is_some() && asked > admitted, "{rules}");
    }

    #[test]
    fn conditions_are_those_of_the_rule() {
        let rule = |protocol, range, remote: &str| Match {
            protocol,
            range,
            remote: Remote::Prefix(remote.parse().expect("a prefix")),
        };
        assert_eq!(condition(&rule(None, (None, None), "0.0.0.0/0"), "saddr"), "");
        assert_eq!(condition(&rule(None, (None, None), "10.0.0.0/8"), "daddr"), "ip daddr 10.0.0.0/8 ");
        let icmp = rule(Some(1), (Some(8), Some(0)), "0.0.0.0/0");
        assert_eq!(condition(&icmp, "saddr"), "meta l4proto 1 icmp type 8 icmp code 0 ");
        assert_eq!(
            condition(&rule(Some(6), (Some(1), Some(9)), "0.0.0.0/0"), "saddr"),
            "meta l4proto 6 th dport 1-9 "
        );
        let members =
            Match { protocol: None, range: (None, None), remote: Remote::Members(vec![FIXED, FLOATING]) };
        assert_eq!(condition(&members, "saddr"), "ip saddr { 10.128.0.20, 203.0.113.7 } ");
    }
}
