//! Stored objects that somebody has damaged recover, and make nobody touch what is not ours. Of the template of `rollout:
//! Restart`, see `restart`.

use std::collections::BTreeMap;

use kafka_external_access::api::{FINALIZER, KafkaExternalAccess};
use kube::api::{Patch, PatchParams};
use lab::cloud::FloatingIp;
use serde_json::{Value, json};

use crate::world::{NAME, READY, World, held, in_lab};

/// Address and identifier of each broker, and the bootstrap servers.
type Told = (BTreeMap<u32, (String, String)>, String);

/// Ordinal and address of each broker, and what clients begin with.
fn told(object: &KafkaExternalAccess) -> Option<Told> {
    let status = object.status.as_ref()?;
    let broker = |broker: &kafka_external_access::api::BrokerStatus| {
        Some((broker.ordinal, (broker.address.clone()?.to_string(), broker.address_id.clone()?.to_string())))
    };
    let brokers = status.brokers.iter().map(broker).collect::<Option<_>>()?;
    Some((brokers, status.bootstrap_servers.clone()?))
}

async fn ready(world: &mut World) -> KafkaExternalAccess {
    world.apply_credential(&world.cloud.facts().demo.clone()).await;
    world.start_operator();
    world.create(|_| {}).await;
    world.condition("Ready", "True", READY).await;
    world.condition("Reachable", "True", READY).await
}

/// Somebody writes the status.
async fn forge(world: &World, patch: Value) {
    let patch: json_patch::Patch = serde_json::from_value(patch).expect("a patch");
    let api = world.accesses();
    let written = api.patch_status(NAME, &PatchParams::default(), &Patch::Json::<()>(patch)).await;
    written.expect("the status is written");
}

async fn told_again(world: &World, before: &KafkaExternalAccess) {
    world
        .eventually("the status says what it said", READY, async || {
            let now = world.access().await.expect("the object");
            if told(&now) == told(before) { Ok(()) } else { Err(crate::world::describe(&now)) }
        })
        .await;
    world.condition("Ready", "True", READY).await;
}

#[test]
fn a_status_that_is_wiped_comes_back_and_no_address_is_touched() {
    in_lab("status_wiped", async |world| {
        let before = ready(world).await;
        world.neutron.forget();
        forge(world, json!([{"op": "remove", "path": "/status"}])).await;
        told_again(world, &before).await;
        // And by one who has never seen it.
        world.kill_operator();
        forge(world, json!([{"op": "replace", "path": "/status", "value": {}}])).await;
        world.start_operator();
        told_again(world, &before).await;
        assert_eq!(world.neutron.mutations(), []);
        world.assert_bound(0..3).await;
    });
}

/// As it is in the cloud, the time of the last change aside.
fn theirs(world: &World, id: &str) -> FloatingIp {
    let all = [&world.demo, &world.cloud.other().expect("a session")]
        .map(|session| session.floating_ips().expect("floating IPs can be listed"));
    all.into_iter().flatten().find(|address| address.id == id).expect("somebody's address exists")
}

#[test]
fn a_status_that_names_addresses_of_others_makes_nobody_touch_them() {
    in_lab("status_forged", async |world| {
        let before = ready(world).await;
        let network = world.cloud.facts().external_network_id.clone();
        let other = world.cloud.other().expect("a session");
        let foreign = [
            world.demo.create_floating_ip(&network, "somebody's", None).expect("an address"),
            other.create_floating_ip(&network, "of another project", None).expect("an address"),
        ];
        world.neutron.forget();
        let forged = foreign.iter().enumerate().flat_map(|(broker, address)| {
            let field = |name: &str| format!("/status/brokers/{broker}/{name}");
            [
                json!({"op": "replace", "path": field("addressID"), "value": address.id}),
                json!({"op": "replace", "path": field("address"), "value": address.floating_ip_address}),
            ]
        });
        let forged: Value = forged.collect();
        forge(world, forged.clone()).await;
        told_again(world, &before).await;
        // And before one who has never seen the truth.
        world.kill_operator();
        forge(world, forged.clone()).await;
        world.start_operator();
        told_again(world, &before).await;
        assert_eq!(world.neutron.mutations(), []);
        world.assert_bound(0..3).await;
        // And before one who finds that the object should go.
        world.kill_operator();
        forge(world, forged).await;
        world.accesses().delete(NAME, &kube::api::DeleteParams::default()).await.expect("accepted");
        world.start_operator();
        world
            .eventually("our three addresses are released", READY, async || {
                if world.ledger().is_empty() { Ok(()) } else { Err(world.ledger()) }
            })
            .await;
        for address in &foreign {
            assert_eq!(theirs(world, &address.id), *address);
        }
        other.delete_floating_ip(&foreign[1].id).expect("released by its owner");
    });
}

#[test]
fn finalizers_that_somebody_removed_come_back() {
    in_lab("finalizers_removed", async |world| {
        ready(world).await;
        world.neutron.forget();
        let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        world.accesses().patch(NAME, &PatchParams::default(), &none).await.expect("accepted");
        world.secrets().patch("openstack", &PatchParams::default(), &none).await.expect("accepted");
        world
            .eventually("both are held again", READY, async || {
                let object = world.access().await.expect("the object");
                let secret = world.secrets().get("openstack").await.expect("the Secret");
                let holds =
                    secret.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
                if held(&object) && holds { Ok(()) } else { Err((held(&object), holds)) }
            })
            .await;
        assert_eq!(world.neutron.mutations(), []);
        // So nothing is left over when it goes.
        world.delete().await;
        assert!(world.ledger().is_empty(), "{:?}", world.ledger());
    });
}
