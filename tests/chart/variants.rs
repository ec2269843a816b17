//! Every optional object, every value, and the chart as a part of another one.

use std::path::Path;

use clap::{Args, Command};
use kafka_external_access::runtime::RunArgs;
use serde_json::{Value, json};

use crate::helm::{CHART, Helm, MONITORING, files, of_kind, only, refusal, rendered};

const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");

fn pod(objects: &[Value]) -> &Value {
    &only(objects, "Deployment")["spec"]["template"]["spec"]
}

#[test]
fn the_chart_has_the_kinds_of_this_checkout() {
    let folder = Path::new(CHART).join("files/crds");
    if std::env::var_os("UPDATE").is_some() {
        for (name, text) in files(Path::new(CRDS)) {
            std::fs::write(folder.join(name), text).expect("the chart can be written");
        }
    }
    assert!(
        files(&folder) == files(Path::new(CRDS)),
        "the chart's kinds are not current; run: make generate"
    );
}

/// helm writes 0 where 0.0 was.
fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => members.iter().map(|(name, of)| (name.clone(), plain(of))).collect(),
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

#[test]
fn kinds_are_rendered_as_they_are_and_stay_when_the_release_goes() {
    let committed: Vec<Value> = files(Path::new(CRDS))
        .iter()
        .map(|(_, text)| serde_saphyr::from_str(text).expect("a CRD is YAML"))
        .collect();
    let objects = rendered(&json!({"crds": {"annotations": {"a": "b"}}}));
    let rendered_kinds = of_kind(&objects, "CustomResourceDefinition");
    assert_eq!(rendered_kinds.len(), committed.len());
    for (rendered, committed) in rendered_kinds.iter().zip(&committed) {
        assert!(plain(&rendered["spec"]) == plain(&committed["spec"]), "{}", rendered["metadata"]["name"]);
        assert_eq!(rendered["metadata"]["name"], committed["metadata"]["name"]);
        assert_eq!(rendered["metadata"]["annotations"], json!({"a": "b", "helm.sh/resource-policy": "keep"}));
    }
    let given_up = rendered(&json!({"crds": {"keep": false}}));
    for kind in of_kind(&given_up, "CustomResourceDefinition") {
        assert_eq!(kind["metadata"]["annotations"], json!({}));
    }
    let none = rendered(&json!({"crds": {"enabled": false}}));
    assert_eq!(of_kind(&none, "CustomResourceDefinition").len(), 0);
}

/// Every value that becomes an argument.
fn every_flag() -> Value {
    json!({
        "watch": {"scope": "Namespaces", "namespaces": ["a", "b"]},
        "clusterId": "c",
        "leaderElection": {"leaseDuration": "7s"},
        "httpPort": 8081,
        "driftInterval": "6m",
        "metricsInterval": "8s",
        "cloudNetworks": {"allowed": ["127.0.0.0/8"], "denied": ["10.96.0.0/12", "fd00::/8"]},
        "prices": {"currency": "EUR", "addressHour": "0.004", "mbpsHour": "0.001", "gb": "0.05"},
        "hosts": {"enabled": true, "tlsSecretName": "t", "tokensSecretName": "k"},
        "logging": {"format": "text", "level": "debug"},
        "traces": {"endpoint": "http://collector:4318"},
    })
}

#[test]
fn every_flag_of_run_is_reached_by_a_value_and_is_accepted() {
    let objects = rendered(&every_flag());
    let container = &pod(&objects)["containers"][0];
    let args: Vec<&str> =
        container["args"].as_array().expect("arguments").iter().filter_map(Value::as_str).collect();
    let run = RunArgs::augment_args(Command::new("run"));
    for flag in run.get_arguments().filter_map(|argument| argument.get_long()) {
        assert!(args.iter().any(|arg| arg.starts_with(&format!("--{flag}="))), "--{flag} of {args:?}");
    }
    run.try_get_matches_from(&args).expect("the operator accepts its arguments");
    let level = container["env"].as_array().expect("variables").iter().find(|v| v["name"] == "RUST_LOG");
    assert_eq!(level.expect("RUST_LOG")["value"], "debug");
    let traces = json!({"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"});
    assert!(container["env"].as_array().expect("variables").contains(&traces), "{}", container["env"]);
    let defaults = rendered(&json!({}));
    let args = pod(&defaults)["containers"][0]["args"].as_array().expect("arguments").clone();
    let run = RunArgs::augment_args(Command::new("run"));
    run.try_get_matches_from(args.iter().filter_map(Value::as_str)).expect("the defaults are accepted");
}

