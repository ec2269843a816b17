//! What is found: addresses, ports, rules, networks and routers.

use std::{collections::BTreeSet, net::Ipv4Addr};

use kafka_external_access::{
    cloud::{Binding, CloudFault, IngressRule, NetworkKind, Port},
    domain::SecurityGroupId,
};

use super::{World, create, fault, list, one};

pub async fn the_list_is_complete_over_several_pages(world: &dyn World) {
    let mut made = BTreeSet::new();
    for _ in 0..5 {
        made.insert(create(world, &one(world)).await.id);
    }
    // Single objects, a last page that is short, one that comes out even, one that is longer than the list.
    for page in [1, 2, 5, 500] {
        let listed = world.cloud(page).list().await.expect("a list");
        assert_eq!(listed.len(), made.len(), "pages of {page}");
        assert_eq!(listed.into_iter().map(|address| address.id).collect::<BTreeSet<_>>(), made);
    }
}

pub async fn the_list_shows_no_address_of_others(world: &dyn World) {
    let foreign = world.address_of_others();
    assert!(list(world).await.iter().all(|address| address.id != foreign));
}

pub async fn an_address_of_others_does_not_exist(world: &dyn World) {
    let foreign = world.address_of_others();
    assert_eq!(world.cloud(500).get(&foreign).await, Ok(None));
}

pub async fn ports_are_found_by_any_of_their_addresses(world: &dyn World) {
    let cloud = world.cloud(500);
    let pods = cloud.network(world.networks()[1], NetworkKind::Internal).await.expect("the pods' network");
    let (single, pair) = (one(world), world.port(2));
    one(world);
    let nobody = Ipv4Addr::new(10, 128, 3, 254);
    let wanted = BTreeSet::from([single.fixed_ip, pair[1].fixed_ip, nobody]);
    for page in [1, 500] {
        for network in [Some(&pods), None] {
            let found = world.cloud(page).ports(network, &wanted).await.expect("ports");
            let ids: BTreeSet<_> = found.iter().map(|port| port.id.clone()).collect();
            assert_eq!((found.len(), ids), (2, BTreeSet::from([single.port.clone(), pair[0].port.clone()])));
            let both = found.into_iter().find(|port| port.id == pair[0].port).expect("the pair");
            let addresses: BTreeSet<_> = both.fixed_ips.into_iter().collect();
            assert_eq!(addresses, pair.iter().map(|target| target.fixed_ip).collect());
            assert_eq!((both.network, both.port_security_enabled), (pods.clone(), Some(true)));
        }
    }
    assert_eq!(cloud.ports(Some(&pods), &BTreeSet::new()).await, Ok(vec![]));
}

pub async fn ports_of_another_network_are_not_found(world: &dyn World) {
    let cloud = world.cloud(500);
    let pods = cloud.network(world.networks()[1], NetworkKind::Internal).await.expect("the pods' network");
    let island = world.port_without_router();
    let wanted = BTreeSet::from([island.fixed_ip]);
    assert_eq!(cloud.ports(Some(&pods), &wanted).await, Ok(vec![]));
    let anywhere = cloud.ports(None, &wanted).await.expect("ports");
    assert_eq!(anywhere.into_iter().map(|port| port.id).collect::<Vec<_>>(), [island.port]);
}

/// A rule that admits TCP over IPv4 to `ports` from `from` or from anywhere.
fn tcp(ports: Option<(u16, u16)>, from: Option<&str>) -> IngressRule {
    IngressRule {
        id: String::new(),
        group: SecurityGroupId::new(""),
        ipv4: true,
        tcp: true,
        ports,
        remote_ip_prefix: from.map(str::to_owned),
        remote_group: None,
    }
}

async fn groups_of(world: &dyn World, target: &Binding) -> BTreeSet<SecurityGroupId> {
    let found = world.cloud(500).ports(None, &BTreeSet::from([target.fixed_ip])).await.expect("the port");
    found.into_iter().flat_map(|port| port.security_groups).collect()
}

