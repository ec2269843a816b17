//! Whose address is it? The marker in the cloud decides, nothing else.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    desired::Desired,
    observed::{CloudView, Observed, OtherAccess},
};
use crate::{
    cloud::{Binding, FloatingIp},
    domain::{AccessKey, Marker, Ordinal, OwnerMarker},
};

/// Whose a floating IP is, seen from one object.
///
/// | marker | then |
/// |---|---|
/// | ours, this UID | ours |
/// | this cluster, namespace and name, another UID; or retained for this name | to be taken over |
/// | this cluster, an object that exists | another object's |
/// | this cluster, an object that does not exist (complete list) | an orphan: reported, never touched |
/// | none, altered, or of another cluster | foreign: never touched |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This object's, for this broker.
    Ours(Ordinal),
    /// Left by a former object of this name, for this broker.
    TakeOver(Ordinal),
    /// Another object's.
    Other,
    /// Nobody's any more.
    Orphan,
    /// Not the product's.
    Foreign,
}

/// Classifies one floating IP.
pub fn owner(address: &FloatingIp, desired: &Desired, observed: &Observed) -> Owner {
    match Marker::parse(&address.description) {
        Some(Marker::Owned(marker)) if marker.cluster == observed.cluster => {
            if marker.key == desired.key {
                return if marker.uid == desired.uid {
                    Owner::Ours(marker.ordinal)
                } else {
                    Owner::TakeOver(marker.ordinal)
                };
            }
            let alive = observed.others.iter().any(|other| other.key == marker.key);
            if alive { Owner::Other } else { Owner::Orphan }
        }
        Some(Marker::Retained(marker)) if marker.cluster == observed.cluster && marker.key == desired.key => {
            Owner::TakeOver(marker.ordinal)
        }
        _ => Owner::Foreign,
    }
}

/// The namespace that the marker of an address names.
pub fn namespace_of(address: &FloatingIp) -> Option<String> {
    Marker::parse(&address.description).map(|marker| match marker {
        Marker::Owned(marker) => marker.key.namespace,
        Marker::Retained(marker) => marker.key.namespace,
    })
}

/// The marker that this object writes for a broker.
pub fn marker(desired: &Desired, observed: &Observed, ordinal: Ordinal) -> OwnerMarker {
    OwnerMarker {
        cluster: observed.cluster.clone(),
        key: desired.key.clone(),
        uid: desired.uid.clone(),
        ordinal,
    }
}

/// All addresses of the project, sorted for this object.
pub struct Holdings<'a> {
    /// Ours, by broker; oldest first.
    pub ours: BTreeMap<Ordinal, Vec<&'a FloatingIp>>,
    /// To be taken over, by broker; oldest first.
    pub take_over: BTreeMap<Ordinal, Vec<&'a FloatingIp>>,
    /// Orphans of this cluster.
    pub orphans: Vec<&'a FloatingIp>,
    by_binding: BTreeMap<&'a Binding, (&'a FloatingIp, Owner)>,
}

impl<'a> Holdings<'a> {
    /// Sorts the complete list.
    pub fn of(cloud: &'a CloudView, desired: &Desired, observed: &Observed) -> Self {
        let mut holdings = Self {
            ours: BTreeMap::new(),
            take_over: BTreeMap::new(),
            orphans: Vec::new(),
            by_binding: BTreeMap::new(),
        };
        let mut oldest_first: Vec<&FloatingIp> = cloud.addresses.iter().collect();
        oldest_first.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        for address in oldest_first {
            let owner = owner(address, desired, observed);
            match owner {
                Owner::Ours(ordinal) => holdings.ours.entry(ordinal).or_default().push(address),
                Owner::TakeOver(ordinal) => holdings.take_over.entry(ordinal).or_default().push(address),
                Owner::Orphan => holdings.orphans.push(address),
                Owner::Other | Owner::Foreign => {}
            }
            if let Some(binding) = &address.binding {
                holdings.by_binding.insert(binding, (address, owner));
            }
        }
        holdings
    }

    /// Who is bound to a port and fixed IP now.
    pub fn holder(&self, of: &Binding) -> Option<(&'a FloatingIp, Owner)> {
        self.by_binding.get(of).copied()
    }
}

