//! Kafka as its users and its administrators see it.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kafka_external_access::{
    kafka::{Brokers, ListenerSetting, Security, SettingChange, Target, Validate, admin::TcpBrokers},
    listeners::restart::template::BEFORE,
    seams::{Leadership, SoleReplica},
};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{CHANGED, NAMESPACE, READY, SCALED, World};
use crate::restart::is_ready;

impl World {
    pub async fn scale(&self, replicas: i32) {
        let mut patch = json!({"spec": {"replicas": replicas}});
        if replicas > 3 {
            patch["metadata"] = json!({"annotations": {SCALED: "yes"}});
        }
        let patch = Patch::Merge(patch);
        self.stateful_sets()
            .patch("kafka", &PatchParams::default(), &patch)
            .await
            .expect("the StatefulSet scales");
    }

    /// A strategic merge patch of the brokers' StatefulSet, in force when this returns; undone before the next test.
    pub async fn change_brokers(&self, mut patch: Value) {
        patch["metadata"] = json!({"annotations": {CHANGED: "yes"}});
        let params = PatchParams::default();
        self.stateful_sets().patch("kafka", &params, &Patch::Strategic(patch)).await.expect("accepted");
        self.brokers_rolled().await;
    }

    pub(super) async fn restore_brokers(&self) {
        let set = self.stateful_sets().get("kafka").await.expect("the StatefulSet");
        let annotations = set.metadata.annotations.unwrap_or_default();
        let pod = set.spec.and_then(|spec| spec.template.spec).unwrap_or_default();
        let volumes = pod.volumes.unwrap_or_default();
        let ours = volumes.iter().any(|volume| volume.name == "kafka-external-access");
        if !ours && [CHANGED, BEFORE].iter().all(|name| !annotations.contains_key(*name)) {
            return;
        }
        let kafka = self.lab.kafka(lab::kafka::Flavour::ZooKeeper, NAMESPACE);
        kafka.deploy(&lab::Progress::silent()).expect("the brokers' manifest is applied again");
        // What the manifest does not know stays otherwise, and every broker would be rolled for it.
        let gone = |key: &str, name: &str| json!({key: name, "$patch": "delete"});
        let env = [gone("name", "POD_IP"), gone("name", "UPGRADED"), gone("name", "KAFKA_OPTS")];
        let mounts = [gone("mountPath", "/etc/kafka-external-access")];
        let everything = json!({
            "metadata": {"annotations": {CHANGED: null, BEFORE: null}},
            "spec": {
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "template": {"spec": {
                    "containers": [{"name": "kafka", "env": env, "volumeMounts": mounts}],
                    "volumes": [gone("name", "kafka-external-access")],
                }},
            },
        });
        let params = PatchParams::default();
        self.stateful_sets().patch("kafka", &params, &Patch::Strategic(everything)).await.expect("accepted");
        // A pod that does not become ready is not replaced although there is a better template.
        for pod in self.pods().list(&ListParams::default().labels("app=kafka")).await.expect("pods") {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            if !conditions
                .into_iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
            {
                let name = pod.metadata.name.unwrap_or_default();
                self.lab.kubectl(&["-n", NAMESPACE, "delete", "pod", &name]).expect("a pod can be deleted");
            }
        }
        self.brokers_rolled().await;
        let files = ["-n", NAMESPACE, "delete", "configmap", "kafka-external-access", "--ignore-not-found"];
        self.lab.kubectl(&files).expect("the files can be deleted");
    }

    /// Waits until each broker that should be of the newest template is, and all are registered.
    pub async fn brokers_rolled(&self) {
        let wait = ["-n", NAMESPACE, "rollout", "status", "statefulset/kafka", "--timeout=900s"];
        self.lab.kubectl(&wait).expect("the brokers follow their template");
        self.brokers_registered(3).await;
    }