pub async fn ingress_rules_are_those_of_the_group(world: &dyn World) {
    let cloud = world.cloud(500);
    let cases = [
        (Some((9094, 9096)), Some("198.51.100.0/24")),
        (Some((9094, 9094)), None),
        (None, Some("0.0.0.0/0")),
    ];
    for (ports, from) in cases {
        let target = one(world);
        world.admit(&target.port, &[tcp(ports, from)]);
        let found = cloud.ports(None, &BTreeSet::from([target.fixed_ip])).await.expect("the port");
        let groups: BTreeSet<_> = found[0].security_groups.iter().cloned().collect();
        assert_eq!(groups.len(), 1);
        let rules = cloud.ingress_rules(&groups).await.expect("rules");
        let seen = |rule: &IngressRule| (rule.ipv4, rule.tcp, rule.ports, rule.remote_ip_prefix.clone());
        let wanted = (true, true, ports, from.map(str::to_owned));
        assert_eq!(rules.iter().map(seen).collect::<Vec<_>>(), [wanted]);
        assert!(groups.contains(&rules[0].group) && rules[0].remote_group.is_none());
    }
}

pub async fn networks_are_found_by_name_and_by_identifier(world: &dyn World) {
    let cloud = world.cloud(500);
    for (name, kind) in world.networks().into_iter().zip([NetworkKind::External, NetworkKind::Internal]) {
        let id = cloud.network(name, kind).await.expect("by name");
        assert_eq!(cloud.network(id.as_str(), kind).await, Ok(id.clone()));
        assert_eq!(cloud.network(name, kind).await, Ok(id), "asked again");
    }
}

pub async fn a_network_that_is_unknown_or_of_the_wrong_kind_is_told(world: &dyn World) {
    let cloud = world.cloud(500);
    let kind = NetworkKind::External;
    let nobody = "00000000-0000-4000-8000-000000000000";
    for name in ["no such network", nobody, world.networks()[1]] {
        let unknown = CloudFault::NetworkUnknown { name: name.to_owned(), kind };
        assert_eq!(fault(cloud.network(name, kind).await), unknown);
    }
}

pub async fn an_ambiguous_network_is_told_with_its_count(world: &dyn World) {
    let name = world.ambiguous_network();
    let refusal = fault(world.cloud(500).network(name, NetworkKind::External).await);
    assert_eq!(refusal, CloudFault::NetworkAmbiguous { name: name.to_owned(), count: 2 });
}

pub async fn ports_are_found_among_more_addresses_than_one_query_names(world: &dyn World) {
    let (first, last) = (one(world), one(world));
    let nobodys = (1..=120).map(|host| Ipv4Addr::new(10, 128, 2, host));
    let wanted: BTreeSet<_> = nobodys.chain([first.fixed_ip, last.fixed_ip]).collect();
    assert!(wanted.len() > 100);
    let found = world.cloud(500).ports(None, &wanted).await.expect("ports");
    let ours = |port: &Port| port.id == first.port || port.id == last.port;
    assert_eq!(found.iter().filter(|port| ours(port)).count(), 2);
    assert!(found.iter().all(|port| port.fixed_ips.iter().any(|ip| wanted.contains(ip))));
}

pub async fn a_port_of_others_on_the_pods_network_shows_its_owner(world: &dyn World) {
    let theirs = world.port_of_others();
    let cloud = world.cloud(500);
    let found = cloud.ports(None, &BTreeSet::from([theirs.fixed_ip])).await.expect("ports");
    let [port] = found.as_slice() else { panic!("one: {found:?}") };
    assert_eq!(port.id, theirs.port);
    assert_ne!(port.project, cloud.project().await.expect("a project"));
}

pub async fn a_port_without_port_security_is_told(world: &dyn World) {
    let target = one(world);
    world.drop_port_security(&target.port);
    let found = world.cloud(500).ports(None, &BTreeSet::from([target.fixed_ip])).await.expect("ports");
    assert_eq!(found[0].port_security_enabled, Some(false));
    assert_eq!(found[0].security_groups, []);
}

pub async fn rules_are_complete_over_several_pages(world: &dyn World) {
    let target = one(world);
    let ports = BTreeSet::from([1000, 2000, 3000, 4000, 5000]);
    let rules: Vec<IngressRule> = ports.iter().map(|port| tcp(Some((*port, *port)), None)).collect();
    world.admit(&target.port, &rules);
    let groups = groups_of(world, &target).await;
    for page in [1, 2, 5, 500] {
        let found = world.cloud(page).ingress_rules(&groups).await.expect("rules");
        assert_eq!(found.len(), ports.len(), "pages of {page}");
        let seen: BTreeSet<u16> = found.iter().filter_map(|rule| rule.ports).map(|range| range.0).collect();
        assert_eq!(seen, ports);
    }
}

