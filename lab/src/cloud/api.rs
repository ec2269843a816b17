use std::sync::Mutex;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::http::Method;

use super::PATIENCE;
use super::facts::{Account, CloudFacts};
use super::gateway::Signals;
use super::http::{Http, Reply};
use super::openstack::OpenStack;
use super::records::{
    ApplicationCredential, Direction, FloatingIp, Port, PortForwarding, Rule, SecurityRule,
};
use crate::cache::Cache;
use crate::error::{Context, LabError, Result};
use crate::process::wait_until;
use crate::sandbox::Sandbox;

/// The running cloud, for those who test against it.
#[derive(Clone, Debug)]
pub struct Cloud {
    facts: CloudFacts,
    http: Http,
    services: OpenStack,
    signals: Signals,
}

/// One of the cloud's services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Identity.
    Keystone,
    /// Network.
    Neutron,
}

impl Cloud {
    /// The cloud of a running sandbox.
    pub fn attach(sandbox: &Sandbox, cache: &Cache) -> Result<Self> {
        Ok(Self {
            facts: CloudFacts::read(&sandbox.paths().cloud_facts())?,
            http: Http::into(sandbox),
            services: OpenStack::new(sandbox, cache)?,
            signals: Signals::new(sandbox.paths()),
        })
    }

    /// Ids, URLs and accounts.
    #[must_use]
    pub fn facts(&self) -> &CloudFacts {
        &self.facts
    }

    /// A session of the cloud's administrator.
    pub fn admin(&self) -> Result<Session> {
        self.login(&self.facts.admin)
    }

    /// A session of the member of the pods' project.
    pub fn demo(&self) -> Result<Session> {
        self.login(&self.facts.demo)
    }

    /// A session of the member of the second project.
    pub fn other(&self) -> Result<Session> {
        self.login(&self.facts.other)
    }

    /// A session of whatever user.
    pub fn login(&self, account: &Account) -> Result<Session> {
        Session::open(self.http.clone(), &self.facts.keystone, &self.facts.neutron, account)
    }

    /// The text of a `clouds.yaml` with one cloud `lab` for the account, in [`CloudFacts::REGION`].
    #[must_use]
    pub fn clouds_yaml(&self, account: &Account) -> String {
        clouds_yaml(account, &self.facts.keystone, CloudFacts::REGION)
    }

    /// The same with the region and the `auth_url` of the proxies.
    #[must_use]
    pub fn clouds_yaml_through_proxy(&self, account: &Account) -> String {
        clouds_yaml(account, &format!("{}/v3", CloudFacts::PROXY_KEYSTONE), CloudFacts::PROXY_REGION)
    }

    /// Whether a pod reaches floating IPs of the pods' network, as it does in many clouds and does not in others. Returns when the network is so.
    pub fn set_hairpin(&self, on: bool) -> Result<()> {
        self.signals.set_hairpin(on)?;
        self.settle()
    }

    /// Whether the virtual machine reaches pods at their own addresses, as far as security groups admit it; in the beginning it does not. Returns when the network is so.
    pub fn set_machine_to_pods(&self, on: bool) -> Result<()> {
        self.signals.set_machine_to_pods(on)?;
        self.settle()
    }

    /// Waits until the network does what Neutron's records say at this moment.
    pub fn settle(&self) -> Result<()> {
        let wanted = self.signals.wanted();
        wait_until("the cloud's router to follow", PATIENCE, || self.signals.followed(wanted))
    }

    /// Ends a service.
    pub fn stop(&self, service: Service) -> Result<()> {
        match service {
            Service::Keystone => self.services.stop("keystone"),
            Service::Neutron => self.services.stop("neutron"),
        }
    }

    /// Starts a service and waits until it answers.
    pub fn start(&self, service: Service) -> Result<()> {
        match service {
            Service::Keystone => self.services.start_keystone(),
            Service::Neutron => self.services.start_neutron(),
        }
    }

