//! What a class allows an object.
//!
//! | the class | then |
//! |---|---|
//! | does not exist | `ClassNotFound`; nothing is touched |
//! | names the object's namespace, or its selector matches the namespace's labels | served within the limits |
//! | does not (any more), `whenRevoked: Keep` | `NamespaceNotAllowed`; nothing new is bound, what is bound stays |
//! | the same, `whenRevoked: Unbind` | the same, and what is bound is unbound; nothing is released |
//! | the same, and the object is deleted | goes as ever: what is allocated can always be given back |
//!
//! | the object wants | then |
//! |---|---|
//! | an address more than `addressesPerNamespace`, counted by the markers in the cloud's own list | not allocated: `AddressLimitReached` |
//! | to adopt an address that is not in `adoption`, or there for other namespaces | not bound: `AddressNotAllowed`; one that is bound to its broker already stays |
//! | a QoS policy that is not in `qosPolicies`, or more Mbit/s than the class allows | `BandwidthNotAllowed`: no address is allocated with it, one that exists keeps the policy it has |
//! | no bandwidth, or only one direction | the class's limit holds where the object has none |

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::core::{Selector, SelectorExt};

use super::{
    Action, Plan, Problem,
    cost::{Money, Prices},
    desired::{Desired, WantedLimit},
    observed::{CloudState, CloudView, Observed},
    ownership::{self, Holdings},
};
use crate::{
    api::{
        AllowedNamespaces, ClassPrices, KafkaExternalAccess, KafkaExternalAccessClass, OpenStackProvider,
        WhenRevoked, conditions::Reason,
    },
    cloud::{Binding, FloatingIp, limits::BandwidthLimits},
    domain::{AccessKey, ClusterId, Marker, Ordinal, SecretKey},
    reach::Ipv4Net,
};

/// A label of a namespace changes without an event to this program.
const LOOK: Duration = Duration::from_secs(30);

/// The classes there are, for one object.
#[derive(Clone, Debug, Default)]
pub struct Classes {
    /// Every class.
    pub all: Vec<KafkaExternalAccessClass>,
    /// Where their Secrets are.
    pub operator_namespace: String,
    /// Labels of the object's namespace.
    pub labels: BTreeMap<String, String>,
}

/// What a class allows one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Name of the class.
    pub class: String,
    /// The object's namespace may use it.
    pub allowed: bool,
    /// What happens to what is bound when it may not.
    pub when_revoked: WhenRevoked,
    /// What the namespace may adopt.
    pub adoption: Vec<Ipv4Net>,
    /// Most addresses of the namespace.
    pub most_addresses: Option<usize>,
    /// Policies that may be named.
    pub qos_policies: BTreeSet<String>,
    /// Most that an address may carry.
    pub limits: BandwidthLimits,
    /// What the cloud charges, where the class says so.
    pub prices: Option<Prices>,
}

impl Classes {
    /// What the class of that name allows the object, and its cloud.
    ///
    /// # Errors
    /// [`Reason::ClassNotFound`], [`Reason::InvalidSpec`].
    pub fn grant(
        &self,
        name: &str,
        object: &KafkaExternalAccess,
    ) -> Result<(Grant, &OpenStackProvider), Problem> {
        let class = self.all.iter().find(|class| class.metadata.name.as_deref() == Some(name));
        let class = class.ok_or_else(|| {
            let text =
                format!("there is no KafkaExternalAccessClass {name}; nothing is touched until there is");
            Problem::new(Reason::ClassNotFound, text)
        })?;
        let openstack = class.spec.provider.openstack.as_ref();
        let openstack = openstack.ok_or_else(|| {
            Problem::new(Reason::InvalidSpec, format!("class {name} has no provider.openstack"))
        })?;
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let spec = &class.spec;
        let here = |list: &[String]| list.iter().any(|listed| listed == namespace);
        let adoption =
            spec.adoption.iter().filter(|part| part.namespaces.is_empty() || here(&part.namespaces));
        let most = spec.limits.addresses_per_namespace;
        let grant = Grant {
            class: name.to_owned(),
            allowed: here(&spec.namespaces.names) || self.selected(&spec.namespaces),
            when_revoked: spec.namespaces.when_revoked,
            adoption: adoption.filter_map(|part| part.addresses.parse().ok()).collect(),
            most_addresses: most.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            qos_policies: spec.limits.qos_policies.iter().cloned().collect(),
            limits: BandwidthLimits {
                egress_mbps: spec.limits.egress_mbps,
                ingress_mbps: spec.limits.ingress_mbps,
            },
            prices: spec.prices.as_ref().map(prices),
        };
        Ok((grant, openstack))
    }