pub async fn rules_of_several_groups_come_together(world: &dyn World) {
    let (first, second) = (one(world), one(world));
    world.admit(&first.port, &[tcp(Some((9094, 9094)), None)]);
    world.admit(&second.port, &[tcp(Some((9095, 9095)), None), tcp(None, Some("198.51.100.0/24"))]);
    let mut groups = groups_of(world, &first).await;
    groups.extend(groups_of(world, &second).await);
    let found = world.cloud(500).ingress_rules(&groups).await.expect("rules");
    assert_eq!((groups.len(), found.len()), (2, 3));
    assert_eq!(found.into_iter().map(|rule| rule.group).collect::<BTreeSet<_>>(), groups);
}

pub async fn rules_of_other_protocols_and_of_groups_are_told_apart(world: &dyn World) {
    let target = one(world);
    let range = Some((9094, 9094));
    let udp = IngressRule { tcp: false, ..tcp(range, Some("0.0.0.0/0")) };
    let ipv6 = IngressRule { ipv4: false, ..tcp(range, Some("::/0")) };
    let of_the_group = IngressRule { remote_group: Some(SecurityGroupId::new("itself")), ..tcp(range, None) };
    world.admit(&target.port, &[udp, ipv6, of_the_group]);
    let groups = groups_of(world, &target).await;
    let found = world.cloud(500).ingress_rules(&groups).await.expect("rules");
    assert_eq!(found.len(), 3);
    let count = |fits: fn(&IngressRule) -> bool| found.iter().filter(|rule| fits(rule)).count();
    assert_eq!(count(|rule| !rule.tcp && rule.ipv4 && rule.remote_group.is_none()), 1);
    assert_eq!(count(|rule| rule.tcp && !rule.ipv4 && rule.remote_ip_prefix.as_deref() == Some("::/0")), 1);
    assert_eq!(count(|rule| rule.tcp && rule.ipv4 && rule.remote_group.as_ref() == Some(&rule.group)), 1);
}

pub async fn no_group_has_no_rules(world: &dyn World) {
    let nobody = SecurityGroupId::new("00000000-0000-4000-8000-000000000000");
    let cloud = world.cloud(500);
    assert_eq!(cloud.ingress_rules(&BTreeSet::from([nobody])).await, Ok(vec![]));
    assert_eq!(cloud.ingress_rules(&BTreeSet::new()).await, Ok(vec![]));
}

/// What is not told here is refused by a binding (`refusals::a_port_without_a_router_is_told`).
pub async fn targets_that_a_router_joins_with_the_external_network_are_told(world: &dyn World) {
    let external = world.cloud(500).network(world.networks()[0], NetworkKind::External).await;
    let external = external.expect("the external network");
    let (single, pair, island) = (one(world), world.port(2), world.port_without_router());
    let joined: BTreeSet<Binding> = pair.into_iter().chain([single]).collect();
    let asked: BTreeSet<Binding> = joined.iter().cloned().chain([island]).collect();
    for page in [1, 500] {
        assert_eq!(
            world.cloud(page).routed(&external, &asked).await,
            Ok(Some(joined.clone())),
            "pages of {page}"
        );
    }
    assert_eq!(world.cloud(500).routed(&external, &BTreeSet::new()).await, Ok(Some(BTreeSet::new())));
}

pub async fn a_router_joins_with_the_network_of_its_gateway_and_nobody_whose_port_is_gone(world: &dyn World) {
    let cloud = world.cloud(500);
    let [external, pods] = world.networks();
    let external = cloud.network(external, NetworkKind::External).await.expect("the external network");
    let pods = cloud.network(pods, NetworkKind::Internal).await.expect("the pods' network");
    let (there, gone) = (one(world), one(world));
    world.remove_port(&gone.port);
    let asked = BTreeSet::from([there.clone(), gone]);
    assert_eq!(cloud.routed(&external, &asked).await, Ok(Some(BTreeSet::from([there]))));
    assert_eq!(cloud.routed(&pods, &asked).await, Ok(Some(BTreeSet::new())));
}
