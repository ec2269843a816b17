//! Small namespaces with a StatefulSet, a Secret and an object of their own: pods that have ports in the cloud and cost
//! nothing, so that many can come, move and go. Without a listener the operator gives them addresses and no more.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kafka_external_access::api::KafkaExternalAccess;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::world::{READY, World, smallest};

const LABEL: &str = "end-to-end=fire";

/// Everything of a plot, applied; the object comes last.
pub fn make(world: &World, namespace: &str, replicas: u32) {
    let labels = json!({"end-to-end": "fire"});
    let pod = json!({
        "metadata": {"labels": {"app": "kafka"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "kafka", "image": "localhost/lab/pause:1", "imagePullPolicy": "Never",
                "ports": [{"name": "internal", "containerPort": 9092}],
                "env": [
                    {"name": "KAFKA_LISTENERS", "value": "INTERNAL://:9092"},
                    {"name": "KAFKA_INTER_BROKER_LISTENER_NAME", "value": "INTERNAL"},
                ],
            }],
        },
    });
    let mut object = smallest();
    object["metadata"]["namespace"] = json!(namespace);
    object["spec"].as_object_mut().expect("a spec").remove("listener");
    let all = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "openstack", "namespace": namespace},
         "stringData": {"clouds.yaml": world.cloud.clouds_yaml_through_proxy(&world.cloud.facts().demo)}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "kafka-headless", "namespace": namespace},
         "spec": {"clusterIP": "None", "selector": {"app": "kafka"}, "ports": [{"port": 9092}]}},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "kafka", "namespace": namespace},
         "spec": {"serviceName": "kafka-headless", "replicas": replicas, "podManagementPolicy": "Parallel",
                  "selector": {"matchLabels": {"app": "kafka"}}, "template": pod}},
        object,
    ]});
    let command = world.lab.command("kubectl").args(["apply", "-f", "-"]);
    command.text_with_input(all.to_string().as_bytes()).expect("the plot is accepted");
}

/// The namespace with all in it; its Secret goes first.
pub async fn delete_namespace(world: &World, namespace: &str) {
    let secrets: Api<Secret> = Api::namespaced(world.kube.clone(), namespace);
    secrets.delete("openstack", &DeleteParams::default()).await.expect("the deletion is accepted");
    let namespaces: Api<Namespace> = Api::all(world.kube.clone());
    namespaces.delete(namespace, &DeleteParams::default()).await.expect("the deletion is accepted");
}

/// The object alone.
pub async fn delete_object(world: &World, namespace: &str) {
    let objects = world.accesses_in(namespace);
    objects.delete("kafka", &DeleteParams::default()).await.expect("the deletion is accepted");
}

/// Removes all plots at once, without the operator.
pub async fn remove_all(world: &World) {
    let namespaces: Api<Namespace> = Api::all(world.kube.clone());
    let plots = || ListParams::default().labels(LABEL);
    let free = Patch::Merge(json!({"metadata": {"finalizers": []}}));
    for plot in namespaces.list(&plots()).await.expect("namespaces can be listed") {
        let name = plot.name_any();
        let objects: Api<KafkaExternalAccess> = world.accesses_in(&name);
        let secrets: Api<Secret> = Api::namespaced(world.kube.clone(), &name);
        // What is gone already is fine.
        let _ = objects.patch("kafka", &PatchParams::default(), &free).await;
        let _ = namespaces.delete(&name, &DeleteParams::default()).await;
        let _ = objects.patch("kafka", &PatchParams::default(), &free).await;
        let _ = secrets.patch("openstack", &PatchParams::default(), &free).await;
    }
    world
        .eventually("no plot is left", READY, async || {
            match namespaces.list(&plots()).await.expect("namespaces can be listed").items.len() {
                0 => Ok(()),
                left => Err(left),
            }
        })
        .await;
}
