//! `rollout: Restart`: the listener by the pod template, one broker after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, Pod},
    events::v1::Event,
};
use kafka_external_access::{
    api::BrokerState,
    listeners::restart::{strategy::rolling, template::BEFORE},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use lab::{Progress, kafka::Flavour};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    elsewhere::{Elsewhere, build_image},
    witness::Witness,
    world::{NAME, NAMESPACE, READY, ROLLED, World, in_lab},
};

const KRAFT: &str = "ydata-restart";
const CONTROLLERS: &str = "ydata-controllers";
/// The ConfigMap with a file for each broker.
const FILES: &str = "kafka-external-access";

/// What happened to the brokers' pods of a namespace.
#[derive(Debug, Default)]
pub struct Lives {
    uids: BTreeMap<String, BTreeSet<String>>,
    most_down: usize,
}

/// Looks at the pods all the time.
pub struct Watch {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Lives>,
}

impl Watch {
    pub fn start(kube: &Client, namespace: &str) -> Self {
        let pods: Api<Pod> = Api::namespaced(kube.clone(), namespace);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut lives = Lives::default();
            while !stopped.load(Ordering::Relaxed) {
                let seen = pods.list(&ListParams::default().labels("app=kafka")).await.expect("pods");
                let ready = seen.iter().filter(|pod| is_ready(pod)).count();
                lives.most_down = lives.most_down.max(3_usize.saturating_sub(ready));
                for pod in seen {
                    let (name, uid) =
                        (pod.metadata.name.unwrap_or_default(), pod.metadata.uid.unwrap_or_default());
                    lives.uids.entry(name).or_default().insert(uid);
                }
                // No pod comes back in less than some seconds.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            lives
        });
        Self { stop, task }
    }

    pub async fn end(self) -> Lives {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the pods were looked at")
    }
}

impl Lives {
    /// Each of the three brokers' pods was made anew so often.
    pub fn assert_pods_made_anew(&self, times: usize) {
        let lives: Vec<usize> = self.uids.values().map(BTreeSet::len).collect();
        assert_eq!(lives, [times + 1; 3], "{self:?}");
    }

