//! The brokers' names over HTTPS, for machines that have no way to the API server: `GET
//! /v1/namespaces/NAMESPACE/kafkaexternalaccesses/NAME/hosts`.
//!
//! | presented | the object | answer |
//! |---|---|---|
//! | no token, or none of the named object's | exists or not | 401, always the same |
//! | one of its tokens | exists | 200, the pairs and how old they are |
//! | one of its tokens | exists, the API server is away | 200 with a greater age; 503 where nothing is known |
//! | one of its tokens | does not exist | 404 |
//!
//! One request a connection, bounded in size and in time from the first byte to the last. Certificate, key and tokens are
//! read again every few seconds.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    http::{HeaderMap, Method, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use clap::Args;
use futures::FutureExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::aws_lc_rs},
};

use crate::{hosts::told, kubernetes::Kubernetes, seams::Clock};

#[cfg(test)]
mod hostile;
pub mod names;
#[cfg(test)]
mod stage;
pub mod tokens;

use names::{Answer, Names, Read};
use tokens::Tokens;

/// Serve the brokers' names to machines
#[derive(Args, Clone, Debug, Default)]
pub struct HostsEndpointArgs {
    /// Serve the brokers' names at this address over HTTPS, for example 0.0.0.0:8443. Default: nowhere
    #[arg(
        long,
        env = "KEA_HOSTS_LISTEN",
        requires_all = ["hosts_certificate", "hosts_key", "hosts_tokens"]
    )]
    pub hosts_listen: Option<SocketAddr>,
    /// PEM file with its certificate and those between it and the authority; read again when it changes
    #[arg(long, env = "KEA_HOSTS_CERTIFICATE", requires = "hosts_listen")]
    pub hosts_certificate: Option<PathBuf>,
    /// PEM file with its key; read again when it changes
    #[arg(long, env = "KEA_HOSTS_KEY", requires = "hosts_listen")]
    pub hosts_key: Option<PathBuf>,
    /// Folder with a file NAMESPACE.NAME for each object that has tokens, one a line; read again when it changes
    #[arg(long, env = "KEA_HOSTS_TOKENS", requires = "hosts_listen")]
    pub hosts_tokens: Option<PathBuf>,
}

/// Bounds of what one who has no token can cost.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at the same time.
    connections: usize,
    /// A connection, from the first byte to the last.
    connection: Duration,
    /// Line and headers of a request, in bytes. A body is not read.
    head: usize,
    /// How long the API server may take, and how long its answer is given again.
    reading: Duration,
    fresh: Duration,
    /// Between two looks at the files.
    look: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            connection: Duration::from_secs(10),
            head: 16 * 1024,
            reading: Duration::from_secs(5),
            fresh: Duration::from_secs(2),
            look: Duration::from_secs(5),
        }
    }
}

/// Where certificate, key and tokens are.
#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    tokens: PathBuf,
}

/// What the files held when they were read last.
#[derive(Default)]
struct Papers {
    /// The last that could be used.
    tls: Option<Arc<ServerConfig>>,
    tokens: Arc<Tokens>,
    /// Told already.
    problems: Vec<String>,
}

/// Answers machines.
pub struct Endpoint {
    files: Files,
    names: Names,
    limits: Limits,
    clock: Arc<dyn Clock>,
    papers: Mutex<Papers>,
}

/// Serves until the process ends, where the arguments say so. Nothing else of the operator depends on it.
pub fn start(args: &HostsEndpointArgs, kubernetes: Arc<dyn Kubernetes>, clock: Arc<dyn Clock>) {
    let (Some(at), Some(certificate), Some(key), Some(tokens)) =
        (args.hosts_listen, &args.hosts_certificate, &args.hosts_key, &args.hosts_tokens)
    else {
        return;
    };
    let files = Files { certificate: certificate.clone(), key: key.clone(), tokens: tokens.clone() };
    let read: Read = Box::new(move |object| {
        let kubernetes = kubernetes.clone();
        async move { kubernetes.access(&object).await }.boxed()
    });
    let endpoint = Arc::new(Endpoint::new(files, read, Limits::default(), clock));
    tokio::spawn(async move {
        match TcpListener::bind(at).await {
            Ok(listener) => endpoint.serve(listener).await,
            Err(error) => tracing::error!(%at, %error, "the brokers' names are not served"),
        }
    });
}

