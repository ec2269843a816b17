//! Traces by OTLP over HTTP: one span for each reconcile, and below it one for each call and each write.
//!
//! They go to `OTEL_EXPORTER_OTLP_ENDPOINT`; the other variables of OpenTelemetry hold as well. Without the variable, or
//! without the feature `otlp`, nothing is collected.

use std::{error::Error, fmt, time::Duration};

use async_trait::async_trait;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::{Level, Subscriber};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// Of one batch of spans, until it is given up.
const PATIENCE: Duration = Duration::from_secs(10);
const NAME: &str = env!("CARGO_PKG_NAME");

/// Sends spans until the process ends.
#[derive(Clone, Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Where the environment names an endpoint, or at `endpoint`. Must be called within the runtime of tokio.
    ///
    /// # Errors
    /// The endpoint is no URL.
    pub fn to(endpoint: Option<&str>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()?;
        let mut exporter = SpanExporter::builder().with_http();
        if let Some(endpoint) = endpoint {
            exporter = exporter.with_endpoint(endpoint);
        }
        let exporter = exporter.with_http_client(Client { client, runtime: Handle::current() }).build()?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(NAME);
        }
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter);
        Ok(Self(provider.with_resource(resource.build()).build()))
    }

    /// What collects the spans of this program, and of no library.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let layer = tracing_opentelemetry::layer().with_tracer(self.0.tracer(NAME));
        let own = |target: &str| target.starts_with(env!("CARGO_CRATE_NAME"));
        layer.with_filter(filter_fn(move |of| own(of.target()) && *of.level() <= Level::INFO))
    }

    /// Sends what was collected, and collects no more.
    pub async fn end(self) {
        let ended = tokio::task::spawn_blocking(move || self.0.shutdown()).await;
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "traces were not sent");
        }
    }
}

/// The collector's thread is none of tokio's, so that calls are handed over.
#[derive(Clone)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = async move {
            let reply = client.execute(request.try_into()?).await?;
            // What a collector says beside its status is of no interest.
            let answer = Response::builder().status(reply.status());
            Ok::<_, HttpError>(answer.body(Bytes::new())?)
        };
        self.runtime.spawn(sent).await?
    }
}