    /// Sets how long tokens live that are issued from now on, in seconds. Restarts Keystone.
    pub fn set_token_seconds(&self, seconds: u32) -> Result<()> {
        self.services.set_token_seconds(seconds)
    }
}

/// The text of a `clouds.yaml` with one cloud `lab`.
#[must_use]
pub fn clouds_yaml(account: &Account, auth_url: &str, region: &str) -> String {
    let Account { user, password, project, .. } = account;
    format!(
        "clouds:\n  lab:\n    auth:\n      auth_url: {auth_url}\n      username: {user}\n      password: {password}\n      project_name: {project}\n      \
         user_domain_id: default\n      project_domain_id: default\n    region_name: {region}\n"
    )
}

/// A user's calls to both services. The token is renewed when it is refused.
pub struct Session {
    http: Http,
    keystone: String,
    neutron: String,
    account: Account,
    token: Mutex<String>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Session({:?})", self.account)
    }
}

impl Session {
    pub(super) fn open(http: Http, keystone: &str, neutron: &str, account: &Account) -> Result<Self> {
        let token = Mutex::new(issue(&http, keystone, account)?);
        let neutron = format!("{neutron}/v2.0");
        Ok(Self { http, keystone: keystone.to_owned(), neutron, account: account.clone(), token })
    }

    /// A call to Neutron: `path` begins behind `/v2.0`.
    pub fn network(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.call(method, &format!("{}{path}", self.neutron), body)
    }

    /// A call to Keystone: `path` begins behind `/v3`.
    pub fn identity(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.call(method, &format!("{}{path}", self.keystone), body)
    }

    /// The token that is used at the moment.
    #[must_use]
    pub fn token(&self) -> String {
        self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn call(&self, method: &str, url: &str, body: Option<&Value>) -> Result<Value> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(std::io::Error::other)
            .to(|| format!("{method} {url}"))?;
        match self.http.call(method.clone(), url, Some(&self.token()), body) {
            Err(LabError::Api { status: 401, .. }) => {
                let token = issue(&self.http, &self.keystone, &self.account)?;
                *self.token.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = token;
                self.http.call(method, url, Some(&self.token()), body)
            }
            other => other,
        }
        .map(|reply| reply.body)
    }

    fn get<T: DeserializeOwned>(&self, path: &str, key: &str) -> Result<T> {
        field(self.network("GET", path, None)?, key)
    }

    /// Floating IPs that this user sees.
    pub fn floating_ips(&self) -> Result<Vec<FloatingIp>> {
        self.get("/floatingips", "floatingips")
    }

    /// One floating IP.
    pub fn floating_ip(&self, id: &str) -> Result<FloatingIp> {
        self.get(&format!("/floatingips/{id}"), "floatingip")
    }

    /// Allocates a floating IP on `network`; `port` binds it at once.
    pub fn create_floating_ip(
        &self,
        network: &str,
        description: &str,
        port: Option<&str>,
    ) -> Result<FloatingIp> {
        let mut body = json!({"floating_network_id": network, "description": description});
        if let Some(port) = port {
            body["port_id"] = json!(port);
        }
        field(self.network("POST", "/floatingips", Some(&json!({"floatingip": body})))?, "floatingip")
    }

    /// Changes the attributes given, e.g. `{"port_id": null}`.
    pub fn update_floating_ip(&self, id: &str, change: &Value) -> Result<FloatingIp> {
        let body = json!({"floatingip": change});
        field(self.network("PUT", &format!("/floatingips/{id}"), Some(&body))?, "floatingip")
    }

    /// Gives a floating IP back.
    pub fn delete_floating_ip(&self, id: &str) -> Result<()> {
        self.network("DELETE", &format!("/floatingips/{id}"), None).map(|_| ())
    }

    /// Port forwardings of a floating IP, with their ids.
    pub fn port_forwardings(&self, floating_ip: &str) -> Result<Vec<PortForwarding>> {
        self.get(&format!("/floatingips/{floating_ip}/port_forwardings"), "port_forwardings")
    }

