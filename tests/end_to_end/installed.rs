//! The operator as users have it: the chart, installed by helm, with pods of the image that `cargo lab image` built.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use lab::{Lab, image::operator_image};
use serde_json::{Value, json};

use crate::{operator, world::NAMESPACE};

/// The chart of this checkout.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/kafka-external-access");
/// Name of the release, and so of all that it makes.
pub const RELEASE: &str = "kafka-external-access";
const PORT: u16 = 8080;

/// An installed release; uninstalled when it is dropped.
pub struct Installed {
    lab: &'static Lab,
    /// Where the release is.
    pub namespace: String,
}

impl Installed {
    /// Imports the image and installs a chart with `values` on top of those that every test has.
    pub fn install(lab: &'static Lab, namespace: &str, chart: &str, values: &Value) -> Self {
        let image = operator_image(Path::new(env!("CARGO_MANIFEST_DIR")));
        assert!(image.archive.exists(), "there is no image; build it: cargo lab image");
        lab.cluster().replace_image(&image).expect("the node takes the image");
        let installed = Self { lab, namespace: namespace.to_owned() };
        installed.make_namespace();
        installed.upgrade(chart, values);
        installed
    }

    /// `helm upgrade --install`, which waits until all pods are ready.
    pub fn upgrade(&self, chart: &str, values: &Value) {
        let mut all = of_every_test();
        json_patch::merge(&mut all, values);
        // The kinds that tests have applied become the release's.
        let args = ["upgrade", "--install", RELEASE, chart, "--values", "-"];
        let options = ["--wait", "--timeout", "300s", "--take-ownership", "--force-conflicts"];
        let helm = self.helm(&[&args[..], &options].concat());
        if let Err(error) = helm.text_with_input(all.to_string().as_bytes()) {
            let pods = self.kubectl(&["describe", "pods"]);
            panic!("{error}\n{pods}\n{}", self.log_tail());
        }
    }

    /// helm on the release's namespace.
    pub fn helm(&self, args: &[&str]) -> lab::Command {
        self.lab.command("helm").args(args).args(["--namespace", &self.namespace])
    }

    /// kubectl in the release's namespace.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let all = [&["--namespace", &self.namespace], args].concat();
        self.lab.kubectl(&all).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Nothing in it may run with more rights than Kubernetes calls restricted.
    fn make_namespace(&self) {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        });
        // One of a test before may still be on its way out. The brokers' namespace is as it is.
        let phase = [
            "get",
            "namespace",
            &self.namespace,
            "--ignore-not-found",
            "--output",
            "jsonpath={.status.phase}",
        ];
        if self.lab.kubectl(&phase).is_ok_and(|phase| phase.trim() == "Terminating") {
            let gone = ["wait", "--for=delete", "namespace", &self.namespace, "--timeout=300s"];
            self.lab.kubectl(&gone).expect("the namespace goes");
        }
        if self.lab.kubectl(&["get", "namespace", &self.namespace]).is_err() {
            let apply = self.lab.command("kubectl").args(["apply", "-f", "-"]);
            apply.text_with_input(namespace.to_string().as_bytes()).expect("a namespace can be made");
        }
    }

    /// Addresses of the pods of the operator.
    pub fn pods(&self) -> Vec<SocketAddr> {
        let labels = "app.kubernetes.io/name=kafka-external-access,app.kubernetes.io/component=operator";
        let path = "jsonpath={.items[*].status.podIP}";
        let listed = self.kubectl(&["get", "pods", "--selector", labels, "--output", path]);
        let address = |ip: &str| Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, PORT));
        listed.split_whitespace().filter_map(address).collect()
    }

    /// The metrics of the pod that leads; nothing where none does.
    pub fn scrape(&self) -> String {
        let pages = self.pods().into_iter().map(operator::page);
        pages.into_iter().find(|page| operator::leads(page)).unwrap_or_default()
    }

    /// Waits until one of the pods leads.
    pub fn wait_until_one_leads(&self) {
        let start = Instant::now();
        while self.scrape().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(120), "no pod leads\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Ends all pods without warning; none comes before [`Installed::start`].
    pub fn kill(&self) {
        self.kubectl(&["scale", "deployment", RELEASE, "--replicas=0"]);
        let all = ["delete", "pods", "--selector", "app.kubernetes.io/component=operator"];
        self.kubectl(&[&all[..], &["--grace-period=0", "--force"]].concat());
    }

    /// Lets the pods come again.
    pub fn start(&self) {
        self.kubectl(&["scale", "deployment", RELEASE, "--replicas=2"]);
        self.kubectl(&["rollout", "status", "deployment", RELEASE, "--timeout=300s"]);
        self.wait_until_one_leads();
    }

    /// The last lines of the pods' logs, for messages.
    pub fn log_tail(&self) -> String {
        let logs = ["logs", "--selector", "app.kubernetes.io/component=operator", "--tail=8", "--prefix"];
        let all = [&["--namespace", &self.namespace[..]], &logs[..]].concat();
        self.lab.kubectl(&all).unwrap_or_else(|error| error.to_string())
    }
}

/// Quick where a test would wait, and the image of this machine.
fn of_every_test() -> Value {
    json!({
        "image": {"registry": "localhost", "pullPolicy": "Never"},
        "driftInterval": "5s",
        "metricsInterval": "3s",
        "logging": {"level": "kafka_external_access=debug,info"},
    })
}

/// Where the chart is installed, and with what, to serve the brokers' namespace with this `watch.scope`.
pub fn of_scope(scope: &str) -> (&'static str, Value) {
    match scope {
        "Cluster" => ("kea-cluster", json!({})),
        "Namespaces" => {
            ("kea-listed", json!({"watch": {"scope": scope, "namespaces": [NAMESPACE]}, "clusterId": "lab"}))
        }
        "ReleaseNamespace" => (NAMESPACE, json!({"watch": {"scope": scope}, "clusterId": "lab"})),
        other => panic!("{other} is no watch.scope"),
    }
}

/// Removes releases that a test, perhaps a failed one, has left.
pub fn clean(lab: &Lab) {
    let labels = ["--selector", "app.kubernetes.io/name=kafka-external-access"];
    let path = ["--output", "jsonpath={range .items[*]}{.metadata.namespace}{\"\\n\"}{end}"];
    let listed = lab.kubectl(&[&["get", "deployments", "--all-namespaces"], &labels[..], &path[..]].concat());
    for namespace in listed.expect("deployments can be listed").lines() {
        let uninstall = ["uninstall", RELEASE, "--namespace", namespace, "--ignore-not-found", "--wait"];
        lab.command("helm").args(uninstall).text().expect("a release can be removed");
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let uninstall =
            self.helm(&["uninstall", RELEASE, "--ignore-not-found", "--wait", "--timeout", "300s"]);
        if let Err(error) = uninstall.text() {
            eprintln!("{error}");
        }
        if self.namespace != NAMESPACE {
            let _ = self.lab.kubectl(&["delete", "namespace", &self.namespace, "--wait=false"]);
        }
        let image = operator_image(Path::new(env!("CARGO_MANIFEST_DIR")));
        let _ = self.lab.cluster().remove_image(&image.name);
    }
}
