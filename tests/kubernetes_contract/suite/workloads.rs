//! StatefulSets and pods, which belong to others.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use kafka_external_access::{domain::Uid, kubernetes::KubernetesFault};

use super::{World, permit, pod, stateful_set};

fn annotated(set: &StatefulSet, text: &str) -> StatefulSet {
    let mut target = set.clone();
    target.metadata.annotations.get_or_insert_default().insert("kafkaaccess.dev/before".into(), text.into());
    target
}

fn with_variable(set: &StatefulSet, value: &str) -> StatefulSet {
    let mut target = set.clone();
    let template = target.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()).expect("a template");
    let variable = serde_json::json!({"name": "KAFKA_LISTENERS", "value": value});
    template.containers[0].env = Some(vec![serde_json::from_value(variable).expect("a variable")]);
    target
}

async fn change(world: &dyn World, of: &StatefulSet, target: &StatefulSet) -> Result<(), KubernetesFault> {
    world.api().change_stateful_set(permit(), of, target).await.map_err(|error| error.fault)
}

pub async fn annotation_and_template_change_together_and_the_generation_rises_once(world: &dyn World) {
    world.make_stateful_set().await;
    let set = stateful_set(world).await;
    let target = annotated(&with_variable(&set, "INTERNAL://:9092"), "what was there");
    assert_eq!(change(world, &set, &target).await, Ok(()));
    let now = stateful_set(world).await;
    assert_eq!(now.metadata.annotations, target.metadata.annotations);
    let environment = |set: &StatefulSet| {
        set.spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref())
            .map(|pod| pod.containers[0].env.clone())
    };
    assert_eq!(environment(&now), environment(&target));
    assert_eq!(now.metadata.generation, set.metadata.generation.map(|generation| generation + 1));
}

pub async fn an_annotation_leaves_the_generation(world: &dyn World) {
    world.make_stateful_set().await;
    let set = stateful_set(world).await;
    assert_eq!(change(world, &set, &annotated(&set, "text")).await, Ok(()));
    assert_eq!(stateful_set(world).await.metadata.generation, set.metadata.generation);
}

pub async fn a_change_of_a_stale_read_is_a_conflict(world: &dyn World) {
    world.make_stateful_set().await;
    let stale = stateful_set(world).await;
    world.label_stateful_set("somebody").await;
    let answer = change(world, &stale, &annotated(&stale, "ours")).await;
    assert_eq!(answer, Err(KubernetesFault::Conflict));
    assert_eq!(stateful_set(world).await.metadata.annotations, stale.metadata.annotations);
}

pub async fn a_stateful_set_that_is_gone_or_made_again_is_not_changed(world: &dyn World) {
    world.make_stateful_set().await;
    let former = stateful_set(world).await;
    world.delete_stateful_set().await;
    let target = annotated(&former, "ours");
    assert_eq!(change(world, &former, &target).await, Err(KubernetesFault::NotFound));
    world.make_stateful_set().await;
    assert_eq!(change(world, &former, &target).await, Err(KubernetesFault::Conflict));
    assert_eq!(stateful_set(world).await.metadata.annotations, former.metadata.annotations);
}

pub async fn pods_are_found_by_all_of_the_labels(world: &dyn World) {
    let key = world.key();
    let app = key.name.as_str();
    let names = ["a", "b", "c"].map(|part| format!("{app}-{part}"));
    world.make_pod(&names[0], app, "broker").await;
    world.make_pod(&names[1], app, "controller").await;
    world.make_pod(&names[2], &format!("{app}-other"), "broker").await;
    let find = async |selector: &str| -> BTreeSet<String> {
        let found = world.api().pods(&key.namespace, selector).await.expect("pods");
        found.into_iter().filter_map(|pod| pod.metadata.name).collect()
    };
    assert_eq!(find(&format!("app={app}")).await, BTreeSet::from([names[0].clone(), names[1].clone()]));
    assert_eq!(find(&format!("app={app},part=broker")).await, BTreeSet::from([names[0].clone()]));
    assert_eq!(find(&format!("app={app},part=nothing")).await, BTreeSet::new());
}

async fn evict(world: &dyn World, name: &str, uid: &Uid) -> Result<(), KubernetesFault> {
    world.api().evict(permit(), &world.key().namespace, name, uid).await.map_err(|error| error.fault)
}

async fn uid_of(world: &dyn World, name: &str) -> Uid {
    Uid::new(pod(world, name).await.metadata.uid.unwrap_or_default())
}

pub async fn an_eviction_is_of_the_pod_that_was_read(world: &dyn World) {
    let name = world.key().name;
    world.make_pod(&name, &name, "broker").await;
    let former = uid_of(world, &name).await;
    world.delete_pod(&name).await;
    assert_eq!(evict(world, &name, &former).await, Err(KubernetesFault::NotFound));
    world.make_pod(&name, &name, "broker").await;
    assert_eq!(evict(world, &name, &former).await, Err(KubernetesFault::Conflict));
    assert_eq!(evict(world, &name, &uid_of(world, &name).await).await, Ok(()));
    let gone = world.api().pod(&world.key().namespace, &name).await.expect("an answer");
    assert!(gone.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()));
}

pub async fn a_budget_refuses_an_eviction_in_its_own_words(world: &dyn World) {
    let name = world.key().name;
    world.make_pod(&name, &name, "broker").await;
    world.protect(&name).await;
    let answer = evict(world, &name, &uid_of(world, &name).await).await;
    assert!(
        matches!(&answer, Err(KubernetesFault::NotNow(text)) if text.contains("disruption budget")),
        "{answer:?}"
    );
    assert!(pod(world, &name).await.metadata.deletion_timestamp.is_none());
}
