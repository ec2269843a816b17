//! The cloud's own records against the objects: what must be so at every moment, and what must be so at rest.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Namespace, Pod},
};
use kafka_external_access::{
    api::KafkaExternalAccess,
    domain::{Marker, OwnerMarker},
};
use kube::{Api, ResourceExt, api::ListParams};
use lab::cloud::FloatingIp;

use crate::world::{NAMESPACE, World};

/// Addresses that are not ours, as they were when the run began.
pub struct Ledger {
    cluster: String,
    foreign: BTreeMap<String, FloatingIp>,
    /// One of them that the user lets the operator bind; it is never described, tagged or deleted.
    adopted: FloatingIp,
}

/// What one look at the records shows.
#[derive(Default)]
pub struct Seen {
    /// Ours, of an object that is gone.
    pub leaks: Vec<String>,
    /// Two addresses that lead to one port.
    pub double_bindings: Vec<String>,
    /// Ours, bound to a port that was never its broker's.
    pub astray: Vec<String>,
    /// Not ours, and not as it was.
    pub touched: Vec<String>,
    /// A second one for the same broker. Released after two sightings 30 s apart; no harm meanwhile.
    pub surplus: Vec<String>,
}

impl Seen {
    pub fn harm(&self) -> Vec<&String> {
        [&self.leaks, &self.double_bindings, &self.astray, &self.touched].into_iter().flatten().collect()
    }
}

fn show(address: &FloatingIp) -> String {
    format!("{} at {:?} \"{}\"", address.floating_ip_address, address.fixed_ip_address, address.description)
}

impl Ledger {
    /// Makes the foreign addresses: one of nobody, one with the marker of another cluster, one bound to another pod, one in
    /// another project that carries the very marker of a live broker, and one for the user's own choice.
    pub async fn open(world: &World) -> Self {
        let namespaces: Api<Namespace> = Api::all(world.kube.clone());
        let cluster = namespaces.get("kube-system").await.expect("it exists").uid().expect("a UID");
        let uid = world.access().await.expect("the object").uid().expect("a UID");
        let network = &world.cloud.facts().external_network_id;
        let ours = |cluster: &str| format!("kea/v1 c={cluster} n={NAMESPACE}/kafka u={uid} o=0");
        let other = world.cloud.other().expect("a session");
        let client = world.port("client").id;
        let make = |session: &lab::cloud::Session, text: &str, port: Option<&str>| {
            session.create_floating_ip(network, text, port).expect("a floating IP")
        };
        let adopted = make(&world.demo, "of the user", None);
        let foreign = [
            make(&world.demo, "of somebody", None),
            make(&world.demo, &ours("another-cluster"), None),
            make(&world.demo, "of the client", Some(&client)),
            make(&other, &ours(&cluster), None),
        ];
        Self { cluster, foreign: foreign.into_iter().map(|a| (a.id.clone(), a)).collect(), adopted }
    }

    /// The user's address that an object may be told to bind.
    pub fn to_adopt(&self) -> String {
        self.adopted.floating_ip_address.to_string()
    }

    /// Removes the foreign addresses.
    pub fn close(&self, world: &World) {
        for id in self.foreign.keys().chain([&self.adopted.id]) {
            world.admin.delete_floating_ip(id).expect("a floating IP can be deleted");
        }
    }

    fn marker(&self, address: &FloatingIp) -> Option<OwnerMarker> {
        match Marker::parse(&address.description) {
            Some(Marker::Owned(marker)) if marker.cluster.to_string() == self.cluster => {
                (!self.foreign.contains_key(&address.id)).then_some(marker)
            }
            _ => None,
        }
    }

    /// What must be so at every moment.
    pub async fn read(&self, world: &World) -> Seen {
        // An object that is made or goes between the lists is in one of them.
        let mut alive = uids(world).await;
        let addresses = world.admin.floating_ips().expect("floating IPs can be listed");
        let ports = world.admin.ports().expect("ports can be listed");
        alive.extend(uids(world).await);
        let mut seen = Seen::default();
        let (mut at_port, mut of_broker) = (BTreeSet::new(), BTreeSet::new());
        for address in &addresses {
            if address.port_id.as_ref().is_some_and(|port| !at_port.insert(port)) {
                seen.double_bindings.push(show(address));
            }
            let Some(marker) = self.marker(address) else { continue };
            if !alive.contains(marker.uid.as_str()) {
                seen.leaks.push(show(address));
            }
            let port = ports.iter().find(|port| Some(&port.id) == address.port_id.as_ref());
            let own = format!("{}/kafka-{}", marker.key.namespace, marker.ordinal);
            if port.is_some_and(|port| port.name != own) {
                seen.astray.push(format!("{} at {}", show(address), port.map_or("", |port| &port.name)));
            }
            if !of_broker.insert((marker.uid.to_string(), marker.ordinal)) {
                seen.surplus.push(show(address));
            }
        }
        seen.touched = self.touched(&addresses);
        seen
    }

