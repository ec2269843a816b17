//! What a test acts on: the lab, the cloud behind counting proxies, the API server, and the operator's process.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Pod, Secret},
};
use kafka_external_access::{
    api::{BrokerState, FINALIZER, KafkaExternalAccess},
    kafka::{Brokers, ListenerSetting, Security, SettingChange, Target, Validate, admin::TcpBrokers},
    seams::{Leadership, SoleReplica},
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use lab::{
    Lab,
    cloud::{Account, Cloud, CloudFacts, Direction, FloatingIp, SecurityRule, Service, Session},
};
use serde_json::{Value, json};

use crate::{operator::Operator, proxy::Proxy};

/// Namespace of the Kafka that the lab deploys.
pub const NAMESPACE: &str = "ydata";
/// Name of the object in most tests.
pub const NAME: &str = "kafka";
/// The listener's port.
pub const PORT: u16 = 9094;

/// On the StatefulSet while a test has changed it.
const CHANGED: &str = "end-to-end/changed";

/// A test's world. It starts clean: no object, no floating IP, no stored listener, three brokers.
pub struct World {
    pub lab: &'static Lab,
    pub cloud: &'static Cloud,
    /// The project's member, past the proxies: what it does is not counted.
    pub demo: Session,
    pub admin: Session,
    pub kube: Client,
    pub keystone: Proxy,
    pub neutron: Proxy,
    test: &'static str,
    operator: Option<Operator>,
}

/// Runs `test` in a thread inside the lab's network.
pub fn in_lab(name: &'static str, test: impl AsyncFnOnce(&mut World) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let lab = Lab::attach().unwrap_or_else(|error| panic!("{error}; start the lab: cargo lab up"));
        // For the length of the test process: what borrows from the lab may then live in the world.
        let lab: &'static Lab = Box::leak(Box::new(lab));
        lab.enter_network().expect("the lab's network can be entered");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut world = World::open(lab, name).await;
            test(&mut world).await;
            world.close().await;
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn address_of(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().expect("the lab's URLs are addresses")
}

impl World {
    async fn open(lab: &'static Lab, test: &'static str) -> Self {
        let _ = aws_lc_rs_provider();
        let cloud = lab.cloud();
        // A test that failed may have left them down.
        for service in [Service::Keystone, Service::Neutron] {
            cloud.start(service).expect("the cloud's services run");
        }
        let (demo, admin) = (cloud.demo().expect("a session"), cloud.admin().expect("a session"));
        let kubeconfig =
            kube::config::Kubeconfig::read_from(&lab.facts().kubeconfig).expect("the lab's kubeconfig");
        let options = kube::config::KubeConfigOptions::default();
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("the lab's kubeconfig");
        let kube = Client::try_from(config).expect("a client");
        let keystone_at = cloud.facts().keystone.trim_end_matches("/v3").to_owned();
        let neutron_at = cloud.facts().neutron.clone();
        let keystone = Proxy::start(address_of(CloudFacts::PROXY_KEYSTONE), &keystone_at).await;
        let neutron = Proxy::start(address_of(CloudFacts::PROXY_NEUTRON), &neutron_at).await;
        let world = Self { lab, cloud, demo, admin, kube, keystone, neutron, test, operator: None };
        world.clean().await;
        world
    }

    async fn close(mut self) {
        self.operator = None;
        self.clean().await;
    }

    /// Removes what an earlier test, perhaps a failed one, has left.
    pub async fn clean(&self) {
        self.install_crd().await;
        for object in self.all_accesses().list(&ListParams::default()).await.expect("objects can be listed") {
            let api = self.accesses_in(object.meta().namespace.as_deref().unwrap_or_default());
            let name = object.meta().name.clone().unwrap_or_default();
            let _ = api
                .patch(&name, &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": []}})))
                .await;
            let _ = api.delete(&name, &DeleteParams::default()).await;
        }
        for secret in ["openstack", "openstack-2"] {
            let free = Patch::Merge(json!({"metadata": {"finalizers": []}}));
            let _ = self.secrets().patch(secret, &PatchParams::default(), &free).await;
            let _ = self.secrets().delete(secret, &DeleteParams::default()).await;
        }
        for address in self.demo.floating_ips().expect("floating IPs can be listed") {
            self.demo.delete_floating_ip(&address.id).expect("a floating IP can be deleted");
        }
        self.remove_policies();
        self.admin
            .set_floating_ip_quota(&self.cloud.facts().demo.project_id, Some(50))
            .expect("the quota can be set");
        self.reset_security_group();
        self.cloud.set_hairpin(true).expect("hairpin can be switched");
        self.lab.vm().expect("the virtual machine").write_hosts("").expect("its hosts file can be written");
        self.restore_brokers().await;
        self.scale(3).await;
        self.brokers_registered(3).await;
        for broker in 0..3 {
            self.delete_stored_listeners(broker).await;
        }
    }

    /// Bandwidth policies that tests have made.
    fn remove_policies(&self) {
        let list = self.admin.network("GET", "/qos/policies", None).expect("policies can be listed");
        for policy in list["policies"].as_array().into_iter().flatten() {
            if policy["name"].as_str().is_some_and(|name| name.starts_with("end-to-end")) {
                let path = format!("/qos/policies/{}", policy["id"].as_str().unwrap_or_default());
                self.admin.network("DELETE", &path, None).expect("a policy can be removed");
            }
        }
    }

    async fn install_crd(&self) {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/kafkaexternalaccesses.yaml");
        self.lab.kubectl(&["apply", "--server-side", "-f", file]).expect("the CRD is accepted");
        let wait = [
            "wait",
            "--for=condition=Established",
            "crd/kafkaexternalaccesses.kafkaaccess.dev",
            "--timeout=20s",
        ];
        self.lab.kubectl(&wait).expect("the CRD is served");
    }

    // The operator.

    /// Starts the operator.
    pub fn start_operator(&mut self) {
        let operator = Operator::start(self.lab, self.test);
        operator.wait_until_it_leads();
        self.operator = Some(operator);
        // Creation times have whole seconds: an object that seems older than the operator's leadership is let go only
        // after the five minutes in which a former leader's calls could still succeed.
        std::thread::sleep(Duration::from_millis(1100));
    }

    /// SIGKILL.
    pub fn kill_operator(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.kill();
        }
    }

    /// SIGTERM; true when it ended well in time.
    pub fn terminate_operator(&mut self) -> bool {
        self.operator.take().expect("the operator runs").terminate(Duration::from_secs(15))
    }

    // Kubernetes.

    pub fn accesses(&self) -> Api<KafkaExternalAccess> {
        self.accesses_in(NAMESPACE)
    }

    pub fn accesses_in(&self, namespace: &str) -> Api<KafkaExternalAccess> {
        Api::namespaced(self.kube.clone(), namespace)
    }

    fn all_accesses(&self) -> Api<KafkaExternalAccess> {
        Api::all(self.kube.clone())
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.kube.clone(), NAMESPACE)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.kube.clone(), NAMESPACE)
    }

    pub fn stateful_sets(&self) -> Api<StatefulSet> {
        Api::namespaced(self.kube.clone(), NAMESPACE)
    }

    /// The credential of an account, through the counting proxies.
    pub async fn apply_credential(&self, account: &Account) {
        self.apply_clouds_yaml("openstack", &self.cloud.clouds_yaml_through_proxy(account)).await;
    }

    pub async fn apply_clouds_yaml(&self, secret: &str, clouds_yaml: &str) {
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret},
            "stringData": {"clouds.yaml": clouds_yaml},
        });
        let params = PatchParams::apply("end-to-end").force();
        self.secrets().patch(secret, &params, &Patch::Apply(object)).await.expect("the Secret is accepted");
    }

    /// The smallest object of the README, changed by `edit`.
    pub async fn create(&self, edit: impl FnOnce(&mut Value)) {
        let mut object = smallest();
        edit(&mut object);
        let object = serde_json::from_value(object).expect("the object fits its type");
        self.accesses().create(&PostParams::default(), &object).await.expect("the object is accepted");
    }

    /// A merge patch of the object.
    pub async fn patch(&self, patch: Value) {
        let params = PatchParams::default();
        self.accesses().patch(NAME, &params, &Patch::Merge(patch)).await.expect("the patch is accepted");
    }

    pub async fn access(&self) -> Option<KafkaExternalAccess> {
        self.accesses().get_opt(NAME).await.expect("the object can be read")
    }

    /// Asks for the deletion and waits until the object is gone.
    pub async fn delete(&self, limit: Duration) {
        self.accesses().delete(NAME, &DeleteParams::default()).await.expect("the deletion is accepted");
        self.eventually("the object is gone", limit, async || match self.access().await {
            None => Ok(()),
            Some(object) => Err(describe(&object)),
        })
        .await;
    }

    /// Waits until the condition has the status, and gives the object back.
    pub async fn condition(&self, kind: &str, status: &str, limit: Duration) -> KafkaExternalAccess {
        self.eventually(&format!("condition {kind}={status}"), limit, async || {
            let object = self.access().await.ok_or("the object does not exist")?;
            match condition(&object, kind) {
                Some((seen, _)) if seen == status && current(&object) => Ok(object),
                _ => Err(describe(&object)),
            }
        })
        .await
    }

    /// Waits until the condition has status and reason.
    pub async fn reason(
        &self,
        kind: &str,
        status: &str,
        reason: &str,
        limit: Duration,
    ) -> KafkaExternalAccess {
        self.eventually(&format!("condition {kind}={status} {reason}"), limit, async || {
            let object = self.access().await.ok_or("the object does not exist")?;
            match condition(&object, kind) {
                Some((seen, why)) if seen == status && why == reason => Ok(object),
                _ => Err(describe(&object)),
            }
        })
        .await
    }

    /// Waits until broker `ordinal` stands in `state` for `reason`.
    pub async fn broker(
        &self,
        ordinal: u32,
        state: BrokerState,
        reason: &str,
        limit: Duration,
    ) -> KafkaExternalAccess {
        self.eventually(&format!("broker {ordinal} {state:?} {reason}"), limit, async || {
            let object = self.access().await.ok_or("the object does not exist")?;
            let brokers = object.status.as_ref().map(|status| status.brokers.as_slice()).unwrap_or_default();
            let broker = brokers.iter().find(|broker| broker.ordinal == ordinal);
            match broker {
                Some(b) if b.state == state && (reason.is_empty() || b.reason.as_deref() == Some(reason)) => {
                    Ok(object)
                }
                _ => Err(describe(&object)),
            }
        })
        .await
    }

    /// Waits until `look` succeeds; the failure shows what it saw last and the end of the operator's log.
    pub async fn eventually<T, E: Debug>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl AsyncFnMut() -> Result<T, E>,
    ) -> T {
        let start = Instant::now();
        loop {
            match look().await {
                Ok(found) => return found,
                Err(seen) if start.elapsed() > limit => {
                    let log = self.operator.as_ref().map(Operator::log_tail).unwrap_or_default();
                    panic!("after {limit:?} still not so: {what}\nlast seen: {seen:?}\noperator:\n{log}");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    // Kafka.

    pub async fn scale(&self, replicas: i32) {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
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

    async fn restore_brokers(&self) {
        let set = self.stateful_sets().get("kafka").await.expect("the StatefulSet");
        if set.metadata.annotations.is_none_or(|annotations| !annotations.contains_key(CHANGED)) {
            return;
        }
        let kafka = self.lab.kafka(lab::kafka::Flavour::ZooKeeper, NAMESPACE);
        kafka.deploy(&lab::Progress::silent()).expect("the brokers' manifest is applied again");
        // What the manifest does not know stays otherwise, and every broker would be rolled for it.
        let env = json!([{"name": "POD_IP", "$patch": "delete"}]);
        let everything = json!({
            "metadata": {"annotations": {CHANGED: null}},
            "spec": {
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "template": {"spec": {"containers": [{"name": "kafka", "env": env}]}},
            },
        });
        let params = PatchParams::default();
        self.stateful_sets().patch("kafka", &params, &Patch::Strategic(everything)).await.expect("accepted");
        self.brokers_rolled().await;
    }

    /// Waits until each broker that should be of the newest template is, and all are registered.
    async fn brokers_rolled(&self) {
        let wait = ["-n", NAMESPACE, "rollout", "status", "statefulset/kafka", "--timeout=120s"];
        self.lab.kubectl(&wait).expect("the brokers follow their template");
        self.brokers_registered(3).await;
    }

    /// Waits until so many brokers are registered, as the internal listener shows them.
    pub async fn brokers_registered(&self, count: usize) {
        self.eventually(&format!("{count} brokers are registered"), Duration::from_secs(120), async || {
            match self.internal_table() {
                Ok(table) if table.len() == count => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Broker id and `host:port` as an in-cluster client sees them.
    pub fn internal_table(&self) -> Result<BTreeMap<i32, String>, String> {
        let listed = self
            .lab
            .command("kcat")
            .args(["-L", "-m", "5", "-b", "kafka-0.kafka-headless.ydata.svc:9092"])
            .text();
        listed.map(|text| table(&text)).map_err(|error| error.to_string())
    }

    /// What the virtual machine's kcat prints, or why it failed.
    pub fn vm_kcat(&self, args: &[&str]) -> Result<String, String> {
        let vm = self.lab.vm().map_err(|error| error.to_string())?;
        vm.command("kcat").args(args).text().map_err(|error| error.to_string())
    }

    /// The advertised table as the virtual machine sees it through `address`.
    pub fn vm_table(&self, address: &str) -> Result<BTreeMap<i32, String>, String> {
        self.vm_kcat(&["-L", "-m", "5", "-b", address]).map(|text| table(&text))
    }

    /// Removes what is stored of a broker's listeners. Kafka's own tool would take seconds for each.
    pub async fn delete_stored_listeners(&self, broker: u32) {
        let at = (self.pod_ip(&format!("kafka-{broker}")).await, 9092).into();
        let internal = Target { at, security: Security::default(), step_timeout: Duration::from_secs(5) };
        let view = self
            .eventually("the broker shows what it has stored", Duration::from_secs(30), async || {
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

    /// `kafka-configs` for one broker, run in the client pod.
    pub fn kafka_configs(&self, broker: u32, args: &[&str]) -> Result<String, String> {
        let (tool, id) = ("kafka.admin.ConfigCommand", broker.to_string());
        let server = "kafka-0.kafka-headless.ydata.svc:9092";
        let mut command = vec![
            "-n",
            NAMESPACE,
            "exec",
            "client",
            "--",
            "java",
            "-Xmx64m",
            "-cp",
            "/opt/kafka/libs/*",
            tool,
        ];
        command.extend(["--bootstrap-server", server, "--entity-type", "brokers", "--entity-name", &id]);
        command.extend(args);
        self.lab.kubectl(&command).map_err(|error| error.to_string())
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

    // The cloud.

    /// The project's floating IPs with a marker of ours, by ordinal; two for one ordinal fail the test.
    pub fn ledger(&self) -> BTreeMap<u32, FloatingIp> {
        let mut ledger = BTreeMap::new();
        for address in self.demo.floating_ips().expect("floating IPs can be listed") {
            if let Some((_, ordinal)) = address.description.split_once(" o=") {
                let ordinal = ordinal.parse().expect("a marker ends with the ordinal");
                let double = ledger.insert(ordinal, address);
                assert!(
                    double.is_none(),
                    "two addresses for broker {ordinal}: {double:?} and {:?}",
                    ledger[&ordinal]
                );
            }
        }
        ledger
    }

    /// Everything from the pods' subnet, and TCP from anywhere to the listener's port: nothing else.
    pub fn reset_security_group(&self) {
        let group = &self.cloud.facts().security_group_id;
        self.close_security_group();
        self.demo.add_rule(group, &SecurityRule::tcp(PORT)).expect("a rule can be added");
    }

    /// Nothing from anywhere.
    pub fn close_security_group(&self) {
        let group = &self.cloud.facts().security_group_id;
        for rule in self.demo.rules(group).expect("rules can be read") {
            let from_anywhere =
                rule.rule.remote_ip_prefix.as_deref().is_none_or(|prefix| prefix == "0.0.0.0/0");
            if rule.rule.direction == Direction::Ingress
                && from_anywhere
                && rule.rule.remote_group_id.is_none()
            {
                self.demo.delete_rule(&rule.id).expect("a rule can be removed");
            }
        }
    }

    pub fn unbind(&self, address: &FloatingIp) {
        self.demo
            .update_floating_ip(&address.id, &json!({"port_id": null}))
            .expect("an address can be unbound");
    }

    pub fn bind(&self, address: &FloatingIp, port: Option<&str>) {
        self.demo
            .update_floating_ip(&address.id, &json!({"port_id": port}))
            .expect("an address can be bound");
    }

    pub fn describe_address(&self, address: &FloatingIp, text: &str) {
        let change = json!({"description": text});
        self.demo.update_floating_ip(&address.id, &change).expect("an address can be described");
    }

    /// The Neutron port of a pod.
    pub fn port(&self, pod: &str) -> lab::cloud::Port {
        self.demo.pod_port(NAMESPACE, pod).expect("ports can be read").expect("the pod has a port")
    }

    /// The pod's address.
    pub async fn pod_ip(&self, name: &str) -> Ipv4Addr {
        self.eventually(&format!("pod {name} has an address"), Duration::from_secs(60), async || {
            let pod = self.pods().get_opt(name).await.expect("pods can be read");
            let ip = pod
                .filter(|pod| pod.metadata.deletion_timestamp.is_none())
                .and_then(|pod| pod.status?.pod_ip);
            ip.and_then(|ip| ip.parse().ok()).ok_or("no address yet")
        })
        .await
    }

    /// Every address of ours leads to the pod of its broker.
    pub async fn assert_bound(&self, ordinals: std::ops::Range<u32>) {
        let ledger = self.ledger();
        for ordinal in ordinals {
            let ip = self.pod_ip(&format!("kafka-{ordinal}")).await;
            let bound = ledger.get(&ordinal).and_then(|address| address.fixed_ip_address);
            assert_eq!(bound, Some(ip), "the address of broker {ordinal} leads to its pod");
        }
    }
}

/// The smallest object of the README.
pub fn smallest() -> Value {
    json!({
        "apiVersion": "kafkaaccess.dev/v1alpha1",
        "kind": "KafkaExternalAccess",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "kafka": {"statefulSet": {"name": "kafka"}},
            "listener": {"name": "EXTERNAL", "port": PORT},
            "addresses": {"provider": {"type": "OpenStack", "openstack": {
                "cloudName": "lab",
                "credentialsSecretRef": {"name": "openstack"},
                "floatingNetwork": CloudFacts::EXTERNAL_NETWORK,
            }}},
            "probe": {"interval": "5s", "timeout": "3s"},
        },
    })
}

/// Status and reason of a condition.
pub fn condition(object: &KafkaExternalAccess, kind: &str) -> Option<(String, String)> {
    let conditions = &object.status.as_ref()?.conditions;
    conditions.iter().find(|c| c.type_ == kind).map(|c| (c.status.clone(), c.reason.clone()))
}

/// The object's status answers its spec of now.
pub fn current(object: &KafkaExternalAccess) -> bool {
    object.status.as_ref().and_then(|status| status.observed_generation) == object.meta().generation
}

/// True while our finalizer holds the object.
pub fn held(object: &KafkaExternalAccess) -> bool {
    object.meta().finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

/// What a failure shows of an object.
pub fn describe(object: &KafkaExternalAccess) -> String {
    serde_json::to_string_pretty(&object.status).unwrap_or_default()
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

/// kube and reqwest share one TLS provider for the process; the second installation is refused, which is fine.
fn aws_lc_rs_provider() -> Result<(), impl Debug> {
    tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default()
}
