//! A reverse proxy before Keystone and Neutron: counts calls by method and path, and plays a bad network.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};

/// One call that arrived, and what it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub method: Method,
    /// Path without the query.
    pub path: String,
    pub query: String,
    /// 0: no answer was given.
    pub status: u16,
    pub arrived: Instant,
    pub answered: Instant,
}

/// What the proxy does to a call instead of passing it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends before the cloud has seen the call.
    DropRequest,
    /// The cloud carries the call out; the answer is lost.
    DropReply,
    /// The cloud is asked after this time.
    Delay(Duration),
    /// This status, without asking the cloud.
    Answer(u16),
}

type Decide = dyn Fn(&Method, &str) -> Option<Fault> + Send + Sync;

#[derive(Clone)]
struct Inner {
    upstream: String,
    client: reqwest::Client,
    calls: Arc<Mutex<Vec<Call>>>,
    decide: Arc<Mutex<Box<Decide>>>,
}

/// A running proxy; ends when it is dropped.
pub struct Proxy {
    inner: Inner,
    server: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Listens at `at` and passes on to `upstream` (`http://host:port`).
    pub async fn start(at: SocketAddr, upstream: &str) -> Self {
        let inner = Inner {
            upstream: upstream.trim_end_matches('/').to_owned(),
            client: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .build()
                .expect("a client without settings that can fail"),
            calls: Arc::default(),
            decide: Arc::new(Mutex::new(Box::new(|_, _| None))),
        };
        let listener =
            tokio::net::TcpListener::bind(at).await.unwrap_or_else(|e| panic!("listen at {at}: {e}"));
        let app = Router::new().fallback(pass_on).with_state(inner.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("the proxy serves until it is dropped");
        });
        Self { inner, server }
    }

    /// Asks `decide` for every call from now on.
    pub fn faults(&self, decide: impl Fn(&Method, &str) -> Option<Fault> + Send + Sync + 'static) {
        *self.inner.decide.lock().expect("no test panics while it holds this lock") = Box::new(decide);
    }

    /// Passes everything on again.
    pub fn heal(&self) {
        self.faults(|_, _| None);
    }

    /// All calls so far, in order of arrival of their answers.
    pub fn calls(&self) -> Vec<Call> {
        self.inner.calls.lock().expect("no test panics while it holds this lock").clone()
    }

    /// How many calls with this method had a path that ends with `ending` (an identifier behind it counts too).
    pub fn count(&self, method: &Method, collection: &str) -> usize {
        self.calls().iter().filter(|call| call.method == *method && call.path.contains(collection)).count()
    }

    /// Calls that change something in the network service. Not one that was refused because the router had reported the
    /// address's status meanwhile, which is a change too (412).
    pub fn mutations(&self) -> Vec<Call> {
        let reads = [Method::GET, Method::HEAD];
        self.calls()
            .into_iter()
            .filter(|call| !reads.contains(&call.method) && !call.path.ends_with("/auth/tokens"))
            .filter(|call| call.status != 412)
            .collect()
    }

    /// How many reads waited for each other between the one that asked for `about` and the first change.
    pub fn sequential_reads_before_the_first_change(&self, about: &str) -> usize {
        let calls = self.calls();
        let change = calls.iter().find(|call| call.method == Method::PUT).expect("a change").arrived;
        let asked = calls.iter().filter(|call| call.query.contains(about)).map(|call| call.arrived).min();
        // What is read at the same time may arrive a little earlier.
        let from = asked.expect("a read") - Duration::from_millis(20);
        let mut reads: Vec<&Call> = calls
            .iter()
            .filter(|call| call.method == Method::GET && (from..change).contains(&call.arrived))
            .collect();
        reads.sort_by_key(|read| read.answered);
        let mut chain = Vec::new();
        for read in reads {
            if chain.last().is_none_or(|last: &&Call| last.answered <= read.arrived) {
                chain.push(read);
            }
        }
        chain.len()
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        self.inner.calls.lock().expect("no test panics while it holds this lock").clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass_on(
    State(inner): State<Inner>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let arrived = Instant::now();
    let fault = (inner.decide.lock().expect("no test panics while it holds this lock"))(&method, uri.path());
    let answer = match fault {
        Some(Fault::DropRequest) => None,
        Some(Fault::Answer(status)) => Some(StatusCode::from_u16(status).expect("a status").into_response()),
        Some(Fault::DropReply) => {
            forward(&inner, &method, &uri, headers, body).await;
            None
        }
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            forward(&inner, &method, &uri, headers, body).await
        }
        None => forward(&inner, &method, &uri, headers, body).await,
    };
    let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
    inner.calls.lock().expect("no test panics while it holds this lock").push(Call {
        method,
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        status,
        arrived,
        answered: Instant::now(),
    });
    // A body that fails after the head makes the server cut the connection: the client sees a broken reply.
    answer.unwrap_or_else(|| {
        let cut = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
        Response::builder()
            .header("content-length", "1000")
            .body(Body::from_stream(cut))
            .expect("a valid response")
    })
}

async fn forward(
    inner: &Inner,
    method: &Method,
    uri: &Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> Option<Response> {
    for hop in ["host", "connection", "content-length", "transfer-encoding"] {
        headers.remove(hop);
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = inner
        .client
        .request(method.clone(), format!("{}{path}", inner.upstream))
        .headers(headers)
        .body(body)
        .timeout(Duration::from_secs(200));
    let Ok(reply) = request.send().await else {
        return Some(StatusCode::BAD_GATEWAY.into_response());
    };
    let mut response = Response::builder().status(reply.status());
    for (name, value) in reply.headers() {
        if !["connection", "content-length", "transfer-encoding"].contains(&name.as_str()) {
            response = response.header(name, value);
        }
    }
    let body = reply.bytes().await.ok()?;
    Some(response.body(Body::from(body)).expect("a valid response"))
}
