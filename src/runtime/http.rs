//! `/healthz`, `/readyz`, `/metrics`, and `/log-level` for who is in the pod.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{ConnectInfo, DefaultBodyLimit, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};

use super::telemetry::{LogLevel, LogLevelError};
use crate::{controller::watches::Watches, report::metrics::Metrics, runtime::lease::LeaseHolder};

/// Longer than any filter that somebody writes, in bytes.
const LONGEST_FILTER: usize = 4096;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// Caches that must be filled.
    pub watches: Arc<Watches>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Leadership, as a metric.
    pub lease: Arc<LeaseHolder>,
    /// What is logged.
    pub log_level: LogLevel,
}

/// Serves until the process ends. An error: the address cannot be listened on.
pub async fn serve(at: SocketAddr, pages: Pages) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(at).await?;
    let router = Router::new()
        .merge(log_level(pages.log_level.clone()))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pages);
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn ready(State(pages): State<Pages>) -> (StatusCode, String) {
    match pages.watches.missing().as_slice() {
        [] => (StatusCode::OK, "ok\n".to_owned()),
        missing => (StatusCode::SERVICE_UNAVAILABLE, format!("not listed yet: {}\n", missing.join(", "))),
    }
}

async fn metrics(State(pages): State<Pages>) -> String {
    pages.metrics.leads(pages.lease.leads());
    pages.metrics.text()
}

/// `GET` shows the filter of the log, `PUT` sets it. The port is open to the whole cluster, so this one page is only for
/// peers on the loopback interface: who may forward a port to the pod, and what runs in it.
fn log_level<S: Clone + Send + Sync + 'static>(level: LogLevel) -> Router<S> {
    Router::new()
        .route("/log-level", get(show_level).put(set_level))
        .route_layer(DefaultBodyLimit::max(LONGEST_FILTER))
        .route_layer(middleware::from_fn(only_from_here))
        .with_state(level)
}

async fn only_from_here(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if is_here(peer.ip()) {
        return next.run(request).await;
    }
    // Not louder: anybody in the cluster may ask as often as he likes.
    tracing::debug!(%peer, "refused to show or set the log level");
    (StatusCode::FORBIDDEN, "only by way of kubectl port-forward\n").into_response()
}

/// Loopback, also where a socket for both families shows it as an IPv6 address.
fn is_here(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

async fn show_level(State(level): State<LogLevel>) -> Response {
    answer(level.show())
}

async fn set_level(State(level): State<LogLevel>, filter: String) -> Response {
    answer(level.set(&filter).and_then(|()| level.show()))
}

fn answer(result: Result<String, LogLevelError>) -> Response {
    let status = match &result {
        Ok(_) => StatusCode::OK,
        Err(LogLevelError::NotAFilter { .. }) => StatusCode::BAD_REQUEST,
        Err(LogLevelError::Gone(_)) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let text = result.unwrap_or_else(|error| error.to_string());
    (status, text + "\n").into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    use tracing_subscriber::EnvFilter;

    use super::*;

    async fn ask(router: &Router, peer: &str, method: &str, body: &str) -> (StatusCode, String) {
        let peer: SocketAddr = peer.parse().expect("an address");
        let request = Request::builder().method(method).uri("/log-level").extension(ConnectInfo(peer));
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let response = router.clone().oneshot(request).await.expect("it answers");
        let status = response.status();
        let text = to_bytes(response.into_body(), LONGEST_FILTER).await.expect("a text");
        (status, String::from_utf8_lossy(&text).into_owned())
    }

    #[tokio::test]
    async fn the_log_level_is_set_from_the_loopback_interface_only() {
        let (level, _keeps_it) = LogLevel::starting_as(EnvFilter::new("info"));
        let router = log_level(level);
        let debug = "kafka_external_access=debug,info";
        let here = ["127.0.0.1:40000", "[::1]:40000", "[::ffff:127.0.0.1]:40000"];
        for peer in ["10.128.0.7:40000", "[fd00::7]:40000", "[::ffff:10.128.0.7]:40000", "169.254.1.1:40000"]
        {
            for method in ["GET", "PUT"] {
                let (status, text) = ask(&router, peer, method, debug).await;
                assert_eq!(status, StatusCode::FORBIDDEN, "{peer}: {text}");
            }
            assert_eq!(
                ask(&router, here[0], "GET", "").await,
                (StatusCode::OK, "info\n".to_owned()),
                "{peer}"
            );
        }
        for peer in here {
            assert_eq!(ask(&router, peer, "PUT", "info").await.1, "info\n", "{peer}");
            assert_eq!(
                ask(&router, peer, "PUT", debug).await,
                (StatusCode::OK, format!("{debug}\n")),
                "{peer}"
            );
            assert_eq!(ask(&router, peer, "GET", "").await, (StatusCode::OK, format!("{debug}\n")), "{peer}");
        }
    }

    #[tokio::test]
    async fn nonsense_is_refused_and_changes_nothing() {
        let (level, _keeps_it) = LogLevel::starting_as(EnvFilter::new("info"));
        let router = log_level(level);
        let here = "127.0.0.1:40000";
        let long = "a=debug,".repeat(LONGEST_FILTER);
        for (method, body, wanted) in [
            ("PUT", "kafka_external_access=loud", StatusCode::BAD_REQUEST),
            ("PUT", "", StatusCode::BAD_REQUEST),
            ("PUT", &long, StatusCode::PAYLOAD_TOO_LARGE),
            ("POST", "debug", StatusCode::METHOD_NOT_ALLOWED),
            ("DELETE", "", StatusCode::METHOD_NOT_ALLOWED),
        ] {
            let (status, text) = ask(&router, here, method, body).await;
            assert_eq!(status, wanted, "{method} {text}");
        }
        assert_eq!(ask(&router, here, "GET", "").await.1, "info\n");
    }
}
