//! The status, apart from the object.

use kafka_external_access::{api::KafkaExternalAccessStatus, kubernetes::KubernetesFault};

use super::{World, access, fault, made, permit};

fn status(bootstrap: Option<&str>, project: Option<&str>) -> KafkaExternalAccessStatus {
    KafkaExternalAccessStatus {
        observed_generation: Some(1),
        bootstrap_servers: bootstrap.map(str::to_owned),
        project_id: project.map(str::to_owned),
        ..KafkaExternalAccessStatus::default()
    }
}

pub async fn a_status_is_stored_and_leaves_the_generation(world: &dyn World) {
    let object = made(world).await;
    let told = status(Some("203.0.113.10:9094"), Some("demo"));
    world.api().write_status(permit(), &object, &told).await.expect("a status");
    let now = access(world).await;
    assert_eq!((now.status, now.metadata.generation), (Some(told), Some(1)));
    assert_ne!(now.metadata.resource_version, object.metadata.resource_version);
}

pub async fn a_status_is_replaced_as_a_whole(world: &dyn World) {
    let object = made(world).await;
    world.api().write_status(permit(), &object, &status(Some("a:1"), Some("demo"))).await.expect("a status");
    let less = status(None, Some("demo"));
    world.api().write_status(permit(), &access(world).await, &less).await.expect("a shorter status");
    assert_eq!(access(world).await.status, Some(less), "nothing of the former one is left");
}

pub async fn a_status_that_says_the_same_leaves_the_version(world: &dyn World) {
    let object = made(world).await;
    let told = status(Some("a:1"), None);
    world.api().write_status(permit(), &object, &told).await.expect("a status");
    let before = access(world).await;
    world.api().write_status(permit(), &before, &told).await.expect("the same status");
    assert_eq!(access(world).await.metadata.resource_version, before.metadata.resource_version);
}

/// It says what was seen of an object; the next look tells of the edited one.
pub async fn a_status_is_not_written_over_an_edit(world: &dyn World) {
    let object = made(world).await;
    world.edit_access("7s").await;
    let refusal = fault(world.api().write_status(permit(), &object, &status(None, Some("demo"))).await);
    assert_eq!(refusal, KubernetesFault::Conflict);
    assert_eq!(access(world).await.status, None);
}

/// A request that arrives late must not replace what was told after it.
pub async fn a_status_from_an_older_read_replaces_nothing(world: &dyn World) {
    let read = made(world).await;
    let newer = status(Some("a:1"), Some("demo"));
    world.api().write_status(permit(), &read, &newer).await.expect("a status");
    let refusal = fault(world.api().write_status(permit(), &read, &status(None, Some("demo"))).await);
    assert_eq!(refusal, KubernetesFault::Conflict);
    assert_eq!(access(world).await.status, Some(newer));
}

pub async fn a_status_leaves_the_rest_of_the_object(world: &dyn World) {
    let mut read = made(world).await;
    read.spec.probe.interval = "9s".into();
    read.metadata.labels = Some([("from".to_owned(), "the operator".to_owned())].into());
    world.api().write_status(permit(), &read, &status(None, Some("demo"))).await.expect("a status");
    let now = access(world).await;
    assert!(now.spec.probe.interval != "9s" && now.metadata.labels.is_none());
    assert_eq!(now.metadata.generation, Some(1));
}

pub async fn a_write_of_the_object_does_not_touch_the_status(world: &dyn World) {
    let object = made(world).await;
    let told = status(Some("a:1"), Some("demo"));
    world.api().write_status(permit(), &object, &told).await.expect("a status");
    let mut forged = access(world).await;
    forged.status = Some(status(Some("forged:1"), None));
    forged.spec.probe.interval = "9s".into();
    assert_eq!(world.replace_access(forged.clone()).await, Ok(()));
    let now = access(world).await;
    assert_eq!((now.status, now.spec.probe.interval.as_str()), (Some(told), "9s"));
    assert_eq!(world.replace_access(forged).await, Err(KubernetesFault::Conflict), "it is stale now");
}

pub async fn the_generation_rises_with_the_spec_only(world: &dyn World) {
    made(world).await;
    world.label_access("one").await;
    assert_eq!(access(world).await.metadata.generation, Some(1));
    world.edit_access("8s").await;
    assert_eq!(access(world).await.metadata.generation, Some(2));
    world.edit_access("8s").await;
    assert_eq!(access(world).await.metadata.generation, Some(2), "the same spec again");
}

pub async fn a_status_for_what_is_gone_is_not_found(world: &dyn World) {
    let object = made(world).await;
    world.delete_access().await;
    let refusal = fault(world.api().write_status(permit(), &object, &status(None, None)).await);
    assert_eq!(refusal, KubernetesFault::NotFound);
}

/// Nobody is told of another object what was seen of the former one.
pub async fn a_status_for_an_object_that_was_made_again_is_refused(world: &dyn World) {
    let former = made(world).await;
    world.delete_access().await;
    made(world).await;
    let refusal = fault(world.api().write_status(permit(), &former, &status(Some("a:1"), None)).await);
    assert_eq!(refusal, KubernetesFault::Conflict);
    assert_eq!(access(world).await.status, None);
}

pub async fn an_object_that_is_made_again_has_no_status(world: &dyn World) {
    let object = made(world).await;
    world.api().write_status(permit(), &object, &status(Some("a:1"), None)).await.expect("a status");
    world.delete_access().await;
    assert_eq!(made(world).await.status, None);
}

pub async fn a_deleted_object_still_takes_a_status(world: &dyn World) {
    let object = made(world).await;
    world.api().set_finalizer(permit(), &object, true).await.expect("a finalizer");
    world.delete_access().await;
    world
        .api()
        .write_status(permit(), &access(world).await, &status(None, Some("demo")))
        .await
        .expect("a status");
    let now = access(world).await;
    assert!(now.status.is_some() && now.metadata.deletion_timestamp.is_some());
    world.api().set_finalizer(permit(), &now, false).await.expect("the last finalizer");
}