#[test]
fn a_typing_mistake_is_refused() {
    for (values, told) in [
        (json!({"replicas": 3}), "replicas"),
        (json!({"image": {"registri": "x"}}), "registri"),
        (json!({"watch": {"scope": "cluster"}}), "scope"),
        (json!({"driftInterval": "5 minutes"}), "driftInterval"),
        // What the program would not start with.
        (json!({"driftInterval": "1h"}), "driftInterval"),
        (json!({"metricsInterval": "500ms"}), "metricsInterval"),
        (json!({"leaderElection": {"leaseDuration": "0s"}}), "leaseDuration"),
        (json!({"prices": {"currency": "EUR", "gb": "0.0000001"}}), "gb"),
        (json!({"prices": {"gb": "0.1"}}), "prices.currency"),
        (json!({"image": {"digest": "sha256:1"}}), "digest"),
        (json!({"serviceMonitor": {"renderMode": "always"}}), "renderMode"),
        (json!({"replicaCount": "2"}), "replicaCount"),
        (json!({"traces": {"endpoint": "collector:4318"}}), "endpoint"),
        (json!({"hosts": {"enabled": true, "tlsSecretName": "t"}}), "tokensSecretName"),
        (json!({"hosts": {"enabled": true, "tokensSecretName": "t"}}), "tlsSecretName"),
        (json!({"hosts": {"service": {"type": "ExternalName"}}}), "type"),
        (json!({"hosts": {"service": {"externalTrafficPolicy": "local"}}}), "externalTrafficPolicy"),
        (json!({"prometheusRule": {"runbookUrl": "docs/runbooks.md"}}), "runbookUrl"),
    ] {
        let refusal = refusal(&values);
        assert!(refusal.contains(told), "{refusal}");
    }
}

