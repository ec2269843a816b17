//! Keystone and Neutron of the lab: the operator's own code, and beside it what people do to the cloud.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use kafka_external_access::{
    cloud::{
        Binding, Clouds, Credential, FloatingIps, IngressRule,
        openstack::{CallObserver, CallOutcome, Neutron, OpenStackClouds, clouds_yaml},
    },
    domain::{AddressId, PortId, QosPolicyId},
    runtime::clock::SystemClock,
};
use lab::{
    Cache, LabError, Sandbox, Turn,
    cloud::{Account, Cloud, CloudFacts, Direction, FixedIp, PortForwarding, SecurityRule, Session},
};
use serde_json::{Value, json};

use crate::suite::World;

/// What the tests make has this in its name, so that what a failed one has left is found.
const OURS: &str = "contract";
const TWICE: &str = "contract-twice";

/// The real cloud.
pub struct Real {
    pub cloud: Cloud,
    pub admin: Session,
    pub demo: Session,
    other: Session,
    /// Whose clouds are opened, where it is not the project's usual member.
    user: Mutex<Option<Account>>,
    /// Opened clouds, by the size of their pages: each has logged in once.
    clouds: Mutex<BTreeMap<usize, Arc<Neutron>>>,
}

struct Unobserved;

impl CallObserver for Unobserved {
    fn called(&self, _: &'static str, _: CallOutcome, _: std::time::Duration) {}
}

/// Runs `test` in a thread inside the lab's network, in a clean world.
pub fn in_lab(test: impl AsyncFnOnce(&Real) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let turn = Turn::take().expect("a lab");
        let sandbox = Sandbox::attach(turn.paths())
            .expect("these tests need the lab's cloud; start it: cargo lab up --only cloud");
        let cloud = Cloud::attach(&sandbox, &Cache::new(turn.paths())).expect("the lab's cloud");
        sandbox.enter_network().expect("the lab's network can be entered");
        let real = Real::new(cloud);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test(&real));
        real.clean();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A name that no other object of this test run has.
pub fn unique(kind: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{OURS}-{kind}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What the operator reads of a Secret.
pub fn credential(clouds_yaml: String) -> Credential {
    Credential {
        namespace: "ydata".into(),
        secret: "openstack".into(),
        version: "1".into(),
        cloud_name: "lab".into(),
        clouds_yaml,
        cacert: None,
    }
}

/// Opened as the operator opens it.
pub fn open(clouds_yaml: String) -> Arc<dyn FloatingIps> {
    let clouds = OpenStackClouds::new(Arc::new(SystemClock::default()), Arc::new(Unobserved));
    clouds.open(&credential(clouds_yaml)).expect("a readable credential")
}

fn all(mut reply: Value, key: &str) -> Vec<Value> {
    serde_json::from_value(reply[key].take()).expect("a list")
}

fn id_of(value: &Value) -> &str {
    value["id"].as_str().expect("an id")
}

fn named_ours(value: &Value) -> bool {
    value["name"].as_str().is_some_and(|name| name.starts_with(OURS) || name.starts_with("kea-"))
}

impl Real {
    fn new(cloud: Cloud) -> Self {
        let facts = cloud.facts().clone();
        let session = |account: &Account| cloud.login(account).expect("a session");
        let [admin, demo, other] = [&facts.admin, &facts.demo, &facts.other].map(session);
        let (user, clouds) = (Mutex::default(), Mutex::default());
        let real = Self { cloud, admin, demo, other, user, clouds };
        real.clean();
        real
    }

    fn facts(&self) -> &CloudFacts {
        self.cloud.facts()
    }

    /// Removes what this test or an earlier one has made.
    fn clean(&self) {
        for session in [&self.demo, &self.other] {
            for address in session.floating_ips().expect("floating IPs") {
                Self::remove_forwardings(session, &address.id);
                session.delete_floating_ip(&address.id).expect("a floating IP released");
            }
        }
        self.set_pool_empty(false);
        self.admin.set_floating_ip_quota(&self.facts().demo.project_id, Some(50)).expect("a quota");
        for (path, key) in
            [("ports", "ports"), ("security-groups", "security_groups"), ("networks", "networks")]
        {
            let objects = self.admin.network("GET", &format!("/{path}"), None).expect("a list");
            for object in all(objects, key).iter().filter(|object| named_ours(object)) {
                let path = format!("/{path}/{}", id_of(object));
                self.admin.network("DELETE", &path, None).expect("an object removed");
            }
        }
        let policies = self.admin.network("GET", "/qos/policies", None).expect("policies");
        for policy in all(policies, "policies").iter().filter(|policy| named_ours(policy)) {
            let path = format!("/qos/policies/{}", id_of(policy));
            self.admin.network("DELETE", &path, None).expect("a policy removed");
        }
        let regions = self.admin.identity("GET", "/regions", None).expect("regions");
        for region in all(regions, "regions").iter().map(id_of).filter(|id| id.starts_with(OURS)) {
            let path = format!("/endpoints?region_id={region}");
            let endpoints = self.admin.identity("GET", &path, None).expect("endpoints");
            for endpoint in all(endpoints, "endpoints").iter().map(id_of) {
                let path = format!("/endpoints/{endpoint}");
                self.admin.identity("DELETE", &path, None).expect("an endpoint removed");
            }
            let path = format!("/regions/{region}");
            self.admin.identity("DELETE", &path, None).expect("a region removed");
        }
        let users = self.admin.identity("GET", "/users", None).expect("users");
        for user in all(users, "users").iter().filter(|user| named_ours(user)) {
            let path = format!("/users/{}", id_of(user));
            self.admin.identity("DELETE", &path, None).expect("a user removed");
        }
    }

    fn remove_forwardings(session: &Session, address: &str) {
        for forwarding in session.port_forwardings(address).expect("port forwardings") {
            let path =
                format!("/floatingips/{address}/port_forwardings/{}", forwarding.id.unwrap_or_default());
            session.network("DELETE", &path, None).expect("a port forwarding removed");
        }
    }

    fn make_port(&self, session: &Session, mut attributes: Value) -> Vec<Binding> {
        attributes["name"] = json!(unique("port"));
        let port = session.create_port(&attributes).expect("a port");
        let target = |fixed: &FixedIp| Binding {
            port: PortId::new(port.id.clone()),
            fixed_ip: fixed.ip_address.to_string().parse().expect("an IPv4 address"),
        };
        port.fixed_ips.iter().map(target).collect()
    }

    fn make_network(&self, session: &Session, attributes: &Value) -> String {
        let made = session.network("POST", "/networks", Some(&json!({"network": attributes})));
        id_of(&made.expect("a network")["network"]).to_owned()
    }
}

impl World for Real {
    fn cloud(&self, page: usize) -> Arc<dyn FloatingIps> {
        let mut clouds = self.clouds.lock().expect("no test panics with it");
        let open = || {
            let user = self.user.lock().expect("no test panics with it").clone();
            let user = user.unwrap_or_else(|| self.facts().demo.clone());
            let config = clouds_yaml::parse(&credential(self.cloud.clouds_yaml(&user)));
            let config = config.expect("the lab's clouds.yaml");
            let neutron = Neutron::new(config, Arc::new(SystemClock::default()), Arc::new(Unobserved));
            Arc::new(neutron.expect("a cloud").with_page_size(page))
        };
        clouds.entry(page).or_insert_with(open).clone()
    }

    fn networks(&self) -> [&'static str; 2] {
        [CloudFacts::EXTERNAL_NETWORK, CloudFacts::POD_NETWORK]
    }

    fn ambiguous_network(&self) -> &'static str {
        for _ in 0..2 {
            self.make_network(&self.admin, &json!({"name": TWICE, "router:external": true}));
        }
        TWICE
    }

    fn port(&self, addresses: usize) -> Vec<Binding> {
        let fixed_ips = vec![json!({"subnet_id": self.facts().pod_subnet_id}); addresses];
        let network = &self.facts().pod_network_id;
        self.make_port(&self.demo, json!({"network_id": network, "fixed_ips": fixed_ips}))
    }

    fn port_of_others(&self) -> Binding {
        let (network, project) = (&self.facts().pod_network_id, &self.facts().other.project_id);
        self.make_port(&self.admin, json!({"network_id": network, "project_id": project})).remove(0)
    }

    fn port_without_router(&self) -> Binding {
        let network = self.make_network(&self.demo, &json!({"name": unique("island")}));
        let subnet = json!({"network_id": network, "ip_version": 4, "cidr": "10.99.0.0/24"});
        self.demo.network("POST", "/subnets", Some(&json!({"subnet": subnet}))).expect("a subnet");
        self.make_port(&self.demo, json!({"network_id": network})).remove(0)
    }

    fn remove_port(&self, port: &PortId) {
        self.demo.delete_port(port.as_str()).expect("a port removed");
    }

    fn drop_port_security(&self, port: &PortId) {
        let change = json!({"security_groups": [], "port_security_enabled": false});
        self.demo.update_port(port.as_str(), &change).expect("no port security");
    }

    fn address_of_others(&self) -> AddressId {
        let made = self.other.create_floating_ip(&self.facts().external_network_id, "theirs", None);
        AddressId::new(made.expect("a floating IP").id)
    }

    fn release_of_others(&self, address: &AddressId) {
        self.other.delete_floating_ip(address.as_str()).expect("a floating IP released");
    }

    fn others_have(&self, address: &AddressId) -> bool {
        self.other.floating_ip(address.as_str()).is_ok()
    }

    fn forward(&self, address: &AddressId, to: &Binding) -> bool {
        let forwarding = PortForwarding {
            id: None,
            protocol: "tcp".into(),
            external_port: 9094,
            internal_ip_address: to.fixed_ip,
            internal_port: 9094,
            internal_port_id: Some(to.port.to_string()),
        };
        match self.demo.create_port_forwarding(address.as_str(), &forwarding) {
            Ok(_) => true,
            Err(LabError::Api { status: 400 | 409, .. }) => false,
            Err(error) => panic!("{error}"),
        }
    }

    fn stop_forwarding(&self, address: &AddressId) {
        Self::remove_forwardings(&self.demo, address.as_str());
    }

    fn admit(&self, port: &PortId, rules: &[IngressRule]) {
        let group = self.demo.create_security_group(&unique("group")).expect("a group");
        for rule in rules {
            let rule = SecurityRule {
                direction: Direction::Ingress,
                ethertype: if rule.ipv4 { "IPv4" } else { "IPv6" }.into(),
                protocol: Some(if rule.tcp { "tcp" } else { "udp" }.into()),
                port_range_min: rule.ports.map(|(first, _)| first),
                port_range_max: rule.ports.map(|(_, last)| last),
                remote_ip_prefix: rule.remote_ip_prefix.clone(),
                remote_group_id: rule.remote_group.as_ref().map(|_| group.clone()),
                remote_address_group_id: None,
            };
            self.demo.add_rule(&group, &rule).expect("a rule");
        }
        self.demo.update_port(port.as_str(), &json!({"security_groups": [group]})).expect("its own group");
    }

    fn share_policy(&self, name: &str, egress: Option<u32>, ingress: Option<u32>) -> QosPolicyId {
        let policy = json!({"policy": {"name": name, "shared": true}});
        let made = self.admin.network("POST", "/qos/policies", Some(&policy)).expect("a policy");
        let id = id_of(&made["policy"]).to_owned();
        for (direction, limit) in [("egress", egress), ("ingress", ingress)] {
            let Some(kbps) = limit else { continue };
            let rule = json!({"bandwidth_limit_rule": {"max_kbps": kbps, "direction": direction}});
            let path = format!("/qos/policies/{id}/bandwidth_limit_rules");
            self.admin.network("POST", &path, Some(&rule)).expect("a rule");
        }
        QosPolicyId::new(id)
    }

    /// By default policies are for administrators and project managers.
    fn permit_policies(&self, permitted: bool) {
        let demo = &self.facts().demo;
        let manager = || {
            let project = (demo.project.as_str(), demo.project_id.as_str());
            self.admin.create_user(&unique("user"), "a password", project, &["member", "manager"])
        };
        *self.user.lock().expect("no test panics with it") =
            permitted.then(|| manager().expect("a manager of the project"));
        self.clouds.lock().expect("no test panics with it").clear();
    }

    fn set_quota(&self, floating_ips: usize) {
        let limit = u32::try_from(floating_ips).expect("a small quota");
        self.admin.set_floating_ip_quota(&self.facts().demo.project_id, Some(limit)).expect("a quota");
    }

    /// Empty: the pool shrinks to one address, and somebody else has that.
    fn set_pool_empty(&self, empty: bool) -> Option<AddressId> {
        let one = [("203.0.113.251", "203.0.113.251")];
        let ranges = if empty { &one[..] } else { &CloudFacts::FLOATING_RANGES[..] };
        let pools: Vec<Value> =
            ranges.iter().map(|(first, last)| json!({"start": first, "end": last})).collect();
        let pool = json!(pools);
        let path = format!("/subnets?network_id={}", self.facts().external_network_id);
        let subnet = all(self.admin.network("GET", &path, None).expect("subnets"), "subnets").remove(0);
        if subnet["allocation_pools"] != pool {
            let change = json!({"subnet": {"allocation_pools": pool}});
            let path = format!("/subnets/{}", id_of(&subnet));
            self.admin.network("PUT", &path, Some(&change)).expect("another pool");
        }
        empty.then(|| self.address_of_others())
    }

    fn pass_a_second(&self) {
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
}