    /// Adds a port forwarding to an unbound floating IP.
    pub fn create_port_forwarding(
        &self,
        floating_ip: &str,
        forwarding: &PortForwarding,
    ) -> Result<PortForwarding> {
        let path = format!("/floatingips/{floating_ip}/port_forwardings");
        field(self.network("POST", &path, Some(&json!({"port_forwarding": forwarding})))?, "port_forwarding")
    }

    /// Ports that this user sees.
    pub fn ports(&self) -> Result<Vec<Port>> {
        self.get("/ports", "ports")
    }

    /// The port of a pod; none when it has none (yet).
    pub fn pod_port(&self, namespace: &str, pod: &str) -> Result<Option<Port>> {
        let ports: Vec<Port> = self.get(&format!("/ports?name={namespace}/{pod}"), "ports")?;
        Ok(ports.into_iter().next())
    }

    /// Makes a port; `attributes` as Neutron has them (`network_id`, `fixed_ips`, `name` ...).
    pub fn create_port(&self, attributes: &Value) -> Result<Port> {
        field(self.network("POST", "/ports", Some(&json!({"port": attributes})))?, "port")
    }

    /// Changes the attributes given.
    pub fn update_port(&self, id: &str, change: &Value) -> Result<Port> {
        field(self.network("PUT", &format!("/ports/{id}"), Some(&json!({"port": change})))?, "port")
    }

    /// Removes a port; what was bound to it is then unbound.
    pub fn delete_port(&self, id: &str) -> Result<()> {
        self.network("DELETE", &format!("/ports/{id}"), None).map(|_| ())
    }

