//! The ConfigMap of the brokers' files.

use k8s_openapi::api::core::v1::ConfigMap;
use kafka_external_access::kubernetes::KubernetesFault;
use serde_json::json;

use super::{World, fault, permit, stateful_set};

fn map(world: &dyn World, value: &str) -> ConfigMap {
    let key = world.key();
    let object = json!({
        "metadata": {"name": key.name, "namespace": key.namespace},
        "data": {"kafka-0.properties": value},
    });
    serde_json::from_value(object).expect("a ConfigMap")
}

async fn stored(world: &dyn World) -> Option<ConfigMap> {
    let key = world.key();
    world.api().config_map(&key.namespace, &key.name).await.expect("an answer")
}

async fn written(world: &dyn World, value: &str) -> ConfigMap {
    world.api().write_config_map(permit(), &map(world, value)).await.expect("a ConfigMap");
    stored(world).await.expect("the ConfigMap")
}

fn with(mut map: ConfigMap, value: &str) -> ConfigMap {
    map.data.get_or_insert_default().insert("kafka-0.properties".into(), value.into());
    map
}

pub async fn a_config_map_is_made_once(world: &dyn World) {
    let first = written(world, "first").await;
    let refusal = fault(world.api().write_config_map(permit(), &map(world, "second")).await);
    assert_eq!(refusal, KubernetesFault::Conflict);
    assert_eq!(stored(world).await, Some(first));
}

pub async fn a_config_map_from_a_stale_read_is_a_conflict(world: &dyn World) {
    let stale = written(world, "first").await;
    world.api().write_config_map(permit(), &with(stale.clone(), "second")).await.expect("written");
    let refusal = fault(world.api().write_config_map(permit(), &with(stale, "third")).await);
    assert_eq!(refusal, KubernetesFault::Conflict);
    let now = stored(world).await.and_then(|map| map.data).unwrap_or_default();
    assert_eq!(now["kafka-0.properties"], "second");
}

pub async fn a_config_map_that_says_the_same_leaves_the_version(world: &dyn World) {
    let first = written(world, "first").await;
    world.api().write_config_map(permit(), &first).await.expect("the same");
    assert_eq!(stored(world).await, Some(first));
}

pub async fn a_config_map_that_is_gone_is_not_written_by_a_change(world: &dyn World) {
    let gone = written(world, "first").await;
    world.api().delete_config_map(permit(), &gone).await.expect("deleted");
    let refusal = fault(world.api().write_config_map(permit(), &with(gone.clone(), "second")).await);
    assert_eq!(refusal, KubernetesFault::NotFound);
    assert_eq!(fault(world.api().delete_config_map(permit(), &gone).await), KubernetesFault::NotFound);
    assert_eq!(stored(world).await, None);
}

pub async fn a_config_map_that_was_made_again_is_neither_changed_nor_deleted(world: &dyn World) {
    let former = written(world, "former").await;
    world.api().delete_config_map(permit(), &former).await.expect("deleted");
    let now = written(world, "another").await;
    let refusal = fault(world.api().write_config_map(permit(), &with(former.clone(), "ours")).await);
    assert_eq!(refusal, KubernetesFault::Conflict);
    assert_eq!(fault(world.api().delete_config_map(permit(), &former).await), KubernetesFault::Conflict);
    assert_eq!(stored(world).await, Some(now));
}

/// The files go with the StatefulSet whose pods read them, and with nothing else.
pub async fn a_config_map_goes_with_its_stateful_set(world: &dyn World) {
    world.make_stateful_set().await;
    let set = stateful_set(world).await;
    let owner = json!([{
        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": set.metadata.name, "uid": set.metadata.uid,
    }]);
    let mut owned = map(world, "first");
    owned.metadata.owner_references = serde_json::from_value(owner).expect("an owner");
    world.api().write_config_map(permit(), &owned).await.expect("a ConfigMap");
    let first = stored(world).await.expect("the ConfigMap");
    world.api().write_config_map(permit(), &with(first, "second")).await.expect("written");
    let kept = stored(world).await.expect("the ConfigMap").metadata.owner_references;
    assert_eq!(kept.map(|owners| owners.len()), Some(1), "a change keeps the owner");
    world.delete_stateful_set().await;
    for _ in 0..300 {
        if stored(world).await.is_none() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("it stays");
}
