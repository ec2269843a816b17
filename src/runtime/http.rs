//! `/healthz`, `/readyz` and `/metrics`.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, routing::get};

use crate::{controller::watches::Watches, report::metrics::Metrics, runtime::lease::LeaseHolder};

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// Caches that must be filled.
    pub watches: Arc<Watches>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Leadership, as a metric.
    pub lease: Arc<LeaseHolder>,
}

/// Serves until the process ends. An error: the address cannot be listened on.
pub async fn serve(at: SocketAddr, pages: Pages) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(at).await?;
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pages);
    axum::serve(listener, router).await
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