    /// How many floating IPs a project may have; `None` is the cloud's default.
    pub fn set_floating_ip_quota(&self, project: &str, limit: Option<u32>) -> Result<()> {
        let path = format!("/quotas/{project}");
        let done = match limit {
            Some(limit) => self.network("PUT", &path, Some(&json!({"quota": {"floatingip": limit}}))),
            None => self.network("DELETE", &path, None),
        };
        match done {
            // No quota of its own was set.
            Err(LabError::Api { status: 404, .. }) if limit.is_none() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The rules of a security group.
    pub fn rules(&self, group: &str) -> Result<Vec<Rule>> {
        self.get(&format!("/security-group-rules?security_group_id={group}"), "security_group_rules")
    }

    /// Adds a rule to a security group.
    pub fn add_rule(&self, group: &str, rule: &SecurityRule) -> Result<Rule> {
        let mut body = json!({"security_group_rule": rule});
        body["security_group_rule"]["security_group_id"] = json!(group);
        field(self.network("POST", "/security-group-rules", Some(&body))?, "security_group_rule")
    }

    /// Removes a rule.
    pub fn delete_rule(&self, rule: &str) -> Result<()> {
        self.network("DELETE", &format!("/security-group-rules/{rule}"), None).map(|_| ())
    }

    /// Makes a security group without any rule, and gives back its id.
    pub fn create_security_group(&self, name: &str) -> Result<String> {
        let body = json!({"security_group": {"name": name}});
        let id = created(self.network("POST", "/security-groups", Some(&body))?, "security_group")?;
        for rule in self.rules(&id)? {
            self.delete_rule(&rule.id)?;
        }
        Ok(id)
    }

    /// Makes a QoS policy that every project may use, with one limit for both directions, and gives back its id. Administrators only.
    pub fn create_qos_policy(&self, name: &str, kbit_per_second: u32) -> Result<String> {
        let body = json!({"policy": {"name": name, "shared": true}});
        let id = created(self.network("POST", "/qos/policies", Some(&body))?, "policy")?;
        for direction in [Direction::Ingress, Direction::Egress] {
            let rule = json!({"bandwidth_limit_rule": {"max_kbps": kbit_per_second, "direction": direction}});
            self.network("POST", &format!("/qos/policies/{id}/bandwidth_limit_rules"), Some(&rule))?;
        }
        Ok(id)
    }

    /// Makes a user with the given roles in a project. Administrators only.
    pub fn create_user(
        &self,
        name: &str,
        password: &str,
        project: (&str, &str),
        roles: &[&str],
    ) -> Result<Account> {
        let body = json!({"user": {"name": name, "password": password, "domain_id": "default"}});
        let account = Account {
            user: name.to_owned(),
            user_id: created(self.identity("POST", "/users", Some(&body))?, "user")?,
            password: password.to_owned(),
            project: project.0.to_owned(),
            project_id: project.1.to_owned(),
        };
        self.grant(&account, roles)?;
        Ok(account)
    }

    pub(super) fn grant(&self, account: &Account, roles: &[&str]) -> Result<()> {
        let Account { user_id, project_id, .. } = account;
        for role in roles {
            let known: Vec<Value> =
                field(self.identity("GET", &format!("/roles?name={role}"), None)?, "roles")?;
            let id = known.first().and_then(|role| role["id"].as_str()).unwrap_or_default();
            self.identity("PUT", &format!("/projects/{project_id}/users/{user_id}/roles/{id}"), None)?;
        }
        Ok(())
    }

    /// Sets a user's password; tokens and application credentials of the old one stop to be valid as Keystone has it. Administrators only.
    pub fn set_password(&self, user_id: &str, password: &str) -> Result<()> {
        let body = json!({"user": {"password": password}});
        self.identity("PATCH", &format!("/users/{user_id}"), Some(&body)).map(|_| ())
    }

    /// Allows or forbids a user to log in; forbidding revokes its tokens. Administrators only.
    pub fn set_enabled(&self, user_id: &str, enabled: bool) -> Result<()> {
        let body = json!({"user": {"enabled": enabled}});
        self.identity("PATCH", &format!("/users/{user_id}"), Some(&body)).map(|_| ())
    }

    /// Makes an application credential of this session's own user.
    pub fn create_application_credential(&self, name: &str) -> Result<ApplicationCredential> {
        let path = format!("/users/{}/application_credentials", self.account.user_id);
        let body = json!({"application_credential": {"name": name}});
        field(self.identity("POST", &path, Some(&body))?, "application_credential")
    }

    /// Removes an application credential of this session's own user; its tokens are refused from then on.
    pub fn delete_application_credential(&self, id: &str) -> Result<()> {
        let path = format!("/users/{}/application_credentials/{id}", self.account.user_id);
        self.identity("DELETE", &path, None).map(|_| ())
    }
}

fn issue(http: &Http, keystone: &str, account: &Account) -> Result<String> {
    let url = format!("{keystone}/auth/tokens");
    let domain = json!({"id": "default"});
    let user = json!({"name": account.user, "password": account.password, "domain": domain});
    let scope = json!({"project": {"name": account.project, "domain": domain}});
    let identity = json!({"methods": ["password"], "password": {"user": user}});
    let Reply { subject_token, .. } =
        http.call(Method::POST, &url, None, Some(&json!({"auth": {"identity": identity, "scope": scope}})))?;
    subject_token.ok_or_else(|| unexpected("a token", &Value::Null))
}

/// What a reply holds under its only key.
pub(super) fn field<T: DeserializeOwned>(mut reply: Value, key: &str) -> Result<T> {
    let value = reply[key].take();
    serde_json::from_value(value.clone()).map_err(|error| unexpected(&format!("{key} ({error})"), &value))
}

/// The id of what was just made.
pub(super) fn created(reply: Value, key: &str) -> Result<String> {
    match &reply[key]["id"] {
        Value::String(id) => Ok(id.clone()),
        _ => Err(unexpected(key, &reply)),
    }
}

fn unexpected(wanted: &str, got: &Value) -> LabError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidData, got.to_string());
    LabError::System { action: format!("find {wanted} in an answer of the cloud"), source }
}
