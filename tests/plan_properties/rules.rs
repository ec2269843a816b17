//! What must hold at every step, judged by the world itself and not by what the planner saw of it.

use std::collections::{BTreeMap, BTreeSet};

use kafka_external_access::{
    api::{BrokerState, KafkaExternalAccessStatus, Retention, Rollout},
    cloud::{FloatingIp, limits::MANAGED},
    domain::{AddressId, Marker},
    plan::{Action, Plan, desired::Desired},
};

use crate::world::{CLUSTER, UID, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours(u32),
    TakenOver(u32),
    Others,
}

fn whose(address: &FloatingIp) -> Whose {
    match Marker::parse(&address.description) {
        Some(Marker::Owned(marker)) if marker.key.name == "kafka" && marker.cluster.as_str() == CLUSTER => {
            let ordinal = marker.ordinal.0;
            if marker.uid.as_str() == UID { Whose::Ours(ordinal) } else { Whose::TakenOver(ordinal) }
        }
        Some(Marker::Retained(marker)) if marker.key.name == "kafka" => Whose::TakenOver(marker.ordinal.0),
        _ => Whose::Others,
    }
}

fn find<'a>(world: &'a World, id: &AddressId) -> &'a FloatingIp {
    world.addresses.iter().find(|address| address.id == *id).unwrap_or_else(|| panic!("{id} does not exist"))
}

/// The user gave it to this object, now or until the last status.
fn is_adopted(world: &World, address: &FloatingIp) -> bool {
    let chosen = world.object.spec.brokers.iter().any(|broker| broker.address == Some(address.address));
    let recorded = world.object.status.iter().flat_map(|status| &status.brokers).any(|broker| {
        broker.adopted == Some(true) && broker.address_id.as_deref() == Some(address.id.as_str())
    });
    chosen || recorded
}

/// Addresses that the operator must leave exactly as they are.
pub fn others_addresses(world: &World) -> BTreeMap<AddressId, FloatingIp> {
    let others = world.addresses.iter().filter(|address| whose(address) == Whose::Others);
    let others = others.filter(|address| !is_adopted(world, address));
    others.map(|address| (address.id.clone(), address.clone())).collect()
}

/// A plan as a whole.
pub fn plan_is_allowed(world: &World, desired: &Desired, plan: &Plan) {
    if desired.mode == kafka_external_access::api::Mode::Plan {
        assert_eq!(plan.actions, [], "mode Plan acts");
    }
    let mut created = BTreeSet::new();
    let mut held = world.held();
    for action in &plan.actions {
        match action {
            Action::HoldObject => held = true,
            Action::LetObjectGo | Action::HoldSecret | Action::LetSecretGo | Action::ClearReplace => {}
            _ => assert!(held, "a write before the object is held: {action:?}"),
        }
        if let Action::Allocate { ordinal, .. } = action {
            assert!(created.insert(*ordinal), "two create calls for broker {ordinal}");
        }
    }
}

