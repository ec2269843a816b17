//! Who writes from an old read, and who writes at the same moment.

use kafka_external_access::cloud::{Change, CloudFault};

use super::{World, alter, bind, create, fault, list, one, permit, read, release, try_create, update};

pub async fn a_move_from_a_stale_read_is_refused(world: &dyn World) {
    let (from, by_somebody, by_us) = (one(world), one(world), one(world));
    let stale = create(world, &from).await;
    alter(world, &stale, bind(&by_somebody)).await.expect("somebody moves it");
    assert_eq!(fault(update(world, &stale, bind(&by_us)).await), CloudFault::RevisionChanged);
    assert_eq!(read(world, &stale.id).await.binding, Some(by_somebody));
}

pub async fn a_deletion_from_a_stale_read_is_refused(world: &dyn World) {
    let stale = create(world, &one(world)).await;
    let now = alter(world, &stale, Change::Describe("not ours any more".into())).await.expect("described");
    let refusal = fault(world.cloud(500).delete(permit(), &stale.id, stale.revision).await);
    assert_eq!(refusal, CloudFault::RevisionChanged);
    assert_eq!(read(world, &stale.id).await.description, now.description);
}

pub async fn a_description_from_a_stale_read_is_refused(world: &dyn World) {
    let stale = create(world, &one(world)).await;
    alter(world, &stale, Change::Describe("somebody's".into())).await.expect("described");
    let refusal = fault(update(world, &stale, Change::Describe("ours".into())).await);
    assert_eq!(refusal, CloudFault::RevisionChanged);
    assert_eq!(read(world, &stale.id).await.description, "somebody's");
}

pub async fn a_policy_from_a_stale_read_is_refused(world: &dyn World) {
    let policy = world.share_policy("contract-limit", None, None);
    let stale = create(world, &one(world)).await;
    alter(world, &stale, Change::Describe("somebody's".into())).await.expect("described");
    assert_eq!(fault(update(world, &stale, Change::Limit(policy)).await), CloudFault::RevisionChanged);
    assert_eq!(read(world, &stale.id).await.qos_policy, None);
}

pub async fn a_read_from_before_the_port_went_is_stale(world: &dyn World) {
    let (target, other) = (one(world), one(world));
    create(world, &target).await;
    let before = list(world).await.remove(0);
    world.remove_port(&target.port);
    assert_eq!(fault(update(world, &before, bind(&other)).await), CloudFault::RevisionChanged);
}

/// The revision is checked before the change and not with it: of two moves at once both may be told that they won (seen
/// on Neutron 29). The address leads to one of the two, and only a read says to which.
pub async fn of_two_moves_at_once_the_address_ends_at_one_of_their_targets(world: &dyn World) {
    let made = create(world, &one(world)).await;
    for _ in 0..5 {
        let targets = [one(world), one(world)];
        let before = read(world, &made.id).await;
        let (first, second) =
            (update(world, &before, bind(&targets[0])), update(world, &before, bind(&targets[1])));
        let (first, second) = futures::join!(first, second);
        for refusal in [&first, &second].into_iter().filter_map(|moved| moved.as_ref().err()) {
            assert_eq!(refusal.fault, CloudFault::RevisionChanged);
        }
        let now = read(world, &made.id).await.binding.expect("it is bound");
        if first.is_ok() || second.is_ok() {
            assert!(targets.contains(&now), "{now:?}");
        }
    }
}

pub async fn of_two_addresses_for_one_target_at_once_one_is_bound(world: &dyn World) {
    for _ in 0..3 {
        let target = one(world);
        let (first, second) = (create(world, &one(world)).await, create(world, &one(world)).await);
        let (one_of_two, other) =
            futures::join!(alter(world, &first, bind(&target)), alter(world, &second, bind(&target)));
        assert!(one_of_two.is_ok() != other.is_ok(), "{one_of_two:?} {other:?}");
        let refusal = one_of_two.err().or(other.err()).expect("a refusal").fault;
        assert!(matches!(refusal, CloudFault::PortAlreadyBound(_)), "{refusal:?}");
    }
}

pub async fn of_two_creations_for_one_target_at_once_one_is_left(world: &dyn World) {
    for _ in 0..3 {
        let target = one(world);
        let (first, second) = futures::join!(try_create(world, &target), try_create(world, &target));
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
        let refusal = first.err().or(second.err()).expect("a refusal").fault;
        assert!(matches!(refusal, CloudFault::PortAlreadyBound(_)), "{refusal:?}");
        let held = list(world).await;
        assert_eq!(held.iter().filter(|address| address.binding.as_ref() == Some(&target)).count(), 1);
        assert!(held.iter().all(|address| address.binding.is_some()), "nothing is left over: {held:?}");
    }
}

pub async fn of_two_releases_at_once_none_is_an_error(world: &dyn World) {
    let made = create(world, &one(world)).await;
    let (first, second) = futures::join!(release(world, &made), release(world, &made));
    assert_eq!((first, second), (Ok(()), Ok(())));
    assert!(list(world).await.is_empty());
}