/// The older of two objects is served: the earlier creation, then the smaller UID.
pub fn is_older(other: &OtherAccess, desired: &Desired, observed: &Observed) -> bool {
    let times = match (other.created_at, observed.own.created_at) {
        (Some(theirs), Some(ours)) => theirs.cmp(&ours),
        _ => Ordering::Equal,
    };
    times.then_with(|| other.uid.cmp(&desired.uid)) == Ordering::Less
}

/// Other live objects, this one left out.
pub fn others<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = &'a OtherAccess> {
    observed.others.iter().filter(|other| other.uid != desired.uid)
}

/// The brokers that have an address of this object: by the status, which a failed write may have left behind, or by a
/// marker in the cloud.
pub fn with_address(desired: &Desired, observed: &Observed) -> BTreeSet<Ordinal> {
    let brokers = observed.own.status.brokers.iter().filter(|broker| broker.address.is_some());
    let recorded = brokers.map(|broker| Ordinal(broker.ordinal));
    let cloud = super::seen(desired, observed).ok();
    let marked = cloud.into_iter().flat_map(|cloud| &cloud.addresses);
    let marked = marked.filter_map(|address| match owner(address, desired, observed) {
        Owner::Ours(ordinal) => Some(ordinal),
        _ => None,
    });
    recorded.chain(marked).collect()
}

/// Addresses of the user's own that lead to this object's brokers: those that the spec names, and those that it named
/// before, whose unbinding may be outstanding.
pub fn adopted<'a>(
    desired: &'a Desired,
    observed: &'a Observed,
    cloud: &'a CloudView,
) -> impl Iterator<Item = (Ordinal, &'a FloatingIp)> {
    let chosen = desired.chosen_addresses.iter().filter_map(|(ordinal, chosen)| {
        Some((*ordinal, cloud.addresses.iter().find(|address| address.address == *chosen)?))
    });
    // An older object may have adopted what this one names as well; what stands in our own status is ours.
    let is_recorded = |ordinal: Ordinal, address: &FloatingIp| {
        let recorded = observed.recorded(ordinal).and_then(|broker| broker.address_id.as_deref());
        recorded == Some(address.id.as_str())
    };
    let chosen = chosen.filter(move |(ordinal, address): &(Ordinal, &FloatingIp)| {
        is_recorded(*ordinal, address) || wanted_by_older(address, desired, observed).is_none()
    });
    let recorded = observed.own.status.brokers.iter().filter(|broker| broker.adopted == Some(true));
    let before = recorded.filter_map(|broker| {
        let id = broker.address_id.as_deref()?;
        Some((Ordinal(broker.ordinal), cloud.addresses.iter().find(|address| address.id.as_str() == id)?))
    });
    let given_up =
        before.filter(|(ordinal, address)| desired.chosen_addresses.get(ordinal) != Some(&address.address));
    chosen.chain(given_up).filter(|(ordinal, address)| {
        let ports = cloud.ports.get(ordinal).map(Vec::as_slice).unwrap_or_default();
        address.binding.as_ref().is_some_and(|binding| ports.iter().any(|port| port.id == binding.port))
    })
}

/// The older object that names this address as well.
pub fn wanted_by_older<'a>(
    address: &FloatingIp,
    desired: &'a Desired,
    observed: &'a Observed,
) -> Option<&'a OtherAccess> {
    others(desired, observed).find(|other| {
        other.wants.as_ref().is_some_and(|wants| wants.chosen_addresses.contains(&address.address))
            && is_older(other, desired, observed)
    })
}

/// I2: the older object that wants the same StatefulSet and listener.
pub fn older_rival<'a>(desired: &'a Desired, observed: &'a Observed) -> Option<&'a AccessKey> {
    let listener = desired.listener.as_ref().map(|listener| listener.name.clone());
    let target = (desired.stateful_set.clone(), listener);
    others(desired, observed)
        .find(|other| {
            other.key.namespace == desired.key.namespace
                && other.wants.as_ref().is_some_and(|wants| wants.target == target)
                && is_older(other, desired, observed)
        })
        .map(|other| &other.key)
}