    /// Each of the three brokers was restarted so often, and never two at a time.
    fn assert_restarts(&self, times: usize) {
        self.assert_pods_made_anew(times);
        assert!(self.most_down <= 1, "{} brokers were down at a time", self.most_down);
    }
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

async fn stateful_set(world: &World, namespace: &str) -> StatefulSet {
    let api: Api<StatefulSet> = Api::namespaced(world.kube.clone(), namespace);
    api.get("kafka").await.expect("the StatefulSet")
}

fn spec(set: &StatefulSet) -> Value {
    serde_json::to_value(&set.spec).expect("JSON")
}

/// Events of this reason about the object, and not about one that had its name before.
async fn told(world: &World, reason: &str) -> usize {
    let uid = world.access().await.expect("the object").metadata.uid;
    let api: Api<Event> = Api::namespaced(world.kube.clone(), NAMESPACE);
    let events = api.list(&ListParams::default()).await.expect("events can be listed");
    let about = |event: &&Event| event.regarding.as_ref().is_some_and(|about| about.uid == uid);
    events.iter().filter(about).filter(|event| event.reason.as_deref() == Some(reason)).count()
}

pub fn restart(object: &mut Value) {
    object["spec"]["listener"]["rollout"] = json!("Restart");
}

#[test]
fn kraft_brokers_restart_once_each_never_two_at_a_time_and_in_cluster_clients_notice_nothing() {
    build_image(Flavour::KRaft100);
    in_lab("restart_kraft", async |world| {
        let kafka = Elsewhere::deploy(world, Flavour::KRaft100, KRAFT);
        let before = stateful_set(world, KRAFT).await;
        let witness = Witness::start(world.lab, KRAFT);
        witness.running(world).await;
        world.start_operator();
        world.neutron.forget();
        let lives = Watch::start(&world.kube, KRAFT);
        let mut object = kafka.smallest();
        restart(&mut object);
        object["spec"]["listener"]["onDelete"] = json!("Restore");
        kafka.apply(&object);

        kafka.until(world, "Ready", "True", None).await;
        let reached = kafka.until(world, "Reachable", "True", None).await;
        lives.end().await.assert_restarts(1);
        let calls = world.neutron.mutations();
        let of = |method: &str| calls.iter().filter(|call| call.method == method).count();
        assert_eq!(
            (of("POST"), of("PUT"), of("DELETE")),
            (3, 3, 0),
            "one more PUT for each restart: {calls:?}"
        );
        let set = stateful_set(world, KRAFT).await;
        assert_eq!(
            spec(&set)["updateStrategy"],
            spec(&before)["updateStrategy"],
            "the strategy is the user's again"
        );
        assert!(!rolling(&set) && set.metadata.annotations.unwrap_or_default().contains_key(BEFORE));
        let bootstrap = reached.status.and_then(|status| status.bootstrap_servers).expect("all advertise");
        let servers: Vec<String> = bootstrap.split(',').map(str::to_owned).collect();
        for server in &servers {
            let table = world.vm_lists(server, &servers).await;
            assert_eq!(table.into_keys().collect::<Vec<_>>(), [100, 101, 102], "node.id is ordinal + 100");
        }

        let lives = Watch::start(&world.kube, KRAFT);
        kafka.kubectl(&["delete", "kea", "kafka", "--timeout=600s"]);
        lives.end().await.assert_restarts(1);
        assert!(world.ledger().is_empty(), "{:?}", world.ledger());
        let after = stateful_set(world, KRAFT).await;
        assert_eq!(spec(&after), spec(&before), "the pod template is what it was");
        assert!(!after.metadata.annotations.unwrap_or_default().contains_key(BEFORE));
        let left = kafka.kubectl(&["get", "configmap", "kafka-external-access", "--ignore-not-found"]);
        assert_eq!(left, "", "nothing refers to the files any more");
        witness.noticed_nothing(world).await;
        kafka.remove();
    });
}

#[test]
fn brokers_whose_controllers_have_a_stateful_set_of_their_own_restart_once_each_and_the_controllers_do_not() {
    build_image(Flavour::KRaft39);
    in_lab("restart_controllers", async |world| {
        let kafka = Elsewhere::deploy(world, Flavour::KRaft39, CONTROLLERS);
        let life = ["get", "pod", "controller-0", "-o", "jsonpath={.metadata.uid}"];
        let controller = kafka.kubectl(&life);
        world.start_operator();
        let lives = Watch::start(&world.kube, CONTROLLERS);
        let mut object = kafka.smallest();
        restart(&mut object);
        kafka.apply(&object);
        kafka.until(world, "Ready", "True", None).await;
        let reached = kafka.until(world, "Reachable", "True", None).await;
        lives.end().await.assert_restarts(1);
        assert_eq!(kafka.kubectl(&life), controller);
        let bootstrap = reached.status.and_then(|status| status.bootstrap_servers).expect("all advertise");
        let servers: Vec<String> = bootstrap.split(',').map(str::to_owned).collect();
        world.vm_lists(&bootstrap, &servers).await;
        kafka.kubectl(&["delete", "kea", "kafka", "--timeout=600s"]);
        kafka.remove();
    });
}

/// Kafka's tool for topics, in the client pod.
fn topics(world: &World, args: &[&str]) {
    world.kafka_tool("kafka.admin.TopicCommand", args).expect("the tool works");
}

/// What broker `ordinal` is told while it waits.
async fn message(world: &World, ordinal: u32) -> String {
    let status = world.access().await.and_then(|object| object.status).unwrap_or_default();
    let broker = status.brokers.into_iter().find(|broker| broker.ordinal == ordinal);
    broker.and_then(|broker| broker.message).unwrap_or_default()
}

#[test]
fn a_roll_stops_where_a_restart_would_cost_something_names_the_cause_and_goes_on_without_it() {
    in_lab("restart_gate", async |world| {
        let topic = format!("tight-{}", std::process::id());
        // The active controller restarts last, so one of the others is the one that may.
        let controller = world.controller().expect("a controller");
        let free = if controller == 0 { 1 } else { 0 };
        let tight: Vec<String> = (0..3).filter(|o| *o != free).map(|o: u32| o.to_string()).collect();
        let (waiting, replicas) =
            ((0..3).find(|o| ![free, controller].contains(o)).expect("three"), tight.join(":"));
        let placed = [
            "--create",
            "--topic",
            &topic,
            "--replica-assignment",
            &replicas,
            "--config",
            "min.insync.replicas=2",
        ];
        topics(world, &placed);
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        let lives = Watch::start(&world.kube, NAMESPACE);
        // Whoever restarts now does not come back.
        world.cordon(true).await;
        world.create(restart).await;
        world
            .eventually("a broker is waited for", ROLLED, async || {
                let told = message(world, waiting).await;
                let down = format!("is waited for: broker {free} does not answer");
                if told.contains(&down) { Ok(()) } else { Err(told) }
            })
            .await;
        world
            .eventually("the restart is told", READY, async || match told(world, "Restarted").await {
                0 => Err("it is not"),
                _ => Ok(()),
            })
            .await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert_eq!(told(world, "Restarted").await, 1, "nobody follows");
        // Who takes over in the middle of it restarts nobody a second time.
        world.kill_operator();
        world.start_operator();
        world.cordon(false).await;

        let needs_all = format!("{topic}-0 has 2 replicas and needs 2 in sync");
        world
            .eventually("the partition is named", ROLLED, async || {
                let told = message(world, waiting).await;
                if told.starts_with(&needs_all) { Ok(()) } else { Err(told) }
            })
            .await;
        let blocked = world.broker(waiting, BrokerState::Waiting, "RestartBlocked", READY).await;
        assert!(
            crate::world::condition(&blocked, "Programmed").is_some_and(|(_, why)| why == "RestartBlocked")
        );

        let budget = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "kafka", "namespace": NAMESPACE},
            "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "kafka"}}},
        });
        let command = world.lab.command("kubectl").args(["apply", "-f", "-"]);
        command.text_with_input(budget.to_string().as_bytes()).expect("the budget is accepted");
        topics(world, &["--delete", "--topic", &topic]);
        world
            .eventually("the budget is named", READY, async || {
                let told = [message(world, waiting).await, message(world, controller).await].concat();
                if told.contains("disruption budget") { Ok(()) } else { Err(told) }
            })
            .await;
        world.lab.kubectl(&["-n", NAMESPACE, "delete", "pdb", "kafka"]).expect("the budget can be deleted");
        world.condition("Ready", "True", ROLLED).await;
        lives.end().await.assert_restarts(1);
        world.assert_bound(0..3).await;
    });
}

