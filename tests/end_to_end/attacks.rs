//! A tenant with every right in one namespace and none elsewhere, on real parts: a real account at the real API server, and
//! the operator, whose place in the network he would like to borrow.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, http::StatusCode, response::IntoResponse};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::{
    classes::of_class,
    world::{NAMESPACE, READY, World, in_lab, smallest},
};

/// The password in the tenant's credential, which nothing may show.
const CANARY: &str = "canary-3b9d1e77";
const TENANT: &str = "tenant";

/// The account, and every right in its namespace that a tenant may be given.
const RIGHTS: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: tenant, namespace: ydata}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: tenant, namespace: ydata}
rules:
- {apiGroups: [kafkaaccess.dev], resources: ["kafkaexternalaccesses", "kafkaexternalaccesses/status"], verbs: ["*"]}
- {apiGroups: ["", apps], resources: [secrets, configmaps, pods, statefulsets, events], verbs: ["*"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenant, namespace: ydata}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}
subjects: [{kind: ServiceAccount, name: tenant, namespace: ydata}]
"#;

/// The API server as the tenant meets it.
async fn tenant(world: &World) -> Client {
    let apply = world.lab.command("kubectl").args(["apply", "-f", "-"]);
    apply.text_with_input(RIGHTS.as_bytes()).expect("the account is made");
    let token = world.lab.kubectl(&["create", "token", TENANT, "-n", NAMESPACE]).expect("a token");
    let mut config = Kubeconfig::read_from(&world.lab.facts().kubeconfig).expect("the lab's kubeconfig");
    for user in config.auth_infos.iter_mut() {
        let token = serde_json::from_value(json!({"token": token.trim()})).expect("a user");
        user.auth_info = Some(token);
    }
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}

/// HTTP status of a request.
async fn asked(client: &Client, method: &str, path: &str, body: Option<&Value>) -> u16 {
    let body = body.map(|body| serde_json::to_vec(body).expect("JSON")).unwrap_or_default();
    let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request =
        http::Request::builder().method(method).uri(path).header("content-type", content).body(body);
    match client.request::<Value>(request.expect("a request")).await {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("{method} {path}: {error}"),
    }
}

#[test]
fn a_tenants_account_reaches_nothing_beyond_its_namespace_and_takes_nothing_by_its_object() {
    in_lab("tenant", async |world| {
        world.start_operator();
        world.apply_class(|class| class["namespaces"] = json!({"names": [NAMESPACE]})).await;
        let client = tenant(world).await;
        let group = "/apis/kafkaaccess.dev/v1alpha1";
        let class = json!({"spec": {"namespaces": {"names": ["default"]}, "limits": {"addressesPerNamespace": 9999}}});
        let label = json!({"metadata": {"labels": {"kafka": "outside"}}});
        let forbidden = [
            ("GET", "/api/v1/namespaces/default/secrets/class-credential".to_owned(), None),
            ("GET", "/api/v1/namespaces/default/secrets".to_owned(), None),
            ("GET", "/api/v1/secrets".to_owned(), None),
            ("GET", format!("{group}/kafkaexternalaccessclasses/lab"), None),
            ("PATCH", format!("{group}/kafkaexternalaccessclasses/lab"), Some(&class)),
            ("DELETE", format!("{group}/kafkaexternalaccessclasses/lab"), None),
            ("GET", format!("{group}/namespaces/default/kafkaexternalaccesses"), None),
            ("GET", format!("{group}/kafkaexternalaccesses"), None),
            ("PATCH", format!("/api/v1/namespaces/{NAMESPACE}"), Some(&label)),
            (
                "GET",
                "/apis/coordination.k8s.io/v1/namespaces/default/leases/kafka-external-access".to_owned(),
                None,
            ),
            ("PATCH", format!("/api/v1/namespaces/{NAMESPACE}/pods/kafka-0/status"), Some(&label)),
        ];
        for (method, path, body) in forbidden {
            assert_eq!(asked(&client, method, &path, body).await, 403, "{method} {path}");
        }

        // Somebody's address in the project of the class, bound to nobody.
        let network = &world.cloud.facts().external_network_id;
        let made = json!({"floatingip": {"floating_network_id": network, "description": "the web shop"}});
        let shop = world.demo.network("POST", "/floatingips", Some(&made)).expect("an address")["floatingip"]
            .clone();
        let (id, address) =
            (shop["id"].as_str().expect("an id"), shop["floating_ip_address"].as_str().expect("one"));

        // By spec, with a forged status beside it and annotations that claim a right.
        let mut object = smallest();
        of_class(&mut object);
        object["spec"]["brokers"] = json!([{"ordinal": 0, "address": address}]);
        object["metadata"]["annotations"] = json!({
            "kafkaaccess.dev/replace": "0,1,2", "kafkaaccess.dev/marker": "kea/v1 c=x n=ydata/kafka u=x o=0"});
        let objects = format!("{group}/namespaces/{NAMESPACE}/kafkaexternalaccesses");
        assert_eq!(asked(&client, "POST", &objects, Some(&object)).await, 200);
        let forged = json!({"status": {"projectID": "x", "brokers": [{
            "ordinal": 0, "state": "Ready", "address": address, "addressID": id, "adopted": true}]}});
        let status = format!("{objects}/kafka/status");
        assert_eq!(asked(&client, "PATCH", &status, Some(&forged)).await, 200);
        world.broker(0, kafka_external_access::api::BrokerState::Refused, "AddressNotAllowed", READY).await;
        // The others are served meanwhile.
        world
            .eventually("two are bound", READY, async || {
                let bound = world.ledger().len();
                if bound == 2 { Ok(()) } else { Err(bound) }
            })
            .await;
        assert_eq!(asked(&client, "PATCH", &status, Some(&forged)).await, 200);
        let without = json!({"spec": {"brokers": [{"ordinal": 0}]}});
        assert_eq!(asked(&client, "PATCH", &format!("{objects}/kafka"), Some(&without)).await, 200);
        world.condition("Ready", "True", READY).await;
        assert_eq!(asked(&client, "PATCH", &status, Some(&forged)).await, 200);
        world.delete().await;
        let now = world.demo.network("GET", &format!("/floatingips/{id}"), None).expect("it is there");
        for field in ["description", "port_id", "revision_number", "fixed_ip_address"] {
            assert_eq!(now["floatingip"][field], shop[field], "{field} of somebody's address");
        }
        let left: Vec<_> =
            world.demo.floating_ips().expect("floating IPs").into_iter().map(|one| one.id).collect();
        assert_eq!(left, [id.to_owned()], "only somebody's address is left");
    });
}

