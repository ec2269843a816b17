//! What a person on call sees: every query of the dashboard, every alert and every query of the runbooks, on a real
//! Prometheus that reads the operator's metrics; and what the log says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};

use lab::{Cache, Paths, Progress, cloud::Service};
use serde_json::{Value, json};

use crate::{
    installed::{CHART, RELEASE},
    world::{Background, READY, World, in_lab},
};

const AT: &str = "127.0.0.1:19090";
/// Calls are tried again later and later, and a rate needs two of them; what failed once is told for ten minutes.
const TOLD: Duration = Duration::from_secs(900);

/// Metrics that are not there in this world, and why.
const NOT_HERE: [(&str, &str); 3] = [
    ("pod_sent_bytes_total", "the brokers' own counters are read; the kubelets' are in limits.rs"),
    ("pod_received_bytes_total", "likewise"),
    ("broker_certificate_expiration_timestamp_seconds", "the lab's listeners have no TLS"),
];
/// Alerts that nothing gives cause for in this world; promtool shows that they fire (tests/alerts).
const NO_CAUSE: [(&str, &str); 3] = [
    ("KafkaAddressNearItsLimit", "it takes a load of ten minutes"),
    ("KafkaListenerCertificateEndsSoon", "the lab's listeners have no TLS"),
    ("KafkaRestartStuck", "nothing restarts"),
];

/// A Prometheus in the lab's network that reads the operator all the time.
struct Prometheus {
    _process: Background,
    client: reqwest::Client,
}

impl Prometheus {
    /// With the chart's alerts.
    async fn start(world: &World, program: &Path) -> Self {
        let folder = world.lab.sandbox().paths().part("prometheus").expect("a folder");
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let _ = fs::remove_dir_all(path("data"));
        let helm = ["template", RELEASE, CHART, "--show-only", "templates/prometheusrule.yaml"];
        let values = "prometheusRule.enabled=true,prometheusRule.renderMode=alwaysRender";
        let rules = world.lab.command("helm").args(helm).args(["--set", values]).text().expect("rendered");
        let rules: Value = serde_saphyr::from_str(&rules).expect("YAML");
        fs::write(path("rules.yaml"), rules["spec"].to_string()).expect("the rules are written");
        let config = json!({
            "global": {"scrape_interval": "5s", "scrape_timeout": "5s", "evaluation_interval": "5s"},
            "rule_files": [path("rules.yaml")],
            // As the chart's ServiceMonitor has it.
            "scrape_configs": [{"job_name": "operator", "honor_labels": true, "static_configs": [{
                "targets": ["127.0.0.1:18080"], "labels": {"namespace": "kafka-access", "pod": "operator"}}]}],
        });
        fs::write(path("config.yaml"), config.to_string()).expect("the configuration is written");
        let log = File::create(path("log")).expect("a log");
        let process = world
            .lab
            .command(&program.to_string_lossy())
            .args(["--config.file", &path("config.yaml"), "--storage.tsdb.path", &path("data")])
            .args(["--web.listen-address", AT])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be shared"))
            .stderr(log)
            .spawn()
            .expect("Prometheus starts");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let prometheus = Self { _process: Background(process), client };
        let up = async || match prometheus.find("kafka_external_access_leader").await {
            Ok(found) if !found.is_empty() => Ok(()),
            other => Err(other),
        };
        world.eventually("Prometheus reads the operator", READY, up).await;
        prometheus
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let request = self.client.get(format!("http://{AT}/api/v1/{path}")).query(query);
        let reply = request.send().await.map_err(|error| error.to_string())?;
        let reply: Value = reply.json().await.map_err(|error| error.to_string())?;
        if reply["status"] == "success" { Ok(reply["data"].clone()) } else { Err(reply["error"].to_string()) }
    }

