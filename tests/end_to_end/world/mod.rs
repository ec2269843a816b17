//! What a test acts on: the lab, the cloud behind counting proxies, the API server, and the operator's process.

mod cloud;
mod kafka;
mod machine;

pub use machine::Background;

use std::{
    fmt::Debug,
    io::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Node, Pod, Secret},
    policy::v1::PodDisruptionBudget,
};
use kafka_external_access::api::{BrokerState, FINALIZER, KafkaExternalAccess};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use lab::{
    Lab, Turn,
    cloud::{Account, Cloud, CloudFacts, Service, Session},
};
use serde_json::{Value, json};

use crate::{
    installed::{self, Installed},
    operator::Operator,
    proxy::Proxy,
    rights,
};

/// Namespace of the Kafka that the lab deploys.
pub const NAMESPACE: &str = "ydata";
/// Name of the object in most tests.
pub const NAME: &str = "kafka";
/// The listener's port.
pub const PORT: u16 = 9094;

/// On the StatefulSet while a test has changed it.
const CHANGED: &str = "end-to-end/changed";
/// The StatefulSet had more than its three brokers.
const SCALED: &str = "end-to-end/scaled";

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
    operator: Option<Running>,
}

/// The operator that a test has started.
enum Running {
    /// A process of this build.
    Process(Operator),
    /// An installed chart.
    Pods(Installed),
}

impl Running {
    fn scrape(&self) -> String {
        match self {
            Self::Process(operator) => operator.scrape(),
            Self::Pods(installed) => installed.scrape(),
        }
    }

    fn log(&self) -> String {
        match self {
            Self::Process(operator) => operator.log(),
            Self::Pods(installed) => installed.log_tail(),
        }
    }

    fn log_tail(&self) -> String {
        match self {
            Self::Process(operator) => operator.log_tail(),
            Self::Pods(installed) => installed.log_tail(),
        }
    }
}

/// Until what a test goes on with must be there; what takes this long is broken on any machine.
pub const READY: Duration = Duration::from_secs(420);
/// The same where brokers restart one after the other, each in up to half a minute.
pub const ROLLED: Duration = Duration::from_secs(600);

/// Says what [`World::start_operator`] starts: the chart with this `watch.scope`, or, where it is not set, a process.
const HOW: &str = "END_TO_END_OPERATOR";

/// Runs `test` in a thread inside the network of a lab that it has for itself.
pub fn in_lab(name: &'static str, test: impl AsyncFnOnce(&mut World) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let turn = Turn::take().expect("a lab");
        let lab = Lab::attach_at(turn.paths())
            .unwrap_or_else(|error| panic!("{error}; start the lab: cargo lab up"));
        // For the length of the test process: what borrows from the lab may then live in the world.
        let lab: &'static Lab = Box::leak(Box::new(lab));
        lab.enter_network().expect("the lab's network can be entered");
        let start = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut world = World::open(lab, name).await;
            test(&mut world).await;
            world.close().await;
        });
        note_time(name, start.elapsed());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// How long a test had a lab for itself, for `scripts/test.sh` to show the longest.
fn note_time(test: &str, time: Duration) {
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/end-to-end-times");
    let file = std::fs::File::options().create(true).append(true).open(file);
    let line = format!("{:>5} s  {test}\n", time.as_secs());
    file.expect("the target folder can be written").write_all(line.as_bytes()).expect("a line is written");
}

fn address_of(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().expect("the lab's URLs are addresses")
}

