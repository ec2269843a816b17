//! An in-memory cloud with the rules of the real one, as far as floating IPs go. What it knows was seen on Neutron 29.
//!
//! | rule | as on Neutron |
//! |---|---|
//! | a port and fixed IP hold one floating IP of an external network | 409 `FloatingIPPortAlreadyAssociated` |
//! | a bound address can be bound elsewhere by one PUT | silently |
//! | a port that goes unbinds its address, and the revision goes up | seen |
//! | a stale revision is refused | 412 |
//! | quota, pool | 409 of two types |
//! | a port that does not exist | 404 |
//! | a port of another project, an address that the port does not have | 400 |
//! | a port on a network without a router | 404 `ExternalGatewayForFloatingIPNotFound` |
//! | a policy has one rule for each direction | 409 `QoSRulesConflict` |
//! | a policy that an address has is not removed | 409 `QosPolicyInUse` |
//! | an address that serves port forwardings is neither bound nor released | 409 `FipInUseByPortForwarding` |
//! | a port that goes takes its port forwardings with it | seen |
//! | a creation hears of its text first, then of quota, network and pool, and of its target last | seen |
//! | what belongs to another project does not exist | 404 |
//! | a binding to what is so already leaves the revision; the same description again raises it | seen |
//!
//! Faults are scripted per call: refused before any effect, an effect whose reply is lost, an effect that comes late.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{
    Binding, Change, CloudError, CloudFault, Clouds, Credential, FloatingIp, FloatingIps, IngressRule,
    NetworkKind, NewFloatingIp, Port,
    limits::{BandwidthLimits, Direction, QosPolicy},
};
use crate::{
    domain::{AddressId, NetworkId, PortId, ProjectId, QosPolicyId, Revision, SecurityGroupId},
    seams::WritePermit,
};

mod by_hand;
mod policies;

const PROJECT: &str = "demo";
const EXTERNAL: &str = "public";
const INTERNAL: &str = "pods";
const LONGEST_DESCRIPTION: usize = 255;

/// What is wrong with the next mutating call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refused; nothing happens.
    Refuse(CloudFault),
    /// It happens, and the caller does not learn it.
    LoseReply,
    /// It happens at [`Simulated::arrive`]; until then nobody knows.
    Late,
    /// A change whose revision was checked before another change came, and that overwrites it: the cloud checks first
    /// and writes then (seen on Neutron 29).
    Overtaken,
}

#[derive(Clone, Debug)]
enum Late {
    CreatePolicy(BandwidthLimits),
    AddRule(QosPolicyId, (Direction, u32)),
    DeletePolicy(QosPolicyId),
    Create(NewFloatingIp),
    Update(AddressId, Revision, Change),
    Delete(AddressId, Revision),
}

#[derive(Debug)]
struct Network {
    name: String,
    kind: NetworkKind,
    /// Joined with the external network by a router of the project.
    routed: bool,
}

#[derive(Debug, Default)]
struct State {
    networks: BTreeMap<NetworkId, Network>,
    policies: Vec<QosPolicy>,
    /// The credential may not make policies.
    policies_forbidden: bool,
    addresses: BTreeMap<AddressId, FloatingIp>,
    /// Where the port forwardings of an address lead.
    forwarded: BTreeMap<AddressId, PortId>,
    ports: BTreeMap<PortId, Port>,
    rules: Vec<IngressRule>,
    quota: usize,
    pool: VecDeque<Ipv4Addr>,
    serial: u64,
    faults: VecDeque<Option<Fault>>,
    late: Vec<Late>,
    /// The change at hand passed the check of its revision before the latest change came.
    overtaken: bool,
    down: Option<CloudFault>,
}

/// The cloud.
#[derive(Debug)]
pub struct Simulated {
    state: Mutex<State>,
}

impl Default for Simulated {
    fn default() -> Self {
        let pool = (10..250).map(|host| Ipv4Addr::new(203, 0, 113, host)).collect();
        let network = |name: &str, kind| {
            let network = Network { name: name.to_owned(), kind, routed: true };
            (NetworkId::new(format!("network-{name}")), network)
        };
        let networks =
            [network(EXTERNAL, NetworkKind::External), network(INTERNAL, NetworkKind::Internal)].into();
        Self { state: Mutex::new(State { networks, quota: 50, pool, ..State::default() }) }
    }
}

fn error(operation: &'static str, fault: CloudFault) -> CloudError {
    CloudError { operation, fault }
}