#[test]
fn the_template_stays_the_users() {
    in_lab("restart_template", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(restart).await;
        world.condition("Ready", "True", ROLLED).await;
        let restarts = told(world, "Restarted").await;

        // A broker that starts without its file does not come up: what somebody empties is written again at once.
        let maps: Api<ConfigMap> = Api::namespaced(world.kube.clone(), NAMESPACE);
        let files = maps.get(FILES).await.expect("the files").data;
        maps.patch(FILES, &PatchParams::default(), &Patch::Merge(json!({"data": null})))
            .await
            .expect("emptied");
        world
            .eventually("the files are there again", READY, async || {
                let now = maps.get(FILES).await.expect("the files").data;
                if now == files { Ok(()) } else { Err(now) }
            })
            .await;
        world.condition("Ready", "True", READY).await;
        assert_eq!(told(world, "Restarted").await, restarts, "and nobody restarts for it");

        let upgrade = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "kafka", "env": [{"name": "UPGRADED", "value": "yes"}]}]}}}});
        world.change_brokers(upgrade).await;
        world.condition("Ready", "True", ROLLED).await;
        assert_eq!(told(world, "Restarted").await, restarts, "Kubernetes has rolled the upgrade");
        world.assert_bound(0..3).await;

        let kafka = world.lab.kafka(Flavour::ZooKeeper, NAMESPACE);
        kafka.deploy(&Progress::silent()).expect("the old manifest is applied again");
        let applied = stateful_set(world, NAMESPACE).await.metadata.generation;
        let object = world.reason("Programmed", "False", "TemplateReverted", ROLLED).await;
        let steps = object.status.unwrap_or_default().plan;
        assert!(steps.iter().any(|step| step.contains("patch statefulset kafka --type=json")), "{steps:?}");
        world.brokers_rolled().await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(stateful_set(world, NAMESPACE).await.metadata.generation, applied, "nobody fights");

        // What the plan shows is what a person runs.
        let step = steps.iter().find(|step| step.contains("patch statefulset")).expect("the patch");
        let shown = step.split_once("-p '").and_then(|(_, rest)| rest.strip_suffix('\'')).expect("the patch");
        let patch: json_patch::Patch = serde_json::from_str(shown).expect("a JSON patch");
        let params = PatchParams::default();
        world.stateful_sets().patch("kafka", &params, &Patch::Json::<()>(patch)).await.expect("it fits");
        world.condition("Ready", "True", ROLLED).await;
        assert_eq!(told(world, "Restarted").await, restarts, "Kubernetes has rolled this too");
    });
}

