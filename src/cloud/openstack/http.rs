//! One bounded HTTP exchange: rate limit, time limit, size limit, and the classes of failure.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::wire::ErrorBody;
use crate::{
    cloud::{CloudError, CloudFault},
    kafka::SecretText,
    seams::Clock,
};

const LARGEST_REPLY: usize = 8 * 1024 * 1024;
const READ_LIMIT: Duration = Duration::from_secs(30);
const WRITE_LIMIT: Duration = Duration::from_secs(60);
const RATE_PER_SECOND: f64 = 20.0;
const BURST: f64 = 40.0;
/// Wait after a 429 that does not say how long.
const DEFAULT_PAUSE: Duration = Duration::from_secs(30);

/// Told about every call, for metrics.
pub trait CallObserver: Send + Sync {
    /// A call ended.
    fn called(&self, operation: &'static str, outcome: CallOutcome, took: Duration);
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CallOutcome {
    /// 2xx.
    Ok,
    /// 4xx.
    Refused,
    /// 5xx, no answer, or an answer that cannot be read.
    Failed,
}

/// A call to send.
pub struct Call<'a> {
    pub operation: &'static str,
    pub method: Method,
    pub url: Url,
    pub body: Option<&'a Value>,
    pub token: Option<&'a SecretText>,
    pub if_match: Option<u64>,
}

/// An answer that is not an error.
pub struct Reply {
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json<T: DeserializeOwned>(&self, operation: &'static str) -> Result<T, CloudError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // Category and place only: the text of the error may quote the reply.
            let text =
                format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column());
            CloudError { operation, fault: CloudFault::BadReply(text) }
        })
    }
}

/// Sends calls under one rate limit.
pub struct Http {
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn CallObserver>,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    tokens: f64,
    filled_at: Duration,
    closed_until: Duration,
}