/// Counts connections to a port of every address of this network namespace.
fn counted(port: u16) -> Arc<AtomicUsize> {
    let connections = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).expect("a free port");
    let counter = connections.clone();
    std::thread::spawn(move || {
        for _ in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    connections
}

/// Sends back what it is told, password included.
async fn echo(request: axum::extract::Request) -> impl IntoResponse {
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    let message = String::from_utf8_lossy(&body).into_owned();
    (StatusCode::UNAUTHORIZED, json!({"error": {"message": message}}).to_string())
}

async fn redirect() -> impl IntoResponse {
    (StatusCode::FOUND, [("location", "http://127.0.0.1:15999/")], "")
}

#[test]
fn a_tenants_credential_leads_the_operator_nowhere_and_appears_nowhere() {
    in_lab("borrowed-place", async |world| {
        let connections = counted(15_999);
        let listener = tokio::net::TcpListener::bind("10.128.0.1:15998").await.expect("a free port");
        let app = Router::new().route("/v3/auth/tokens", axum::routing::post(redirect)).fallback(echo);
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let credential = |url: &str| {
            format!(
                "clouds: {{lab: {{auth: {{auth_url: '{url}', username: u, password: {CANARY}, project_name: p}}}}}}"
            )
        };
        world.start_operator();
        world.create(|_| {}).await;
        // How it is spelled, and how it is shown; neighbours are shown differently, so that each is seen to be judged.
        for (host, shown) in [
            ("127.1", "127.0.0.1 is"),
            ("localhost", "localhost leads to"),
            ("0x7f000001", "127.0.0.1 is"),
            ("[::1]", "::1 is"),
            ("127.0.0.1", "127.0.0.1 is"),
            ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1 is"),
            ("0.0.0.0", "0.0.0.0 is"),
        ] {
            world.apply_clouds_yaml("openstack", &credential(&format!("http://{host}:15999"))).await;
            world.told("the operator calls nobody", shown).await;
        }
        for host in ["169.254.169.254", "100.100.100.200", "[fe80::1]", "[fd00:ec2::254]"] {
            world.apply_clouds_yaml("openstack", &credential(&format!("http://{host}/latest"))).await;
            world.told("the operator calls nobody", host.trim_matches(['[', ']'])).await;
        }
        world.apply_clouds_yaml("openstack", &credential("http://10.128.0.1:15998/redirecting")).await;
        world.told("(secret)", "log in").await;
        world.apply_clouds_yaml("openstack", &credential("http://10.128.0.1:15998")).await;
        world.told("redirects are not followed", "302").await;
        assert_eq!(connections.load(Ordering::SeqCst), 0, "connections to this machine");
        let shown = [
            serde_json::to_string(&world.access().await).expect("an object"),
            world.lab.kubectl(&["get", "events", "-A", "-o", "yaml"]).expect("events"),
            world.scrape(),
            world.operator_log(),
        ];
        for text in shown {
            assert!(!text.is_empty() && !text.contains(CANARY), "the password is shown: {text}");
        }
        server.abort();
    });
}

impl World {
    /// Waits until a condition says both.
    async fn told(&self, one: &str, other: &str) {
        self.eventually(&format!("{one} and {other} are told"), READY, async || {
            let object = self.access().await.ok_or("the object does not exist")?;
            let status = serde_json::to_string(&object.status).unwrap_or_default();
            if status.contains(one) && status.contains(other) { Ok(()) } else { Err("not told") }
        })
        .await;
    }
}