    /// A selector that cannot be read matches nothing.
    fn selected(&self, namespaces: &AllowedNamespaces) -> bool {
        let selector = namespaces.selector.clone().and_then(|selector| Selector::try_from(selector).ok());
        selector.is_some_and(|selector| selector.matches(&self.labels))
    }

    /// Names of the classes whose credential is this Secret.
    pub fn of_secret(&self, secret: &SecretKey) -> BTreeSet<String> {
        let same = |class: &&KafkaExternalAccessClass| {
            secret.namespace == self.operator_namespace
                && class
                    .spec
                    .provider
                    .openstack
                    .as_ref()
                    .is_some_and(|openstack| openstack.credentials_secret_ref.name == secret.name)
        };
        self.all.iter().filter(same).filter_map(|class| class.metadata.name.clone()).collect()
    }
}

fn prices(of: &ClassPrices) -> Prices {
    let money = |text: &Option<String>| {
        text.as_deref().and_then(|text| text.parse::<Money>().ok()).unwrap_or_default()
    };
    Prices {
        currency: of.currency.chars().take(8).collect(),
        address_hour: money(&of.address_hour),
        mbps_hour: money(&of.mbps_hour),
        gb: money(&of.gb),
    }
}

/// The object's namespace may not use its class. True: nothing else is decided.
pub fn refused(desired: &Desired, observed: &Observed, plan: &mut Plan) -> bool {
    let Some(grant) = desired.grant.as_ref().filter(|grant| !grant.allowed) else { return false };
    let kept = match grant.when_revoked {
        WhenRevoked::Keep => {
            "addresses that are bound stay as they are, and a pod that moves is not followed"
        }
        WhenRevoked::Unbind => "addresses are unbound and kept",
    };
    let text = format!(
        "namespace {} may not use class {}; {kept}; let the platform team add it to the class's namespaces",
        desired.key.namespace, grant.class
    );
    plan.problems.push(Problem::new(Reason::NamespaceNotAllowed, text));
    plan.wake_in(LOOK);
    if let (WhenRevoked::Unbind, CloudState::Seen(cloud)) = (grant.when_revoked, &observed.cloud) {
        unbind(desired, observed, cloud, plan);
    }
    true
}

fn unbind(desired: &Desired, observed: &Observed, cloud: &CloudView, plan: &mut Plan) {
    let holdings = Holdings::of(cloud, desired, observed);
    let ours = holdings.ours.iter().flat_map(|(ordinal, several)| several.iter().map(|one| (*ordinal, *one)));
    let bound: BTreeMap<_, (Ordinal, &FloatingIp)> = ours
        .chain(ownership::adopted(desired, observed, cloud))
        .filter(|(_, address)| address.binding.is_some())
        .map(|(ordinal, address)| (&address.id, (ordinal, address)))
        .collect();
    for (ordinal, address) in bound.into_values() {
        plan.actions.push(Action::Unbind { ordinal, id: address.id.clone(), read_at: address.revision });
    }
}

/// How many addresses are allocated for a namespace, by the cloud's own list.
pub fn held_by(namespace: &str, cluster: &ClusterId, addresses: &[FloatingIp]) -> usize {
    let of_namespace = |address: &&FloatingIp| match Marker::parse(&address.description) {
        Some(Marker::Owned(marker)) => marker.cluster == *cluster && marker.key.namespace == namespace,
        Some(Marker::Retained(marker)) => marker.cluster == *cluster && marker.key.namespace == namespace,
        None => false,
    };
    addresses.iter().filter(of_namespace).count()
}

/// Whoever may not look into another namespace is not told what is there.
pub fn name_of(desired: &Desired, other: &AccessKey) -> String {
    match other.namespace == desired.key.namespace {
        true => other.to_string(),
        false => "an object of another namespace".to_owned(),
    }
}

