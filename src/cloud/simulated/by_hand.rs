//! What people and other systems do to the simulated cloud, and how it fails.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{Fault, INTERNAL, Late, Network, PROJECT, Simulated, State};
use crate::{
    cloud::{Binding, CloudFault, FloatingIp, IngressRule, NetworkKind, Port, limits::QosPolicy},
    domain::{AddressId, NetworkId, PortId, ProjectId, QosPolicyId, SecurityGroupId},
};

impl State {
    fn stop_forwarding(&mut self, id: &AddressId) {
        if self.forwarded.remove(id).is_some() {
            self.alter(id, |address| address.has_port_forwardings = false);
        }
    }
}

impl Simulated {
    /// A port of `project` with this address, as a pod gets one.
    pub fn add_port(&self, project: &str, fixed_ip: Ipv4Addr) -> PortId {
        self.add_port_on(&NetworkId::new(format!("network-{INTERNAL}")), project, vec![fixed_ip])
    }

    /// A port of `project` with these addresses of `network`.
    pub fn add_port_on(&self, network: &NetworkId, project: &str, fixed_ips: Vec<Ipv4Addr>) -> PortId {
        let mut state = self.lock();
        let id = PortId::new(state.next_id("port"));
        let port = Port {
            id: id.clone(),
            network: network.clone(),
            project: ProjectId::new(project),
            fixed_ips,
            security_groups: vec![SecurityGroupId::new("group")],
            port_security_enabled: Some(true),
        };
        state.ports.insert(id.clone(), port);
        id
    }

    /// Somebody changes a port by hand. False: it does not exist.
    pub fn change_port(&self, id: &PortId, change: impl FnOnce(&mut Port)) -> bool {
        self.lock().ports.get_mut(id).map(change).is_some()
    }

    /// A further network. An internal one has no router.
    pub fn add_network(&self, name: &str, kind: NetworkKind) -> NetworkId {
        let mut state = self.lock();
        let id = NetworkId::new(state.next_id("network"));
        let network = Network { name: name.to_owned(), kind, routed: kind == NetworkKind::External };
        state.networks.insert(id.clone(), network);
        id
    }

    /// The port with this address goes, as it does with its pod: an address that was bound to it is unbound.
    pub fn remove_port(&self, fixed_ip: Ipv4Addr) {
        let mut state = self.lock();
        let (gone, left) = std::mem::take(&mut state.ports)
            .into_iter()
            .partition(|(_, port): &(PortId, Port)| port.fixed_ips.contains(&fixed_ip));
        state.ports = left;
        let gone: BTreeMap<PortId, Port> = gone;
        let bound_to_it = |address: &&FloatingIp| {
            address.binding.as_ref().is_some_and(|binding| gone.contains_key(&binding.port))
        };
        let unbound: Vec<AddressId> =
            state.addresses.values().filter(bound_to_it).map(|found| found.id.clone()).collect();
        for id in unbound {
            state.alter(&id, |address| address.binding = None);
        }
        let unserved: Vec<AddressId> = state
            .forwarded
            .iter()
            .filter(|(_, port)| gone.contains_key(port))
            .map(|(id, _)| id.clone())
            .collect();
        for id in unserved {
            state.stop_forwarding(&id);
        }
    }

    /// Somebody lets an address serve a port forwarding to this target.
    ///
    /// # Errors
    /// The address or the target is bound already (409 `PortHasBindingFloatingIP`).
    pub fn forward(&self, id: &AddressId, to: &Binding) -> Result<(), CloudFault> {
        let mut state = self.lock();
        state.target_is_free(to, None)?;
        match state.addresses.get(id) {
            None => return Err(CloudFault::NotFound(format!("floating IP {id}"))),
            Some(address) if address.binding.is_some() => {
                return Err(CloudFault::PortAlreadyBound(format!("{id} is bound")));
            }
            Some(_) => {}
        }
        state.forwarded.insert(id.clone(), to.port.clone());
        state.alter(id, |address| address.has_port_forwardings = true);
        Ok(())
    }

