//! The contract of the cloud, kept by the simulated one that everything else is tested with. The same sentences are held
//! to Neutron by `neutron_contract`.

#[macro_use]
mod suite;

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use kafka_external_access::{
    cloud::{Binding, FloatingIps, IngressRule, NetworkKind, simulated::Simulated},
    domain::{AddressId, NetworkId, PortId, QosPolicyId, SecurityGroupId},
};

use suite::World;

const PROJECT: &str = "demo";

#[derive(Default)]
struct InMemory {
    cloud: Arc<Simulated>,
    next: AtomicU8,
}

impl InMemory {
    fn make(&self, addresses: usize, make: impl FnOnce(Vec<Ipv4Addr>) -> PortId) -> Vec<Binding> {
        let next = || Ipv4Addr::new(10, 128, 0, 10 + self.next.fetch_add(1, Ordering::Relaxed));
        let fixed_ips: Vec<Ipv4Addr> = (0..addresses).map(|_| next()).collect();
        let port = make(fixed_ips.clone());
        fixed_ips.into_iter().map(|fixed_ip| Binding { port: port.clone(), fixed_ip }).collect()
    }
}

impl World for InMemory {
    fn cloud(&self, _: usize) -> Arc<dyn FloatingIps> {
        self.cloud.clone()
    }

    fn networks(&self) -> [&'static str; 2] {
        ["public", "pods"]
    }

    fn ambiguous_network(&self) -> &'static str {
        for _ in 0..2 {
            self.cloud.add_network("twice", NetworkKind::External);
        }
        "twice"
    }

    fn port(&self, addresses: usize) -> Vec<Binding> {
        let pods = NetworkId::new("network-pods");
        self.make(addresses, |fixed_ips| self.cloud.add_port_on(&pods, PROJECT, fixed_ips))
    }

    fn port_of_others(&self) -> Binding {
        self.make(1, |fixed_ips| self.cloud.add_port("other", fixed_ips[0])).remove(0)
    }

    fn port_without_router(&self) -> Binding {
        let island = self.cloud.add_network("island", NetworkKind::Internal);
        self.make(1, |fixed_ips| self.cloud.add_port_on(&island, PROJECT, fixed_ips)).remove(0)
    }

    fn remove_port(&self, port: &PortId) {
        let mut address = None;
        self.cloud.change_port(port, |port| address = port.fixed_ips.first().copied());
        self.cloud.remove_port(address.expect("it exists"));
    }

    fn address_of_others(&self) -> AddressId {
        self.cloud.add_address("other", "theirs", None).expect("an address").id
    }

    fn forward(&self, address: &AddressId, _: &Binding) {
        assert!(self.cloud.by_hand(address, |address| address.has_port_forwardings = true));
    }

    fn admit(&self, port: &PortId, ports: Option<(u16, u16)>, from: Option<&str>) {
        let group = SecurityGroupId::new(format!("group of {port}"));
        self.cloud.set_rules(vec![IngressRule {
            id: "rule".into(),
            group: group.clone(),
            ipv4: true,
            tcp: true,
            ports,
            remote_ip_prefix: from.map(str::to_owned),
            remote_group: None,
        }]);
        assert!(self.cloud.change_port(port, |port| port.security_groups = vec![group]));
    }

    fn share_policy(&self, name: &str, egress: Option<u32>, ingress: Option<u32>) -> QosPolicyId {
        self.cloud.add_policy(name, egress, ingress)
    }

    fn permit_policies(&self, permitted: bool) {
        self.cloud.permit_policies(permitted);
    }

    fn set_quota(&self, floating_ips: usize) {
        self.cloud.set_quota(floating_ips);
    }

    fn set_pool_empty(&self, empty: bool) {
        let all = (10..250).map(|host| Ipv4Addr::new(203, 0, 113, host));
        self.cloud.set_pool(all.filter(|_| !empty));
    }
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work);
}

macro_rules! simulated_keeps {
    ($($sentence:ident)*) => {$(
        #[test]
        fn $sentence() {
            block_on(suite::$sentence(&InMemory::default()));
        }
    )*};
}

every_sentence!(simulated_keeps);