impl Endpoint {
    fn new(files: Files, read: Read, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let names = Names::new(read, clock.clone(), limits.fresh, limits.reading);
        let endpoint = Self { files, names, limits, clock, papers: Mutex::default() };
        endpoint.look();
        endpoint
    }

    /// Reads the files. A certificate that cannot be used leaves the one of before in place.
    fn look(&self) {
        let (tokens, mut problems) = Tokens::read(&self.files.tokens);
        let tls = server_config(&self.files.certificate, &self.files.key);
        let mut papers = self.lock();
        papers.tokens = Arc::new(tokens);
        match tls {
            Ok(tls) => papers.tls = Some(Arc::new(tls)),
            Err(problem) => problems.push(problem),
        }
        for problem in problems.iter().filter(|problem| !papers.problems.contains(problem)) {
            tracing::warn!(%problem, "a file of the endpoint for names cannot be used");
        }
        papers.problems = problems;
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        let looks = async {
            loop {
                self.clock.sleep(self.limits.look).await;
                self.look();
            }
        };
        tokio::select! { () = self.clone().accept(listener) => {} () = looks => {} }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let free = Arc::new(Semaphore::new(self.limits.connections));
        // It is never closed.
        while let Ok(place) = free.clone().acquire_owned().await {
            let Ok((tcp, peer)) = listener.accept().await else {
                // No file descriptor is free, for example.
                self.clock.sleep(Duration::from_secs(1)).await;
                continue;
            };
            let endpoint = self.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = endpoint.clone().converse(tcp, peer) => {}
                    () = endpoint.clock.sleep(endpoint.limits.connection) => {}
                }
                drop(place);
            });
        }
    }

    async fn converse(self: Arc<Self>, tcp: TcpStream, peer: SocketAddr) {
        let Some(config) = self.lock().tls.clone() else { return };
        let tls = match TlsAcceptor::from(config).accept(tcp).await {
            Ok(tls) => tls,
            Err(error) => return tracing::debug!(%peer, %error, "no TLS"),
        };
        let answer = service_fn(|request: Request<Incoming>| {
            let endpoint = self.clone();
            async move { Ok::<_, Infallible>(endpoint.answer(&request, peer).await) }
        });
        let mut http = http1::Builder::new();
        http.keep_alive(false).max_buf_size(self.limits.head);
        if let Err(error) = http.serve_connection(TokioIo::new(tls), answer).await {
            tracing::debug!(%peer, %error, "a request could not be answered");
        }
    }

    /// The table above.
    async fn answer(&self, request: &Request<Incoming>, peer: SocketAddr) -> Response {
        let tokens = self.lock().tokens.clone();
        let object = told::object_of(request.uri().path())
            .filter(|object| bearer(request.headers()).is_some_and(|token| tokens.open(object, token)));
        let Some(object) = object else {
            tracing::debug!(%peer, "refused");
            return json(
                StatusCode::UNAUTHORIZED,
                r#"{"error":"a token of the object is needed"}"#.to_owned(),
            );
        };
        if request.method() != Method::GET {
            return json(StatusCode::METHOD_NOT_ALLOWED, r#"{"error":"only GET"}"#.to_owned());
        }
        match self.names.of(&object).await {
            Answer::Names(told) => match serde_json::to_string(&told) {
                Ok(text) => json(StatusCode::OK, text),
                Err(_) => json(StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":"no JSON"}"#.to_owned()),
            },
            Answer::Missing => {
                json(StatusCode::NOT_FOUND, r#"{"error":"the object does not exist"}"#.to_owned())
            }
            Answer::Unknown => json(
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"error":"the API server does not tell"}"#.to_owned(),
            ),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 6750 section 2.1.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn json(status: StatusCode, mut text: String) -> Response {
    text.push('\n');
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    response
}

fn server_config(certificate: &Path, key: &Path) -> Result<ServerConfig, String> {
    let wrong = |file: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let read = |file: &Path| std::fs::read(file).map_err(|error| wrong(file, &error));
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(certificate, &error))?;
    // What is wrong with a key is not told in detail: the text could have a part of it.
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| wrong(key, &"it holds no private key in PEM"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|error| wrong(certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
