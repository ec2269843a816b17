//! The contract of the cloud, kept by the simulated one that everything else is tested with. The same sentences are held
//! to Neutron by `neutron_contract`.

#[macro_use]
mod suite;

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use kafka_external_access::{
    cloud::{
        Binding, Change, FloatingIps, IngressRule, NetworkKind,
        simulated::{Fault, Simulated},
    },
    domain::{AddressId, NetworkId, PortId, QosPolicyId, SecurityGroupId},
    seams::{Leadership, SoleReplica},
};

use suite::World;

const PROJECT: &str = "demo";

#[derive(Default)]
struct InMemory {
    cloud: Arc<Simulated>,
    next: AtomicU8,
    rules: Mutex<Vec<IngressRule>>,
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

    fn drop_port_security(&self, port: &PortId) {
        let dropped = self.cloud.change_port(port, |port| {
            port.port_security_enabled = Some(false);
            port.security_groups.clear();
        });
        assert!(dropped);
    }

    fn address_of_others(&self) -> AddressId {
        self.cloud.add_address("other", "theirs", None).expect("an address").id
    }

    fn release_of_others(&self, address: &AddressId) {
        self.cloud.delete_by_hand(address);
    }

    fn others_have(&self, address: &AddressId) -> bool {
        self.cloud.addresses().iter().any(|held| held.id == *address && held.project.as_str() == "other")
    }

    fn forward(&self, address: &AddressId, to: &Binding) -> bool {
        self.cloud.forward(address, to).is_ok()
    }

    fn stop_forwarding(&self, address: &AddressId) {
        self.cloud.stop_forwarding(address);
    }

    fn admit(&self, port: &PortId, rules: &[IngressRule]) {
        let group = SecurityGroupId::new(format!("group of {port}"));
        let mut all = self.rules.lock().expect("no test panics with it");
        all.extend(rules.iter().map(|rule| IngressRule {
            group: group.clone(),
            remote_group: rule.remote_group.as_ref().map(|_| group.clone()),
            ..rule.clone()
        }));
        self.cloud.set_rules(all.clone());
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

    fn set_pool_empty(&self, empty: bool) -> Option<AddressId> {
        let all = (10..250).map(|host| Ipv4Addr::new(203, 0, 113, host));
        self.cloud.set_pool(all.filter(|address| !empty || *address == Ipv4Addr::new(203, 0, 113, 249)));
        empty.then(|| self.address_of_others())
    }

    /// Each object of this cloud is a second younger than the one before.
    fn pass_a_second(&self) {}
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work);
}

macro_rules! simulated_keeps {
    ($($subject:ident :: $sentence:ident)*) => {$(
        #[test]
        fn $sentence() {
            block_on(suite::$subject::$sentence(&InMemory::default()));
        }
    )*};
}

every_sentence!(simulated_keeps);

/// The revision is checked before the change and not with it: whoever comes in between is overwritten, and hears so from
/// nobody (seen on Neutron 29).
#[test]
fn a_change_that_was_checked_before_another_came_overwrites_it() {
    block_on(async {
        let world = InMemory::default();
        let [from, by_somebody, by_us] = [(); 3].map(|()| world.port(1).remove(0));
        let made = suite::try_create_through(&*world.cloud, &world, &from).await.expect("an address");
        let permit = || SoleReplica.permit().expect("nobody else leads");
        let update = async |to: &Binding| {
            let change = Change::Bind { to: to.clone(), description: None };
            world.cloud.update(permit(), &made.id, made.revision, &change).await
        };
        update(&by_somebody).await.expect("somebody moves it");
        world.cloud.script([Some(Fault::Overtaken)]);
        update(&by_us).await.expect("the check was before that");
        let now = world.cloud.get(&made.id).await.expect("an answer").expect("it exists");
        assert_eq!(now.binding, Some(by_us));
    });
}
