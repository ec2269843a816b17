//! The installed chart: pods of the image, with the chart's rights only, where Pod Security is "restricted".

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use lab::{Cache, Paths, Progress, cloud::FloatingIp, image::operator_image};
use serde_json::{Value, json};

use crate::{
    installed::{CHART, RELEASE, of_scope},
    operator,
    world::{Background, NAMESPACE, PORT, READY, World, held, in_lab},
};

/// From nothing to an object that is Ready and back, by the chart with this `watch.scope`.
async fn does_the_main_job(world: &mut World, scope: &str) {
    let (namespace, values) = of_scope(scope);
    world.apply_credential(&world.cloud.facts().demo.clone()).await;
    world.install_operator(namespace, &values);
    let verified = world.installed().helm(&["test", RELEASE]).text().expect("helm test");
    assert!(verified.contains("Succeeded"), "{verified}");
    world.create(|_| {}).await;
    let object = world.condition("Ready", "True", READY).await;
    assert_eq!(world.neutron.mutations().len(), 3, "{:?}", world.neutron.mutations());
    world.assert_bound(0..3).await;
    let bootstrap = object.status.and_then(|status| status.bootstrap_servers).expect("bootstrap servers");
    let expected: Vec<String> =
        world.ledger().values().map(|a| format!("{}:{PORT}", a.floating_ip_address)).collect();
    assert_eq!(bootstrap, expected.join(","));
    world.vm_lists(&expected[0], &expected).await;
    world.delete().await;
    assert!(world.ledger().is_empty(), "nothing is left in the cloud");
}

#[test]
fn an_installed_chart_serves_the_whole_cluster() {
    in_lab("chart_cluster", async |world| {
        does_the_main_job(world, "Cluster").await;
        the_log_level_is_for_who_may_forward_a_port(world).await;
        the_image_finds_brokers_by_name(world);
    });
}

/// The port of the metrics is open to the cluster; this page of it is not.
async fn the_log_level_is_for_who_may_forward_a_port(world: &World) {
    let pods = world.installed().pods();
    assert_eq!(pods.len(), 2);
    for pod in pods {
        let told = operator::ask(pod, "PUT", "/log-level", "off");
        assert!(told.starts_with("HTTP/1.1 403"), "{told}");
    }
    let namespace = &world.installed().namespace;
    let forward =
        ["port-forward", "--namespace", namespace, "deployment/kafka-external-access", "18090:8080"];
    let _forward = Background(world.lab.command("kubectl").args(forward).spawn().expect("kubectl starts"));
    let there: SocketAddr = "127.0.0.1:18090".parse().expect("an address");
    let set = async || match operator::ask(there, "PUT", "/log-level", "info") {
        told if told.starts_with("HTTP/1.1 200") => Ok(()),
        told => Err(told),
    };
    world.eventually("the log level is set through the forwarded port", READY, set).await;
}

