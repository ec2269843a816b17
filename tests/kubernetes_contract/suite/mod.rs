//! The sentences that every API server keeps, real or simulated. Each has names of its own.

pub mod config_maps;
pub mod finalizers;
pub mod leases;
pub mod status;
pub mod workloads;

use std::fmt::Debug;

use async_trait::async_trait;
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, Secret},
};
use kafka_external_access::{
    api::KafkaExternalAccess,
    domain::AccessKey,
    kubernetes::{Kubernetes, KubernetesError, KubernetesFault},
    seams::{Leadership, SoleReplica, WritePermit},
};
use serde_json::json;

/// Somebody else's finalizer.
pub const OTHERS: &str = "example.com/hold";

/// The smallest object, which nothing acts on.
pub fn smallest(key: &AccessKey) -> KafkaExternalAccess {
    let object = json!({
        "apiVersion": "kafkaaccess.dev/v1alpha1",
        "kind": "KafkaExternalAccess",
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {
            "mode": "Plan",
            "kafka": {"statefulSet": {"name": key.name}},
            "addresses": {"provider": {"type": "Static"}},
        },
        "status": {"bootstrapServers": "made up by whoever makes the object"},
    });
    serde_json::from_value(object).expect("an object")
}

/// A StatefulSet without replicas.
pub fn empty_stateful_set(key: &AccessKey) -> StatefulSet {
    let labels = json!({"app": key.name});
    let object = json!({
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {
            "replicas": 0,
            "serviceName": key.name,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "kafka", "image": "nothing"}]},
            },
        },
    });
    serde_json::from_value(object).expect("a StatefulSet")
}

/// A pod that no scheduler and no node knows of.
pub fn lonely_pod(namespace: &str, name: &str, app: &str, part: &str) -> Pod {
    let object = json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": app, "part": part}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "kafka", "image": "nothing"}]},
    });
    serde_json::from_value(object).expect("a pod")
}

/// A Secret.
pub fn some_secret(key: &AccessKey) -> Secret {
    let object = json!({
        "metadata": {"name": key.name, "namespace": key.namespace},
        "data": {"clouds.yaml": "e30="},
    });
    serde_json::from_value(object).expect("a Secret")
}

/// What users and controllers do.
#[async_trait(?Send)]
pub trait World {
    /// What the product calls.
    fn api(&self) -> &dyn Kubernetes;
    /// Namespace and name of everything that this sentence makes.
    fn key(&self) -> AccessKey;

    /// Somebody makes the object; a status in it is dropped.
    async fn make_access(&self);
    /// Somebody sets a label of the object.
    async fn label_access(&self, value: &str);
    /// Somebody annotates the object with the order to replace an address.
    async fn ask_to_replace(&self);
    /// Somebody edits the spec.
    async fn edit_access(&self, timeout: &str);
    /// Somebody writes the object as a whole, past its status.
    async fn replace_access(&self, object: KafkaExternalAccess) -> Result<(), KubernetesFault>;
    /// Whether somebody else's finalizer holds the object.
    async fn hold_access(&self, held: bool);
    /// Somebody deletes the object.
    async fn delete_access(&self);

    async fn make_secret(&self);
    async fn delete_secret(&self);

    /// A StatefulSet without replicas.
    async fn make_stateful_set(&self);
    async fn label_stateful_set(&self, value: &str);
    async fn delete_stateful_set(&self);

    /// A pod that is ready, with the labels `app` and `part`.
    async fn make_pod(&self, name: &str, app: &str, part: &str);
    async fn delete_pod(&self, name: &str);
    /// A budget stands against every eviction of the pods with this label `app`.
    async fn protect(&self, app: &str);
}

