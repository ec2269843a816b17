//! What the real process takes while nothing happens: `make footprint`. The program runs against a small API server in this
//! process, which has objects whose StatefulSets are missing, so that there is nothing to do for them. Printed, not judged.
//!
//! The peer is ORC 2.6 (openstack-resource-controller) on the same kind of machine, with as many objects that it manages.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, StatusCode, Uri, header::HeaderMap},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_kafka-external-access");
const GROUP: &str = "/apis/kafkaaccess.dev/v1alpha1";
const KINDS: [&str; 10] = [
    "kafkaexternalaccesses",
    "kafkaexternalaccessclasses",
    "statefulsets",
    "pods",
    "leases",
    "events",
    "secrets",
    "configmaps",
    "nodes",
    "namespaces",
];
/// Clock ticks of /proc in a second.
const TICKS: f64 = 100.0;

/// Objects by path, and what was asked.
#[derive(Default)]
struct Server {
    objects: Mutex<BTreeMap<String, Value>>,
    asked: Mutex<Vec<(Instant, String)>>,
}

impl Server {
    fn with(count: usize) -> Arc<Self> {
        let server = Self::default();
        let mut objects = server.objects.lock().expect("not poisoned");
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "c"}});
        objects.insert("/api/v1/namespaces/kube-system".to_owned(), namespace);
        for number in 0..count {
            let (namespace, uid) = (format!("team-{number}"), format!("u-{number}"));
            let object = json!({
                "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccess",
                "metadata": {"name": "kafka", "namespace": namespace, "uid": uid, "resourceVersion": "1", "generation": 1},
                "spec": {
                    "kafka": {"statefulSet": {"name": "kafka"}},
                    "listener": {"name": "EXTERNAL", "port": 9094},
                    "addresses": {"provider": {"type": "Static"}},
                    "brokers": [{"ordinal": 0, "address": format!("203.0.{}.{}", number / 250, number % 250)}],
                },
            });
            objects.insert(format!("{GROUP}/namespaces/{namespace}/kafkaexternalaccesses/kafka"), object);
        }
        drop(objects);
        Arc::new(server)
    }

    fn asked_since(&self, start: Instant) -> Vec<String> {
        let asked = self.asked.lock().expect("not poisoned");
        asked.iter().filter(|(at, _)| *at >= start).map(|(_, what)| what.clone()).collect()
    }

    fn first(&self, what: &str) -> Option<Instant> {
        let asked = self.asked.lock().expect("not poisoned");
        asked.iter().find(|(_, asked)| asked.starts_with(what)).map(|(at, _)| *at)
    }
}

async fn answer(
    State(server): State<Arc<Server>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (path, watches) = (uri.path().to_owned(), uri.query().unwrap_or_default().contains("watch=true"));
    let kind = path.rsplit('/').find(|word| KINDS.contains(word)).unwrap_or_default().to_owned();
    let what = format!("{} {kind}", if watches { "WATCH" } else { method.as_str() });
    server.asked.lock().expect("not poisoned").push((Instant::now(), what));
    if watches {
        // Nothing ever happens.
        return Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>())
            .into_response();
    }
    let mut objects = server.objects.lock().expect("not poisoned");
    let own = path.strip_suffix("/status").unwrap_or(&path).to_owned();
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    match method {
        Method::GET if objects.contains_key(&own) => with(StatusCode::OK, &objects[&own]),
        Method::GET if own.ends_with(&kind) => {
            let of_kind = format!("/{kind}/");
            let items: Vec<&Value> = objects
                .iter()
                .filter(|(path, _)| path.contains(&of_kind))
                .map(|(_, object)| object)
                .collect();
            let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items});
            with(StatusCode::OK, &list)
        }
        Method::POST | Method::PUT => {
            let name = sent["metadata"]["name"].as_str().unwrap_or_default();
            let at = if method == Method::POST { format!("{own}/{name}") } else { own };
            with(StatusCode::CREATED, &stored(&mut objects, at, sent))
        }
        Method::PATCH if objects.contains_key(&own) => {
            let mut object = objects[&own].clone();
            let json_patch =
                headers.get("content-type").is_some_and(|kind| kind == "application/json-patch+json");
            if json_patch {
                let patch: json_patch::Patch = serde_json::from_value(sent).expect("a JSON patch");
                json_patch::patch(&mut object, &patch).expect("a patch that fits");
            } else {
                json_patch::merge(&mut object, &sent);
            }
            with(StatusCode::OK, &stored(&mut objects, own, object))
        }
        _ => {
            let gone = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404});
            with(StatusCode::NOT_FOUND, &gone)
        }
    }
}

