//! Where an address leads.

use kafka_external_access::cloud::{Change, CloudFault};

use super::{MARKER, World, alter, bind, create, fault, one, read, update};

pub async fn an_address_moves_to_another_port_by_one_call(world: &dyn World) {
    let (from, to) = (one(world), one(world));
    let made = create(world, &from).await;
    let moved = alter(world, &made, bind(&to)).await.expect("a move");
    assert_eq!((moved.id, moved.address, moved.binding), (made.id.clone(), made.address, Some(to.clone())));
    assert_eq!(read(world, &made.id).await.binding, Some(to));
}

pub async fn a_bound_target_takes_no_other_address_by_a_move(world: &dyn World) {
    let (first, second) = (one(world), one(world));
    let (held, moving) = (create(world, &first).await, create(world, &second).await);
    let refusal = fault(alter(world, &moving, bind(&first)).await);
    assert!(matches!(refusal, CloudFault::PortAlreadyBound(_)), "{refusal:?}");
    assert_eq!(read(world, &held.id).await.binding, Some(first));
    assert_eq!(read(world, &moving.id).await.binding, Some(second));
}

pub async fn an_unbound_address_keeps_its_description(world: &dyn World) {
    let made = create(world, &one(world)).await;
    let unbound = alter(world, &made, Change::Unbind { description: None }).await.expect("unbound");
    assert!(unbound.is_free());
    let now = read(world, &made.id).await;
    assert_eq!((now.binding, now.description.as_str(), now.address), (None, MARKER, made.address));
}

pub async fn marker_and_binding_change_by_one_call(world: &dyn World) {
    let (from, to) = (one(world), one(world));
    let made = create(world, &from).await;
    let change = Change::Bind { to: to.clone(), description: Some("taken over".into()) };
    let taken = alter(world, &made, change).await.expect("taken over");
    assert_eq!((taken.description.as_str(), &taken.binding), ("taken over", &Some(to)));
    let left = Change::Unbind { description: Some("left".into()) };
    let left = alter(world, &read(world, &made.id).await, left).await.expect("left");
    assert_eq!((left.description.as_str(), left.binding), ("left", None));
}

pub async fn every_change_raises_the_revision(world: &dyn World) {
    let address = create(world, &one(world)).await;
    let (first, second) = (one(world), one(world));
    let changes =
        [Change::Describe("other".into()), Change::Unbind { description: None }, bind(&first), bind(&second)];
    for change in changes {
        let before = read(world, &address.id).await;
        alter(world, &before, change.clone()).await.expect("a change");
        assert!(read(world, &address.id).await.revision > before.revision, "{change:?}");
    }
}

pub async fn a_port_that_goes_leaves_its_address_unbound_with_a_new_revision(world: &dyn World) {
    let target = one(world);
    let made = create(world, &target).await;
    world.remove_port(&target.port);
    let now = read(world, &made.id).await;
    assert!(now.is_free() && now.revision > made.revision, "{now:?}");
    assert_eq!((now.address, now.description), (made.address, made.description));
}

pub async fn an_unbound_address_is_bound_again(world: &dyn World) {
    let target = one(world);
    let made = create(world, &target).await;
    alter(world, &made, Change::Unbind { description: None }).await.expect("unbound");
    let bound = alter(world, &made, bind(&target)).await.expect("bound again");
    assert_eq!((bound.binding, bound.address), (Some(target), made.address));
}

pub async fn two_addresses_change_places_by_three_calls(world: &dyn World) {
    let places = [one(world), one(world)];
    let (first, second) = (create(world, &places[0]).await, create(world, &places[1]).await);
    let refusal = fault(alter(world, &first, bind(&places[1])).await);
    assert!(matches!(refusal, CloudFault::PortAlreadyBound(_)), "{refusal:?}");
    alter(world, &second, Change::Unbind { description: None }).await.expect("the place is free");
    alter(world, &first, bind(&places[1])).await.expect("the first in the place of the second");
    alter(world, &second, bind(&places[0])).await.expect("the second in the place of the first");
    assert_eq!(read(world, &first.id).await.binding.as_ref(), Some(&places[1]));
    assert_eq!(read(world, &second.id).await.binding.as_ref(), Some(&places[0]));
}

pub async fn an_address_moves_between_the_addresses_of_one_port(world: &dyn World) {
    let targets = world.port(2);
    let made = create(world, &targets[0]).await;
    let moved = alter(world, &made, bind(&targets[1])).await.expect("a move");
    assert_eq!(moved.binding.as_ref(), Some(&targets[1]));
    create(world, &targets[0]).await;
}

pub async fn unbinding_one_of_two_leaves_the_other(world: &dyn World) {
    let targets = world.port(2);
    let (first, second) = (create(world, &targets[0]).await, create(world, &targets[1]).await);
    alter(world, &first, Change::Unbind { description: None }).await.expect("unbound");
    assert!(read(world, &first.id).await.is_free());
    assert_eq!(read(world, &second.id).await.binding.as_ref(), Some(&targets[1]));
}

pub async fn a_port_that_goes_leaves_both_of_its_addresses_unbound(world: &dyn World) {
    let targets = world.port(2);
    let made = [create(world, &targets[0]).await, create(world, &targets[1]).await];
    world.remove_port(&targets[0].port);
    for address in made {
        assert!(read(world, &address.id).await.is_free());
    }
}

/// Whoever read before a binding that was so already may still write. The same description again is a change.
pub async fn a_binding_that_is_so_already_leaves_the_revision_and_the_same_description_raises_it(
    world: &dyn World,
) {
    let target = one(world);
    let made = create(world, &target).await;
    for (change, stays) in [
        (bind(&target), true),
        (Change::Describe(MARKER.into()), false),
        (Change::Unbind { description: None }, false),
        (Change::Unbind { description: None }, true),
    ] {
        // The router reports its status at any time, which is a change too: not every time is quiet.
        let mut seen = Vec::new();
        while seen.last() != Some(&stays) && seen.len() < 20 {
            let before = read(world, &made.id).await;
            let after = update(world, &before, change.clone()).await;
            seen.extend(after.ok().map(|after| after.revision == before.revision));
        }
        assert_eq!(seen.last(), Some(&stays), "{change:?}: {seen:?}");
        if !stays {
            assert_eq!(seen.len(), 1, "{change:?}: {seen:?}");
        }
    }
}