/// One action, at the moment it is carried out.
pub fn action_is_allowed(world: &World, desired: &Desired, action: &Action) {
    match action {
        Action::WriteFiles { .. }
        | Action::DeleteFiles { .. }
        | Action::ChangeTemplate { .. }
        | Action::Restart { .. } => panic!("no spec here consents to restarts: {action:?}"),
        Action::Allocate { ordinal, new, .. } => {
            let ours = |address: &&FloatingIp| whose(address) == Whose::Ours(ordinal.0);
            assert_eq!(world.addresses.iter().find(ours), None, "broker {ordinal} has an address already");
            assert_eq!(Some(&new.binding), world.target(ordinal.0).as_ref());
            not_lost(world, desired, ordinal.0);
        }
        Action::RemovePolicy { id, .. } => {
            let policy = world.policies.iter().find(|policy| policy.id == *id).expect("it exists");
            assert_eq!(policy.description, MANAGED, "somebody else's policy: {policy:?}");
        }
        Action::Bind { ordinal, id, to, marker, .. } => {
            let address = find(world, id);
            assert_ne!(address.binding.as_ref().filter(|_| marker.is_none()), Some(to), "changes nothing");
            assert_eq!(Some(to), world.target(ordinal.0).as_ref());
            match whose(address) {
                Whose::Ours(of) => assert_eq!(of, ordinal.0),
                Whose::TakenOver(of) => assert_eq!(of, ordinal.0),
                Whose::Others => assert!(is_adopted(world, address) && marker.is_none(), "{address:?}"),
            }
        }
        Action::Unbind { id, .. } => {
            let address = find(world, id);
            let at_own_broker =
                || (0..10).any(|o| world.target(o).is_some_and(|t| Some(&t) == address.binding.as_ref()));
            let own = || {
                world.pods.iter().any(|(ordinal, pod)| {
                    address.binding.as_ref() == Some(&crate::world::binding(*ordinal, pod.incarnation))
                })
            };
            assert!(address.binding.is_some(), "unbinds what is not bound");
            if whose(address) == Whose::Others {
                assert!(is_adopted(world, address) && (at_own_broker() || own()), "{address:?}");
            }
        }
        Action::Limit { ordinal, id, .. } => assert_eq!(whose(find(world, id)), Whose::Ours(ordinal.0)),
        Action::Retain { ordinal, id, .. } => assert_eq!(whose(find(world, id)), Whose::Ours(ordinal.0)),
        Action::Release { ordinal, id, .. } => {
            let address = find(world, id);
            assert_eq!(whose(address), Whose::Ours(ordinal.0));
            nobody_tells_it(world, desired, address);
        }
        Action::Advertise { ordinal, endpoint, .. } => {
            let bound = world.target(ordinal.0).and_then(|target| world.holder(&target).cloned());
            let bound =
                bound.unwrap_or_else(|| panic!("broker {ordinal} would advertise {endpoint} in vain"));
            assert_eq!(bound.address.to_string(), endpoint.host);
        }
        Action::LetObjectGo => {
            let kept = |address: &&FloatingIp| matches!(whose(address), Whose::Ours(_));
            assert_eq!(world.addresses.iter().find(kept), None, "an address is forgotten");
        }
        Action::HoldObject
        | Action::HoldSecret
        | Action::LetSecretGo
        | Action::Withdraw { .. }
        | Action::MakePolicy { .. }
        | Action::ClearReplace => {}
    }
}

/// I9.
fn not_lost(world: &World, desired: &Desired, ordinal: u32) {
    let status = world.object.status.iter().flat_map(|status| &status.brokers);
    let recorded = status.filter(|broker| broker.ordinal == ordinal && broker.adopted != Some(true));
    let recorded: Vec<_> = recorded.filter(|broker| broker.address_id.is_some()).collect();
    let allowed = desired.replace.iter().any(|replace| replace.0 == ordinal);
    assert!(recorded.is_empty() || allowed, "{recorded:?} is replaced without the user's word");
}

/// I10, by what is really stored, also where nobody can be asked. A StatefulSet that is gone, with its pods, is the
/// user's word that its brokers do not come back.
fn nobody_tells_it(world: &World, desired: &Desired, address: &FloatingIp) {
    let Some(listener) = &desired.listener else { return };
    let comes_back = |ordinal: u32| world.replicas.is_some() || world.pods.contains_key(&ordinal);
    if listener.rollout == Rollout::Manual {
        return;
    }
    for ordinal in world.brokers.keys().filter(|ordinal| comes_back(**ordinal)) {
        let told = world.told(*ordinal).map(|endpoint| endpoint.host);
        assert_ne!(told, Some(address.address.to_string()), "broker {ordinal} tells it to clients");
    }
}