/// Why the object's namespace may not have one address more.
pub fn full(desired: &Desired, observed: &Observed, cloud: &CloudView, plan: &Plan) -> Option<Problem> {
    let grant = desired.grant.as_ref()?;
    let most = grant.most_addresses?;
    let held = held_by(&desired.key.namespace, &observed.cluster, &cloud.addresses);
    let planned = plan.actions.iter().filter(|action| matches!(action, Action::Allocate { .. })).count();
    (held + planned >= most).then(|| {
            let text = format!(
                "namespace {} has {held} addresses of class {}, which allows {most}; give some back, or let the platform team allow more",
                desired.key.namespace, grant.class
            );
            Problem::new(Reason::AddressLimitReached, text)
        })
}

/// Why the object may not adopt an address. What is bound to its broker already stays, whatever the class says now.
pub fn not_adoptable(desired: &Desired, chosen: &FloatingIp, bound_to: Option<&Binding>) -> Option<Problem> {
    let bound = bound_to.is_some() && chosen.binding.as_ref() == bound_to;
    let grant = desired.grant.as_ref().filter(|_| !bound)?;
    let may = grant.adoption.iter().any(|network| network.contains(&chosen.address));
    (!may).then(|| {
        let text = format!(
            "class {} does not let namespace {} adopt {}; correct brokers[].address, or let the platform team add it to adoption",
            grant.class, desired.key.namespace, chosen.address
        );
        Problem::new(Reason::AddressNotAllowed, text)
    })
}

impl Grant {
    /// Why an address may not carry so much.
    pub fn not_permitted(&self, limit: &WantedLimit) -> Option<Problem> {
        let text = match limit {
            WantedLimit::Named(name) if self.qos_policies.contains(name) => return None,
            WantedLimit::Named(name) => {
                let listed: Vec<&str> = self.qos_policies.iter().map(String::as_str).collect();
                let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
                format!("class {} does not allow QoS policy {name}; it allows: {listed}", self.class)
            }
            WantedLimit::Managed(limits) => {
                let over = |wanted: Option<u32>, most: Option<u32>| {
                    most.is_some_and(|most| wanted.is_none_or(|wanted| wanted > most))
                };
                let most = &self.limits;
                if !over(limits.egress_mbps, most.egress_mbps)
                    && !over(limits.ingress_mbps, most.ingress_mbps)
                {
                    return None;
                }
                format!("class {} allows {most}, and the object asks for {limits}", self.class)
            }
        };
        Some(Problem::new(Reason::BandwidthNotAllowed, text))
    }

    /// The limit that holds: the class's own where the object has none.
    pub fn limit(&self, wanted: Option<WantedLimit>) -> Option<WantedLimit> {
        let most = self.limits;
        match wanted {
            None if most.greatest().is_some() => Some(WantedLimit::Managed(most)),
            Some(WantedLimit::Managed(limits)) => Some(WantedLimit::Managed(BandwidthLimits {
                egress_mbps: limits.egress_mbps.or(most.egress_mbps),
                ingress_mbps: limits.ingress_mbps.or(most.ingress_mbps),
            })),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_the_secret_of_its_name_in_the_namespace_of_the_operator() {
        let class = |name: &str, secret: &str| {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccessClass",
                "metadata": {"name": name},
                "spec": {"provider": {"type": "OpenStack", "openstack": {
                    "cloudName": "dev", "credentialsSecretRef": {"name": secret}, "floatingNetwork": "public",
                }}},
            }))
            .expect("a class")
        };
        let classes = Classes {
            all: vec![class("one", "openstack"), class("two", "openstack"), class("three", "other")],
            operator_namespace: "operator".into(),
            ..Classes::default()
        };
        let of = |namespace: &str, name: &str| {
            classes.of_secret(&SecretKey { namespace: namespace.into(), name: name.into() })
        };
        assert_eq!(of("operator", "openstack"), ["one".to_owned(), "two".to_owned()].into());
        assert_eq!(of("ydata", "openstack"), BTreeSet::new());
        assert_eq!(of("operator", "unknown"), BTreeSet::new());
    }
}