fn no_address_left() -> CloudFault {
    CloudFault::PoolEmpty("no more addresses".into())
}

fn unclear() -> CloudFault {
    CloudFault::Unclear("the reply was lost".into())
}

impl State {
    fn next_id(&mut self, kind: &str) -> String {
        self.serial += 1;
        format!("{kind}-{:04}", self.serial)
    }

    /// A target must be a port of the project with that fixed IP, on a network with a way out.
    fn target_exists(&self, target: &Binding) -> Result<(), CloudFault> {
        let Binding { port: id, fixed_ip } = target;
        let port = self.ports.get(id).ok_or_else(|| CloudFault::NotFound(format!("port {id}")))?;
        if port.project != ProjectId::new(PROJECT) {
            return Err(CloudFault::Refused(format!("port {id} is owned by a different tenant")));
        }
        if !port.fixed_ips.contains(fixed_ip) {
            return Err(CloudFault::Refused(format!("port {id} does not have {fixed_ip}")));
        }
        if self.networks.get(&port.network).is_some_and(|network| !network.routed) {
            return Err(CloudFault::NoRouter(format!("network {}", port.network)));
        }
        Ok(())
    }

    fn target_is_free(&self, target: &Binding, for_address: Option<&AddressId>) -> Result<(), CloudFault> {
        let holder = self
            .addresses
            .values()
            .find(|address| address.binding.as_ref() == Some(target) && Some(&address.id) != for_address);
        match holder {
            Some(holder) => Err(CloudFault::PortAlreadyBound(format!("{} is bound to it", holder.address))),
            None => Ok(()),
        }
    }

    /// The order of refusals is the cloud's: the body, the quota, the network, the pool, the target.
    fn create(&mut self, new: &NewFloatingIp, project: &str) -> Result<FloatingIp, CloudFault> {
        described(&new.description)?;
        self.quota_admits(&ProjectId::new(project))?;
        match self.networks.get(&new.network).map(|network| network.kind) {
            None => return Err(CloudFault::NotFound(format!("network {}", new.network))),
            Some(NetworkKind::Internal) => {
                return Err(CloudFault::Refused(format!("network {} is not external", new.network)));
            }
            Some(NetworkKind::External) => {}
        }
        self.pool_admits()?;
        self.target_exists(&new.binding)?;
        self.target_is_free(&new.binding, None)?;
        new.qos_policy.as_ref().map_or(Ok(()), |policy| self.policy_exists(policy))?;
        let made = self.insert(Some(new.binding.clone()), &new.description, project)?;
        let known = self.addresses.entry(made.id.clone()).or_insert(made);
        known.qos_policy.clone_from(&new.qos_policy);
        Ok(known.clone())
    }

    fn quota_admits(&self, project: &ProjectId) -> Result<(), CloudFault> {
        let used = self.addresses.values().filter(|address| address.project == *project).count();
        if used < self.quota { Ok(()) } else { Err(CloudFault::QuotaExceeded("floatingip".into())) }
    }

    fn pool_admits(&self) -> Result<(), CloudFault> {
        self.pool.front().map(drop).ok_or_else(no_address_left)
    }

    fn insert(
        &mut self,
        binding: Option<Binding>,
        description: &str,
        project: &str,
    ) -> Result<FloatingIp, CloudFault> {
        described(description)?;
        let owner = ProjectId::new(project);
        self.quota_admits(&owner)?;
        let address = self.pool.pop_front().ok_or_else(no_address_left)?;
        let id = AddressId::new(self.next_id("address"));
        let created =
            Timestamp::UNIX_EPOCH + SignedDuration::from_secs(i64::try_from(self.serial).unwrap_or(0));
        let made = FloatingIp {
            id: id.clone(),
            address,
            network: NetworkId::new(format!("network-{EXTERNAL}")),
            project: owner,
            binding,
            has_port_forwardings: false,
            description: description.to_owned(),
            qos_policy: None,
            revision: Revision(1),
            created_at: Some(created),
        };
        self.addresses.insert(id, made.clone());
        Ok(made)
    }

    /// The project's own address; of others there is none.
    fn own(&self, id: &AddressId) -> Option<&FloatingIp> {
        self.addresses.get(id).filter(|address| address.project == ProjectId::new(PROJECT))
    }

