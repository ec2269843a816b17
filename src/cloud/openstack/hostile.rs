//! A tenant writes `auth_url`, so any server may stand there and behind its catalogue. What the worst of them gets: no call
//! to a place that is not called, no end of memory or time, and no secret into a message.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{CallObserver, CallOutcome, Neutron, clouds_yaml, http::Limits};
use crate::{
    cloud::{Binding, CloudError, CloudFault, Credential, FloatingIps},
    domain::{NetworkId, PortId},
    reach::Reach,
    seams::Clock,
};

/// The password of every credential here; no message may have it.
const CANARY: &str = "canary-7f3a9c51";

/// Time that passes when somebody sleeps.
#[derive(Default)]
struct Virtual(AtomicU64);

#[async_trait]
impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        self.steady()
    }
    fn steady(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
    async fn sleep(&self, period: Duration) {
        self.0.fetch_add(u64::try_from(period.as_millis()).unwrap_or(0) + 1, Ordering::SeqCst);
    }
}

struct Unobserved;

impl CallObserver for Unobserved {
    fn called(&self, _: &'static str, _: CallOutcome, _: Duration) {}
}

/// A server on this machine, and how many connections came.
struct Server {
    at: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Answers each request in one go; the connection ends with it.
    fn start(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, answer) = (connections.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                thread::spawn(move || {
                    let mut stream = stream;
                    let request = request_of(&mut stream);
                    answer(&request, &mut stream);
                });
            }
        });
        Self { at, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Head and body.
fn request_of(stream: &mut TcpStream) -> String {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        match stream.read(&mut part) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&part[..count]),
            _ => return text,
        }
    }
}

fn reply(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    // The client may have left already.
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    );
}

fn token(endpoint: &str) -> String {
    serde_json::json!({"token": {
        "expires_at": "1970-01-02T00:00:00Z", "issued_at": "1970-01-01T00:00:00Z", "project": {"id": "p"},
        "catalog": [{"type": "network", "endpoints": [{"interface": "public", "region_id": "r", "url": endpoint}]}]}})
    .to_string()
}

