//! What must hold after every step, judged by what the servers themselves hold and never by what the product thinks.
//!
//! | | held to |
//! |---|---|
//! | I1 | one address for each broker of an object; one more for each create call whose answer nobody heard |
//! | I2 | a marker changes hands only when its former object is gone |
//! | I3 | without our marker nothing is changed or deleted; the user's own addresses are only bound and unbound |
//! | I4 | the finalizer stands before the first write to the cloud, and an object that is gone has left nothing |
//! | I5 | what the status says of a broker was so within the drift interval |
//! | I6 | see [`World::check_leader`] |
//! | I7, I8 | judged at the end of a schedule |
//! | I9 | an address that the status records and the cloud has lost is not replaced unless the user said so |
//! | I10 | no address is released that a broker tells, or has stored |

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kafka_external_access::{
    api::{
        BrokerState, BrokerStatus, FINALIZER, KafkaExternalAccess, KafkaExternalAccessStatus, Listener,
        OnDelete, REPLACE_ANNOTATION, Retention, Rollout,
    },
    cloud::{Change, FloatingIp, NewFloatingIp},
    domain::{Marker, OwnerMarker},
    kafka::ListenerSetting,
    listeners::restart::template,
};

use crate::{
    workload::pod_name,
    world::{CLUSTER, DRIFT, SECRET, SET, World, node},
};

/// How long ago what a status claims may have been seen.
const HINDSIGHT: Duration = Duration::from_secs(DRIFT.as_secs() + 120);

/// From the read of a spec to the effect of what it asked for, late ones included.
const OVERTAKEN: Duration = Duration::from_secs(60);
/// The same for a call that is late: its client gave up after a minute, and its effect comes 170 s after that at most.
const OVERTAKEN_LATE: Duration = Duration::from_secs(60 + 60 + 170);

#[derive(Default)]
pub struct Ledger {
    /// The cloud's addresses after each change.
    history: VecDeque<(Duration, Vec<FloatingIp>)>,
    /// Create calls that were sent and whose sender has not heard a clear answer, by description.
    unheard: BTreeMap<String, u32>,
    /// What somebody changed by hand about addresses with our marker.
    pub by_hand: u32,
    /// Lists that were not true.
    pub disturbed: u32,
    /// Objects that exist, by UID.
    objects: BTreeMap<String, Parting>,
    /// Addresses that a status has told, by object and broker.
    told: BTreeMap<(String, u32), BTreeSet<String>>,
    /// Since when the StatefulSet is there.
    set_since: Option<Duration>,
    /// When there was neither it nor a broker that it left, for the last time.
    without_brokers: Option<Duration>,
    /// Addresses of the user that a spec names, or named, until when.
    chosen: BTreeMap<Ipv4Addr, Duration>,
    /// An object or an address was let go while there was no StatefulSet: nobody could take out what brokers have stored.
    pub went_without_set: bool,
    /// An object ended that lets brokers go on telling their addresses; or nobody knows any more that a broker was told one.
    pub brokers_may_tell: bool,
    /// Since when the Secret is there and nobody holds it.
    secret_unheld_since: Option<Duration>,
    /// Successful writes, by name.
    pub done: BTreeMap<&'static str, u64>,
}

/// The marker of an address of this cluster.
pub fn owned(description: &str) -> Option<OwnerMarker> {
    match Marker::parse(description) {
        Some(Marker::Owned(marker)) if marker.cluster.as_str() == CLUSTER => Some(marker),
        _ => None,
    }
}

/// What an object leaves when it goes.
struct Parting {
    /// The pod template becomes what it was.
    restores: bool,
    /// Brokers may go on telling addresses, which stay bound.
    brokers_may_tell: bool,
}

impl Parting {
    fn of(object: &KafkaExternalAccess) -> Self {
        let listener = object.spec.listener.as_ref();
        let restores = |listener: &Listener| {
            listener.rollout == Rollout::Restart && listener.on_delete == OnDelete::Restore
        };
        let addresses = object.spec.addresses.as_ref();
        let retains = addresses.is_some_and(|a| a.retention_policy.when_deleted == Retention::Retain);
        Self {
            // One that was never held has changed nothing.
            restores: listener.is_some_and(restores) && is_held(&object.metadata),
            brokers_may_tell: retains && listener.is_some_and(|l| l.rollout == Rollout::Manual),
        }
    }
}

