//! What the object wants, validated: after this nobody reads the raw spec.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use super::{
    Problem,
    class::{Classes, Grant},
};
use crate::{
    api::{
        Bandwidth, BrokerOverride, KafkaExternalAccess, KafkaExternalAccessSpec, MetricsSource, Mode,
        OnDelete, OpenStackProvider, Provider, ProviderType, REPLACE_ANNOTATION, RetentionPolicy, Rollout,
        SecurityProtocol, Vantage, conditions::Reason,
    },
    cloud::limits::BandwidthLimits,
    domain::{AccessKey, Endpoint, Ordinal, SecretKey, Uid},
    reach::never_a_host,
};

const LONGEST_NAME: usize = 63;

/// A spec that can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Namespace and name.
    pub key: AccessKey,
    /// UID of the object.
    pub uid: Uid,
    /// Apply or only plan.
    pub mode: Mode,
    /// Name of the StatefulSet.
    pub stateful_set: String,
    /// The broker's container, where named.
    pub container: Option<String>,
    /// Name of the internal listener.
    pub internal_listener: String,
    /// How to reach the internal listener, where given.
    pub bootstrap: Vec<Endpoint>,
    /// The listener for clients outside; `None`: the addresses serve the internal listener.
    pub listener: Option<WantedListener>,
    /// Where addresses come from.
    pub provider: WantedProvider,
    /// What the class allows, where one is used.
    pub grant: Option<Grant>,
    /// The classes whose credential is the Secret of [`Self::provider`].
    pub classes_of_secret: BTreeSet<String>,
    /// What happens to unused addresses.
    pub retention: RetentionPolicy,
    /// What every address may carry; `None`: whatever policy it has is left as it is.
    pub limit: Option<WantedLimit>,
    /// What single brokers' addresses may carry.
    pub limit_of: BTreeMap<Ordinal, WantedLimit>,
    /// The user accepts that more than the listener is reachable.
    pub accept_exposure: bool,
    /// Addresses to adopt (OpenStack) or to use (Static); unique.
    pub chosen_addresses: BTreeMap<Ordinal, Ipv4Addr>,
    /// Names to advertise for single brokers.
    pub advertised_hosts: BTreeMap<Ordinal, String>,
    /// Brokers whose lost address may be replaced.
    pub replace: BTreeSet<Ordinal>,
    /// Time between two probes.
    pub probe_interval: Duration,
    /// Limit for each step of a probe.
    pub probe_timeout: Duration,
    /// Whose view counts.
    pub probe_from: Vantage,
    /// Where the brokers' byte counters are.
    pub metrics: Option<WantedMetrics>,
}

impl Desired {
    /// What one broker's address may carry, where the spec says so.
    pub fn limit_for(&self, ordinal: Ordinal) -> Option<&WantedLimit> {
        self.limit_of.get(&ordinal).or(self.limit.as_ref())
    }

    /// All limits that the spec names.
    pub fn limits(&self) -> BTreeSet<&WantedLimit> {
        self.limit_of.values().chain(&self.limit).collect()
    }
}

/// A limit, and who keeps the policy that says it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WantedLimit {
    /// The user: a policy of this name or identifier.
    Named(String),
    /// The operator: a policy of its own.
    Managed(BandwidthLimits),
}

impl WantedLimit {
    /// Name, or identifier, of the policy.
    pub fn policy(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Managed(limits) => limits.policy_name(),
        }
    }
}

/// The listener for clients outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedListener {
    /// Its name in Kafka.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// Its protocol.
    pub protocol: SecurityProtocol,
    /// How it comes into the brokers.
    pub rollout: Rollout,
    /// Name to advertise, with placeholders.
    pub host_template: Option<String>,
    /// The pod template becomes what it was when the object goes.
    pub restore: bool,
    /// Restarts may make partitions unavailable.
    pub allow_unavailable: bool,
}

/// Where the brokers' byte counters are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedMetrics {
    /// At an endpoint of each broker's pod.
    Endpoint(MetricsEndpoint),
    /// With the kubelets.
    Kubelet,
}

/// Where each broker's pod shows its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsEndpoint {
    /// Its port.
    pub port: u16,
    /// Its path.
    pub path: String,
    /// Counter of bytes sent.
    pub sent: String,
    /// Counter of bytes received.
    pub received: String,
}

/// Where addresses come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedProvider {
    /// OpenStack.
    OpenStack {
        /// Entry of clouds.yaml.
        cloud_name: String,
        /// The Secret with the credential.
        secret: SecretKey,
        /// External network, name or identifier.
        floating_network: String,
        /// Pods' network, name or identifier.
        pod_network: Option<String>,
    },
    /// Addresses that somebody else binds.
    Static,
    /// None: the pods' own, as long as each pod has its.
    PodAddresses,
}