impl Http {
    pub fn new(
        ca_pem: Option<&str>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn CallObserver>,
    ) -> Result<Self, CloudError> {
        let configuration =
            |text: String| CloudError { operation: "open the cloud", fault: CloudFault::Configuration(text) };
        // No redirects: a credential goes to the host that the user named and to no other.
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .no_proxy()
            .user_agent(concat!("kafka-external-access/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = ca_pem {
            let unreadable = |_| configuration("the Secret's key cacert holds no PEM certificate".to_owned());
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes()).map_err(unreadable)?;
            if certificates.is_empty() {
                return Err(configuration("the Secret's key cacert holds no PEM certificate".to_owned()));
            }
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let client = builder.build().map_err(|error| configuration(error.to_string()))?;
        let filled_at = clock.monotonic();
        let bucket = Mutex::new(Bucket { tokens: BURST, filled_at, closed_until: Duration::ZERO });
        Ok(Self { client, clock, observer, bucket })
    }

    /// Sends once. Nothing is repeated here.
    pub async fn send(&self, call: Call<'_>) -> Result<Reply, CloudError> {
        self.wait_for_turn().await;
        let (operation, method, path) = (call.operation, call.method.clone(), call.url.path().to_owned());
        let start = self.clock.monotonic();
        let result = self.exchange(call).await;
        let took = self.clock.monotonic() - start;
        let outcome = match &result {
            Ok(_) => CallOutcome::Ok,
            Err(CloudFault::Unavailable(_) | CloudFault::Unclear(_) | CloudFault::BadReply(_)) => {
                CallOutcome::Failed
            }
            Err(_) => CallOutcome::Refused,
        };
        tracing::debug!(%method, path, ?outcome, ms = took.as_millis(), "cloud call");
        self.observer.called(operation, outcome, took);
        result.map_err(|fault| CloudError { operation, fault })
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Reply, CloudFault> {
        let reads = call.method == Method::GET;
        // A token request changes nothing that is counted: it may be repeated.
        let mutates = !reads && !call.url.path().ends_with("/auth/tokens");
        let mut request = self.client.request(call.method, call.url);
        request = request.timeout(if reads { READ_LIMIT } else { WRITE_LIMIT });
        if let Some(token) = call.token {
            let mut value = reqwest::header::HeaderValue::from_str(token.reveal())
                .map_err(|_| CloudFault::BadReply("the token is not a header value".to_owned()))?;
            value.set_sensitive(true);
            request = request.header("X-Auth-Token", value);
        }
        if let Some(revision) = call.if_match {
            request = request.header("If-Match", format!("revision_number={revision}"));
        }
        if let Some(body) = call.body {
            request = request.json(body);
        }
        let unanswered = |error: reqwest::Error| {
            let text = in_words(&error);
            if mutates && !error.is_connect() && !error.is_builder() {
                CloudFault::Unclear(text)
            } else {
                CloudFault::Unavailable(text)
            }
        };
        let response = request.send().await.map_err(unanswered)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = bounded(response).await.map_err(|fault| match fault {
            Body::Broken(error) => unanswered(error),
            Body::TooLarge => CloudFault::BadReply(format!("larger than {} MiB", LARGEST_REPLY >> 20)),
        })?;
        if status.is_success() {
            return Ok(Reply { headers, body });
        }
        let fault = refusal(status, &headers, &body, mutates);
        if let CloudFault::RateLimited { retry_after } = &fault {
            let pause = retry_after.unwrap_or(DEFAULT_PAUSE);
            self.lock().closed_until = self.clock.monotonic() + pause;
        }
        Err(fault)
    }

    async fn wait_for_turn(&self) {
        loop {
            let wait = self.lock().take(self.clock.monotonic());
            match wait {
                None => return,
                Some(wait) => self.clock.sleep(wait).await,
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    /// Takes a token, or says how long to wait for one.
    fn take(&mut self, now: Duration) -> Option<Duration> {
        if now < self.closed_until {
            return Some(self.closed_until - now);
        }
        let since = now.saturating_sub(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + since * RATE_PER_SECOND).min(BURST);
        self.filled_at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return None;
        }
        Some(Duration::from_secs_f64((1.0 - self.tokens) / RATE_PER_SECOND))
    }
}

enum Body {
    Broken(reqwest::Error),
    TooLarge,
}

async fn bounded(mut response: reqwest::Response) -> Result<Vec<u8>, Body> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Body::Broken)? {
        if body.len() + chunk.len() > LARGEST_REPLY {
            return Err(Body::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost cause says what happened; the outer ones repeat the URL.
fn in_words(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() };
    text.chars().take(300).collect()
}

/// The fault behind a status and `NeutronError.type`.
pub fn refusal(
    status: StatusCode,
    headers: &reqwest::header::HeaderMap,
    body: &[u8],
    mutates: bool,
) -> CloudFault {
    let (kind, message) = ErrorBody::read(body);
    match (status.as_u16(), kind.as_str()) {
        (401, _) => CloudFault::Unauthorized(message),
        (403, _) => CloudFault::Forbidden(message),
        (404, "ExternalGatewayForFloatingIPNotFound") => CloudFault::NoRouter(message),
        (404, _) => CloudFault::NotFound(message),
        (409, "OverQuota") => CloudFault::QuotaExceeded(message),
        (409, "IpAddressGenerationFailure") => CloudFault::PoolEmpty(message),
        (409, "FloatingIPPortAlreadyAssociated") => CloudFault::PortAlreadyBound(message),
        (409, "FipInUseByPortForwarding") => CloudFault::InUseByPortForwarding(message),
        (412, _) => CloudFault::RevisionChanged,
        (429, _) => CloudFault::RateLimited { retry_after: retry_after(headers) },
        (500.., _) if mutates => CloudFault::Unclear(format!("status {status} {message}")),
        (500.., _) => CloudFault::Unavailable(format!("status {status} {message}")),
        (300..=399, _) => CloudFault::Refused(format!("status {status}: redirects are not followed")),
        _ => CloudFault::Refused(format!("status {status} {message}")),
    }
}

fn retry_after(headers: &reqwest::header::HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get("Retry-After")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(3600)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_lets_a_burst_through_and_then_the_rate() {
        let mut bucket = Bucket { tokens: BURST, filled_at: Duration::ZERO, closed_until: Duration::ZERO };
        for _ in 0..40 {
            assert_eq!(bucket.take(Duration::ZERO), None);
        }
        assert_eq!(bucket.take(Duration::ZERO), Some(Duration::from_millis(50)));
        assert_eq!(bucket.take(Duration::from_millis(50)), None);
        bucket.closed_until = Duration::from_secs(9);
        assert_eq!(bucket.take(Duration::from_secs(4)), Some(Duration::from_secs(5)));
    }
}