/// Nothing is in the image but the program: it resolves names by itself.
fn the_image_finds_brokers_by_name(world: &World) {
    let image = operator_image(Path::new(env!("CARGO_MANIFEST_DIR"))).name;
    let kubectl = |args: &[&str]| world.lab.kubectl(&[&["-n", NAMESPACE], args].concat()).expect("kubectl");
    let run = ["run", "by-name", "--image", &image, "--image-pull-policy=Never", "--restart=Never", "--"];
    kubectl(&[&run[..], &["check", "--bootstrap", "kafka-1.kafka-headless.ydata.svc:9092"]].concat());
    kubectl(&["wait", "pod/by-name", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s"]);
    let told = kubectl(&["logs", "by-name"]);
    kubectl(&["delete", "pod", "by-name", "--wait=false"]);
    assert_eq!(told.lines().filter(|line| line.starts_with("  √ broker")).count(), 3, "{told}");
}

#[test]
fn an_installed_chart_serves_listed_namespaces() {
    in_lab("chart_namespaces", async |world| {
        does_the_main_job(world, "Namespaces").await;
    });
}

#[test]
fn an_installed_chart_serves_its_own_namespace() {
    in_lab("chart_own_namespace", async |world| {
        does_the_main_job(world, "ReleaseNamespace").await;
    });
}

/// Values of every optional object that this API server has the kind of, and of every scope.
fn variants() -> Vec<Value> {
    vec![
        json!({}),
        json!({"watch": {"scope": "Namespaces", "namespaces": [NAMESPACE, "default"]}}),
        json!({"watch": {"scope": "ReleaseNamespace"}, "clusterId": "lab"}),
        json!({"rbac": {"create": false}, "serviceAccount": {"create": false}}),
        json!({"rbac": {"aggregateClusterRoles": true, "kubelets": true}, "networkPolicy": {"enabled": true}}),
        json!({
            "replicaCount": 3, "priorityClassName": "system-cluster-critical",
            "imagePullSecrets": [{"name": "pull"}], "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}]}},
            "extraArgs": ["--log-format=text"], "extraEnv": [{"name": "A", "value": "b"}],
            "extraVolumes": [{"name": "v", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}],
            "podLabels": {"a": "b"}, "podAnnotations": {"a": "b"}, "commonLabels": {"c": "d"},
            "image": {"digest": format!("sha256:{}", "0".repeat(64))},
            "prices": {"currency": "EUR", "addressHour": "0.004"},
            "grafanaDashboard": {"enabled": true, "annotations": {"grafana_folder": "Kafka"}},
            "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}}],
        }),
    ]
}

#[test]
fn the_api_server_accepts_every_variant_of_the_chart() {
    in_lab("chart_variants", async |world| {
        for mut values in variants() {
            // The kinds are there, and installed from the chart by another test; so is the pod of `helm test`.
            values["crds"] = json!({"enabled": false});
            let render =
                ["template", "variant", CHART, "--namespace", "default", "--no-hooks", "--values", "-"];
            let helm = world.lab.command("helm").args(render);
            let manifest = helm.text_with_input(values.to_string().as_bytes()).expect("rendered");
            // Strict: a field that Kubernetes does not know is an error.
            let create = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
            let told = world.lab.command("kubectl").args(create).text_with_input(manifest.as_bytes());
            let told = told.unwrap_or_else(|error| panic!("{error}\nvalues: {values}"));
            assert!(told.lines().all(|line| line.ends_with("(server dry run)")), "{told}");
        }
    });
}

/// With the definitions that the Prometheus Operator itself has.
#[test]
fn monitors_and_alerts_are_made_where_their_kinds_exist_and_are_what_these_admit() {
    // Before the lab's network is entered, from which no registry can be reached.
    let cache = Cache::new(&Paths::from_environment());
    let kinds = lab::prometheus::operator_kinds(&cache, &Progress::silent()).expect("the kinds");
    in_lab("chart_monitors", async move |world| {
        let kinds = kinds.to_string_lossy();
        let kubectl = |args: &[&str]| world.lab.kubectl(args).unwrap_or_else(|error| panic!("{error}"));
        let delete = ["delete", "--ignore-not-found", "--wait", "-f", &kinds];
        kubectl(&delete);
        assert_eq!(monitoring(world, "serviceMonitor"), Vec::<String>::new());
        kubectl(&["create", "-f", &kinds]);
        kubectl(&["wait", "--for=condition=Established", "--timeout=300s", "-f", &kinds]);
        for monitor in ["serviceMonitor", "podMonitor"] {
            let made = monitoring(world, monitor);
            assert_eq!(made.len(), 2, "{made:?}");
        }
        kubectl(&delete);
    });
}

/// The objects of the Prometheus Operator that the chart makes on this API server, which takes each of them.
fn monitoring(world: &World, monitor: &str) -> Vec<String> {
    let on = json!({"enabled": true, "renderMode": "skipIfMissing"});
    let values = json!({"crds": {"enabled": false}, monitor: on, "prometheusRule": on});
    let render = ["template", "monitors", CHART, "--namespace", "default", "--no-hooks", "--values", "-"];
    let helm = world.lab.command("helm").args(render).arg("--dry-run=server");
    let manifest = helm.text_with_input(values.to_string().as_bytes()).expect("rendered");
    let create = ["create", "--dry-run=server", "--validate=strict", "--output", "name", "-f", "-"];
    let told = world.lab.command("kubectl").args(create).text_with_input(manifest.as_bytes());
    let told = told.unwrap_or_else(|error| panic!("{error}\n{manifest}"));
    told.lines().filter(|line| line.contains("monitoring.coreos.com")).map(str::to_owned).collect()
}

/// A chart as it may have been one version ago: the kind had one column less.
fn chart_before(world: &World) -> String {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chart-before");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let copy = ["-r", CHART, &folder.to_string_lossy()];
    world.lab.command("cp").args(copy).text().expect("the chart can be copied");
    let kinds = folder.join("kafka-external-access/files/crds/kafkaexternalaccesses.yaml");
    let kind = std::fs::read_to_string(&kinds).expect("the kind");
    let column = "    - jsonPath: .spec.mode\n      name: Mode\n      priority: 1\n      type: string\n";
    assert!(kind.contains(column));
    std::fs::write(&kinds, kind.replacen(column, "", 1)).expect("the kind can be written");
    let chart = folder.join("kafka-external-access").to_string_lossy().into_owned();
    let pack = ["package", &chart, "--version", "0.0.9", "--destination", &folder.to_string_lossy()];
    world.lab.command("helm").args(pack).text().expect("packed");
    folder.join("kafka-external-access-0.0.9.tgz").to_string_lossy().into_owned()
}

impl World {
    /// Whether the kind is the one of this version.
    fn has_new_kind(&self) -> bool {
        let columns = ["get", "crd", "kafkaexternalaccesses.kafkaaccess.dev", "--output"];
        let path = "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}";
        let columns = self.lab.kubectl(&[&columns[..], &[path]].concat()).expect("the kind");
        columns.split_whitespace().any(|column| column == "Mode")
    }

    /// The object is Ready, and the cloud was not written to get there.
    async fn unmoved(&self, by: &str) {
        self.installed().wait_until_one_leads();
        self.condition("Ready", "True", READY).await;
        assert_eq!(self.neutron.mutations(), [], "after {by}");
        self.assert_bound(0..3).await;
    }
}

#[test]
fn upgrade_rollback_and_uninstallation_lose_nothing() {
    in_lab("chart_life", async |world| {
        // As on a cluster that has never seen the product.
        let kinds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
        world.lab.kubectl(&["delete", "--wait", "-f", kinds]).expect("the kinds can be deleted");
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        let before = std::env::var("CHART_BEFORE").unwrap_or_else(|_| chart_before(world));
        world.install_chart("kea-life", &before, &json!({}));
        assert!(!world.has_new_kind());
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        let addresses = world.ledger();
        world.neutron.forget();

        world.installed().upgrade(CHART, &json!({}));
        assert!(world.has_new_kind(), "kinds are upgraded with the release");
        world.unmoved("the upgrade").await;
        let back = ["rollback", RELEASE, "1", "--wait", "--timeout", "300s"];
        world.installed().helm(&back).text().expect("rolled back");
        assert!(!world.has_new_kind(), "and rolled back");
        world.unmoved("the rollback").await;
        world.installed().upgrade(CHART, &json!({}));

        let told = world.installed().helm(&["uninstall", RELEASE, "--wait"]).text().expect("uninstalled");
        assert!(
            told.contains("kept due to the resource policy") && told.contains("kafkaexternalaccesses"),
            "{told}"
        );
        let object = world.access().await.expect("the object is still there");
        assert!(held(&object), "with its finalizer");
        let ids =
            |ledger: &BTreeMap<u32, FloatingIp>| ledger.values().map(|a| a.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&world.ledger()), ids(&addresses));
        assert_eq!(world.neutron.mutations(), []);
        // Made by the operator, not by helm; pods take their time to end.
        let only = ["lease.coordination.k8s.io/kafka-external-access"];
        let what = ["get", "all,serviceaccounts,roles,rolebindings,leases", "--output", "name"];
        world
            .eventually("nothing but the lease is left", READY, async || {
                let left = world.installed().kubectl(&what);
                let left: Vec<&str> = left.lines().filter(|name| name.contains(RELEASE)).collect();
                if left == only { Ok(()) } else { Err(left.join(" ")) }
            })
            .await;

        world.installed().upgrade(CHART, &json!({}));
        // It lets go of an object that is older than itself only after five minutes: the test ends here.
        world.unmoved("a new installation").await;
    });
}