    /// Waits until so many brokers are registered, as the internal listener shows them.
    pub async fn brokers_registered(&self, count: usize) {
        self.eventually(&format!("{count} brokers are registered"), Duration::from_secs(400), async || {
            match self.internal_table() {
                Ok(table) if table.len() == count => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Waits until each of the three brokers has a pod that is ready and is registered, and until no replica of theirs is
    /// behind: then one of them may go, and topics that can do without one go on.
    pub async fn brokers_in_sync(&self) {
        self.eventually("every broker's pod is ready", READY, async || {
            let pods = self.pods().list(&ListParams::default().labels("app=kafka")).await;
            match pods.expect("pods can be listed").iter().filter(|pod| is_ready(pod)).count() {
                3 => Ok(()),
                ready => Err(ready),
            }
        })
        .await;
        self.brokers_registered(3).await;
        self.eventually("every replica is in sync", READY, async || {
            let behind = behind(&self.internal_list()?);
            if behind.is_empty() { Ok(()) } else { Err(behind.join("\n")) }
        })
        .await;
    }

    /// What an in-cluster client is told of brokers and partitions.
    fn internal_list(&self) -> Result<String, String> {
        let list = ["-L", "-m", "30", "-b", "kafka-0.kafka-headless.ydata.svc:9092"];
        self.lab.command("kcat").args(list).text().map_err(|error| error.to_string())
    }

    /// Broker id and `host:port` as an in-cluster client sees them.
    pub fn internal_table(&self) -> Result<BTreeMap<i32, String>, String> {
        self.internal_list().map(|text| table(&text))
    }

    /// The active controller, as the internal listener shows it.
    pub fn controller(&self) -> Option<u32> {
        let listed = self.internal_list().ok()?;
        let line = listed.lines().find(|line| line.contains("(controller)"))?;
        line.trim().strip_prefix("broker ")?.split(' ').next()?.parse().ok()
    }

    /// What the virtual machine's kcat prints, or why it failed.
    pub fn vm_kcat(&self, args: &[&str]) -> Result<String, String> {
        let vm = self.lab.vm().map_err(|error| error.to_string())?;
        vm.command("kcat").args(args).text().map_err(|error| error.to_string())
    }

    /// The advertised table as the virtual machine sees it through `address`.
    pub fn vm_table(&self, address: &str) -> Result<BTreeMap<i32, String>, String> {
        self.vm_kcat(&["-L", "-m", "30", "-b", address]).map(|text| table(&text))
    }

    /// The virtual machine is told of exactly these endpoints, in the order of the brokers, through `address`; with the
    /// brokers' ids.
    pub async fn vm_lists(&self, address: &str, endpoints: &[String]) -> BTreeMap<i32, String> {
        let what = format!("{address} tells the virtual machine of {endpoints:?}");
        self.eventually(&what, READY, async || match self.vm_table(address) {
            Ok(table) if table.values().eq(endpoints) => Ok(table),
            other => Err(other),
        })
        .await
    }

    /// Removes what is stored for brokers that a test has scaled away: one that comes back would not start where its
    /// former endpoint is another broker's by then. What belongs to brokers that do not run is ZooKeeper's to change.
    pub(super) async fn forget_scaled_brokers(&self) {
        let set = self.stateful_sets().get("kafka").await.expect("the StatefulSet");
        if !set.metadata.annotations.unwrap_or_default().contains_key(SCALED) {
            return;
        }
        // It fails for a broker that has nothing stored; what is left in the end counts.
        let forget = "(for broker in 3 4 5; do echo deleteall /config/brokers/$broker; done; echo ls /config/brokers) \
             | kafka-run-class.sh org.apache.zookeeper.ZooKeeperMain -server zookeeper:2181";
        let shell = ["-n", NAMESPACE, "exec", "client", "--", "sh", "-c", forget];
        let told = self.lab.kubectl(&shell).expect("ZooKeeper can be asked");
        let left = told.lines().last().unwrap_or_default();
        assert!(left.starts_with('[') && !["3", "4", "5"].iter().any(|id| left.contains(id)), "{told}");
        let done = Patch::Merge(json!({"metadata": {"annotations": {SCALED: null}}}));
        self.stateful_sets().patch("kafka", &PatchParams::default(), &done).await.expect("accepted");
    }

    /// Removes what is stored of a broker's listeners. Kafka's own tool would take seconds for each.
    pub async fn delete_stored_listeners(&self, broker: u32) {
        let at = (self.pod_ip(&format!("kafka-{broker}")).await, 9092).into();
        let internal = Target { at, security: Security::default(), step_timeout: Duration::from_secs(20) };
        let view = self
            .eventually("the broker shows what it has stored", Duration::from_secs(240), async || {
                TcpBrokers.describe(&internal).await
            })
            .await;
        let stored = |setting: &ListenerSetting| view.setting(*setting).dynamic.is_some();
        let changes: Vec<SettingChange> =
            ListenerSetting::ALL.into_iter().filter(stored).map(SettingChange::Delete).collect();
        if !changes.is_empty() {
            let permit = SoleReplica.permit().expect("nobody else leads");
            let removed = TcpBrokers.alter(permit, &internal, view.node, &changes, Validate::AndApply).await;
            removed.expect("stored settings can be removed");
        }
    }

    /// One of Kafka's tools, run in the client pod against the internal listener.
    pub fn kafka_tool(&self, class: &str, args: &[&str]) -> Result<String, String> {
        self.kafka_tool_at("kafka-0.kafka-headless.ydata.svc:9092", class, args)
    }

    /// One of Kafka's tools, run in the client pod against this server.
    pub fn kafka_tool_at(&self, server: &str, class: &str, args: &[&str]) -> Result<String, String> {
        let tool = [
            "-n",
            NAMESPACE,
            "exec",
            "client",
            "--",
            "kafka-run-class.sh",
            class,
            "--bootstrap-server",
            server,
        ];
        self.lab.kubectl(&[&tool[..], args].concat()).map_err(|error| error.to_string())
    }

    /// `kafka-configs` for one broker.
    pub fn kafka_configs(&self, broker: u32, args: &[&str]) -> Result<String, String> {
        let id = broker.to_string();
        let entity = ["--entity-type", "brokers", "--entity-name", &id];
        self.kafka_tool("kafka.admin.ConfigCommand", &[&entity[..], args].concat())
    }

    /// What docs/dynamic.md tells for a broker that does not run.
    pub fn delete_stored_of_absent_broker(&self, broker: u32) -> Result<String, String> {
        let id = broker.to_string();
        let keys = "listeners,advertised.listeners,listener.security.protocol.map";
        let client =
            ["-n", NAMESPACE, "exec", "client", "--", "kafka-run-class.sh", "kafka.admin.ConfigCommand"];
        let args = ["--zookeeper", "zookeeper:2181", "--entity-type", "brokers", "--entity-name", &id];
        let alter = ["--alter", "--delete-config", keys];
        self.lab.kubectl(&[&client[..], &args, &alter].concat()).map_err(|error| error.to_string())
    }

    /// UIDs and restart counts of the brokers' pods: unchanged means that no broker was restarted.
    pub async fn broker_lives(&self) -> BTreeMap<String, (String, i32)> {
        let pods =
            self.pods().list(&ListParams::default().labels("app=kafka")).await.expect("pods can be listed");
        let life = |pod: Pod| {
            let status = pod.status.unwrap_or_default();
            let restarts =
                status.container_statuses.unwrap_or_default().iter().map(|c| c.restart_count).sum();
            (pod.metadata.name.unwrap_or_default(), (pod.metadata.uid.unwrap_or_default(), restarts))
        };
        pods.into_iter().map(life).collect()
    }
}

/// Partitions with a replica at one of the three brokers that is not in sync. One at a broker that was scaled away never is.
fn behind(listed: &str) -> Vec<String> {
    let in_sync = |line: &str| {
        let (replicas, rest) = line.split_once(" replicas: ")?.1.split_once(", isrs: ")?;
        let isrs: Vec<&str> = rest.split(", ").next()?.split(',').collect();
        let mut ours = replicas.split(',').filter(|id| ["0", "1", "2"].contains(id));
        Some(ours.all(|id| isrs.contains(&id)))
    };
    let behind = listed.lines().filter(|line| in_sync(line) == Some(false));
    behind.map(|line| line.trim().to_owned()).collect()
}

fn table(listed: &str) -> BTreeMap<i32, String> {
    let brokers = listed.lines().filter_map(|line| line.trim().strip_prefix("broker "));
    let entry = |line: &str| {
        let (id, rest) = line.split_once(" at ")?;
        let at = rest.split_whitespace().next()?;
        Some((id.parse().ok()?, at.to_owned()))
    };
    brokers.filter_map(entry).collect()
}