fn is_held(metadata: &ObjectMeta) -> bool {
    metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

impl Ledger {
    pub fn create_sent(&mut self, new: &NewFloatingIp) {
        *self.unheard.entry(new.description.clone()).or_default() += 1;
    }

    pub fn create_answered(&mut self, description: &str, clear: bool) {
        if clear && let Some(count) = self.unheard.get_mut(description) {
            *count = count.saturating_sub(1);
        }
    }

    /// Somebody takes the marker off. Where no status has told the address yet, nobody knows whose it was, nor that the
    /// broker was told it.
    pub fn marker_altered(&mut self, address: &FloatingIp) {
        let ip = address.address.to_string();
        self.brokers_may_tell |= !self.told.values().any(|told| told.contains(&ip));
    }

    pub fn addresses_at(&self, at: Duration) -> Vec<FloatingIp> {
        let known = self.history.iter().rev().find(|(since, _)| *since <= at);
        known.map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }

    /// After each step: what the cloud holds.
    pub fn look(&mut self, world: &World, addresses: &[FloatingIp]) -> Vec<String> {
        let now = world.now();
        let mut found = Vec::new();
        if self.history.back().is_none_or(|(_, last)| last != addresses) {
            self.history.push_back((now, addresses.to_vec()));
            while self.history.get(1).is_some_and(|(at, _)| *at + HINDSIGHT < now) {
                self.history.pop_front();
            }
            found.extend(self.each_broker_has_one(addresses));
        }
        let set = world.api.of_stateful_set(SET, |_| ()).is_some();
        self.set_since = set.then(|| self.set_since.unwrap_or(now));
        if !set && (0..8).all(|ordinal| !world.is_up(ordinal)) {
            self.without_brokers = Some(now);
        }
        let present = world.api.of_accesses(|objects| {
            for object in objects.values() {
                let chosen = object.spec.brokers.iter().filter_map(|broker| broker.address);
                self.chosen.extend(chosen.map(|address| (address, now)));
            }
            objects
                .values()
                .filter_map(|object| Some((object.metadata.uid.clone()?, Parting::of(object))))
                .collect()
        });
        let unheld = world.api.secret_now(SECRET).is_some_and(|secret| !is_held(&secret.metadata));
        self.secret_unheld_since = unheld.then(|| self.secret_unheld_since.unwrap_or(now));
        let before = std::mem::replace(&mut self.objects, present);
        for (gone, parting) in before.into_iter().filter(|(uid, _)| !self.objects.contains_key(uid)) {
            // One that comes back may overtake a decision that was made without it.
            let without_set = self.set_since.is_none_or(|since| now < since + OVERTAKEN);
            self.went_without_set |= without_set;
            let left = addresses.iter().find(|address| {
                owned(&address.description).is_some_and(|marker| marker.uid.as_str() == gone)
            });
            if let Some(left) = left {
                found.push(format!("I4: object {gone} is gone and left {left:?}"));
            }
            let ours = || world.api.of_stateful_set(SET, |set| template::is_ours(set, "EXTERNAL"));
            self.brokers_may_tell |= parting.brokers_may_tell;
            if parting.restores && self.objects.is_empty() && !without_set && ours() == Some(true) {
                found.push(format!("object {gone} is gone and left its listener in the pod template"));
            }
        }
        found
    }

    fn each_broker_has_one(&self, addresses: &[FloatingIp]) -> Option<String> {
        let mut count: BTreeMap<&str, u32> = BTreeMap::new();
        for address in addresses.iter().filter(|address| owned(&address.description).is_some()) {
            *count.entry(&address.description).or_default() += 1;
        }
        count.into_iter().find_map(|(description, count)| {
            let unheard = self.unheard.get(description).copied().unwrap_or(0);
            let allowed = 1 + unheard + self.by_hand + self.disturbed;
            (count > allowed).then(|| format!("I1: {count} addresses are marked {description}"))
        })
    }
}

impl World {
    fn owner(&self, marker: &OwnerMarker) -> Option<KafkaExternalAccess> {
        let object = self.api.access_now(&marker.key)?;
        (object.metadata.uid.as_deref() == Some(marker.uid.as_str())).then_some(object)
    }

    fn must_be_held(&self, marker: &OwnerMarker, what: &str) {
        match self.owner(marker) {
            Some(object) if is_held(&object.metadata) => {}
            Some(_) => self.violate(format!("I4: {what} for {marker} before the finalizer stood")),
            None => self.violate(format!("I4: {what} for {marker}, which does not exist")),
        }
        // Without it nothing could be released any more once it is deleted. One that was made anew is held soon.
        let since = self.ledger().secret_unheld_since;
        if since.is_some_and(|since| self.now() > since + HINDSIGHT) {
            self.violate(format!("I4: {what} for {marker}, and nobody holds the Secret"));
        }
    }

    /// A create call has had its effect.
    pub fn created(self: &Arc<Self>, made: &FloatingIp) {
        self.count_done("create");
        let Some(marker) = owned(&made.description) else {
            return self.violate(format!("I3: {made:?} was made without a marker"));
        };
        self.must_be_held(&marker, "an address");
    }

    /// A create call is sent: its effect may come much later, when another one has been told.
    pub fn creating(&self, new: &NewFloatingIp) {
        self.ledger().create_sent(new);
        let Some(marker) = owned(&new.description) else { return };
        let Some(object) = self.owner(&marker) else { return };
        let permitted = object.metadata.annotations.unwrap_or_default().contains_key(REPLACE_ANNOTATION);
        let told = (marker.uid.as_str().to_owned(), marker.ordinal.0);
        let told = self.ledger().told.get(&told).cloned().unwrap_or_default();
        if !permitted && !told.is_empty() {
            self.violate(format!("I9: {new:?} replaces {told:?}, and nobody allowed it"));
        }
    }

    /// An address has been changed.
    pub fn updated(self: &Arc<Self>, before: &FloatingIp, after: &FloatingIp, change: &Change) {
        self.count_done("update");
        if (&before.binding, &before.description) == (&after.binding, &after.description)
            && before.qos_policy == after.qos_policy
        {
            self.violate(format!("a change that changes nothing: {change:?} of {before:?}"));
        }
        match Marker::parse(&before.description) {
            Some(Marker::Owned(was)) if was.cluster.as_str() != CLUSTER => {
                self.violate(format!("I3: {change:?} of {before:?}, which is another cluster's"));
            }
            Some(Marker::Owned(was)) => {
                let hands = owned(&after.description).filter(|now| now.uid != was.uid);
                match hands {
                    Some(now) if self.owner(&was).is_some() => {
                        self.violate(format!("I2: {was} became {now} while its object lives"));
                    }
                    Some(now) => self.must_be_held(&now, "a takeover"),
                    None => self.must_be_held(&was, "a change"),
                }
            }
            Some(Marker::Retained(was)) => match owned(&after.description) {
                Some(now) => self.must_be_held(&now, "a takeover"),
                // It holds the port of another broker: out of the way first, taken over next.
                None if matches!(change, Change::Unbind { description: None })
                    && self.api.access_now(&was.key).is_some() => {}
                None => self.violate(format!("I3: {change:?} of the retained {before:?}")),
            },
            None => {
                let only_binds = matches!(
                    change,
                    Change::Bind { description: None, .. } | Change::Unbind { description: None }
                );
                if !only_binds || !self.is_adopted(before) {
                    self.violate(format!("I3: {change:?} of {before:?}, which is not ours"));
                }
            }
        }
    }

    fn is_adopted(&self, address: &FloatingIp) -> bool {
        // An edit may overtake a call.
        let until = self.ledger().chosen.get(&address.address).copied();
        let chosen_lately = until.is_some_and(|until| self.now() < until + OVERTAKEN_LATE);
        chosen_lately
            || self.api.accesses_now().iter().any(|object| {
                let chosen = object.spec.brokers.iter().any(|broker| broker.address == Some(address.address));
                let recorded = |broker: &BrokerStatus| {
                    broker.adopted == Some(true) && broker.address_id.as_deref() == Some(address.id.as_str())
                };
                chosen || object.status.iter().flat_map(|status| &status.brokers).any(recorded)
            })
    }

    /// An address has been released.
    pub fn deleted(self: &Arc<Self>, before: &FloatingIp) {
        self.count_done("delete");
        let Some(marker) = owned(&before.description) else {
            return self.violate(format!("I3: {before:?} was deleted and is not ours"));
        };
        self.must_be_held(&marker, "a release");
        let no_set = self.api.of_stateful_set(SET, |_| ()).is_none();
        self.ledger().went_without_set |= no_set;
        // What we have released ourselves is not lost.
        if let Some(told) = self.ledger().told.get_mut(&(marker.uid.as_str().to_owned(), marker.ordinal.0)) {
            told.remove(&before.address.to_string());
        }
        if let Some(teller) = self.told_by(before) {
            self.violate(format!("I10: {before:?} was released, and {teller}"));
        }
    }

    /// Who tells this address, or will.
    fn told_by(&self, address: &FloatingIp) -> Option<String> {
        let host = format!("://{}:", address.address);
        // Those that come again may overtake a call that was sent without them.
        let lately = |at: Duration| self.now() < at + OVERTAKEN_LATE;
        let set = self.ledger().set_since.is_some_and(|since| !lately(since));
        let came_lately = self.ledger().without_brokers.is_some_and(lately);
        for ordinal in 0..8 {
            let up = self.is_up(ordinal) && !came_lately;
            let stored = self.kafka.stored(node(ordinal));
            let stored = stored.get(&ListenerSetting::AdvertisedListeners).filter(|_| set || up);
            if stored.is_some_and(|text| text.contains(&host)) {
                return Some(format!("it is stored for broker {ordinal}"));
            }
            let file = self.broker_tells(ordinal).filter(|text| text.contains(&host));
            if file.is_some() && up {
                return Some(format!("broker {ordinal} has told it since its start"));
            }
        }
        let read = self.api.of_stateful_set(SET, template::refers_to_files) == Some(true);
        let files = self.api.config_map_now(&format!("{SET}-external-access")).filter(|_| set && read);
        let in_file = files.and_then(|map| {
            map.data?.into_iter().find(|(_, text)| text.contains(&host)).map(|(name, _)| name)
        });
        in_file.map(|name| format!("{name} says it"))
    }

    pub fn status_written(&self, of: &KafkaExternalAccess, status: &KafkaExternalAccessStatus) {
        self.count_done("write_status");
        self.trace(|| {
            let brokers = status.brokers.iter().map(|broker| {
                let (ordinal, state, reason) = (broker.ordinal, broker.state, &broker.reason);
                let said = broker.message.as_deref().unwrap_or_default();
                format!("{ordinal} {state:?} {reason:?} {:?} {:?} {said}", broker.address, broker.address_id)
            });
            let brokers: Vec<_> = brokers.collect();
            let (name, plan) = (&of.metadata.name, &status.plan);
            let conditions =
                status.conditions.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.reason));
            let conditions: Vec<_> = conditions.collect();
            format!("told of {name:?}: {}; plan {plan:?}; {}", brokers.join("; "), conditions.join(", "))
        });
        let uid = of.metadata.uid.clone().unwrap_or_default();
        let mut ledger = self.ledger();
        let mut wrong = None;
        // Where an address goes with its broker, one that was lost is forgotten with it.
        if of
            .spec
            .addresses
            .as_ref()
            .is_some_and(|addresses| addresses.retention_policy.when_scaled == Retention::Delete)
        {
            let known = ledger.told.len();
            ledger.told.retain(|(owner, ordinal), _| {
                *owner != uid || status.brokers.iter().any(|broker| broker.ordinal == *ordinal)
            });
            // What such a broker has stored is known from nowhere any more.
            ledger.brokers_may_tell |= ledger.told.len() < known;
        }
        for (broker, address) in status.brokers.iter().filter_map(|b| Some((b, b.address.clone()?))) {
            let told = ledger.told.entry((uid.clone(), broker.ordinal)).or_default();
            // The user has put an address of his own in the place of what was told, which is what I9 waits for.
            if broker.adopted == Some(true) {
                told.clear();
            } else {
                told.insert(address);
            }
        }
        for broker in status.brokers.iter().filter(|broker| broker.state == BrokerState::Ready) {
            let (Some(id), Some(target)) = (&broker.address_id, &broker.target) else { continue };
            let so = ledger.history.iter().any(|(_, addresses)| {
                addresses.iter().any(|address| {
                    address.id.as_str() == id
                        && address.binding.as_ref().is_some_and(|b| b.fixed_ip.to_string() == *target)
                })
            });
            if !so {
                wrong = Some(format!("I5: the status of {uid} says {broker:?}, and that was never so"));
            }
        }
        drop(ledger);
        if let Some(text) = wrong {
            self.violate(text);
        }
    }

    /// The gate: no broker is restarted while another one is down.
    pub fn evicting(&self, name: &str) {
        let down = self.others_down(name, Duration::from_secs(45));
        if !down.is_empty() {
            self.violate(format!("gate: {name} is evicted while {down:?} are down"));
        }
        let objects = self.api.accesses_now();
        let mut listeners = objects.iter().filter_map(|object| object.spec.listener.as_ref());
        let consent = listeners.any(|listener| listener.allow_unavailable);
        let since = *self.tight.lock().expect("not poisoned");
        let long = since.is_some_and(|since| self.now() > since + Duration::from_secs(45));
        // One that was scaled away meanwhile has no replica any more.
        let wanted = (0..self.wanted_pods()).any(|ordinal| pod_name(ordinal) == name);
        if long && wanted && !consent {
            self.violate(format!("gate: {name} is evicted while partitions need all their replicas"));
        }
    }

    pub fn evicted(&self, name: &str, done: bool) {
        if done {
            self.count_done("evict");
            self.trace(|| format!("{name} is evicted"));
        }
    }

    pub fn written(&self, name: &'static str, done: bool) {
        if done {
            self.count_done(name);
        }
    }

    fn count_done(&self, name: &'static str) {
        *self.ledger().done.entry(name).or_default() += 1;
    }
}
