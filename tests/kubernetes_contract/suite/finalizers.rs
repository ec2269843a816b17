//! Finalizers, deletion, and objects that are made again.

use kafka_external_access::{api::REPLACE_ANNOTATION, kubernetes::KubernetesFault};
use kube::Resource;

use super::{World, access, fault, held, made, permit, secret};

pub async fn what_does_not_exist_is_none(world: &dyn World) {
    let key = world.key();
    let (namespace, name) = (key.namespace.as_str(), key.name.as_str());
    assert!(world.api().access(&key).await.expect("an answer").is_none());
    assert!(world.api().stateful_set(namespace, name).await.expect("an answer").is_none());
    assert!(world.api().pod(namespace, name).await.expect("an answer").is_none());
    assert!(world.api().secret(namespace, name).await.expect("an answer").is_none());
    assert!(world.api().config_map(namespace, name).await.expect("an answer").is_none());
    assert!(world.api().lease(namespace, name).await.expect("an answer").is_none());
}

/// As users may have written it where a reference stands. None of them leads to another path.
pub async fn what_no_name_can_be_does_not_exist(world: &dyn World) {
    let namespace = world.key().namespace;
    for name in
        ["", ".", "..", "a/b", "../../kube-system/secrets/a", "a?b", "a#b", "a b", "a\nb", "%2e%2e", "A", "ä"]
    {
        assert_eq!(world.api().secret(&namespace, name).await, Ok(None), "{name:?}");
    }
}

pub async fn a_new_object_is_of_generation_one_and_is_listed(world: &dyn World) {
    let object = made(world).await;
    assert_eq!((object.metadata.generation, object.status.clone()), (Some(1), None));
    let all = world.api().accesses().await.expect("a list");
    assert_eq!(all.iter().filter(|listed| listed.meta().uid == object.metadata.uid).count(), 1);
}

pub async fn a_finalizer_comes_and_goes_and_the_generation_stays(world: &dyn World) {
    let object = made(world).await;
    let with = world.api().set_finalizer(permit(), &object, true).await.expect("a finalizer");
    assert_eq!((held(&with), with.metadata.generation), (1, Some(1)));
    assert_ne!(with.metadata.resource_version, object.metadata.resource_version);
    assert_eq!(access(world).await.metadata.resource_version, with.metadata.resource_version);
    let without = world.api().set_finalizer(permit(), &with, false).await.expect("no finalizer");
    assert_eq!((held(&without), held(&access(world).await)), (0, 0));
}

pub async fn a_finalizer_that_is_there_already_leaves_the_version(world: &dyn World) {
    let object = made(world).await;
    let with = world.api().set_finalizer(permit(), &object, true).await.expect("a finalizer");
    let again = world.api().set_finalizer(permit(), &with, true).await.expect("the same");
    assert_eq!((held(&again), again.metadata.resource_version), (1, with.metadata.resource_version));
}

pub async fn a_finalizer_from_a_stale_read_is_a_conflict(world: &dyn World) {
    let stale = made(world).await;
    world.label_access("somebody").await;
    for present in [true, false] {
        let refusal = fault(world.api().set_finalizer(permit(), &stale, present).await);
        assert_eq!(refusal, KubernetesFault::Conflict);
    }
    assert_eq!(held(&access(world).await), 0);
}

pub async fn a_finalizer_for_what_is_gone_is_not_found(world: &dyn World) {
    let object = made(world).await;
    world.delete_access().await;
    let refusal = fault(world.api().set_finalizer(permit(), &object, true).await);
    assert_eq!(refusal, KubernetesFault::NotFound);
}

pub async fn a_finalizer_for_an_object_that_was_made_again_is_a_conflict(world: &dyn World) {
    let former = made(world).await;
    world.delete_access().await;
    let object = made(world).await;
    assert_ne!(object.metadata.uid, former.metadata.uid);
    let refusal = fault(world.api().set_finalizer(permit(), &former, true).await);
    assert_eq!(refusal, KubernetesFault::Conflict);
    assert_eq!((held(&access(world).await), object.metadata.generation), (0, Some(1)));
}

