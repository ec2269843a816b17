//! What the cloud refuses, with which of its words, and that a refusal leaves nothing over.

use kafka_external_access::{
    cloud::{Binding, Change, CloudFault, NetworkKind},
    domain::{ErrorClass, NetworkId, Revision},
};

use super::{
    MARKER, World, alter, bind, create, fault, list, one, permit, read, release, try_create, try_create_from,
    try_describe,
};

pub async fn the_quota_refuses_one_more_and_its_raise_admits_it(world: &dyn World) {
    create(world, &one(world)).await;
    world.set_quota(1);
    let target = one(world);
    let refusal = fault(try_create(world, &target).await);
    assert!(matches!(refusal, CloudFault::QuotaExceeded(_)), "{refusal:?}");
    assert_eq!(refusal.class(), ErrorClass::Terminal);
    world.set_quota(2);
    create(world, &target).await;
}

pub async fn an_empty_pool_is_told_from_a_used_up_quota(world: &dyn World) {
    world.set_pool_empty(true);
    let target = one(world);
    let refusal = fault(try_create(world, &target).await);
    assert!(matches!(refusal, CloudFault::PoolEmpty(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
    world.set_pool_empty(false);
    create(world, &target).await;
}

pub async fn a_port_that_does_not_exist_is_not_found(world: &dyn World) {
    let target = one(world);
    world.remove_port(&target.port);
    let refusal = fault(try_create(world, &target).await);
    assert!(matches!(refusal, CloudFault::NotFound(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
}

pub async fn a_port_of_others_is_refused_and_nothing_is_left_over(world: &dyn World) {
    let foreign = world.port_of_others();
    let refusal = fault(try_create(world, &foreign).await);
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
    let made = create(world, &one(world)).await;
    let refusal = fault(alter(world, &made, bind(&foreign)).await);
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
    assert_eq!(read(world, &made.id).await.binding, made.binding);
}

pub async fn an_address_that_the_port_does_not_have_is_refused(world: &dyn World) {
    let wrong = Binding { fixed_ip: one(world).fixed_ip, ..one(world) };
    let refusal = fault(try_create(world, &wrong).await);
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
}

pub async fn a_port_without_a_router_is_told(world: &dyn World) {
    let island = world.port_without_router();
    let refusal = fault(try_create(world, &island).await);
    assert!(matches!(refusal, CloudFault::NoRouter(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
}

/// What a repeated creation hears: an answer of the quota says nothing about the first attempt.
pub async fn a_used_up_quota_is_told_before_a_taken_target(world: &dyn World) {
    let target = one(world);
    create(world, &target).await;
    world.set_quota(1);
    let refusal = fault(try_create(world, &target).await);
    assert!(matches!(refusal, CloudFault::QuotaExceeded(_)), "{refusal:?}");
}

pub async fn an_empty_pool_is_told_before_a_taken_target(world: &dyn World) {
    let target = one(world);
    create(world, &target).await;
    world.set_pool_empty(true);
    let refusal = fault(try_create(world, &target).await);
    assert!(matches!(refusal, CloudFault::PoolEmpty(_)), "{refusal:?}");
}

pub async fn a_used_up_quota_is_told_before_an_empty_pool(world: &dyn World) {
    create(world, &one(world)).await;
    world.set_pool_empty(true);
    world.set_quota(1);
    let refusal = fault(try_create(world, &one(world)).await);
    assert!(matches!(refusal, CloudFault::QuotaExceeded(_)), "{refusal:?}");
}

pub async fn a_description_that_is_too_long_is_told_before_the_quota(world: &dyn World) {
    world.set_quota(0);
    let refusal = fault(try_describe(world, &one(world), &"x".repeat(256)).await);
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
}

pub async fn a_used_up_quota_lets_addresses_move_and_go(world: &dyn World) {
    let made = create(world, &one(world)).await;
    world.set_quota(1);
    alter(world, &made, bind(&one(world))).await.expect("it moves");
    alter(world, &made, Change::Describe("another".into())).await.expect("it is described");
    release(world, &made).await.expect("it goes");
}

pub async fn addresses_of_others_do_not_count_in_the_quota(world: &dyn World) {
    world.address_of_others();
    world.set_quota(1);
    create(world, &one(world)).await;
}

pub async fn an_address_that_others_give_back_fills_an_empty_pool(world: &dyn World) {
    world.set_pool_empty(false);
    let theirs = world.set_pool_empty(true).expect("the last address");
    let target = one(world);
    assert!(matches!(fault(try_create(world, &target).await), CloudFault::PoolEmpty(_)));
    world.release_of_others(&theirs);
    create(world, &target).await;
}

pub async fn an_address_of_others_is_neither_changed_nor_released(world: &dyn World) {
    let theirs = world.address_of_others();
    let cloud = world.cloud(500);
    for read_at in [Revision(0), Revision(1)] {
        for change in
            [bind(&one(world)), Change::Describe(MARKER.into()), Change::Unbind { description: None }]
        {
            let refusal = fault(cloud.update(permit(), &theirs, read_at, &change).await);
            assert!(matches!(refusal, CloudFault::NotFound(_)), "{change:?}: {refusal:?}");
        }
        // What does not exist for us is as good as gone.
        assert_eq!(cloud.delete(permit(), &theirs, read_at).await, Ok(()));
    }
    assert!(world.others_have(&theirs));
}

pub async fn an_internal_network_gives_no_address(world: &dyn World) {
    let cloud = world.cloud(500);
    let pods = cloud.network(world.networks()[1], NetworkKind::Internal).await.expect("the pods' network");
    let refusal = fault(try_create_from(world, pods, &one(world)).await);
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
}

pub async fn a_network_that_does_not_exist_gives_no_address(world: &dyn World) {
    let nobody = NetworkId::new("00000000-0000-4000-8000-000000000000");
    let refusal = fault(try_create_from(world, nobody, &one(world)).await);
    assert!(matches!(refusal, CloudFault::NotFound(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
}

async fn refused_move(world: &dyn World, to: &Binding) -> CloudFault {
    let target = one(world);
    let made = create(world, &target).await;
    let refusal = fault(alter(world, &made, bind(to)).await);
    assert_eq!(read(world, &made.id).await.binding, Some(target), "it stays where it was");
    refusal
}

pub async fn a_port_that_does_not_exist_takes_no_address_by_a_move(world: &dyn World) {
    let gone = one(world);
    world.remove_port(&gone.port);
    let refusal = refused_move(world, &gone).await;
    assert!(matches!(refusal, CloudFault::NotFound(_)), "{refusal:?}");
}

pub async fn a_port_without_a_router_takes_no_address_by_a_move(world: &dyn World) {
    let refusal = refused_move(world, &world.port_without_router()).await;
    assert!(matches!(refusal, CloudFault::NoRouter(_)), "{refusal:?}");
}

pub async fn an_address_that_the_port_does_not_have_is_refused_by_a_move(world: &dyn World) {
    let wrong = Binding { fixed_ip: one(world).fixed_ip, ..one(world) };
    let refusal = refused_move(world, &wrong).await;
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
}

pub async fn a_refused_creation_costs_no_quota(world: &dyn World) {
    world.set_quota(1);
    let (island, foreign) = (world.port_without_router(), world.port_of_others());
    for target in [island, foreign] {
        try_create(world, &target).await.expect_err("a refusal");
    }
    create(world, &one(world)).await;
}
