//! Which targets a router joins with an external network, from what `GET /ports` and `GET /routers` show (Networking API
//! v2.0, "Ports", "Routers").
//!
//! Neutron binds a floating IP of a network where a router with a gateway there (`external_gateway_info`) has an interface
//! on the subnet of the fixed IP, and else refuses it: 404 `ExternalGatewayForFloatingIPNotFound`.

use std::collections::BTreeSet;

use super::wire::{WirePort, WireRouter};
use crate::{cloud::Binding, domain::NetworkId};

/// The `targets`, of these `ports`, whose subnet has an interface of one of these `routers` that leads to `external`.
/// A filter may have been ignored, so all that was found is compared.
pub fn routed(
    external: &NetworkId,
    targets: &BTreeSet<Binding>,
    ports: &[WirePort],
    interfaces: &[WirePort],
    routers: &[WireRouter],
) -> BTreeSet<Binding> {
    let leading = routers.iter().filter(|router| router.leads_to(external));
    let leading: BTreeSet<&str> = leading.map(|router| router.id.as_str()).collect();
    let joining = interfaces.iter().filter(|port| port.router().is_some_and(|id| leading.contains(id)));
    let joined: BTreeSet<&str> = joining.flat_map(|port| port.subnets()).collect();
    let is_joined = |target: &&Binding| {
        let port = ports.iter().find(|port| port.id == target.port.as_str());
        let subnet = port.and_then(|port| port.subnet_of(target.fixed_ip));
        subnet.is_some_and(|subnet| joined.contains(subnet))
    };
    targets.iter().filter(is_joined).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde::de::DeserializeOwned;
    use serde_json::{Value, from_value, json};

    use super::*;
    use crate::{
        cloud::openstack::wire::{Page, ROUTER_INTERFACES},
        domain::PortId,
    };

    const ROUTER: &str = ROUTER_INTERFACES[0];

    /// A list in the form of Neutron 29's.
    fn ports(ports: &[Value]) -> Vec<WirePort> {
        read(&json!({"ports": ports}))
    }

    fn routers(routers: &[Value]) -> Vec<WireRouter> {
        read(&json!({"routers": routers, "routers_links": []}))
    }

    fn read<T: DeserializeOwned>(page: &Value) -> Vec<T> {
        from_value::<Page<T>>(page.clone()).expect("a page").items
    }

    fn port(id: &str, owner: &str, device: &str, fixed_ips: &[(&str, &str)]) -> Value {
        let fixed_ips: Vec<Value> =
            fixed_ips.iter().map(|(subnet, ip)| json!({"subnet_id": subnet, "ip_address": ip})).collect();
        json!({
            "id": id, "name": "", "network_id": "net-pods", "tenant_id": "p1", "project_id": "p1",
            "mac_address": "fa:16:3e:66:5c:1d", "admin_state_up": true, "status": "ACTIVE", "device_id": device,
            "device_owner": owner, "fixed_ips": fixed_ips, "security_groups": [], "port_security_enabled": false,
            "revision_number": 3
        })
    }

    fn router(id: &str, gateway: &Value) -> Value {
        json!({
            "id": id, "name": "router", "tenant_id": "p1", "project_id": "p1", "admin_state_up": true,
            "status": "ACTIVE", "external_gateway_info": gateway, "availability_zones": [], "routes": [],
            "revision_number": 4
        })
    }

    fn gateway(network: &str) -> Value {
        json!({
            "network_id": network, "enable_snat": true,
            "external_fixed_ips": [{"subnet_id": "public", "ip_address": "203.0.113.2"}]
        })
    }

    fn target(port: &str, last: u8) -> Binding {
        Binding { port: PortId::new(port), fixed_ip: Ipv4Addr::new(10, 128, 0, last) }
    }

    fn joined(targets: &[Binding], pods: &[Value], interfaces: &[Value], all: &[Value]) -> Vec<Binding> {
        let external = NetworkId::new("net-public");
        let targets = targets.iter().cloned().collect();
        routed(&external, &targets, &ports(pods), &ports(interfaces), &routers(all)).into_iter().collect()
    }

    #[test]
    fn every_kind_of_interface_joins_and_no_other_port_of_a_router_does() {
        let pod = [port("pod", "compute:kuryr", "", &[("pods", "10.128.0.20")])];
        let way = [router("r1", &gateway("net-public"))];
        for (owner, joins) in [
            ("network:router_interface", true),
            ("network:router_interface_distributed", true),
            ("network:ha_router_replicated_interface", true),
            ("network:router_centralized_snat", false),
            ("network:router_ha_interface", false),
            ("network:dhcp", false),
            ("", false),
        ] {
            let interface = [port("i1", owner, "r1", &[("pods", "10.128.0.1")])];
            let found = joined(&[target("pod", 20)], &pod, &interface, &way);
            assert_eq!(found.len() == 1, joins, "{owner}");
        }
    }

    #[test]
    fn a_router_joins_by_any_of_its_gateways_and_only_with_their_networks() {
        let pod = [port("pod", "", "", &[("pods", "10.128.0.20")])];
        let interface = [port("i1", ROUTER, "r1", &[("pods", "10.128.0.1")])];
        let several = |networks: &[&str]| {
            let mut several = router("r1", &gateway(networks[0]));
            several["external_gateways"] = networks.iter().map(|network| gateway(network)).collect();
            several
        };
        let mut unlisted = router("r1", &gateway("net-public"));
        unlisted["external_gateways"] = Value::Null;
        for (router, joins) in [
            (router("r1", &gateway("net-public")), true),
            (router("r1", &gateway("net-other")), false),
            (router("r1", &Value::Null), false),
            (router("r1", &json!({})), false),
            (json!({"id": "r1"}), false),
            (router("r2", &gateway("net-public")), false),
            (several(&["net-other", "net-public"]), true),
            (several(&["net-other"]), false),
            (unlisted, true),
        ] {
            let found = joined(&[target("pod", 20)], &pod, &interface, std::slice::from_ref(&router));
            assert_eq!(found.len() == 1, joins, "{router}");
        }
        assert_eq!(joined(&[target("pod", 20)], &pod, &interface, &[]), [], "a router that is not seen");
    }

    #[test]
    fn a_target_is_joined_by_the_subnet_of_its_address() {
        let way = [router("r1", &gateway("net-public"))];
        let interface = [port("i1", ROUTER, "r1", &[("pods", "10.128.0.1"), ("pods6", "2001:db8::1")])];
        let pods = [
            port("one", "", "", &[("pods6", "2001:db8::20"), ("pods", "10.128.0.20")]),
            port("two", "", "", &[("pods", "10.128.0.21"), ("island", "10.128.0.22")]),
            port("six", "", "", &[("pods6", "2001:db8::23"), ("island", "10.128.0.23")]),
        ];
        let of_no_subnet =
            json!({"id": "bare", "network_id": "n", "fixed_ips": [{"ip_address": "10.128.0.24"}]});
        let pods = [&pods[..], &[of_no_subnet]].concat();
        let (one, two) = (target("one", 20), target("two", 21));
        let others =
            [target("two", 22), target("six", 23), target("bare", 24), target("gone", 25), target("one", 26)];
        let asked = [&[one.clone(), two.clone()], &others[..]].concat();
        assert_eq!(joined(&asked, &pods, &interface, &way), [one, two]);
    }
}