#[test]
fn the_image_is_named_by_tag_or_by_digest() {
    let image = |image: Value| {
        let objects = rendered(&json!({"image": image}));
        pod(&objects)["containers"][0]["image"].as_str().expect("an image").to_owned()
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(image(json!({})), format!("kafka-external-access:{version}"));
    assert_eq!(image(json!({"registry": "r:5000", "tag": "t"})), "r:5000/kafka-external-access:t");
    let digest = format!("sha256:{}", "0".repeat(64));
    let named = image(json!({"repository": "a/b", "tag": "t", "digest": digest}));
    assert_eq!(named, format!("a/b@{digest}"));
}

#[test]
fn the_chart_is_of_the_version_of_the_program() {
    let chart = std::fs::read_to_string(Path::new(CHART).join("Chart.yaml")).expect("Chart.yaml");
    let chart: Value = serde_saphyr::from_str(&chart).expect("Chart.yaml is YAML");
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn replicas_are_kept_apart_and_only_one_is_evicted_at_a_time() {
    let objects = rendered(&json!({}));
    assert_eq!(only(&objects, "PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
    let labels = &only(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
    let spread = &pod(&objects)["topologySpreadConstraints"][0];
    for (name, value) in spread["labelSelector"]["matchLabels"].as_object().expect("labels") {
        assert_eq!(&labels[name], value);
    }
    let one = rendered(&json!({"replicaCount": 1}));
    assert_eq!(of_kind(&one, "PodDisruptionBudget").len(), 0, "it would only stand in the way");
}

/// | renderMode | kinds installed | then |
/// |---|---|---|
/// | skipIfMissing | no | nothing |
/// | skipIfMissing | yes | rendered |
/// | failIfMissing | no | refused |
/// | failIfMissing | yes | rendered |
/// | alwaysRender | no | rendered |
#[test]
fn monitoring_follows_its_render_mode() {
    let helm = Helm::new();
    for kind in MONITORING {
        let key = kind[..1].to_lowercase() + &kind[1..];
        let values =
            |mode: &str| json!({&key: {"enabled": true, "renderMode": mode, "labels": {"release": "p"}}});
        let api = format!("monitoring.coreos.com/v1/{kind}");
        let count = |mode: &str, apis: &[&str]| {
            let objects = helm.render(CHART, &values(mode), apis)?;
            Ok::<_, String>(of_kind(&objects, kind).len())
        };
        assert_eq!(count("skipIfMissing", &[]), Ok(0));
        assert_eq!(count("skipIfMissing", &[&api]), Ok(1));
        let refused = count("failIfMissing", &[]).expect_err("refused");
        assert!(refused.contains(&format!("{kind} is enabled and its kind is not installed")), "{refused}");
        assert_eq!(count("failIfMissing", &[&api]), Ok(1));
        assert_eq!(count("alwaysRender", &[]), Ok(1));
        let objects = rendered(&values("alwaysRender"));
        assert_eq!(only(&objects, kind)["metadata"]["labels"]["release"], "p");
    }
    assert!(
        refusal(&json!({"serviceMonitor": {"enabled": true}, "podMonitor": {"enabled": true}}))
            .contains("twice")
    );
}

#[test]
fn monitors_find_the_port_and_the_labels_of_what_they_select() {
    let enabled = json!({"enabled": true, "renderMode": "alwaysRender"});
    let objects = rendered(&json!({"serviceMonitor": enabled}));
    let (monitor, service) = (only(&objects, "ServiceMonitor"), only(&objects, "Service"));
    let selects = |selector: &Value, labels: &Value| {
        let wanted = selector.as_object().expect("labels");
        wanted.iter().all(|(name, value)| labels[name] == *value)
    };
    assert!(selects(&monitor["spec"]["selector"]["matchLabels"], &service["metadata"]["labels"]));
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    let pods = &only(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
    assert!(selects(&service["spec"]["selector"], pods));
    let port = &pod(&objects)["containers"][0]["ports"][0];
    assert_eq!(port["name"], service["spec"]["ports"][0]["targetPort"]);
    let objects = rendered(&json!({"podMonitor": enabled}));
    let monitor = only(&objects, "PodMonitor");
    assert!(selects(&monitor["spec"]["selector"]["matchLabels"], pods));
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], port["name"]);
}

#[test]
fn names_for_machines_are_served_by_every_pod_and_do_not_keep_it_from_starting() {
    let names = json!({"enabled": true, "port": 9443, "tlsSecretName": "t", "tokensSecretName": "k",
        "service": {"type": "LoadBalancer", "nodePort": 30443, "sourceRanges": ["10.0.0.0/8"], "annotations": {"a": "b"},
            "externalTrafficPolicy": "Local"}});
    let from = json!([{"ipBlock": {"cidr": "10.0.0.0/8"}}]);
    let more = json!({"name": "more", "emptyDir": {}});
    let values = json!({"hosts": names, "networkPolicy": {"enabled": true, "hostsFrom": from},
        "extraVolumes": [more], "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}]});
    let objects = rendered(&values);
    let services = of_kind(&objects, "Service");
    let service =
        services.iter().find(|service| service["metadata"]["name"] == "r-kafka-external-access-hosts");
    let service = service.expect("a Service for names");
    assert_eq!(service["spec"]["selector"], only(&objects, "Deployment")["spec"]["selector"]["matchLabels"]);
    assert_eq!(service["spec"]["type"], "LoadBalancer");
    assert_eq!(service["spec"]["loadBalancerSourceRanges"], json!(["10.0.0.0/8"]));
    assert_eq!(service["spec"]["externalTrafficPolicy"], "Local");
    assert_eq!(service["metadata"]["annotations"], json!({"a": "b"}));
    let port = json!({"name": "hosts", "port": 9443, "targetPort": "hosts", "nodePort": 30443});
    assert_eq!(service["spec"]["ports"], json!([port]));
    let pod = pod(&objects);
    assert_eq!(pod["containers"][0]["ports"][1], json!({"name": "hosts", "containerPort": 9443}));
    let volumes = pod["volumes"].as_array().expect("volumes");
    let mounts = pod["containers"][0]["volumeMounts"].as_array().expect("mounts");
    assert_eq!((volumes.len(), mounts.len()), (3, 3));
    for (volume, secret) in volumes.iter().zip(["t", "k"]) {
        assert_eq!(volume["secret"], json!({"secretName": secret, "optional": true}));
        let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).expect("a mount");
        let path = mount["mountPath"].as_str().expect("a path");
        let args = pod["containers"][0]["args"].to_string();
        assert!(args.contains(&format!("={path}")), "{path} of {args}");
    }
    let rule = &only(&objects, "NetworkPolicy")["spec"]["ingress"][1];
    assert_eq!(*rule, json!({"ports": [{"protocol": "TCP", "port": "hosts"}], "from": from}));

    // Kubernetes refuses the policy of a Service without a port on the nodes.
    let mut within = values.clone();
    within["hosts"]["service"]["type"] = json!("ClusterIP");
    for service in of_kind(&rendered(&within), "Service") {
        assert!(service["spec"]["externalTrafficPolicy"].is_null(), "{service}");
    }

    let without = rendered(&json!({"networkPolicy": {"enabled": true}}));
    assert_eq!(of_kind(&without, "Service").len(), 1);
    assert_eq!(only(&without, "NetworkPolicy")["spec"]["ingress"].as_array().map(Vec::len), Some(1));
    assert!(self::pod(&without)["volumes"].is_null());
    let same =
        json!({"hosts": {"enabled": true, "port": 8080, "tlsSecretName": "t", "tokensSecretName": "k"}});
    assert!(refusal(&same).contains("hosts.port"));
}

#[test]
fn alerts_are_all_there_but_those_left_out() {
    let names = |values: Value| {
        let objects = rendered(&json!({"prometheusRule": values}));
        let rules = only(&objects, "PrometheusRule")["spec"]["groups"][0]["rules"].clone();
        let rules = rules.as_array().expect("rules").clone();
        rules
            .iter()
            .map(|rule| format!("{}.yaml", rule["alert"].as_str().expect("a name")))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<String> =
        files(&Path::new(CHART).join("files/alerts")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names(json!({"enabled": true, "renderMode": "alwaysRender"})), all);
    let left_out = all.remove(0).replace(".yaml", "");
    assert_eq!(names(json!({"enabled": true, "renderMode": "alwaysRender", "exclude": [left_out]})), all);
}

#[test]
fn every_alert_leads_to_its_section_of_the_runbooks() {
    let url = |values: Value| {
        let objects = rendered(&json!({"prometheusRule": values}));
        let rules = only(&objects, "PrometheusRule")["spec"]["groups"][0]["rules"].clone();
        let rules = rules.as_array().expect("rules").clone();
        rules
            .iter()
            .map(|rule| (rule["alert"].clone(), rule["annotations"]["runbook_url"].clone()))
            .collect::<Vec<_>>()
    };
    let section = |alert: &Value| alert.as_str().expect("a name").to_lowercase();
    for (alert, url) in url(json!({"enabled": true, "renderMode": "alwaysRender"})) {
        assert!(url.is_null(), "{alert} leads to {url}, and nobody has said where the runbooks are");
    }
    let book = "https://book.example/runbooks.html";
    for (alert, url) in url(json!({"enabled": true, "renderMode": "alwaysRender", "runbookUrl": book})) {
        assert_eq!(url, format!("{book}#{}", section(&alert)));
    }
}

#[test]
fn everything_has_the_common_labels_and_the_namespace_of_the_release() {
    let values = json!({
        "commonLabels": {"team": "streams"}, "networkPolicy": {"enabled": true},
        "rbac": {"aggregateClusterRoles": true},
        "extraObjects": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-extra"}},
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: text}\n",
        ],
    });
    let objects = rendered(&values);
    let (extra, own): (Vec<_>, Vec<_>) = objects.iter().partition(|object| object["kind"] == "ConfigMap");
    assert_eq!(
        extra.iter().map(|object| &object["metadata"]["name"]).collect::<Vec<_>>(),
        ["r-extra", "text"]
    );
    for object in own {
        assert_eq!(object["metadata"]["labels"]["team"], "streams", "{}", object["kind"]);
        let of_cluster = ["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"];
        if !of_cluster.contains(&object["kind"].as_str().expect("a kind")) {
            assert_eq!(object["metadata"]["namespace"], "n", "{}", object["kind"]);
        }
    }
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    let told = Helm::new().text(&["lint", "--strict", CHART], "").expect("lint");
    assert!(told.contains("0 chart(s) failed") && !told.contains("[WARNING]"), "{told}");
}

#[test]
fn the_chart_can_be_a_part_of_another_one() {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chart-parent");
    let _ = std::fs::remove_dir_all(&parent);
    std::fs::create_dir_all(parent.join("charts")).expect("a folder");
    let dependency = "dependencies:\n- {name: kafka-external-access, version: '>=0.0.0', repository: '', alias: kea, condition: kea.enabled}\n";
    let chart = format!("apiVersion: v2\nname: parent\nversion: 1.0.0\n{dependency}");
    std::fs::write(parent.join("Chart.yaml"), chart).expect("Chart.yaml");
    let folder = parent.join("charts");
    let helm = Helm::new();
    helm.text(&["package", CHART, "--destination", &folder.to_string_lossy()], "").expect("packed");
    let values = |enabled: bool| json!({"global": {"registry": "r"}, "kea": {"enabled": enabled, "global": {"more": 1}, "replicaCount": 3}});
    let parent = parent.to_string_lossy();
    let objects = helm.render(&parent, &values(true), &[]).expect("rendered");
    assert_eq!(only(&objects, "Deployment")["spec"]["replicas"], 3);
    assert_eq!(helm.render(&parent, &values(false), &[]).expect("rendered"), Vec::<Value>::new());
}

#[test]
fn a_released_chart_installs_its_image_by_digest() {
    let helm = Helm::new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("released-chart");
    std::fs::create_dir_all(&folder).expect("a folder can be made");
    let digest = format!("sha256:{}", "a".repeat(64));
    let packed = std::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/release/chart.sh"))
        .arg(&folder)
        .args(["registry.example/owner", &digest, "https://source.example/owner/kafka-external-access"])
        .env("HELM", helm.program())
        .output()
        .expect("the script starts");
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let archive = folder.join(concat!("kafka-external-access-", env!("CARGO_PKG_VERSION"), ".tgz"));
    let archive = archive.to_string_lossy();
    let alerts = json!({"prometheusRule": {"enabled": true, "renderMode": "alwaysRender"}});
    let objects = helm.render(&archive, &alerts, &[]).expect("the packed chart");
    let image = &pod(&objects)["containers"][0]["image"];
    assert_eq!(*image, json!(format!("registry.example/owner/kafka-external-access@{digest}")));
    let runbooks = concat!(
        "https://source.example/owner/kafka-external-access/blob/v",
        env!("CARGO_PKG_VERSION"),
        "/docs/runbooks.md"
    );
    for rule in only(&objects, "PrometheusRule")["spec"]["groups"][0]["rules"].as_array().expect("rules") {
        let section = rule["alert"].as_str().expect("a name").to_lowercase();
        assert_eq!(rule["annotations"]["runbook_url"], format!("{runbooks}#{section}"));
    }
    let readme = helm.text(&["show", "readme", &archive], "").expect("a README");
    let place = "oci://registry.example/owner/charts/kafka-external-access";
    let version = env!("CARGO_PKG_VERSION");
    for told in [
        format!("helm install kafka-external-access {place} --version {version} --namespace kafka-access"),
        "| `image.registry` | `\"registry.example/owner\"` |".to_owned(),
        format!("| `image.digest` | `\"{digest}\"` |"),
        format!("| `prometheusRule.runbookUrl` | `\"{runbooks}\"` |"),
    ] {
        assert!(readme.contains(&told), "no {told:?} in\n{readme}");
    }
    for gone in ["docker build", " charts/kafka-external-access ", "REGISTRY"] {
        assert!(!readme.contains(gone), "{gone:?} in\n{readme}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
}
