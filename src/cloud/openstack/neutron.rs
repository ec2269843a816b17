//! Floating IPs by the Networking API v2.0.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    auth::{Keystone, Token},
    clouds_yaml::CloudConfig,
    http::{Call, CallObserver, Effect, Http, Limits, Reply},
    refusals::Refusals,
    routers,
    wire::{
        self, One, Page, ROUTER_INTERFACES, WireFloatingIp, WireNetwork, WirePort, WireQosPolicy, WireQuotas,
        WireRouter, WireRule,
    },
};
use crate::{
    cloud::{
        Binding, Change, CloudError, CloudFault, FloatingIp, FloatingIps, IngressRule, NetworkKind,
        NewFloatingIp, Port, Quota,
        limits::{BandwidthLimits, Direction, QosPolicy},
    },
    domain::{AddressId, NetworkId, ProjectId, QosPolicyId, Revision, SecurityGroupId},
    reach::Reach,
    seams::{Clock, WritePermit},
};

const PAGE: usize = 500;
/// No project has so many; a list without an end would fill the memory.
const MOST_PAGES: usize = 200;
/// For all pages of a list; a cloud that answers each at the last moment would hold up everybody else.
const LONGEST_LIST: Duration = Duration::from_secs(120);
/// Networks keep their identifiers, unless somebody makes one anew under its name.
const NETWORK_STAYS: Duration = Duration::from_secs(3600);
/// Filters in one query; a URL has a length.
const FILTERS: usize = 50;

/// One project's floating IPs in one OpenStack cloud.
pub struct Neutron {
    http: Http,
    clock: Arc<dyn Clock>,
    keystone: Keystone,
    networks: Mutex<BTreeMap<(String, bool), (Duration, NetworkId)>>,
    /// Of making QoS policies.
    refusals: Mutex<Refusals>,
    page: usize,
}

type Query = Vec<(&'static str, String)>;

/// What is asked of the network service, below its endpoint.
struct Request<'a> {
    effect: Effect<'a>,
    method: Method,
    path: &'a str,
    query: &'a Query,
    body: Option<&'a Value>,
    if_match: Option<Revision>,
}

impl Neutron {
    /// Calls what is called by default. Makes no call.
    pub fn new(
        config: CloudConfig,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn CallObserver>,
    ) -> Result<Self, CloudError> {
        Self::reaching(config, Arc::default(), clock, observer)
    }

    /// Calls only what `reach` allows. Makes no call.
    pub fn reaching(
        config: CloudConfig,
        reach: Arc<Reach>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn CallObserver>,
    ) -> Result<Self, CloudError> {
        Self::limited(config, reach, Limits::default(), clock, observer)
    }

    pub(super) fn limited(
        config: CloudConfig,
        reach: Arc<Reach>,
        limits: Limits,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn CallObserver>,
    ) -> Result<Self, CloudError> {
        let http = Http::new(&config, reach, limits, clock.clone(), observer)?;
        let keystone = Keystone::new(config, clock.clone());
        Ok(Self { http, clock, keystone, networks: Mutex::default(), refusals: Mutex::default(), page: PAGE })
    }

    /// Asks for pages of this size.
    #[must_use]
    pub fn with_page_size(mut self, page: usize) -> Self {
        self.page = page;
        self
    }

    fn policy_refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends with a token, and once more with a new one where the cloud refuses it: then nothing was executed.
    async fn call(&self, operation: &'static str, request: Request<'_>) -> Result<Reply, CloudError> {
        let mut refused: Option<Token> = None;
        loop {
            let token = self.keystone.token(&self.http, refused.as_ref()).await?;
            let call = Call {
                operation,
                effect: request.effect,
                method: request.method.clone(),
                url: url(&token.endpoint, request.path, request.query),
                body: request.body,
                token: Some(&token.secret),
                if_match: request.if_match.map(|revision| revision.0),
            };
            match self.http.send(call).await {
                Err(CloudError { fault: CloudFault::Unauthorized(_), .. }) if refused.is_none() => {
                    refused = Some(token)
                }
                result => return result,
            }
        }
    }

