//! An endpoint with real TLS on this machine, and what stands behind it.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs},
};

use super::{Endpoint, Files, Limits};
use crate::{
    api::KafkaExternalAccess,
    domain::AccessKey,
    hosts::endpoint::EndpointArgs,
    kubernetes::{KubernetesError, KubernetesFault},
    runtime::clock::SystemClock,
    seams::Clock,
};

/// The token of ydata/kafka; nothing that is logged may have it.
pub const TOKEN: &str = "canary-1f0c7be2a94d4f6f8f3a5b6c7d8e9f01";
pub const PATH: &str = "/v1/namespaces/ydata/kafkaexternalaccesses/kafka/hosts";
pub const MISSING: &str = "/v1/namespaces/ydata/kafkaexternalaccesses/missing/hosts";

pub fn key(text: &str) -> AccessKey {
    text.parse().expect("a key")
}

/// An authority and what it has signed for this machine.
pub struct Authority(pub CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// PEM of a certificate for 127.0.0.1 and of its key.
    pub fn signed(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        (params.signed_by(&key, &self.0).expect("a certificate").pem(), key.serialize_pem())
    }

    fn client(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

/// What stands behind the endpoint.
#[derive(Default)]
pub struct Cluster {
    pub objects: Mutex<BTreeMap<AccessKey, KafkaExternalAccess>>,
    reads: AtomicUsize,
    pub away: AtomicBool,
}

impl Cluster {
    fn read(&self, key: &AccessKey) -> Result<Option<KafkaExternalAccess>, KubernetesError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        if self.away.load(Ordering::SeqCst) {
            let fault = KubernetesFault::Unavailable("connection refused".to_owned());
            return Err(KubernetesError { operation: "read the object", fault });
        }
        Ok(self.objects.lock().expect("no panic").get(key).cloned())
    }

    pub fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

pub struct Setup {
    pub at: SocketAddr,
    pub folder: PathBuf,
    pub authority: Authority,
    pub endpoint: Arc<Endpoint>,
    pub cluster: Arc<Cluster>,
    pub clock: Arc<dyn Clock>,
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn object() -> KafkaExternalAccess {
    let object = json!({
        "apiVersion": "kafkaaccess.dev/v1alpha1", "kind": "KafkaExternalAccess",
        "metadata": {"name": "kafka", "namespace": "ydata"},
        "spec": {"kafka": {"statefulSet": {"name": "kafka"}}},
        "status": {
            "hosts": ["10.0.0.1 kafka-0.kafka.ydata.svc", "127.0.0.1 kafka-1.kafka.ydata.svc"],
            // Broker 2 has not answered yet, so the operator has no line for it.
            "brokers": [
                {"ordinal": 0, "nodeId": 7, "state": "Ready", "target": "10.0.0.1", "advertised": "kafka-0.kafka.ydata.svc:9092"},
                {"ordinal": 2, "nodeId": 9, "state": "Waiting", "target": "10.0.0.3", "advertised": "kafka-2.kafka.ydata.svc:9092"}],
        },
    });
    serde_json::from_value(object).expect("an object")
}

pub fn pairs() -> Value {
    json!([{"address": "10.0.0.1", "name": "kafka-0.kafka.ydata.svc", "broker": {"nodeId": 7, "port": 9092}}])
}

/// An endpoint that looks at its files when it is told to.
pub async fn start(name: &str, limits: impl FnOnce(&mut Limits)) -> Setup {
    let folder = std::env::temp_dir().join(format!("kafka-endpoint-{name}-{}", std::process::id()));
    fs::create_dir_all(folder.join("tokens")).expect("a folder");
    let authority = Authority::new();
    let files = Files {
        certificate: folder.join("tls.crt"),
        key: folder.join("tls.key"),
        tokens: folder.join("tokens"),
    };
    let (certificate, secret) = authority.signed();
    fs::write(&files.certificate, certificate).expect("a file");
    fs::write(&files.key, secret).expect("a file");
    for object in ["ydata.kafka", "ydata.missing"] {
        fs::write(files.tokens.join(object), TOKEN).expect("a file");
    }
    fs::write(files.tokens.join("other.kafka"), "another-8d2b6c1e90aa4c8d9f02a1b2c3d4e5f6").expect("a file");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let cluster = Arc::new(Cluster::default());
    cluster.objects.lock().expect("no panic").insert(key("ydata/kafka"), object());
    let mut bounds = Limits { look: Duration::from_secs(3600), fresh: Duration::ZERO, ..Limits::default() };
    limits(&mut bounds);
    let read = cluster.clone();
    let read = Box::new(move |object: AccessKey| {
        let read = read.clone();
        async move { read.read(&object) }.boxed()
    });
    let endpoint = Arc::new(Endpoint::new(files, read, bounds, clock.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(endpoint.clone().serve(listener));
    Setup { at, folder, authority, endpoint, cluster, clock }
}

impl Setup {
    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.at).await.expect("connected")
    }

    pub async fn tls(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        self.authority.client().connect(name, self.tcp().await).await
    }

    /// All that comes back for these bytes; the date is taken out.
    pub async fn bytes(&self, request: &[u8]) -> String {
        let mut tls = self.tls().await.expect("TLS");
        let mut answer = Vec::new();
        // It may hang up while it is spoken to.
        let _ = tls.write_all(request).await;
        let _ = tls.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        answer.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n")
    }

    pub async fn ask(&self, method: &str, path: &str, authorization: &str) -> String {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: names\r\n{authorization}\r\n");
        self.bytes(request.as_bytes()).await
    }

    pub async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let answer = self.ask("GET", path, &format!("Authorization: Bearer {token}\r\n")).await;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        (status, serde_json::from_str(answer.lines().last().unwrap_or_default()).unwrap_or_default())
    }

    /// As `kafka-external-access hosts --from` asks, with what stands in the folder.
    pub async fn machine(&self, token: &str, authority: &str) -> Result<Option<usize>, String> {
        let (token_file, ca_file) = (self.folder.join("machine.token"), self.folder.join("machine.ca"));
        fs::write(&token_file, token).expect("a file");
        fs::write(&ca_file, authority).expect("a file");
        let args = EndpointArgs {
            from: Some(format!("https://{}", self.at).parse().expect("a URL")),
            token_file: Some(token_file),
            ca_file: Some(ca_file),
        };
        let told = args.endpoint().expect("an endpoint").read(&key("ydata/kafka")).await?;
        Ok(told.map(|told| told.pairs.len()))
    }
}
