//! What becomes of an address that is created, described and released.

use std::collections::BTreeSet;

use kafka_external_access::{
    cloud::{Change, CloudFault, FloatingIp},
    domain::ErrorClass,
};

use super::{
    MARKER, World, alter, bind, create, fault, list, one, read, release, try_create, try_describe, update,
};

pub async fn an_address_is_created_bound_and_described_by_one_call(world: &dyn World) {
    let target = one(world);
    let made = create(world, &target).await;
    assert_eq!(made.binding.as_ref(), Some(&target));
    assert_eq!(made.description, MARKER);
    assert!(!made.has_port_forwardings && !made.is_free());
    assert!(made.created_at.is_some());
}

pub async fn an_address_is_read_as_it_was_created(world: &dyn World) {
    let made = create(world, &one(world)).await;
    let known = |read: &FloatingIp| (read.id.clone(), read.address, read.binding.clone(), read.created_at);
    assert_eq!(known(&read(world, &made.id).await), known(&made));
    assert_eq!(list(world).await.iter().map(known).collect::<Vec<_>>(), [known(&made)]);
}

pub async fn an_address_that_does_not_exist_is_none(world: &dyn World) {
    let gone = create(world, &one(world)).await;
    release(world, &gone).await.expect("a release");
    assert_eq!(world.cloud(500).get(&gone.id).await, Ok(None));
}

pub async fn a_second_address_for_a_target_is_refused_and_not_left_over(world: &dyn World) {
    let target = one(world);
    let first = create(world, &target).await;
    let refusal = fault(try_create(world, &target).await);
    assert!(matches!(refusal, CloudFault::PortAlreadyBound(_)), "{refusal:?}");
    assert_eq!(refusal.class(), ErrorClass::Waiting);
    assert_eq!(list(world).await.into_iter().map(|left| left.id).collect::<Vec<_>>(), [first.id]);
}

pub async fn a_port_with_two_addresses_takes_two_and_each_target_is_found(world: &dyn World) {
    let targets = world.port(2);
    assert_eq!(targets[0].port, targets[1].port);
    for target in &targets {
        assert_eq!(create(world, target).await.binding.as_ref(), Some(target));
    }
    let bound: BTreeSet<_> = list(world).await.into_iter().filter_map(|address| address.binding).collect();
    assert_eq!(bound, targets.into_iter().collect());
}

pub async fn a_description_changes_alone_and_the_binding_stays(world: &dyn World) {
    let target = one(world);
    let made = create(world, &target).await;
    alter(world, &made, Change::Describe("mine".into())).await.expect("described");
    let now = read(world, &made.id).await;
    assert_eq!((now.description.as_str(), now.binding), ("mine", Some(target)));
}

pub async fn a_description_of_255_characters_is_kept_and_a_longer_one_refused(world: &dyn World) {
    let made = create(world, &one(world)).await;
    let longest = "x".repeat(255);
    let kept = alter(world, &made, Change::Describe(longest.clone())).await.expect("kept");
    assert_eq!(kept.description, longest);
    let refusal = fault(alter(world, &kept, Change::Describe("x".repeat(256))).await);
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
    assert_eq!(read(world, &made.id).await.description, longest);
}

pub async fn a_deletion_of_what_is_gone_succeeds(world: &dyn World) {
    let made = create(world, &one(world)).await;
    for _ in 0..2 {
        assert_eq!(release(world, &made).await, Ok(()));
    }
    assert!(list(world).await.is_empty());
}

pub async fn a_change_of_what_is_gone_is_not_found(world: &dyn World) {
    let target = one(world);
    let made = create(world, &target).await;
    release(world, &made).await.expect("a release");
    let refusal = fault(update(world, &made, bind(&target)).await);
    assert!(matches!(refusal, CloudFault::NotFound(_)), "{refusal:?}");
}

pub async fn the_project_owns_what_it_creates(world: &dyn World) {
    let project = world.cloud(500).project().await.expect("a project");
    let target = one(world);
    assert_eq!(create(world, &target).await.project, project);
    let ports = world.cloud(500).ports(None, &BTreeSet::from([target.fixed_ip])).await.expect("ports");
    assert_eq!(ports.into_iter().map(|port| port.project).collect::<Vec<_>>(), [project]);
}

pub async fn a_description_that_is_too_long_creates_nothing(world: &dyn World) {
    let refusal = fault(try_describe(world, &one(world), &"x".repeat(256)).await);
    assert!(matches!(refusal, CloudFault::Refused(_)), "{refusal:?}");
    assert!(list(world).await.is_empty());
}

pub async fn descriptions_are_given_back_letter_for_letter(world: &dyn World) {
    let texts = [
        MARKER.to_owned(),
        MARKER.to_uppercase(),
        format!(" {MARKER} "),
        "o=1,2&description=x%20 \"<ключ> 鍵\"".to_owned(),
        "x".repeat(255),
        "é".repeat(255),
    ];
    for text in &texts {
        let made = try_describe(world, &one(world), text).await.expect("an address");
        assert_eq!(made.description, *text);
    }
    let listed: BTreeSet<_> = list(world).await.into_iter().map(|address| address.description).collect();
    assert_eq!(listed, texts.into_iter().collect());
}

pub async fn two_addresses_may_carry_the_same_marker(world: &dyn World) {
    let made = [create(world, &one(world)).await, create(world, &one(world)).await];
    assert_eq!(made[0].description, made[1].description);
    assert_eq!(list(world).await.len(), 2);
}

pub async fn the_older_of_two_addresses_is_told(world: &dyn World) {
    let first = create(world, &one(world)).await;
    // Creation times have whole seconds.
    world.pass_a_second();
    let second = create(world, &one(world)).await;
    assert!(first.created_at.is_some() && first.created_at < second.created_at, "{first:?} {second:?}");
}

pub async fn a_release_frees_quota_and_target(world: &dyn World) {
    world.set_quota(1);
    let target = one(world);
    for _ in 0..2 {
        let made = create(world, &target).await;
        release(world, &made).await.expect("a release");
    }
    assert!(list(world).await.is_empty());
}