/// Reads an object. The API server has checked most of it; what it let through is checked again, since a CRD may be
/// older or newer than this program.
///
/// # Errors
/// What is wrong with the spec or with its class.
pub fn desired(object: &KafkaExternalAccess, classes: &Classes) -> Result<Desired, Problem> {
    let invalid = |text: String| Problem::new(Reason::InvalidSpec, text);
    let spec = &object.spec;
    let metadata = &object.metadata;
    let (Some(namespace), Some(name), Some(uid)) = (&metadata.namespace, &metadata.name, &metadata.uid)
    else {
        return Err(invalid("the object has no namespace, name or UID".to_owned()));
    };
    if name.len() > LONGEST_NAME {
        // It stands in the marker of each address, which the cloud limits to 255 characters.
        return Err(invalid(format!(
            "metadata.name has more than {LONGEST_NAME} characters; create the object with a shorter one"
        )));
    }
    let addresses = spec.addresses.as_ref();
    let bootstrap = spec.kafka.bootstrap_servers.iter().flat_map(|list| list.split(','));
    let bootstrap = bootstrap.map(|entry| entry.trim().parse::<Endpoint>()).collect::<Result<_, _>>();
    let (provider, grant) = provider(object, classes)?;
    let classes_of_secret = match &provider {
        WantedProvider::OpenStack { secret, .. } => classes.of_secret(secret),
        WantedProvider::Static | WantedProvider::PodAddresses => BTreeSet::new(),
    };
    let limited = |limit| grant.as_ref().map_or(Clone::clone(&limit), |grant| grant.limit(limit));
    let limit = limited(addresses.and_then(|addresses| addresses.bandwidth.as_ref()).map(limit).transpose()?);
    let limit_of = limits_of_brokers(spec)?.into_iter();
    let limit_of = limit_of.filter_map(|(ordinal, limit)| Some((ordinal, limited(Some(limit))?))).collect();
    Ok(Desired {
        key: AccessKey { namespace: namespace.clone(), name: name.clone() },
        uid: Uid::new(uid),
        mode: spec.mode,
        stateful_set: spec.kafka.stateful_set.name.clone(),
        container: spec.kafka.stateful_set.container.clone(),
        internal_listener: spec.kafka.internal_listener.clone(),
        bootstrap: bootstrap.map_err(|error| invalid(format!("kafka.bootstrapServers: {error}")))?,
        listener: listener(spec)?,
        provider,
        grant,
        classes_of_secret,
        retention: addresses.map(|addresses| addresses.retention_policy).unwrap_or_default(),
        limit,
        limit_of,
        accept_exposure: addresses.is_some_and(|addresses| addresses.accept_exposure),
        chosen_addresses: chosen_addresses(spec)?,
        advertised_hosts: advertised_hosts(spec)?,
        replace: replace(object)?,
        probe_interval: duration("probe.interval", &spec.probe.interval)?,
        probe_from: spec.probe.from,
        probe_timeout: duration("probe.timeout", &spec.probe.timeout)?,
        metrics: metrics(spec)?,
    })
}

fn invalid(text: impl Into<String>) -> Problem {
    Problem::new(Reason::InvalidSpec, text)
}

fn limits_of_brokers(spec: &KafkaExternalAccessSpec) -> Result<BTreeMap<Ordinal, WantedLimit>, Problem> {
    let own = |broker: &BrokerOverride| {
        broker.bandwidth.as_ref().map(|bandwidth| Ok((Ordinal(broker.ordinal), limit(bandwidth)?)))
    };
    spec.brokers.iter().filter_map(own).collect()
}

fn limit(bandwidth: &Bandwidth) -> Result<WantedLimit, Problem> {
    let Bandwidth { qos_policy, egress_mbps, ingress_mbps } = bandwidth;
    match (qos_policy, egress_mbps.or(*ingress_mbps)) {
        (Some(name), None) => Ok(WantedLimit::Named(name.clone())),
        (None, Some(_)) => Ok(WantedLimit::Managed(BandwidthLimits {
            egress_mbps: *egress_mbps,
            ingress_mbps: *ingress_mbps,
        })),
        _ => Err(invalid("bandwidth: set either qosPolicy, or egressMbps and ingressMbps or one of them")),
    }
}

fn listener(spec: &KafkaExternalAccessSpec) -> Result<Option<WantedListener>, Problem> {
    let Some(listener) = &spec.listener else { return Ok(None) };
    if listener.name.eq_ignore_ascii_case(&spec.kafka.internal_listener) {
        return Err(invalid(format!(
            "listener.name {} is the internal listener's; choose another",
            listener.name
        )));
    }
    if let Some(template) = &listener.advertised_host_template
        && !["{ordinal}", "{podName}", "{nodeId}"].iter().any(|placeholder| template.contains(placeholder))
    {
        return Err(invalid("listener.advertisedHostTemplate must contain {ordinal}, {podName} or {nodeId}"));
    }
    Ok(Some(WantedListener {
        name: listener.name.clone(),
        port: listener.port,
        protocol: listener.security_protocol,
        rollout: listener.rollout,
        host_template: listener.advertised_host_template.clone(),
        restore: listener.on_delete == OnDelete::Restore,
        allow_unavailable: listener.allow_unavailable,
    }))
}

