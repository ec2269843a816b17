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