    /// The samples that a query finds now.
    async fn find(&self, query: &str) -> Result<Vec<Value>, String> {
        let data = self.get("query", &[("query", query)]).await?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// Names of the alerts whose expression finds something. Every rule can be evaluated.
    async fn alerts(&self) -> Result<BTreeSet<String>, String> {
        let data = self.get("rules", &[]).await?;
        let rules = data["groups"][0]["rules"].as_array().cloned().unwrap_or_default();
        let name = |rule: &Value| rule["name"].as_str().map(str::to_owned);
        let all: BTreeSet<String> = rules.iter().filter_map(name).collect();
        if all != named() {
            return Err(format!("the rules are {all:?}"));
        }
        let sound = |rule: &&Value| rule["health"] == "ok" && rule["lastError"].is_null();
        if let Some(unsound) = rules.iter().find(|rule| !sound(rule)) {
            return Err(unsound.to_string());
        }
        let told = rules.iter().filter(|rule| rule["state"] != "inactive");
        Ok(told.filter_map(name).collect())
    }
}

/// Names of the chart's alerts.
fn named() -> BTreeSet<String> {
    let files = fs::read_dir(Path::new(CHART).join("files/alerts")).expect("the chart's alerts");
    let name = |path: std::path::PathBuf| Some(path.file_stem()?.to_string_lossy().into_owned());
    files.filter_map(|file| name(file.expect("a file").path())).collect()
}

fn dashboard() -> Value {
    let file = Path::new(CHART).join("files/dashboards/kafka-external-access.json");
    serde_json::from_str(&fs::read_to_string(file).expect("a dashboard")).expect("JSON")
}

/// Queries of the dashboard by panel, as Grafana sends them for the object of this world.
fn queries() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in dashboard()["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().expect("a query");
            let query = query.replace("$namespace", "ydata").replace("$name", "kafka");
            let query = query.replace("$__rate_interval", "1m");
            assert!(!query.contains('$'), "{query}");
            found.push((panel["title"].as_str().unwrap_or_default().to_owned(), query));
        }
    }
    found
}

/// The queries of the runbooks, a line each.
fn of_the_runbooks() -> Vec<String> {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks.md"));
    let blocks = page.split("```promql\n").skip(1).filter_map(|rest| rest.split("```").next());
    let filled =
        |line: &str| line.replace("NAMESPACE", "ydata").replace("NAME", "kafka").replace("BROKER", "2");
    blocks.flat_map(str::lines).map(filled).collect()
}

/// What Grafana offers for each variable: `label_values(SERIES, LABEL)`.
async fn variables(prometheus: &Prometheus) -> BTreeMap<String, Value> {
    let mut offered = BTreeMap::new();
    for variable in dashboard()["templating"]["list"].as_array().expect("variables") {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let of = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).expect("values");
        let (series, label) = of.rsplit_once(", ").expect("a label");
        let series = series.replace("$namespace", "ydata");
        let values = prometheus.get(&format!("label/{label}/values"), &[("match[]", &series)]).await;
        offered.insert(label.to_owned(), values.expect("values"));
    }
    offered
}

/// One broker behind a limit shows its counters.
async fn served(world: &mut World) {
    let agent = "-javaagent:/opt/kafka/jmx/jmx_prometheus_javaagent.jar=9404:/opt/kafka/jmx/exporter.yaml";
    let exporter = json!({"spec": {
        "updateStrategy": {"rollingUpdate": {"partition": 2}},
        "template": {"spec": {"containers": [{"name": "kafka", "env": [{"name": "KAFKA_OPTS", "value": agent}]}]}},
    }});
    world.change_brokers(exporter).await;
    world.apply_credential(&world.cloud.facts().demo.clone()).await;
    world.admin.create_qos_policy("end-to-end-20", 20_000).expect("a policy");
    world.start_operator();
    world
        .create(|object| {
            object["spec"]["addresses"]["bandwidth"] = json!({"qosPolicy": "end-to-end-20"});
            object["spec"]["metrics"] = json!({"port": 9404});
        })
        .await;
    world.condition("Ready", "True", READY).await;
    world.condition("Reachable", "True", READY).await;
}