/// All sentences, by subject, handed to a macro of the test that keeps them.
macro_rules! every_sentence {
    ($macro:ident) => {
        $macro! {
            finalizers::what_does_not_exist_is_none
            finalizers::what_no_name_can_be_does_not_exist
            finalizers::a_new_object_is_of_generation_one_and_is_listed
            finalizers::a_finalizer_comes_and_goes_and_the_generation_stays
            finalizers::a_finalizer_that_is_there_already_leaves_the_version
            finalizers::a_finalizer_from_a_stale_read_is_a_conflict
            finalizers::a_finalizer_for_what_is_gone_is_not_found
            finalizers::a_finalizer_for_an_object_that_was_made_again_is_a_conflict
            finalizers::an_object_that_nobody_holds_goes_at_once
            finalizers::an_object_that_is_held_waits_with_a_higher_generation
            finalizers::no_finalizer_comes_to_what_is_deleted
            finalizers::our_finalizer_leaves_the_others
            finalizers::a_secret_that_is_held_waits
            finalizers::a_secrets_finalizer_from_a_stale_read_is_a_conflict
            finalizers::an_order_that_was_carried_out_is_taken_off_once
            status::a_status_is_stored_and_leaves_the_generation
            status::a_status_is_replaced_as_a_whole
            status::a_status_that_says_the_same_leaves_the_version
            status::a_status_is_not_written_over_an_edit
            status::a_status_from_an_older_read_replaces_nothing
            status::a_status_leaves_the_rest_of_the_object
            status::a_write_of_the_object_does_not_touch_the_status
            status::the_generation_rises_with_the_spec_only
            status::a_status_for_what_is_gone_is_not_found
            status::a_status_for_an_object_that_was_made_again_is_refused
            status::an_object_that_is_made_again_has_no_status
            status::a_deleted_object_still_takes_a_status
            config_maps::a_config_map_is_made_once
            config_maps::a_config_map_from_a_stale_read_is_a_conflict
            config_maps::a_config_map_that_says_the_same_leaves_the_version
            config_maps::a_config_map_that_is_gone_is_not_written_by_a_change
            config_maps::a_config_map_that_was_made_again_is_neither_changed_nor_deleted
            config_maps::a_config_map_goes_with_its_stateful_set
            leases::of_two_that_make_the_lease_one_has_it
            leases::of_two_that_take_the_lease_from_one_read_one_has_it
            leases::a_lease_is_renewed_from_what_the_last_renewal_gave_back
            workloads::annotation_and_template_change_together_and_the_generation_rises_once
            workloads::an_annotation_leaves_the_generation
            workloads::a_change_of_a_stale_read_is_a_conflict
            workloads::a_stateful_set_that_is_gone_or_made_again_is_not_changed
            workloads::pods_are_found_by_all_of_the_labels
            workloads::an_eviction_is_of_the_pod_that_was_read
            workloads::a_budget_refuses_an_eviction_in_its_own_words
        }
    };
}

fn permit() -> WritePermit {
    SoleReplica.permit().expect("nobody else leads")
}

fn fault<T: Debug>(result: Result<T, KubernetesError>) -> KubernetesFault {
    result.expect_err("a refusal").fault
}

async fn access(world: &dyn World) -> KafkaExternalAccess {
    world.api().access(&world.key()).await.expect("an answer").expect("the object")
}

async fn made(world: &dyn World) -> KafkaExternalAccess {
    world.make_access().await;
    access(world).await
}

async fn secret(world: &dyn World) -> Secret {
    let AccessKey { namespace, name } = world.key();
    world.api().secret(&namespace, &name).await.expect("an answer").expect("the Secret")
}

async fn stateful_set(world: &dyn World) -> StatefulSet {
    let AccessKey { namespace, name } = world.key();
    world.api().stateful_set(&namespace, &name).await.expect("an answer").expect("the StatefulSet")
}

async fn pod(world: &dyn World, name: &str) -> Pod {
    world.api().pod(&world.key().namespace, name).await.expect("an answer").expect("the pod")
}

fn held(object: &KafkaExternalAccess) -> usize {
    let finalizers = object.metadata.finalizers.iter().flatten();
    finalizers.filter(|finalizer| *finalizer == kafka_external_access::api::FINALIZER).count()
}
