use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Session, created, field};
use super::facts::{Account, CloudFacts, keystone, neutron};
use super::http::Http;
use super::openstack::{ADMIN_PASSWORD, NEUTRON_PASSWORD};
use super::records::{Direction, SecurityRule};
use crate::addresses::{EXTERNAL_GATEWAY, EXTERNAL_SUBNET, POD_GATEWAY, POD_SUBNET};
use crate::error::Result;
use crate::sandbox::Sandbox;

/// What clients from outside may reach of a broker.
const EXTERNAL_LISTENER_PORT: u16 = 9094;

/// Makes projects, users, networks and the rest in a cloud that has just been started for the first time, and writes [`CloudFacts`]. Does nothing when that was done.
pub(super) fn seed(sandbox: &Sandbox) -> Result<CloudFacts> {
    let file = sandbox.paths().cloud_facts();
    if file.exists() {
        return CloudFacts::read(&file);
    }
    make(&Http::into(sandbox), &file)
}

fn make(http: &Http, file: &Path) -> Result<CloudFacts> {
    let mut admin = Account {
        user: "admin".to_owned(),
        user_id: String::new(),
        password: ADMIN_PASSWORD.to_owned(),
        project: "admin".to_owned(),
        project_id: String::new(),
    };
    let session = Session::open(http.clone(), &keystone(), &neutron(), &admin)?;
    let seeding = Seeding { session };
    admin.user_id = seeding.known_id("users", "admin")?;
    admin.project_id = seeding.known_id("projects", "admin")?;
    seeding.catalogue()?;
    seeding.account("neutron", NEUTRON_PASSWORD, "service", &["admin", "service"])?;
    let demo = seeding.account("demo", "demo-of-the-lab", "demo", &["member", "reader"])?;
    let other = seeding.account("other", "other-of-the-lab", "other", &["member", "reader"])?;
    let external = seeding.external_network()?;
    let qos_policy_id = match seeding.find("/qos/policies", "policies", CloudFacts::QOS_POLICY)? {
        Some(id) => id,
        None => seeding.session.create_qos_policy(CloudFacts::QOS_POLICY, 100_000)?,
    };
    let member = Seeding { session: Session::open(http.clone(), &keystone(), &neutron(), &demo)? };
    let (network, subnet) = member.pod_network()?;
    let facts = CloudFacts {
        keystone: keystone(),
        neutron: neutron(),
        router_id: member.router(&external, &subnet)?,
        security_group_id: member.security_group()?,
        external_network_id: external,
        pod_network_id: network,
        pod_subnet_id: subnet,
        qos_policy_id,
        admin,
        demo,
        other,
    };
    facts.write(file)?;
    Ok(facts)
}

struct Seeding {
    session: Session,
}

impl Seeding {
    /// The id of the thing of that name. Neutron has been seen to answer with an empty list right after its start: that is no proof of absence, so it is asked twice.
    fn find(&self, path: &str, key: &str, name: &str) -> Result<Option<String>> {
        for pause in [Duration::from_millis(300), Duration::ZERO] {
            let list: Vec<Value> =
                field(self.session.network("GET", &format!("{path}?name={name}"), None)?, key)?;
            if let Some(id) = list.first().and_then(|thing| thing["id"].as_str()) {
                return Ok(Some(id.to_owned()));
            }
            sleep(pause);
        }
        Ok(None)
    }

    fn ensure(&self, collection: &str, key: &str, body: Value) -> Result<String> {
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        let path = format!("/{}", collection.replace('_', "-"));
        match self.find(&path, collection, &name)? {
            Some(id) => Ok(id),
            None => created(self.session.network("POST", &path, Some(&json!({ key: body })))?, key),
        }
    }

    fn identity_id(&self, collection: &str, query: &str) -> Result<Option<String>> {
        let list: Vec<Value> =
            field(self.session.identity("GET", &format!("/{collection}?{query}"), None)?, collection)?;
        Ok(list.first().and_then(|thing| thing["id"].as_str()).map(str::to_owned))
    }

    fn known_id(&self, collection: &str, name: &str) -> Result<String> {
        Ok(self.identity_id(collection, &format!("name={name}"))?.unwrap_or_default())
    }

    fn ensure_identity(&self, collection: &str, key: &str, query: &str, body: Value) -> Result<String> {
        match self.identity_id(collection, query)? {
            Some(id) => Ok(id),
            None => created(
                self.session.identity("POST", &format!("/{collection}"), Some(&json!({ key: body })))?,
                key,
            ),
        }
    }