impl World {
    async fn open(lab: &'static Lab, test: &'static str) -> Self {
        let _ = aws_lc_rs_provider();
        let cloud = lab.cloud();
        // A test that failed or was interrupted may have left them down.
        if lab.parts().iter().any(|part| !part.alive()) {
            lab.start_control_plane().expect("the control plane runs");
        }
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
        installed::clean(self.lab);
        self.install_crd().await;
        for object in self.all_accesses().list(&ListParams::default()).await.expect("objects can be listed") {
            let api = self.accesses_in(object.meta().namespace.as_deref().unwrap_or_default());
            let name = object.meta().name.clone().unwrap_or_default();
            let _ = api
                .patch(&name, &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": []}})))
                .await;
            let _ = api.delete(&name, &DeleteParams::default()).await;
        }
        crate::fire::plots::remove_all(self).await;
        self.clean_classes().await;
        for secret in ["openstack", "openstack-2"] {
            let free = Patch::Merge(json!({"metadata": {"finalizers": []}}));
            let _ = self.secrets().patch(secret, &PatchParams::default(), &free).await;
            let _ = self.secrets().delete(secret, &DeleteParams::default()).await;
        }
        // Those of every project.
        for address in self.admin.floating_ips().expect("floating IPs can be listed") {
            self.admin.delete_floating_ip(&address.id).expect("a floating IP can be deleted");
        }
        self.remove_policies();
        self.admin
            .set_floating_ip_quota(&self.cloud.facts().demo.project_id, Some(50))
            .expect("the quota can be set");
        self.reset_security_group();
        self.cloud.set_hairpin(true).expect("hairpin can be switched");
        self.cloud.set_machine_to_pods(false).expect("the way to pods can be switched");
        self.lab.vm().expect("the virtual machine").write_hosts("").expect("its hosts file can be written");
        self.cordon(false).await;
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(self.kube.clone(), NAMESPACE);
        let all = ListParams::default();
        budgets.delete_collection(&DeleteParams::default(), &all).await.expect("budgets can be deleted");
        self.restore_brokers().await;
        self.scale(3).await;
        self.brokers_registered(3).await;
        self.forget_scaled_brokers().await;
        for broker in 0..3 {
            self.delete_stored_listeners(broker).await;
        }
    }

    /// Bandwidth policies that tests have made.
    fn remove_policies(&self) {
        let list = self.admin.network("GET", "/qos/policies", None).expect("policies can be listed");
        for policy in list["policies"].as_array().into_iter().flatten() {
            if policy["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("end-to-end") || name.starts_with("kea-"))
            {
                let path = format!("/qos/policies/{}", policy["id"].as_str().unwrap_or_default());
                self.admin.network("DELETE", &path, None).expect("a policy can be removed");
            }
        }
    }

    /// What the operator of this test has logged.
    pub fn operator_log(&self) -> String {
        self.operator.as_ref().expect("an operator").log()
    }

    /// Metrics of the operator.
    pub fn scrape(&self) -> String {
        self.operator.as_ref().expect("an operator").scrape()
    }

    /// Shows or sets the log level of an operator that runs as a process.
    pub fn log_level(&self, filter: Option<&str>) -> String {
        match &self.operator {
            Some(Running::Process(operator)) => operator.log_level(filter),
            _ => panic!("the operator does not run as a process"),
        }
    }

    /// The kinds, and the rights of an operator that runs as a process.
    async fn install_crd(&self) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", folder, "-f", "-"];
        let apply = self.lab.command("kubectl").args(apply);
        apply.text_with_input(rights::manifest(self.lab).as_bytes()).expect("the CRDs are accepted");
        let wait = [
            "wait",
            "--for=condition=Established",
            "crd/kafkaexternalaccesses.kafkaaccess.dev",
            "crd/kafkaexternalaccessclasses.kafkaaccess.dev",
            "--timeout=300s",
        ];
        self.lab.kubectl(&wait).expect("the CRD is served");
    }

    // The operator.

    /// Starts the operator.
    pub fn start_operator(&mut self) {
        if let Some(Running::Pods(installed)) = &self.operator {
            installed.start();
            return self.pass_a_second();
        }
        if let Ok(scope) = std::env::var(HOW) {
            let (namespace, values) = installed::of_scope(&scope);
            return self.install_operator(namespace, &values);
        }
        let operator = Operator::start(self.lab, self.test);
        operator.wait_until_it_leads();
        self.operator = Some(Running::Process(operator));
        self.pass_a_second();
    }

    /// Installs the operator by the chart of this checkout.
    pub fn install_operator(&mut self, namespace: &str, values: &Value) {
        self.install_chart(namespace, installed::CHART, values);
    }

    /// Installs the operator by a chart.
    pub fn install_chart(&mut self, namespace: &str, chart: &str, values: &Value) {
        let installed = Installed::install(self.lab, namespace, chart, values);
        installed.wait_until_one_leads();
        self.operator = Some(Running::Pods(installed));
        self.pass_a_second();
    }

    /// Creation times have whole seconds: an object that seems older than the operator's leadership is let go only
    /// after the five minutes in which a former leader's calls could still succeed.
    fn pass_a_second(&self) {
        std::thread::sleep(Duration::from_millis(1100));
    }

    /// The installed chart.
    pub fn installed(&self) -> &Installed {
        match &self.operator {
            Some(Running::Pods(installed)) => installed,
            _ => panic!("no chart is installed"),
        }
    }

    /// SIGKILL. Of an installed chart: of all pods.
    pub fn kill_operator(&mut self) {
        match self.operator.take() {
            Some(Running::Process(operator)) => operator.kill(),
            Some(Running::Pods(installed)) => {
                installed.kill();
                self.operator = Some(Running::Pods(installed));
            }
            None => {}
        }
    }

    /// SIGTERM; true when it ended well in time. Of an installed chart: it is uninstalled.
    pub fn terminate_operator(&mut self) -> bool {
        match self.operator.take().expect("the operator runs") {
            Running::Process(mut operator) => operator.terminate(),
            Running::Pods(_) => true,
        }
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

    /// Whether nodes take no new pods.
    pub async fn cordon(&self, cordoned: bool) {
        let nodes: Api<Node> = Api::all(self.kube.clone());
        for node in nodes.list(&ListParams::default()).await.expect("nodes can be listed") {
            let now = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
            if now != cordoned {
                let patch = Patch::Merge(json!({"spec": {"unschedulable": cordoned}}));
                let name = node.metadata.name.unwrap_or_default();
                nodes.patch(&name, &PatchParams::default(), &patch).await.expect("the node can be patched");
            }
        }
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

    /// Asks for the deletion and waits until the object is gone. A process that came to lead meanwhile waits for five minutes
    /// before it lets the object go.
    pub async fn delete(&self) {
        self.delete_within(Duration::from_secs(480)).await;
    }

    /// The same where brokers restart on the way.
    pub async fn delete_within(&self, limit: Duration) {
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

    /// Waits until `look` succeeds; the failure shows what it saw last and the end of the operator's log. What takes long is
    /// looked at less often: Neutron alone needs a tenth of a second of the processor to list its addresses.
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
                    let log = self.operator.as_ref().map(Running::log_tail).unwrap_or_default();
                    panic!("after {limit:?} still not so: {what}\nlast seen: {seen:?}\noperator:\n{log}");
                }
                Err(_) => {
                    let pause = start.elapsed() / 10;
                    tokio::time::sleep(pause.clamp(Duration::from_millis(100), Duration::from_secs(1))).await;
                }
            }
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

/// kube and reqwest share one TLS provider for the process; the second installation is refused, which is fine.
fn aws_lc_rs_provider() -> Result<(), impl Debug> {
    tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default()
}