    fn update(
        &mut self,
        id: &AddressId,
        read_at: Revision,
        change: &Change,
    ) -> Result<FloatingIp, CloudFault> {
        let current = self.own(id).ok_or_else(|| CloudFault::NotFound(format!("floating IP {id}")))?;
        if current.revision != read_at && !self.overtaken {
            return Err(CloudFault::RevisionChanged);
        }
        if current.has_port_forwardings && matches!(change, Change::Bind { .. } | Change::Unbind { .. }) {
            return Err(CloudFault::InUseByPortForwarding(id.to_string()));
        }
        if let Change::Bind { to, .. } = change {
            self.target_exists(to)?;
            self.target_is_free(to, Some(id))?;
        }
        let (binding, description) = match change {
            Change::Bind { to, description } => (Some(Some(to.clone())), description.clone()),
            Change::Unbind { description } => (Some(None), description.clone()),
            Change::Describe(description) => (None, Some(description.clone())),
            Change::Limit(policy) => {
                self.policy_exists(policy)?;
                return Ok(self.alter(id, |address| address.qos_policy = Some(policy.clone())));
            }
        };
        description.as_deref().map_or(Ok(()), described)?;
        let same_text = description.as_ref() == Some(&current.description);
        let read_at = current.revision;
        let changed = self.alter(id, |address| {
            address.binding = binding.unwrap_or(address.binding.take());
            address.description = description.unwrap_or(std::mem::take(&mut address.description));
        });
        let silent = same_text && changed.revision == read_at;
        Ok(if silent {
            self.alter(id, |address| address.revision = Revision(read_at.0 + 1))
        } else {
            changed
        })
    }

    /// What changes nothing leaves the revision.
    fn alter(&mut self, id: &AddressId, change: impl FnOnce(&mut FloatingIp)) -> FloatingIp {
        let address = self.addresses.get_mut(id).expect("the caller has found it");
        let before = address.clone();
        change(address);
        if *address != before {
            address.revision = Revision(before.revision.0 + 1);
        }
        address.clone()
    }

    fn delete(&mut self, id: &AddressId, read_at: Revision) -> Result<(), CloudFault> {
        let Some(address) = self.own(id) else { return Ok(()) };
        if address.revision != read_at {
            return Err(CloudFault::RevisionChanged);
        }
        if address.has_port_forwardings {
            return Err(CloudFault::InUseByPortForwarding(id.to_string()));
        }
        self.give_back(id);
        Ok(())
    }

    fn give_back(&mut self, id: &AddressId) {
        self.forwarded.remove(id);
        self.pool.extend(self.addresses.remove(id).map(|gone| gone.address));
    }
}

fn described(text: &str) -> Result<(), CloudFault> {
    if text.chars().count() > LONGEST_DESCRIPTION {
        return Err(CloudFault::Refused("the description is longer than 255 characters".into()));
    }
    Ok(())
}

impl Simulated {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self, operation: &'static str) -> Result<MutexGuard<'_, State>, CloudError> {
        let state = self.lock();
        match &state.down {
            Some(fault) => Err(error(operation, fault.clone())),
            None => Ok(state),
        }
    }

    fn mutate<T>(
        &self,
        operation: &'static str,
        late: Late,
        effect: impl FnOnce(&mut State) -> Result<T, CloudFault>,
    ) -> Result<T, CloudError> {
        let mut state = self.up(operation)?;
        let answer = match state.faults.pop_front().flatten() {
            None => effect(&mut state),
            Some(Fault::Refuse(fault)) => Err(fault),
            Some(Fault::LoseReply) => effect(&mut state).and_then(|_| Err(unclear())),
            Some(Fault::Overtaken) => {
                state.overtaken = true;
                let done = effect(&mut state);
                state.overtaken = false;
                done
            }
            Some(Fault::Late) => {
                state.late.push(late);
                Err(unclear())
            }
        };
        answer.map_err(|fault| error(operation, fault))
    }
}

/// Opens the simulated cloud with every credential that has a text.
pub struct SimulatedClouds(pub Arc<Simulated>);

impl Clouds for SimulatedClouds {
    fn open(&self, credential: &Credential) -> Result<Arc<dyn FloatingIps>, CloudError> {
        if credential.clouds_yaml.is_empty() {
            let fault = CloudFault::Configuration("clouds.yaml is empty".into());
            return Err(error("read the credential", fault));
        }
        Ok(self.0.clone())
    }
}

#[async_trait]
impl FloatingIps for Simulated {
    async fn project(&self) -> Result<ProjectId, CloudError> {
        self.up("ask for the project").map(|_| ProjectId::new(PROJECT))
    }