    fn account(&self, user: &str, password: &str, project: &str, roles: &[&str]) -> Result<Account> {
        let body = json!({"name": project, "domain_id": "default"});
        let project_id = self.ensure_identity("projects", "project", &format!("name={project}"), body)?;
        let body = json!({"name": user, "password": password, "domain_id": "default", "default_project_id": project_id});
        let account = Account {
            user: user.to_owned(),
            user_id: self.ensure_identity("users", "user", &format!("name={user}"), body)?,
            password: password.to_owned(),
            project: project.to_owned(),
            project_id,
        };
        self.session.grant(&account, roles)?;
        Ok(account)
    }

    fn catalogue(&self) -> Result<()> {
        let regions: Vec<Value> = field(self.session.identity("GET", "/regions", None)?, "regions")?;
        if !regions.iter().any(|region| region["id"] == CloudFacts::PROXY_REGION) {
            let region = json!({"region": {"id": CloudFacts::PROXY_REGION}});
            self.session.identity("POST", "/regions", Some(&region))?;
        }
        let proxied = format!("{}/v3", CloudFacts::PROXY_KEYSTONE);
        let services = [
            ("identity", "keystone", keystone(), proxied.as_str()),
            ("network", "neutron", neutron(), CloudFacts::PROXY_NEUTRON),
        ];
        for (kind, name, url, proxied) in services {
            let body = json!({"name": name, "type": kind});
            let service = self.ensure_identity("services", "service", &format!("type={kind}"), body)?;
            for (region, url) in [(CloudFacts::REGION, url.as_str()), (CloudFacts::PROXY_REGION, proxied)] {
                for interface in ["public", "internal", "admin"] {
                    let query = format!("service_id={service}&interface={interface}&region_id={region}");
                    let body = json!({"service_id": service, "interface": interface, "url": url, "region_id": region});
                    self.ensure_identity("endpoints", "endpoint", &query, body)?;
                }
            }
        }
        Ok(())
    }

    fn external_network(&self) -> Result<String> {
        let name = CloudFacts::EXTERNAL_NETWORK;
        let network = self.ensure("networks", "network", json!({"name": name, "router:external": true}))?;
        let pools = CloudFacts::FLOATING_RANGES.map(|(start, end)| json!({"start": start, "end": end}));
        let subnet = json!({"network_id": network, "name": name, "ip_version": 4, "cidr": EXTERNAL_SUBNET,
            "gateway_ip": EXTERNAL_GATEWAY, "enable_dhcp": false, "allocation_pools": pools});
        self.ensure("subnets", "subnet", subnet)?;
        Ok(network)
    }

    fn pod_network(&self) -> Result<(String, String)> {
        let name = CloudFacts::POD_NETWORK;
        let network = self.ensure("networks", "network", json!({"name": name}))?;
        let subnet = json!({"network_id": network, "name": name, "ip_version": 4, "cidr": POD_SUBNET, "gateway_ip": POD_GATEWAY});
        let subnet = self.ensure("subnets", "subnet", subnet)?;
        Ok((network, subnet))
    }

    fn router(&self, external: &str, subnet: &str) -> Result<String> {
        let gateway = json!({"network_id": external});
        let router = self.ensure(
            "routers",
            "router",
            json!({"name": "lab-router", "external_gateway_info": gateway}),
        )?;
        let interfaces = format!("/ports?device_id={router}&device_owner=network:router_interface");
        let interfaces: Vec<Value> = field(self.session.network("GET", &interfaces, None)?, "ports")?;
        if interfaces.is_empty() {
            let path = format!("/routers/{router}/add_router_interface");
            self.session.network("PUT", &path, Some(&json!({"subnet_id": subnet})))?;
        }
        Ok(router)
    }

    fn security_group(&self) -> Result<String> {
        let name = CloudFacts::SECURITY_GROUP;
        if let Some(id) = self.find("/security-groups", "security_groups", name)? {
            return Ok(id);
        }
        let id = self.session.create_security_group(name)?;
        let rules = [
            SecurityRule::everything(Direction::Egress, "0.0.0.0/0"),
            SecurityRule::everything(Direction::Ingress, POD_SUBNET),
            SecurityRule::tcp(EXTERNAL_LISTENER_PORT),
        ];
        for rule in rules {
            self.session.add_rule(&id, &rule)?;
        }
        Ok(id)
    }
}
