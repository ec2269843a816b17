//! From ZooKeeper to KRaft, as Kafka's documents say: the controller comes beside the brokers, they hand their metadata
//! over, and then become KRaft brokers. Their addresses and what they advertise stay as they are.

use std::path::Path;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use lab::kafka::Flavour;
use serde_json::json;

use crate::{
    elsewhere::{Elsewhere, build_image},
    world::{ROLLED, World, in_lab},
};

const NAMESPACE: &str = "ydata-migration";
const VOTERS: &str = "1000@controller-0.controller.ydata-migration.svc:9093";

/// A user's change of the brokers' command line, which Kubernetes rolls.
async fn change_command(world: &World, change: impl Fn(&str) -> String) {
    let sets: Api<StatefulSet> = Api::namespaced(world.kube.clone(), NAMESPACE);
    let set = sets.get("kafka").await.expect("the StatefulSet");
    let pod = set.spec.expect("a spec").template.spec.expect("a pod");
    let command = pod.containers[0].command.clone().expect("a command");
    let changed = change(&command[2]);
    assert_ne!(changed, command[2]);
    let patch: json_patch::Patch = serde_json::from_value(json!([
        {"op": "replace", "path": "/spec/template/spec/containers/0/command/2", "value": changed},
    ]))
    .expect("a patch");
    sets.patch("kafka", &PatchParams::default(), &Patch::Json::<()>(patch)).await.expect("it is changed");
}

/// The controller of the KRaft manifests, that takes the metadata of this cluster over.
fn deploy_controller(world: &World, kafka: &Elsewhere) {
    let id = kafka.kubectl(&[
        "exec",
        "zookeeper-0",
        "--",
        "kafka-run-class.sh",
        "org.apache.zookeeper.ZooKeeperMain",
        "get",
        "/cluster/id",
    ]);
    let id = id.lines().find(|line| line.starts_with('{')).expect("the cluster has an id");
    let id: serde_json::Value = serde_json::from_str(id).expect("JSON");
    let path = "jsonpath={.spec.template.spec.volumes[0].hostPath.path}";
    let volumes = kafka.kubectl(&["get", "statefulset", "zookeeper", "-o", path]);
    let all = lab::kafka::manifests(Flavour::KRaft39, NAMESPACE, Path::new(&volumes));
    for manifest in all.split("---\n").filter(|manifest| manifest.contains("name: controller, namespace")) {
        let own = "- {name: KAFKA_ZOOKEEPER_CONNECT, value: \"zookeeper:2181\"}\n        - {name: KAFKA_ZOOKEEPER_METADATA_MIGRATION_ENABLE, value: \"true\"}\n        - {name: KAFKA_INTER_BROKER_LISTENER_NAME, value: INTERNAL}\n        - {name: CLUSTER_ID, ";
        let manifest = manifest
            .replace("- {name: CLUSTER_ID, ", own)
            .replace("MkU3OEVBNTcwNTJENDM2Qg", id["id"].as_str().expect("an id"));
        let command = world.lab.command("kubectl").args(["apply", "-f", "-"]);
        command.text_with_input(manifest.as_bytes()).expect("accepted");
    }
    kafka.kubectl(&["rollout", "status", "statefulset/controller", "--timeout=600s"]);
}

#[test]
fn a_cluster_goes_from_zookeeper_to_kraft_and_keeps_its_addresses() {
    build_image(Flavour::ZooKeeper39);
    in_lab("migration", async |world| {
        let kafka = Elsewhere::deploy(world, Flavour::ZooKeeper39, NAMESPACE);
        world.start_operator();
        let mut object = kafka.smallest();
        kafka.apply(&object);
        let live = kafka.until(world, "Ready", "True", None).await.status.unwrap_or_default();
        assert_eq!(live.summary.expect("a summary").ready, "3/3", "3.9 takes listeners without a restart");

        object["spec"]["listener"]["rollout"] = json!("Restart");
        kafka.apply(&object);
        let moved = kafka.until(world, "Ready", "True", None).await.status.unwrap_or_default();
        assert_eq!(moved.bootstrap_servers, live.bootstrap_servers);

        deploy_controller(world, &kafka);
        change_command(world, |line| {
            format!(
                "{} --override inter.broker.protocol.version=3.9 --override zookeeper.metadata.migration.enable=true --override controller.quorum.voters={VOTERS} --override controller.listener.names=CONTROLLER",
                line.replace("security.protocol.map=", "security.protocol.map=CONTROLLER:PLAINTEXT,")
            )
        })
        .await;
        kafka.kubectl(&["rollout", "status", "statefulset/kafka", "--timeout=900s"]);
        world
            .eventually("the metadata has come over", ROLLED, async || {
                let log = kafka.kubectl(&["logs", "controller-0"]);
                if log.contains("Completed migration of metadata from ZooKeeper to KRaft") {
                    Ok(())
                } else {
                    Err(())
                }
            })
            .await;
        let during = kafka.until(world, "Ready", "True", None).await.status.unwrap_or_default();
        assert_eq!(during.bootstrap_servers, live.bootstrap_servers);

        change_command(world, |line| {
            line.replace("broker.id=", "process.roles=broker --override node.id=")
                .replace(" --override zookeeper.connect=zookeeper:2181", "")
                .replace(" --override zookeeper.metadata.migration.enable=true", "")
                .replace(" --override inter.broker.protocol.version=3.9", "")
        })
        .await;
        kafka.kubectl(&["rollout", "status", "statefulset/kafka", "--timeout=900s"]);
        let after = kafka.until(world, "Reachable", "True", None).await.status.unwrap_or_default();
        assert_eq!(after.bootstrap_servers, live.bootstrap_servers, "KRaft brokers at the same addresses");
        let bootstrap = live.bootstrap_servers.expect("every broker advertises");
        let servers: Vec<String> = bootstrap.split(',').map(str::to_owned).collect();
        world.vm_lists(&bootstrap, &servers).await;
        kafka.remove();
    });
}