pub async fn an_object_that_nobody_holds_goes_at_once(world: &dyn World) {
    made(world).await;
    world.delete_access().await;
    assert!(world.api().access(&world.key()).await.expect("an answer").is_none());
}

pub async fn an_object_that_is_held_waits_with_a_higher_generation(world: &dyn World) {
    let object = made(world).await;
    world.api().set_finalizer(permit(), &object, true).await.expect("a finalizer");
    world.delete_access().await;
    let waiting = access(world).await;
    assert!(waiting.metadata.deletion_timestamp.is_some());
    assert_eq!((waiting.metadata.generation, held(&waiting)), (Some(2), 1));
    world.delete_access().await;
    let again = access(world).await;
    assert_eq!(again.metadata.deletion_timestamp, waiting.metadata.deletion_timestamp);
    assert_eq!(again.metadata.generation, Some(2), "a second deletion changes nothing");
    world.api().set_finalizer(permit(), &again, false).await.expect("the last finalizer");
    assert!(world.api().access(&world.key()).await.expect("an answer").is_none());
}

pub async fn no_finalizer_comes_to_what_is_deleted(world: &dyn World) {
    made(world).await;
    world.hold_access(true).await;
    world.delete_access().await;
    let refusal = fault(world.api().set_finalizer(permit(), &access(world).await, true).await);
    assert!(matches!(refusal, KubernetesFault::Invalid(_)), "{refusal:?}");
    assert_eq!(held(&access(world).await), 0);
    world.hold_access(false).await;
}

pub async fn our_finalizer_leaves_the_others(world: &dyn World) {
    made(world).await;
    world.hold_access(true).await;
    let with = world.api().set_finalizer(permit(), &access(world).await, true).await.expect("a finalizer");
    assert_eq!((held(&with), with.metadata.finalizers.as_ref().map(Vec::len)), (1, Some(2)));
    let without = world.api().set_finalizer(permit(), &with, false).await.expect("no finalizer");
    assert_eq!((held(&without), without.metadata.finalizers.as_ref().map(Vec::len)), (0, Some(1)));
    world.hold_access(false).await;
}

pub async fn a_secret_that_is_held_waits(world: &dyn World) {
    world.make_secret().await;
    world.api().set_secret_finalizer(permit(), &secret(world).await, true).await.expect("a finalizer");
    world.delete_secret().await;
    let waiting = secret(world).await;
    assert!(waiting.metadata.deletion_timestamp.is_some());
    assert!(waiting.data.as_ref().is_some_and(|data| !data.is_empty()), "and can still be read");
    world.api().set_secret_finalizer(permit(), &waiting, false).await.expect("the last finalizer");
    let key = world.key();
    assert!(world.api().secret(&key.namespace, &key.name).await.expect("an answer").is_none());
}

pub async fn a_secrets_finalizer_from_a_stale_read_is_a_conflict(world: &dyn World) {
    world.make_secret().await;
    let stale = secret(world).await;
    world.api().set_secret_finalizer(permit(), &stale, true).await.expect("a finalizer");
    let refusal = fault(world.api().set_secret_finalizer(permit(), &stale, false).await);
    assert_eq!(refusal, KubernetesFault::Conflict);
    let now = secret(world).await;
    world.api().set_secret_finalizer(permit(), &now, false).await.expect("no finalizer");
    world.delete_secret().await;
    let refusal = fault(world.api().set_secret_finalizer(permit(), &now, true).await);
    assert_eq!(refusal, KubernetesFault::NotFound);
}

pub async fn an_order_that_was_carried_out_is_taken_off_once(world: &dyn World) {
    made(world).await;
    world.ask_to_replace().await;
    let asked = access(world).await;
    assert_eq!(asked.metadata.generation, Some(1), "an annotation is no spec");
    world.api().clear_replace(permit(), &asked).await.expect("taken off");
    let done = access(world).await;
    assert!(!done.metadata.annotations.iter().flatten().any(|(name, _)| name == REPLACE_ANNOTATION));
    assert_eq!(fault(world.api().clear_replace(permit(), &asked).await), KubernetesFault::Conflict);
    world.api().clear_replace(permit(), &done).await.expect("nothing to take off");
    assert_eq!(access(world).await.metadata.resource_version, done.metadata.resource_version);
}