    async fn network(&self, name_or_id: &str, kind: NetworkKind) -> Result<NetworkId, CloudError> {
        let operation = "find the network";
        let state = self.up(operation)?;
        let asked = |(id, network): &(&NetworkId, &Network)| {
            (id.as_str() == name_or_id || network.name == name_or_id)
                && (kind == NetworkKind::Internal || network.kind == kind)
        };
        let found: Vec<&NetworkId> = state.networks.iter().filter(asked).map(|(id, _)| id).collect();
        let name = name_or_id.to_owned();
        match found.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(error(operation, CloudFault::NetworkUnknown { name, kind })),
            several => Err(error(operation, CloudFault::NetworkAmbiguous { name, count: several.len() })),
        }
    }

    async fn qos_policies(&self, name_or_id: &str) -> Result<Vec<QosPolicy>, CloudError> {
        let state = self.up("find the QoS policy")?;
        let asked = |policy: &&QosPolicy| policy.id.as_str() == name_or_id || policy.name == name_or_id;
        Ok(state.policies.iter().filter(asked).cloned().collect())
    }

    async fn routed(
        &self,
        external: &NetworkId,
        targets: &BTreeSet<Binding>,
    ) -> Result<Option<BTreeSet<Binding>>, CloudError> {
        let state = self.up("find the routers")?;
        let gateway = NetworkId::new(format!("network-{EXTERNAL}"));
        let joined = |target: &&Binding| *external == gateway && state.target_exists(target).is_ok();
        Ok(Some(targets.iter().filter(joined).cloned().collect()))
    }

    async fn list(&self) -> Result<Vec<FloatingIp>, CloudError> {
        let state = self.up("list the floating IPs")?;
        let own = |address: &&FloatingIp| address.project == ProjectId::new(PROJECT);
        Ok(state.addresses.values().filter(own).cloned().collect())
    }

    async fn get(&self, id: &AddressId) -> Result<Option<FloatingIp>, CloudError> {
        Ok(self.up("read the floating IP")?.own(id).cloned())
    }

    async fn ports(
        &self,
        network: Option<&NetworkId>,
        fixed_ips: &BTreeSet<Ipv4Addr>,
    ) -> Result<Vec<Port>, CloudError> {
        let state = self.up("list the ports")?;
        let asked = |port: &&Port| {
            network.is_none_or(|network| port.network == *network)
                && port.fixed_ips.iter().any(|ip| fixed_ips.contains(ip))
        };
        Ok(state.ports.values().filter(asked).cloned().collect())
    }

    async fn ingress_rules(
        &self,
        groups: &BTreeSet<SecurityGroupId>,
    ) -> Result<Vec<IngressRule>, CloudError> {
        let state = self.up("list the security group rules")?;
        Ok(state.rules.iter().filter(|rule| groups.contains(&rule.group)).cloned().collect())
    }

    async fn create(&self, _: WritePermit, new: &NewFloatingIp) -> Result<FloatingIp, CloudError> {
        self.mutate("create a floating IP", Late::Create(new.clone()), |state| state.create(new, PROJECT))
    }

    async fn update(
        &self,
        _: WritePermit,
        id: &AddressId,
        read_at: Revision,
        change: &Change,
    ) -> Result<FloatingIp, CloudError> {
        let late = Late::Update(id.clone(), read_at, change.clone());
        self.mutate("change the floating IP", late, |state| state.update(id, read_at, change))
    }

    async fn delete(&self, _: WritePermit, id: &AddressId, read_at: Revision) -> Result<(), CloudError> {
        self.mutate("release the floating IP", Late::Delete(id.clone(), read_at), |state| {
            state.delete(id, read_at)
        })
    }

    async fn create_policy(
        &self,
        _: WritePermit,
        limits: &BandwidthLimits,
    ) -> Result<QosPolicyId, CloudError> {
        self.mutate("create a QoS policy", Late::CreatePolicy(*limits), |state| state.create_policy(limits))
    }

    async fn add_rule(
        &self,
        _: WritePermit,
        policy: &QosPolicyId,
        rule: (Direction, u32),
    ) -> Result<(), CloudError> {
        self.mutate("limit a QoS policy", Late::AddRule(policy.clone(), rule), |state| {
            state.add_rule(policy, rule)
        })
    }

    async fn delete_policy(&self, _: WritePermit, policy: &QosPolicyId) -> Result<(), CloudError> {
        self.mutate("remove a QoS policy", Late::DeletePolicy(policy.clone()), |state| {
            state.delete_policy(policy)
        })
    }
}