fn with(status: StatusCode, body: &Value) -> Response {
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}

fn stored(objects: &mut BTreeMap<String, Value>, at: String, mut object: Value) -> Value {
    let version =
        objects.get(&at).and_then(|before| before["metadata"]["resourceVersion"].as_str()?.parse().ok());
    object["metadata"]["resourceVersion"] = json!((version.unwrap_or(0_u64) + 1).to_string());
    // Events are told and not kept.
    if !at.contains("/events/") {
        objects.insert(at, object.clone());
    }
    object
}

/// The operator, ended with this value.
struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

impl Operator {
    fn start(at: std::net::SocketAddr) -> Self {
        let file = std::env::temp_dir().join(format!("kafka-footprint-{}", std::process::id()));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{at}")}}],
            "users": [{"name": "c", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        });
        fs::write(&file, config.to_string()).expect("a kubeconfig");
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--listen", "127.0.0.1:0"]).env("KUBECONFIG", &file);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program"))
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0.id())).expect("the process runs")
    }

    /// MiB of `VmRSS` or `VmHWM`.
    fn memory(&self, key: &str) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line of status");
        let kib: f64 = line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").parse().expect("a number");
        kib / 1024.0
    }

    /// Seconds of processor, user's and system's.
    fn processor(&self) -> f64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
        (ticks(11) + ticks(12)) / TICKS
    }
}

async fn measure(count: usize, window: Duration) {
    let server = Server::with(count);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let router = Router::new().fallback(answer).with_state(server.clone());
    let serving = tokio::spawn(async { axum::serve(listener, router).await });
    let start = Instant::now();
    let operator = Operator::start(at);
    // Until it has looked at each object, and three seconds without a write.
    let mut quiet = 0;
    while quiet < 3 {
        let second = Instant::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let writes = |what: &String| what.starts_with("P") && !what.ends_with("leases");
        quiet = if server.asked_since(second).iter().any(writes) { 0 } else { quiet + 1 };
        assert!(start.elapsed() < Duration::from_secs(300), "it does not come to rest");
    }
    let since_start = |at: Option<Instant>| at.map_or(Duration::ZERO, |at| at - start);
    let first = since_start(server.first(""));
    let leads = since_start(server.first("POST leases"));
    let (idle, before) = (Instant::now(), operator.processor());
    tokio::time::sleep(window).await;
    let share = 100.0 * (operator.processor() - before) / idle.elapsed().as_secs_f64();
    let asked = server.asked_since(idle);
    let hour = 3600.0 / window.as_secs_f64();
    let writes = asked.iter().filter(|what| what.starts_with("P") && !what.ends_with("leases")).count();
    println!(
        "{count:>8} {:>9.1} {:>9.1} {share:>8.2} {:>11.0} {writes:>7} {:>11} {:>11}",
        operator.memory("VmRSS"),
        operator.memory("VmHWM"),
        hour * asked.len() as f64,
        format!("{first:.0?}"),
        format!("{leads:.0?}"),
    );
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    asked.iter().for_each(|what| *kinds.entry(what).or_default() += 1);
    let kinds: Vec<String> = kinds.iter().map(|(what, count)| format!("{count} {what}")).collect();
    println!("         in {} s: {}", window.as_secs(), kinds.join(", "));
    serving.abort();
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let window = std::env::var("WINDOW").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let size = fs::metadata(PROGRAM).expect("the program").len();
    println!("the program, stripped: {:.1} MB (peer: 65.9)", size as f64 / 1e6);
    println!("peer: 60, 70 and 84.5 MiB with 0, 30 and 1000 objects, 0.3 % of a processor");
    println!(
        "{:>8} {:>9} {:>9} {:>8} {:>11} {:>7} {:>11} {:>11}",
        "objects", "RSS MiB", "peak MiB", "CPU %", "requests/h", "writes", "first call", "leads"
    );
    for count in [0, 30, 100, 1000] {
        measure(count, Duration::from_secs(window)).await;
    }
}
