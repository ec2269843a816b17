//! Addresses of the user's own, taken and given back.

use serde_json::json;

use crate::{tap::Seam, world::World};

/// That it was adopted is known from the status and from nowhere else.
#[tokio::test]
async fn an_adopted_address_that_is_given_up_while_it_is_bound_is_unbound() {
    let world = World::ready().await;
    let own = world.address_of(0);
    let users = world.cloud.add_address("demo", "the user's", None).expect("an address");
    world.edit(|spec| spec["brokers"] = json!([{"ordinal": 0, "address": users.address}]));
    let gives_up = async {
        // The look after the unbinding of one and the binding of the other.
        while world.tap.count(Seam::Cloud, "list") < 3 {
            tokio::task::yield_now().await;
        }
        world.edit(|spec| spec["brokers"] = json!([]));
    };
    futures::join!(world.reconcile(), gives_up);
    // What the process remembers is gone.
    world.restart();
    world.settle().await;
    world.assert_ready();
    let now = world.addresses();
    assert_eq!(
        now.iter().find(|address| address.id == users.id).and_then(|address| address.binding.clone()),
        None
    );
    assert_eq!(world.address_of(0).id, own.id);
}

/// The process ends between the binding and the status that tells of it.
#[tokio::test]
async fn an_adopted_address_is_given_back_although_its_status_was_never_written() {
    let world = World::ready().await;
    let own = world.address_of(0);
    let users = world.cloud.add_address("demo", "the user's", None).expect("an address");
    let leads_to = || world.addresses().into_iter().find(|address| address.id == users.id)?.binding;
    world.edit(|spec| spec["brokers"] = json!([{"ordinal": 0, "address": users.address}]));
    let bound = async {
        while leads_to().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = bound => {}
        _ = world.reconcile() => panic!("it went on"),
    }
    world.restart();
    world.edit(|spec| spec["brokers"] = json!([]));
    world.settle().await;
    world.assert_ready();
    assert_eq!(leads_to(), None);
    assert_eq!(world.address_of(0).id, own.id);
}

/// As before, and the object goes as well.
#[tokio::test]
async fn an_adopted_address_that_is_given_up_with_its_object_is_unbound() {
    let world = World::ready().await;
    let users = world.cloud.add_address("demo", "the user's", None).expect("an address");
    world.edit(|spec| spec["brokers"] = json!([{"ordinal": 0, "address": users.address}]));
    world.settle().await;
    world.edit(|spec| spec["brokers"] = json!([]));
    world.delete();
    world.settle_until_gone().await;
    let left = world.addresses();
    assert_eq!(left.iter().map(|address| &address.id).collect::<Vec<_>>(), [&users.id]);
    assert_eq!(left[0].binding, None);
}