    async fn write(
        &self,
        permit: &WritePermit,
        operation: &'static str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        if_match: Option<Revision>,
    ) -> Result<Reply, CloudError> {
        let effect = Effect::Write(permit);
        self.call(operation, Request { effect, method, path, query: &vec![], body, if_match }).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &str,
        query: &Query,
    ) -> Result<T, CloudError> {
        let (effect, method) = (Effect::Read, Method::GET);
        let request = Request { effect, method, path, query, body: None, if_match: None };
        self.call(operation, request).await?.json(operation)
    }

    /// Every page. Only the marker is taken from a page: its links may name a host that is not ours to call.
    ///
    /// A marker that has been deleted meanwhile is ignored and the first page comes again (seen on Neutron 29): an object
    /// that comes twice means that others may be missing.
    async fn pages<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &str,
        query: &Query,
        id: impl Fn(&T) -> String,
    ) -> Result<Vec<T>, CloudError> {
        let mut all: Vec<T> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut marker: Option<String> = None;
        let start = self.clock.monotonic();
        let endless = |text: String| Err(CloudError { operation, fault: CloudFault::BadReply(text) });
        for pages in 1.. {
            if pages > MOST_PAGES {
                return endless(format!("the list does not end after {MOST_PAGES} pages"));
            }
            if self.clock.monotonic() - start > LONGEST_LIST {
                return endless(format!("the list does not end within {} s", LONGEST_LIST.as_secs()));
            }
            let mut query = query.clone();
            query.push(("limit", self.page.to_string()));
            query.extend(marker.clone().map(|marker| ("marker", marker)));
            let page: Page<T> = self.read(operation, path, &query).await?;
            let more = page.links.iter().any(|link| link.rel == "next");
            marker = page.items.last().map(&id);
            if !page.items.iter().all(|item| seen.insert(id(item))) {
                let fault = CloudFault::BadReply("the list changed while it was read".to_owned());
                return Err(CloudError { operation, fault });
            }
            all.extend(page.items);
            if !more || marker.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// Every object that has one of these values in `field`, and all of `also`. Of no value there is none.
    async fn pages_of<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &str,
        (field, values): (&'static str, &BTreeSet<String>),
        also: &[(&'static str, String)],
        id: impl Fn(&T) -> String + Copy,
    ) -> Result<Vec<T>, CloudError> {
        let mut found = Vec::new();
        let values: Vec<&String> = values.iter().collect();
        for part in values.chunks(FILTERS) {
            // Several values of one filter are alternatives.
            let mut query: Query = part.iter().map(|value| (field, (*value).clone())).collect();
            query.extend(also.iter().cloned());
            found.extend(self.pages(operation, path, &query, id).await?);
        }
        Ok(found)
    }
}

fn url(endpoint: &Url, path: &str, query: &Query) -> Url {
    let mut url = endpoint.clone();
    url.set_path(&format!("{}/{path}", endpoint.path().trim_end_matches('/')));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// The object after a change. The change has happened even if the reply cannot be read, so that is not an error which
/// says "nothing happened".
fn changed<T: DeserializeOwned>(reply: &Reply, operation: &'static str) -> Result<T, CloudError> {
    let unclear =
        |error: CloudError| CloudError { fault: CloudFault::Unclear(error.fault.to_string()), ..error };
    Ok(reply.json::<One<T>>(operation).map_err(unclear)?.floatingip)
}

/// What is gone already needs no deletion.
fn gone(deleted: Result<Reply, CloudError>) -> Result<(), CloudError> {
    match deleted {
        Ok(_) | Err(CloudError { fault: CloudFault::NotFound(_), .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[async_trait]
impl FloatingIps for Neutron {
    async fn project(&self) -> Result<ProjectId, CloudError> {
        Ok(self.keystone.token(&self.http, None).await?.project)
    }

    async fn network(&self, name_or_id: &str, kind: NetworkKind) -> Result<NetworkId, CloudError> {
        let external = kind == NetworkKind::External;
        let key = (name_or_id.to_owned(), external);
        let now = self.clock.monotonic();
        if let Some((at, known)) = self.networks.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && now.saturating_sub(*at) < NETWORK_STAYS
        {
            return Ok(known.clone());
        }
        let operation = "find the network";
        let field = if uuid::Uuid::try_parse(name_or_id).is_ok() { "id" } else { "name" };
        let mut query = vec![(field, name_or_id.to_owned())];
        if external {
            query.push(("router:external", "true".to_owned()));
        }
        let found: Vec<WireNetwork> =
            self.pages(operation, "networks", &query, |network: &WireNetwork| network.id.clone()).await?;
        let fits = |network: &WireNetwork| {
            (network.id == name_or_id || network.name == name_or_id) && (!external || network.external)
        };
        let fitting: Vec<WireNetwork> = found.into_iter().filter(fits).collect();
        let name = name_or_id.to_owned();
        match fitting.as_slice() {
            [one] => {
                let id = NetworkId::new(&one.id);
                self.networks.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (now, id.clone()));
                Ok(id)
            }
            // Not remembered: a service that has just started was seen to answer with an empty list.
            [] => Err(CloudError { operation, fault: CloudFault::NetworkUnknown { name, kind } }),
            several => {
                let fault = CloudFault::NetworkAmbiguous { name, count: several.len() };
                Err(CloudError { operation, fault })
            }
        }
    }

    async fn qos_policies(&self, name_or_id: &str) -> Result<Vec<QosPolicy>, CloudError> {
        let operation = "find the QoS policy";
        let field = if uuid::Uuid::try_parse(name_or_id).is_ok() { "id" } else { "name" };
        let query = vec![(field, name_or_id.to_owned())];
        let found: Vec<WireQosPolicy> =
            self.pages(operation, "qos/policies", &query, |policy: &WireQosPolicy| policy.id.clone()).await?;
        let asked = |policy: &WireQosPolicy| policy.id == name_or_id || policy.name == name_or_id;
        Ok(found.into_iter().filter(asked).map(QosPolicy::from).collect())
    }

    async fn quota(&self) -> Result<Option<Quota>, CloudError> {
        let project = self.keystone.token(&self.http, None).await?.project;
        let path = format!("quotas/{project}/details.json");
        match self.read::<WireQuotas>("read the quota", &path, &Vec::new()).await {
            Ok(quotas) => Ok(Some(quotas.quota.floatingip.into())),
            // A cloud without details of quotas, or one that keeps them to administrators.
            Err(CloudError { fault: CloudFault::NotFound(_) | CloudFault::Forbidden(_), .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn routed(
        &self,
        external: &NetworkId,
        targets: &BTreeSet<Binding>,
    ) -> Result<Option<BTreeSet<Binding>>, CloudError> {
        let of_port = |port: &WirePort| port.id.clone();
        let asked: BTreeSet<String> = targets.iter().map(|target| target.port.to_string()).collect();
        let mut ports: Vec<WirePort> =
            self.pages_of("find the pods' ports", "ports", ("id", &asked), &[], of_port).await?;
        ports.retain(|port| asked.contains(&port.id));
        let networks = ports.iter().map(|port| port.network_id.clone()).collect();
        let owners = ROUTER_INTERFACES.map(|owner| ("device_owner", owner.to_owned()));
        let interfaces: Vec<WirePort> = self
            .pages_of("find the routers' ports", "ports", ("network_id", &networks), &owners, of_port)
            .await?;
        let ids = interfaces.iter().filter_map(WirePort::router).map(str::to_owned).collect();
        let of_router = |router: &WireRouter| router.id.clone();
        let routers: Vec<WireRouter> =
            self.pages_of("find the routers", "routers", ("id", &ids), &[], of_router).await?;
        Ok(Some(routers::routed(external, targets, &ports, &interfaces, &routers)))
    }

    async fn list(&self) -> Result<Vec<FloatingIp>, CloudError> {
        let project = self.project().await?;
        let query = vec![("project_id", project.as_str().to_owned())];
        let all = self
            .pages("list floating IPs", "floatingips", &query, |fip: &WireFloatingIp| fip.id.clone())
            .await?;
        Ok(all.into_iter().map(FloatingIp::from).filter(|fip| fip.project == project).collect())
    }

    async fn get(&self, id: &AddressId) -> Result<Option<FloatingIp>, CloudError> {
        match self
            .read::<One<WireFloatingIp>>("read a floating IP", &format!("floatingips/{id}"), &vec![])
            .await
        {
            Ok(one) => Ok(Some(one.floatingip.into())),
            Err(CloudError { fault: CloudFault::NotFound(_), .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn ports(
        &self,
        network: Option<&NetworkId>,
        fixed_ips: &BTreeSet<Ipv4Addr>,
    ) -> Result<Vec<Port>, CloudError> {
        let mut found = Vec::new();
        let wanted: Vec<&Ipv4Addr> = fixed_ips.iter().collect();
        for part in wanted.chunks(FILTERS) {
            // Several values of one filter are alternatives.
            let mut query: Query = part.iter().map(|ip| ("fixed_ips", format!("ip_address={ip}"))).collect();
            query.extend(network.map(|network| ("network_id", network.as_str().to_owned())));
            let ports = self
                .pages("find the pods' ports", "ports", &query, |port: &WirePort| port.id.clone())
                .await?;
            let fits = |port: &Port| {
                network.is_none_or(|network| port.network == *network)
                    && port.fixed_ips.iter().any(|ip| fixed_ips.contains(ip))
            };
            found.extend(ports.into_iter().map(Port::from).filter(fits));
        }
        Ok(found)
    }

    async fn ingress_rules(
        &self,
        groups: &BTreeSet<SecurityGroupId>,
    ) -> Result<Vec<IngressRule>, CloudError> {
        let mut found = Vec::new();
        let wanted: Vec<&SecurityGroupId> = groups.iter().collect();
        for part in wanted.chunks(FILTERS) {
            let mut query: Query =
                part.iter().map(|id| ("security_group_id", id.as_str().to_owned())).collect();
            query.push(("direction", "ingress".to_owned()));
            let rules: Vec<WireRule> = self
                .pages("read security group rules", "security-group-rules", &query, |rule: &WireRule| {
                    rule.id.clone()
                })
                .await?;
            let ingress = rules.into_iter().filter(|rule| rule.direction == "ingress").map(IngressRule::from);
            found.extend(ingress.filter(|rule| groups.contains(&rule.group)));
        }
        Ok(found)
    }

    async fn create(&self, permit: WritePermit, new: &NewFloatingIp) -> Result<FloatingIp, CloudError> {
        let operation = "create a floating IP";
        let body = wire::create(new);
        let reply = self.write(&permit, operation, Method::POST, "floatingips", Some(&body), None).await?;
        Ok(changed::<WireFloatingIp>(&reply, operation)?.into())
    }

    async fn update(
        &self,
        permit: WritePermit,
        id: &AddressId,
        read_at: Revision,
        change: &Change,
    ) -> Result<FloatingIp, CloudError> {
        let operation = match change {
            Change::Bind { .. } => "bind a floating IP",
            Change::Unbind { .. } => "unbind a floating IP",
            Change::Describe(_) => "describe a floating IP",
            Change::Limit(_) => "limit a floating IP",
        };
        let path = format!("floatingips/{id}");
        let body = wire::update(change);
        let reply = self.write(&permit, operation, Method::PUT, &path, Some(&body), Some(read_at)).await?;
        Ok(changed::<WireFloatingIp>(&reply, operation)?.into())
    }

    async fn delete(&self, permit: WritePermit, id: &AddressId, read_at: Revision) -> Result<(), CloudError> {
        let path = format!("floatingips/{id}");
        let operation = "release a floating IP";
        gone(self.write(&permit, operation, Method::DELETE, &path, None, Some(read_at)).await)
    }

    async fn create_policy(
        &self,
        permit: WritePermit,
        limits: &BandwidthLimits,
    ) -> Result<QosPolicyId, CloudError> {
        let operation = "create a QoS policy";
        let body = wire::create_policy(limits);
        self.policy_refusals().hold(self.clock.monotonic())?;
        let reply = self.write(&permit, operation, Method::POST, "qos/policies", Some(&body), None).await;
        self.policy_refusals().take(&reply, self.clock.monotonic());
        let reply = reply?;
        Ok(QosPolicyId::new(changed::<WireQosPolicy>(&reply, operation)?.id))
    }

    async fn add_rule(
        &self,
        permit: WritePermit,
        policy: &QosPolicyId,
        rule: (Direction, u32),
    ) -> Result<(), CloudError> {
        let path = format!("qos/policies/{policy}/bandwidth_limit_rules");
        let body = wire::add_rule(rule);
        self.write(&permit, "limit a QoS policy", Method::POST, &path, Some(&body), None).await.map(drop)
    }

    async fn delete_policy(&self, permit: WritePermit, policy: &QosPolicyId) -> Result<(), CloudError> {
        let path = format!("qos/policies/{policy}");
        gone(self.write(&permit, "remove a QoS policy", Method::DELETE, &path, None, None).await)
    }
}