    fn touched(&self, addresses: &[FloatingIp]) -> Vec<String> {
        // What the router reports of a bound address is no change of somebody's.
        let as_made = |a: &FloatingIp| {
            (
                a.port_id.clone(),
                a.fixed_ip_address,
                a.description.clone(),
                a.tags.clone(),
                a.qos_policy_id.clone(),
            )
        };
        let mut touched: Vec<String> = Vec::new();
        for (id, before) in &self.foreign {
            match addresses.iter().find(|address| address.id == *id) {
                Some(now) if as_made(now) == as_made(before) => {}
                now => touched.push(format!("{} is {:?}", show(before), now.map(show))),
            }
        }
        match addresses.iter().find(|address| address.id == self.adopted.id) {
            Some(now) if (&now.description, &now.tags) == (&self.adopted.description, &self.adopted.tags) => {
            }
            now => touched.push(format!("{} is {:?}", show(&self.adopted), now.map(show))),
        }
        touched
    }

    /// What must be so at rest: every broker that exists has one address, which leads to its pod; one that does not has one
    /// at most, which leads nowhere; and an object that is being deleted has none.
    pub async fn in_order(&self, world: &World) -> Result<(), String> {
        let objects = objects(world).await;
        let addresses = world.admin.floating_ips().map_err(|error| error.to_string())?;
        let mut of_broker: BTreeMap<(String, u32), Vec<&FloatingIp>> = BTreeMap::new();
        for address in &addresses {
            if let Some(marker) = self.marker(address) {
                of_broker.entry((marker.uid.to_string(), marker.ordinal.0)).or_default().push(address);
            }
        }
        for object in &objects {
            let uid = object.uid().unwrap_or_default();
            let wanted = wanted(world, object).await?;
            for (ordinal, target) in &wanted {
                // Its own is kept, or not, while it has one of the user's.
                let own = of_broker.remove(&(uid.clone(), *ordinal)).unwrap_or_default();
                let found: Vec<&FloatingIp> = match chosen(object, *ordinal) {
                    true => addresses.iter().filter(|address| address.id == self.adopted.id).collect(),
                    false => own,
                };
                let bound: Vec<_> = found.iter().map(|address| address.fixed_ip_address).collect();
                if bound != [Some(*target)] {
                    let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
                    let told = crate::world::describe(object);
                    return Err(format!("{name} broker {ordinal} at {target}: {found:?}; {told}"));
                }
            }
            let deleting = object.metadata.deletion_timestamp.is_some();
            of_broker.retain(|(of, ordinal), kept| {
                let idle = *of == uid && !deleting && !wanted.contains_key(ordinal);
                !(idle && kept.len() == 1 && kept[0].port_id.is_none())
            });
        }
        match of_broker.values().flatten().map(|address| show(address)).collect::<Vec<_>>() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("left over: {left:?}")),
        }
    }

    /// No object, and no address of ours.
    pub async fn nothing_left(&self, world: &World) -> Result<(), String> {
        let addresses = world.admin.floating_ips().map_err(|error| error.to_string())?;
        let ours: Vec<String> =
            addresses.iter().filter(|address| self.marker(address).is_some()).map(show).collect();
        let objects = objects(world).await;
        if ours.is_empty() && objects.is_empty() {
            return Ok(());
        }
        Err(format!("{ours:?}, {:?}", objects.iter().map(crate::world::describe).collect::<Vec<_>>()))
    }
}

/// The user has named the broker's address.
fn chosen(object: &KafkaExternalAccess, ordinal: u32) -> bool {
    object.spec.brokers.iter().any(|broker| broker.ordinal == ordinal && broker.address.is_some())
}

async fn objects(world: &World) -> Vec<KafkaExternalAccess> {
    let all: Api<KafkaExternalAccess> = Api::all(world.kube.clone());
    all.list(&ListParams::default()).await.expect("objects can be listed").items
}

async fn uids(world: &World) -> BTreeSet<String> {
    objects(world).await.iter().filter_map(ResourceExt::uid).collect()
}

/// The brokers that exist, and where their addresses must lead to. An error: a pod is on its way.
async fn wanted(
    world: &World,
    object: &KafkaExternalAccess,
) -> Result<BTreeMap<u32, std::net::Ipv4Addr>, String> {
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(BTreeMap::new());
    }
    let namespace = object.namespace().unwrap_or_default();
    let sets: Api<StatefulSet> = Api::namespaced(world.kube.clone(), &namespace);
    let set = sets.get_opt("kafka").await.expect("StatefulSets can be read");
    let replicas = set.and_then(|set| set.spec?.replicas).unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(world.kube.clone(), &namespace);
    let mut wanted = BTreeMap::new();
    for ordinal in 0..u32::try_from(replicas).unwrap_or_default() {
        let pod = pods.get_opt(&format!("kafka-{ordinal}")).await.expect("pods can be read");
        let pod = pod.filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let ip = pod.and_then(|pod| pod.status?.pod_ip?.parse().ok());
        wanted.insert(ordinal, ip.ok_or(format!("{namespace}/kafka-{ordinal} has no address yet"))?);
    }
    Ok(wanted)
}