#[test]
fn brokers_that_come_while_the_operator_is_away_start_and_get_their_addresses_later() {
    in_lab("restart_scale", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(restart).await;
        world.condition("Ready", "True", ROLLED).await;
        world.kill_operator();
        world.scale(6).await;
        world.brokers_registered(6).await;
        world.start_operator();
        world
            .eventually("six brokers are ready", ROLLED, async || {
                let status = world.access().await.and_then(|object| object.status).unwrap_or_default();
                let ready = status.brokers.iter().filter(|broker| broker.state == BrokerState::Ready).count();
                if ready == 6 { Ok(()) } else { Err(status.brokers) }
            })
            .await;
        world.assert_bound(0..6).await;
        assert_eq!(world.ledger().len(), 6);
    });
}

#[test]
fn stored_settings_move_into_the_template_and_leave_kafka_after_the_last_restart() {
    in_lab("restart_move", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        let before =
            world.condition("Ready", "True", READY).await.status.unwrap_or_default().bootstrap_servers;
        let lives = Watch::start(&world.kube, NAMESPACE);
        world.patch(json!({"spec": {"listener": {"rollout": "Restart"}}})).await;
        let after =
            world.condition("Ready", "True", ROLLED).await.status.unwrap_or_default().bootstrap_servers;
        lives.end().await.assert_restarts(1);
        assert_eq!(after, before, "the addresses are the same");
        assert_eq!(told(world, "ListenerNotApplied").await, 0, "what the template says stays told");
        for broker in 0..3 {
            let stored = world.kafka_configs(broker, &["--describe"]).expect("the tool works");
            assert!(!stored.contains("EXTERNAL"), "{stored}");
        }
        world.assert_bound(0..3).await;

        // Another rollout restarts nobody: what a file would tell at the next start is not released.
        world.patch(json!({"spec": {"listener": {"rollout": "Dynamic"}}})).await;
        world.condition("Ready", "True", READY).await;
        world.accesses().delete(NAME, &DeleteParams::default()).await.expect("the deletion is accepted");
        let object = world.reason("Programmed", "False", "ReleaseBlocked", READY).await;
        let messages: Vec<String> = object
            .status
            .unwrap_or_default()
            .brokers
            .into_iter()
            .filter_map(|broker| broker.message)
            .collect();
        assert!(messages.iter().all(|text| text.contains("set rollout: Restart")), "{messages:?}");
        assert_eq!(world.ledger().len(), 3);
        world.patch(json!({"spec": {"listener": {"rollout": "Restart"}}})).await;
        world.delete_within(ROLLED).await;
        let set = stateful_set(world, NAMESPACE).await;
        assert!(
            spec(&set).to_string().contains("/etc/kafka-external-access"),
            "onDelete: Keep keeps the template"
        );
    });
}