/// Keystone and Neutron in one: logs everybody in, with this network endpoint, and answers the rest by `network`.
fn cloud(endpoint: Option<&str>, network: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Server {
    let endpoint = endpoint.map(str::to_owned);
    Server::start(move |request, stream| {
        let own = || format!("http://{}", stream.local_addr().expect("an address"));
        if request.contains("/auth/tokens") {
            let endpoint = endpoint.clone().unwrap_or_else(own);
            reply(stream, "201 Created", "X-Subject-Token: t\r\n", &token(&endpoint));
        } else {
            network(request, stream);
        }
    })
}

fn here() -> Reach {
    Reach { allowed: vec!["127.0.0.1/32".parse().expect("a network")], denied: Vec::new() }
}

fn open(auth_url: &str, reach: Reach) -> Result<Neutron, CloudError> {
    let clouds_yaml = format!(
        "clouds: {{dev: {{auth: {{auth_url: '{auth_url}', username: u, password: {CANARY}, project_name: p}}}}}}"
    );
    let credential = Credential {
        namespace: "n".into(),
        secret: "s".into(),
        version: "1".into(),
        cloud_name: "dev".into(),
        clouds_yaml,
        cacert: None,
    };
    let config = clouds_yaml::parse(&credential).map_err(|problem| CloudError {
        operation: "read the credential",
        fault: CloudFault::Configuration(problem.to_string()),
    })?;
    let limits = Limits { read: Duration::from_millis(700), write: Duration::from_millis(700) };
    Neutron::limited(config, Arc::new(reach), limits, Arc::new(Virtual::default()), Arc::new(Unobserved))
}

/// What a list ends with, whose text must not have the canary.
async fn fault(auth_url: &str, reach: Reach) -> CloudFault {
    let result = match open(auth_url, reach) {
        Ok(neutron) => neutron.list().await.map(drop),
        Err(error) => Err(error),
    };
    let fault = result.expect_err("nothing good comes of it").fault;
    assert!(!format!("{fault:?}").contains("canary"), "{fault:?}");
    fault
}

fn at(server: &Server) -> String {
    format!("http://{}", server.at)
}

#[tokio::test]
async fn this_machine_is_not_called_by_any_spelling_of_its_address() {
    let server = Server::start(|_, stream| reply(stream, "200 OK", "", "{}"));
    let port = server.at.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
    ] {
        let fault = fault(&format!("http://{host}:{port}"), Reach::default()).await;
        assert!(matches!(fault, CloudFault::Configuration(_)), "{host}: {fault:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn metadata_services_and_neighbours_are_not_called() {
    for host in [
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[::ffff:a9fe:a9fe]",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        let fault = fault(&format!("http://{host}/latest/meta-data"), Reach::default()).await;
        let CloudFault::Configuration(text) = &fault else { panic!("{host}: {fault:?}") };
        assert!(text.contains("the operator calls nobody"), "{host}: {text}");
    }
}

#[tokio::test]
async fn a_catalogue_leads_nowhere_that_auth_url_does_not() {
    let inner = Server::start(|_, stream| reply(stream, "200 OK", "", r#"{"floatingips": []}"#));
    let neighbour = format!("http://127.0.0.2:{}", inner.at.port());
    for endpoint in [
        "http://169.254.169.254",
        "http://[::1]:9696",
        &neighbour,
        "file:///etc/passwd",
        "gopher://10.0.0.1",
        "http://u:p@10.0.0.1",
    ] {
        let server = cloud(Some(endpoint), |_, stream| reply(stream, "200 OK", "", "{}"));
        let fault = fault(&at(&server), here()).await;
        assert!(matches!(fault, CloudFault::Configuration(_)), "{endpoint}: {fault:?}");
    }
    assert_eq!(inner.connections(), 0);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inner = Server::start(|_, stream| reply(stream, "200 OK", "", "{}"));
    let location = format!("Location: http://127.0.0.1:{}/\r\n", inner.at.port());
    for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = location.clone();
        let server = Server::start(move |_, stream| reply(stream, status, &location, ""));
        let fault = fault(&at(&server), here()).await;
        assert!(matches!(fault, CloudFault::Refused(_)), "{status}: {fault:?}");
    }
    assert_eq!(inner.connections(), 0);
}

#[tokio::test]
async fn a_reply_without_an_end_is_cut_off() {
    let server = cloud(None, |_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n\r\n");
        let part = vec![b' '; 1 << 20];
        // Until the client has enough.
        while stream.write_all(&part).is_ok() {}
    });
    let fault = fault(&at(&server), here()).await;
    assert!(
        matches!(&fault, CloudFault::BadReply(text) if text.contains("8 MiB"))
            || matches!(fault, CloudFault::Unavailable(_)),
        "{fault:?}"
    );
}

#[tokio::test]
async fn a_reply_that_never_comes_and_one_that_drips_are_given_up() {
    for pause in [Duration::from_secs(30), Duration::from_millis(100)] {
        let server = cloud(None, move |_, stream| {
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
            loop {
                thread::sleep(pause);
                if stream.write_all(b" ").is_err() {
                    return;
                }
            }
        });
        let fault = fault(&at(&server), here()).await;
        assert!(
            matches!(&fault, CloudFault::Unavailable(text) if text.contains("no answer in time")),
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let page = AtomicUsize::new(0);
    let server = cloud(None, move |_, stream| {
        let number = page.fetch_add(1, Ordering::SeqCst);
        let item = serde_json::json!({"id": number.to_string(), "floating_ip_address": "203.0.113.1", "floating_network_id": "n", "project_id": "p"});
        let body = serde_json::json!({"floatingips": [item], "floatingips_links": [{"rel": "next", "href": "http://169.254.169.254"}]});
        reply(stream, "200 OK", "", &body.to_string());
    });
    let fault = fault(&at(&server), here()).await;
    assert!(matches!(&fault, CloudFault::BadReply(text) if text.contains("does not end")), "{fault:?}");
    assert!(server.connections() <= 210, "{}", server.connections());
}

/// Three reads, each of what the one before has named; what was not asked for is not asked about.
#[tokio::test]
async fn a_cloud_that_ignores_filters_joins_nothing_and_is_asked_no_more_for_it() {
    let (requests, heard) = std::sync::mpsc::channel();
    let server = cloud(None, move |request, stream| {
        // The test may be over already.
        let _ = requests.send(request.lines().next().unwrap_or_default().to_owned());
        let port = |id: &str, owner: &str, subnet: &str| {
            serde_json::json!({"id": id, "network_id": format!("network-of-{id}"), "device_id": "router-1", "device_owner": owner,
                "fixed_ips": [{"subnet_id": subnet, "ip_address": "10.128.0.20"}]})
        };
        let interface = |id, subnet| port(id, "network:router_interface", subnet);
        let router =
            |id: &str| serde_json::json!({"id": id, "external_gateway_info": {"network_id": "public"}});
        let body = match request.contains("/routers?") {
            true => serde_json::json!({"routers": [router("router-1"), router("router-2")]}),
            false => serde_json::json!({"ports": [
                port("pod", "compute:kuryr", "pods"), port("other", "compute:kuryr", "others"), interface("i", "pods"),
            ]}),
        };
        reply(stream, "200 OK", "", &body.to_string());
    });
    let neutron = open(&at(&server), here()).expect("a cloud");
    let target = |port: &str| Binding { port: PortId::new(port), fixed_ip: [10, 128, 0, 20].into() };
    let asked = BTreeSet::from([target("pod"), target("gone")]);
    let found = neutron.routed(&NetworkId::new("public"), &asked).await;
    assert_eq!(found, Ok(Some(BTreeSet::from([target("pod")]))));
    assert_eq!(neutron.routed(&NetworkId::new("another"), &asked).await, Ok(Some(BTreeSet::new())));
    let heard: Vec<String> = heard.try_iter().take(3).collect();
    let owners =
        ["", "_distributed"].map(|kind| format!("device_owner=network%3Arouter_interface{kind}&")).concat();
    for (line, asked) in heard.iter().zip([
        "GET /v2.0/ports?id=gone&id=pod&limit=500 ".to_owned(),
        format!(
            "GET /v2.0/ports?network_id=network-of-pod&{owners}device_owner=network%3Aha_router_replicated_interface&limit=500 "
        ),
        "GET /v2.0/routers?id=router-1&limit=500 ".to_owned(),
    ]) {
        assert!(line.starts_with(&asked), "{line}");
    }
    assert_eq!(heard.len(), 3);
}

#[tokio::test]
async fn what_the_server_sends_back_of_the_credential_is_not_told() {
    for status in
        ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "500 Oh", "409 Conflict"]
    {
        let server = Server::start(move |request, stream| {
            let message = format!("you said {request} and {}{CANARY}", "x".repeat(295));
            let body = serde_json::json!({"error": {"message": message}}).to_string();
            reply(stream, status, &format!("X-Openstack-Request-Id: {CANARY}\r\n"), &body);
        });
        let fault = fault(&at(&server), here()).await;
        assert!(!format!("{fault}").contains(CANARY), "{status}: {fault}");
    }
}

#[tokio::test]
async fn nonsense_is_a_bad_reply_and_nothing_worse() {
    let deep = "[".repeat(200_000);
    let wide = format!("{{\"floatingips\": [{}]}}", vec!["{}"; 10_000].join(","));
    for body in ["", "null", "[]", "{\"floatingips\": 7}", "\u{0}", &deep, &wide] {
        let body = body.to_owned();
        let server = cloud(None, move |_, stream| reply(stream, "200 OK", "", &body));
        let fault = fault(&at(&server), here()).await;
        assert!(matches!(fault, CloudFault::BadReply(_)), "{fault:?}");
    }
}

#[tokio::test]
async fn a_flood_of_headers_is_refused() {
    let server = Server::start(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n");
        for number in 0..200_000 {
            if write!(stream, "X-{number}: {}\r\n", "y".repeat(100)).is_err() {
                return;
            }
        }
    });
    let fault = fault(&at(&server), here()).await;
    assert!(matches!(fault, CloudFault::Unavailable(_)), "{fault:?}");
}

#[tokio::test]
async fn a_cloud_that_asks_for_a_year_of_silence_gets_an_hour() {
    let server = cloud(None, |_, stream| reply(stream, "429 Too Many", "Retry-After: 31536000\r\n", ""));
    let fault = fault(&at(&server), here()).await;
    assert_eq!(fault, CloudFault::RateLimited { retry_after: Some(Duration::from_secs(3600)) });
}
