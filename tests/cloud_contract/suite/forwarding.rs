//! Addresses that serve port forwardings.

use kafka_external_access::cloud::{Binding, Change, CloudFault, FloatingIp};

use super::{World, alter, bind, create, fault, one, read, release};

pub async fn an_address_that_forwards_ports_is_neither_free_nor_bound_nor_deleted(world: &dyn World) {
    let (target, other) = (one(world), one(world));
    let made = create(world, &target).await;
    let unbound = alter(world, &made, Change::Unbind { description: None }).await.expect("unbound");
    world.forward(&unbound.id, &target);
    let forwarding = read(world, &made.id).await;
    assert!(forwarding.has_port_forwardings && forwarding.binding.is_none() && !forwarding.is_free());
    let refusal = fault(alter(world, &forwarding, bind(&other)).await);
    assert!(matches!(refusal, CloudFault::InUseByPortForwarding(_)), "{refusal:?}");
    let refusal = fault(release(world, &made).await);
    assert!(matches!(refusal, CloudFault::InUseByPortForwarding(_)), "{refusal:?}");
    assert!(read(world, &made.id).await.has_port_forwardings);
}

async fn forwarding(world: &dyn World, to: &Binding) -> FloatingIp {
    let made = create(world, to).await;
    let unbound = alter(world, &made, Change::Unbind { description: None }).await.expect("unbound");
    assert!(world.forward(&unbound.id, to));
    read(world, &made.id).await
}

pub async fn a_bound_address_takes_no_port_forwarding(world: &dyn World) {
    let (target, other) = (one(world), one(world));
    let made = create(world, &target).await;
    assert!(!world.forward(&made.id, &other));
    let now = read(world, &made.id).await;
    assert_eq!((now.has_port_forwardings, now.binding), (false, Some(target)));
}

pub async fn a_bound_target_takes_no_port_forwarding(world: &dyn World) {
    let target = one(world);
    create(world, &target).await;
    let free = create(world, &one(world)).await;
    alter(world, &free, Change::Unbind { description: None }).await.expect("unbound");
    assert!(!world.forward(&free.id, &target));
    assert!(read(world, &free.id).await.is_free());
}

pub async fn a_target_with_a_port_forwarding_takes_an_address_of_its_own(world: &dyn World) {
    let target = one(world);
    let shared = forwarding(world, &target).await;
    assert_eq!(create(world, &target).await.binding, Some(target));
    assert!(read(world, &shared.id).await.has_port_forwardings);
}

pub async fn an_address_that_forwards_ports_is_described_and_limited(world: &dyn World) {
    let policy = world.share_policy("contract-limit", None, None);
    let shared = forwarding(world, &one(world)).await;
    alter(world, &shared, Change::Describe("shared".into())).await.expect("described");
    alter(world, &shared, Change::Limit(policy.clone())).await.expect("limited");
    let now = read(world, &shared.id).await;
    assert_eq!((now.description.as_str(), now.qos_policy), ("shared", Some(policy)));
    assert!(now.has_port_forwardings);
}

pub async fn the_last_port_forwarding_that_goes_leaves_the_address_free(world: &dyn World) {
    let target = one(world);
    let shared = forwarding(world, &target).await;
    world.stop_forwarding(&shared.id);
    assert!(read(world, &shared.id).await.is_free());
    alter(world, &shared, bind(&target)).await.expect("bound");
    release(world, &shared).await.expect("released");
}

pub async fn a_port_that_goes_takes_its_port_forwarding_with_it(world: &dyn World) {
    let target = one(world);
    let shared = forwarding(world, &target).await;
    world.remove_port(&target.port);
    assert!(read(world, &shared.id).await.is_free());
}