    /// Somebody takes the port forwardings of an address away.
    pub fn stop_forwarding(&self, id: &AddressId) {
        self.lock().stop_forwarding(id);
    }

    /// The port that has this address.
    pub fn binding_of(&self, fixed_ip: Ipv4Addr) -> Option<Binding> {
        let state = self.lock();
        let port = state.ports.values().find(|port| port.fixed_ips.contains(&fixed_ip))?;
        Some(Binding { port: port.id.clone(), fixed_ip })
    }

    /// An address that somebody else created.
    ///
    /// # Errors
    /// Quota and pool, as for everybody.
    pub fn add_address(
        &self,
        project: &str,
        description: &str,
        binding: Option<Binding>,
    ) -> Result<FloatingIp, CloudFault> {
        self.lock().insert(binding, description, project)
    }

    /// Somebody changes an address by hand, whatever its revision. False: it does not exist.
    pub fn by_hand(&self, id: &AddressId, change: impl FnOnce(&mut FloatingIp)) -> bool {
        let mut state = self.lock();
        let exists = state.addresses.contains_key(id);
        if exists {
            state.alter(id, change);
        }
        exists
    }

    /// Somebody deletes an address by hand.
    pub fn delete_by_hand(&self, id: &AddressId) {
        self.lock().give_back(id);
    }

    /// Every address of every project.
    pub fn addresses(&self) -> Vec<FloatingIp> {
        self.lock().addresses.values().cloned().collect()
    }

    /// An administrator makes a policy that the project may use.
    pub fn add_policy(&self, name: &str, egress_kbps: Option<u32>, ingress_kbps: Option<u32>) -> QosPolicyId {
        let mut state = self.lock();
        let id = QosPolicyId::new(state.next_id("policy"));
        state.policies.push(QosPolicy {
            id: id.clone(),
            name: name.to_owned(),
            project: ProjectId::new("administrators"),
            description: String::new(),
            egress_kbps,
            ingress_kbps,
        });
        id
    }

    /// Every policy.
    pub fn policies(&self) -> Vec<QosPolicy> {
        self.lock().policies.clone()
    }

    /// Whether the credential may make policies.
    pub fn permit_policies(&self, permitted: bool) {
        self.lock().policies_forbidden = !permitted;
    }

    /// Floating IPs that the project may have.
    pub fn set_quota(&self, quota: usize) {
        self.lock().quota = quota;
    }

    /// The addresses that are left to give out.
    pub fn set_pool(&self, pool: impl IntoIterator<Item = Ipv4Addr>) {
        self.lock().pool = pool.into_iter().collect();
    }

    /// The ingress rules of the group that every port has.
    pub fn set_rules(&self, rules: Vec<IngressRule>) {
        self.lock().rules = rules;
    }

    /// What happens to the next mutating calls, one each; `None`: nothing unusual.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.lock().faults.extend(faults);
    }

    /// Every call fails so until it is `None` again.
    pub fn set_down(&self, fault: Option<CloudFault>) {
        self.lock().down = fault;
    }

    /// What was late comes now; what is not possible any more does not.
    pub fn arrive(&self) {
        let mut state = self.lock();
        for late in std::mem::take(&mut state.late) {
            // A request that comes late is refused like any other, and nobody is told.
            let _ = match late {
                Late::CreatePolicy(limits) => state.create_policy(&limits).map(drop),
                Late::AddRule(id, rule) => state.add_rule(&id, rule),
                Late::DeletePolicy(id) => state.delete_policy(&id),
                Late::Create(new) => state.create(&new, PROJECT).map(drop),
                Late::Update(id, read_at, change) => state.update(&id, read_at, &change).map(drop),
                Late::Delete(id, read_at) => state.delete(&id, read_at),
            };
        }
    }
}