#[test]
fn every_query_of_dashboard_alerts_and_runbooks_works_on_a_real_prometheus() {
    // Before the lab's network is entered, from which no registry can be reached.
    let cache = Cache::new(&Paths::from_environment());
    let program = lab::prometheus::Prometheus::get(&cache, &Progress::silent()).expect("Prometheus").server();
    in_lab("telemetry", async move |world| {
        served(world).await;
        let prometheus = Prometheus::start(world, &program).await;
        let quiet = async || match prometheus.alerts().await {
            Ok(told) if told.is_empty() => Ok(()),
            other => Err(other),
        };
        world.eventually("no alert has a cause", TOLD, quiet).await;
        let offered = variables(&prometheus).await;
        assert_eq!(offered["namespace"], json!(["ydata"]));
        assert_eq!(offered["name"], json!(["kafka"]));

        world.close_security_group();
        let unreachable = async || match prometheus.find("kafka_external_access_broker_reachable == 0").await
        {
            Ok(found) if found.len() == 3 => Ok(()),
            other => Err(other),
        };
        world.eventually("no broker is reached", READY, unreachable).await;
        world.cloud.stop(Service::Neutron).expect("Neutron stops");
        let without_cause = NO_CAUSE.map(|(alert, _)| alert.to_owned());
        let mut expected: BTreeSet<String> =
            named().into_iter().filter(|alert| !without_cause.contains(alert)).collect();
        expected.remove("KafkaExternalAccessNoLeader");
        let told = async || match prometheus.alerts().await {
            Ok(told) if told == expected => Ok(()),
            other => Err(other),
        };
        world.eventually("the alerts have their cause", TOLD, told).await;
        asked(&prometheus).await;
        world.cloud.start(Service::Neutron).expect("Neutron starts");
        world.reset_security_group();

        world.kill_operator();
        let told = async || match prometheus.alerts().await {
            Ok(told) if told.contains("KafkaExternalAccessNoLeader") => Ok(()),
            other => Err(other),
        };
        world.eventually("nobody leads", READY, told).await;
        drop(prometheus);
        world.start_operator();
        world.condition("Ready", "True", READY).await;
    });
}

/// Every query is one, and finds something, as far as the metric is there.
async fn asked(prometheus: &Prometheus) {
    let mut not_here = BTreeSet::new();
    let queries = queries();
    for (panel, query) in &queries {
        let found = prometheus.find(query).await.unwrap_or_else(|error| panic!("{panel}: {query}: {error}"));
        let exception = NOT_HERE.iter().find(|(metric, _)| query.contains(metric));
        not_here.extend(exception.map(|(metric, _)| *metric));
        assert_eq!(found.is_empty(), exception.is_some(), "{panel}: {query}: {found:?}");
    }
    assert_eq!(not_here.len(), NOT_HERE.len(), "an exception that no query needs");
    let by_hand = of_the_runbooks();
    for query in &by_hand {
        prometheus.find(query).await.unwrap_or_else(|error| panic!("runbooks: {query}: {error}"));
    }
    println!("{} queries of the dashboard, {} of the runbooks", queries.len(), by_hand.len());
    assert!(queries.len() >= 25 && by_hand.len() >= 8);
}

#[test]
fn the_log_level_changes_while_the_operator_runs() {
    in_lab("log_level", async |world| {
        world.apply_credential(&world.cloud.facts().demo.clone()).await;
        world.start_operator();
        world.create(|_| {}).await;
        world.condition("Ready", "True", READY).await;
        let debugs = |log: &str| log.lines().filter(|line| line.contains("\"DEBUG\"")).count();
        let log = world.operator_log();
        // Runs of the same test share the file.
        let (_, since_start) = log.rsplit_once("\"started\"").expect("it says when it starts");
        assert!(debugs(since_start) > 0, "tests start it with debug");
        let lines = since_start.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines: Vec<Value> = lines.collect();
        // For three brokers: two finalizers, three addresses, three listeners. What did not succeed at once is told again.
        for (message, field, expected) in
            [("decided", "step", 8), ("allocated and bound", "address", 3), ("settings altered", "node", 3)]
        {
            let told = lines.iter().filter(|line| line["message"] == message);
            let told: BTreeSet<String> = told.map(|line| line[field].to_string()).collect();
            assert_eq!(told.len(), expected, "{message}: {told:?}");
        }
        assert!(world.log_level(Some("nonsense=loud")).starts_with("HTTP/1.1 400"));
        let set = world.log_level(Some("info"));
        assert!(set.starts_with("HTTP/1.1 200") && set.ends_with("info\n"), "{set}");
        let from = world.operator_log().len();
        // Three drift intervals, in which it looks at the cloud.
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(debugs(&world.operator_log()[from..]), 0, "{}", &world.operator_log()[from..]);
        let debug = "kafka_external_access=debug,info";
        let set = world.log_level(Some(debug));
        assert!(set.starts_with("HTTP/1.1 200"), "{set}");
        assert_eq!(world.log_level(None).lines().last(), set.lines().last());
        let again = async || match debugs(&world.operator_log()[from..]) {
            0 => Err("no line of level DEBUG"),
            _ => Ok(()),
        };
        world.eventually("it says more again", READY, again).await;
    });
}