fn metrics(spec: &KafkaExternalAccessSpec) -> Result<Option<WantedMetrics>, Problem> {
    let Some(metrics) = &spec.metrics else { return Ok(None) };
    match (metrics.source, metrics.port) {
        (MetricsSource::Kubelet, None) => Ok(Some(WantedMetrics::Kubelet)),
        (MetricsSource::Endpoint, Some(port)) => Ok(Some(WantedMetrics::Endpoint(MetricsEndpoint {
            port,
            path: metrics.path.clone(),
            sent: metrics.sent_bytes.clone(),
            received: metrics.received_bytes.clone(),
        }))),
        _ => Err(invalid("metrics.port must be set exactly when metrics.source is Endpoint")),
    }
}

fn provider(
    object: &KafkaExternalAccess,
    classes: &Classes,
) -> Result<(WantedProvider, Option<Grant>), Problem> {
    let spec = &object.spec;
    let Some(addresses) = &spec.addresses else {
        if spec.listener.is_some() {
            return Err(invalid("listener needs addresses; without them brokers are reached at their pods"));
        }
        if spec.brokers.iter().any(|broker| broker.address.is_some() || broker.bandwidth.is_some()) {
            return Err(invalid("brokers[].address and brokers[].bandwidth need addresses"));
        }
        return Ok((WantedProvider::PodAddresses, None));
    };
    match (&addresses.provider, &addresses.class_ref) {
        (Some(provider), None) => {
            let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
            Ok((own_provider(provider, namespace)?, None))
        }
        (None, Some(class)) => {
            let (grant, openstack) = classes.grant(&class.name, object)?;
            Ok((wanted(openstack, &classes.operator_namespace), Some(grant)))
        }
        _ => Err(invalid("set either addresses.provider or addresses.classRef")),
    }
}

fn own_provider(provider: &Provider, namespace: &str) -> Result<WantedProvider, Problem> {
    match (provider.kind, &provider.openstack) {
        (ProviderType::Static, None) => Ok(WantedProvider::Static),
        (ProviderType::OpenStack, Some(openstack)) => Ok(wanted(openstack, namespace)),
        (ProviderType::OpenStack, None) => Err(invalid("addresses.provider.openstack is missing")),
        (ProviderType::Static, Some(_)) => {
            Err(invalid("addresses.provider.openstack is set although type is Static"))
        }
    }
}

/// With the Secret of a namespace.
fn wanted(openstack: &OpenStackProvider, namespace: &str) -> WantedProvider {
    WantedProvider::OpenStack {
        cloud_name: openstack.cloud_name.clone(),
        secret: SecretKey {
            namespace: namespace.to_owned(),
            name: openstack.credentials_secret_ref.name.clone(),
        },
        floating_network: openstack.floating_network.clone(),
        pod_network: openstack.pod_network.clone(),
    }
}

fn chosen_addresses(spec: &KafkaExternalAccessSpec) -> Result<BTreeMap<Ordinal, Ipv4Addr>, Problem> {
    let mut chosen = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for broker in &spec.brokers {
        let Some(address) = broker.address else { continue };
        if let Some(kind) = never_a_host(address.into()) {
            return Err(invalid(format!("brokers[].address {address} is {kind}, which no broker has")));
        }
        if !seen.insert(address) {
            return Err(invalid(format!("brokers[].address {address} is given twice")));
        }
        chosen.insert(Ordinal(broker.ordinal), address);
    }
    Ok(chosen)
}

fn advertised_hosts(spec: &KafkaExternalAccessSpec) -> Result<BTreeMap<Ordinal, String>, Problem> {
    let mut hosts = BTreeMap::new();
    for broker in &spec.brokers {
        let Some(host) = &broker.advertised_host else { continue };
        if hosts.values().any(|other| other == host) {
            return Err(invalid(format!(
                "brokers[].advertisedHost {host} is given twice; each broker needs its own"
            )));
        }
        hosts.insert(Ordinal(broker.ordinal), host.clone());
    }
    Ok(hosts)
}

fn replace(object: &KafkaExternalAccess) -> Result<BTreeSet<Ordinal>, Problem> {
    let text =
        object.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REPLACE_ANNOTATION));
    let ordinals =
        text.into_iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty());
    let ordinals = ordinals.map(|text| text.parse().map(Ordinal)).collect::<Result<_, _>>();
    ordinals.map_err(|_| {
        invalid(format!("annotation {REPLACE_ANNOTATION} must list ordinals, for example \"2\""))
    })
}

/// `30s` or `2m`.
fn duration(field: &str, text: &str) -> Result<Duration, Problem> {
    interval(text).ok_or_else(|| invalid(format!("{field}: \"{text}\" is not a duration such as 30s or 2m")))
}

/// Whole seconds or minutes, more than none: `30s`, `2m`.
pub fn interval(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|number| *number > 0)?;
    match unit {
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_whole_seconds_or_minutes_and_more_than_none() {
        assert_eq!(interval("1s"), Some(Duration::from_secs(1)));
        assert_eq!(interval("2m"), Some(Duration::from_secs(120)));
        for wrong in
            ["", "s", "0s", "0m", "-1s", "1.5s", "30", "1h", "99999999999999999999s", "18446744073709551615m"]
        {
            assert_eq!(interval(wrong), None, "{wrong}");
        }
    }
}