/// I5, and texts that fit.
pub fn status_is_true(world: &World, status: &KafkaExternalAccessStatus) {
    for broker in &status.brokers {
        if broker.state == BrokerState::Ready {
            let bound = world.target(broker.ordinal).and_then(|target| world.holder(&target).cloned());
            assert_eq!(bound.map(|bound| bound.address.to_string()), broker.address, "{broker:?}");
        }
        assert!(broker.message.as_ref().is_none_or(|text| text.len() <= 1024));
    }
    let entries: Vec<&str> = status.bootstrap_servers.iter().flat_map(|list| list.split(',')).collect();
    assert_eq!(entries.len(), entries.iter().collect::<BTreeSet<_>>().len(), "{entries:?}");
}

/// Ports of brokers that hold an address of somebody else are freed, as the sentence tells the user.
pub fn clear_ports_of_strangers(world: &mut World) {
    for ordinal in world.wanted() {
        let Some(target) = world.target(ordinal) else { continue };
        let others = |address: &&mut FloatingIp| {
            address.binding.as_ref() == Some(&target) && whose(address) == Whose::Others
        };
        if let Some(address) = world.addresses.iter_mut().find(others) {
            address.binding = None;
            address.revision.0 += 1;
        }
    }
}

/// Every broker has exactly one address, it leads there, and the status says so.
pub fn everything_works(world: &World, status: &KafkaExternalAccessStatus) {
    for ordinal in world.wanted() {
        let ours = world.addresses.iter().filter(|address| whose(address) == Whose::Ours(ordinal));
        let ours: Vec<_> = ours.collect();
        assert_eq!(ours.len(), 1, "broker {ordinal}: {ours:?} {status:#?}");
        assert_eq!(ours[0].binding, world.target(ordinal), "{status:#?}");
        if let Some(wanted) =
            world.object.spec.addresses.as_ref().and_then(|wanted| wanted.bandwidth.as_ref())
        {
            let policy = world.policies.iter().find(|policy| Some(&policy.id) == ours[0].qos_policy.as_ref());
            let policy = policy.unwrap_or_else(|| panic!("broker {ordinal} is not limited: {status:#?}"));
            assert!(wanted.qos_policy.as_ref().is_none_or(|name| policy.name == *name), "{policy:?}");
            let egress = wanted.egress_mbps.map(|mbps| mbps * 1000);
            assert!(egress.is_none() || policy.egress_kbps == egress, "{policy:?}");
        }
        if world.object.spec.listener.is_some() {
            let told = world.told(ordinal).map(|endpoint| endpoint.host);
            assert_eq!(told, Some(ours[0].address.to_string()), "{status:#?}");
        }
    }
    let wanted = world.wanted().len();
    let ready = status.summary.as_ref().map(|summary| summary.ready.as_str());
    assert_eq!(ready, Some(format!("{wanted}/{wanted}").as_str()), "{status:#?}");
    let condition = |name: &str| {
        let found = status.conditions.iter().find(|condition| condition.type_ == name);
        found.map(|condition| condition.status.clone()).unwrap_or_default()
    };
    for name in ["Accepted", "Programmed", "Ready"] {
        assert_eq!(condition(name), "True", "{name}: {status:#?}");
    }
    if wanted > 0 {
        assert_eq!(condition("Reachable"), "True", "{status:#?}");
        let entries = status.bootstrap_servers.as_deref().unwrap_or_default().split(',').count();
        assert_eq!(entries, wanted, "{status:#?}");
    }
}

/// The object is gone: so is everything that only it knew.
pub fn nothing_is_left(world: &World) {
    let ours: Vec<_> = world.addresses.iter().filter(|a| matches!(whose(a), Whose::Ours(_))).collect();
    assert_eq!(ours, Vec::<&FloatingIp>::new(), "leaked");
    assert!(!world.secret_held, "the Secret is held for nobody");
    let policy = world.object.spec.addresses.as_ref().map(|wanted| wanted.retention_policy.when_deleted);
    let retained = policy == Some(Retention::Retain);
    if !retained {
        for (ordinal, pod) in &world.pods {
            let broker = &world.brokers[ordinal];
            let asked = pod.has_address && !broker.down && world.replicas.is_some();
            assert!(!asked || world.told(*ordinal).is_none(), "broker {ordinal} still has our listener");
        }
    }
}
