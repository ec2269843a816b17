//! One bounded HTTP exchange: rate limit, time limit, size limit, and the classes of failure.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    Method, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::Instrument;

use super::{clouds_yaml::CloudConfig, wire::ErrorBody};
use crate::{
    cloud::{CloudError, CloudFault},
    domain::innermost,
    kafka::SecretText,
    reach::{NotCalled, Reach},
    seams::{Clock, WritePermit},
};

/// In characters, of the cloud's words in a message.
const LONGEST_MESSAGE: usize = 300;
const LARGEST_REPLY: usize = 8 * 1024 * 1024;
const RATE_PER_SECOND: f64 = 20.0;
const BURST: f64 = 40.0;
/// Shorter than the keep-alive of common servers (Apache httpd: 5 s), so that a connection is hardly ever closed by the
/// server in the moment it is used again.
const IDLE_CONNECTION: Duration = Duration::from_secs(4);
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

/// What a call does to the cloud, and so what may be done when its answer is lost.
#[derive(Clone, Copy, Debug)]
pub enum Effect<'a> {
    /// Nothing: may be repeated.
    Read,
    /// A token more, which nobody counts: may be repeated.
    Login,
    /// A change. Not sent when the permit has ended by then: a login or the rate limit may come between.
    Write(&'a WritePermit),
}

/// A call to send.
pub struct Call<'a> {
    pub operation: &'static str,
    pub effect: Effect<'a>,
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

/// How long an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub read: Duration,
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { read: Duration::from_secs(30), write: Duration::from_secs(60) }
    }
}

/// Sends calls under one rate limit.
pub struct Http {
    client: reqwest::Client,
    reach: Arc<Reach>,
    /// Never shown, even where the cloud sends it back.
    secret: SecretText,
    limits: Limits,
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
        config: &CloudConfig,
        reach: Arc<Reach>,
        limits: Limits,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn CallObserver>,
    ) -> Result<Self, CloudError> {
        let configuration =
            |text: String| CloudError { operation: "open the cloud", fault: CloudFault::Configuration(text) };
        // No redirects: a credential goes to the host that the user named and to no other.
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(Resolver(reach.clone())))
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(IDLE_CONNECTION)
            .no_proxy()
            .user_agent(concat!("kafka-external-access/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = &config.ca_pem {
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
        let secret = config.identity.secret().clone();
        Ok(Self { client, reach, secret, limits, clock, observer, bucket })
    }

    /// Sends, and repeats what changes nothing once when its connection breaks.
    ///
    /// # Errors
    /// [`CloudFault::RateLimited`] without a call while the cloud wants to be left alone.
    pub async fn send(&self, call: Call<'_>) -> Result<Reply, CloudError> {
        let span = tracing::info_span!("cloud", operation = call.operation, method = %call.method);
        self.send_in_turn(call).instrument(span).await
    }

    async fn send_in_turn(&self, call: Call<'_>) -> Result<Reply, CloudError> {
        let operation = call.operation;
        let error = |fault| CloudError { operation, fault };
        self.may_call(&call.url).map_err(|refused| error(CloudFault::Configuration(refused.to_string())))?;
        self.wait_for_turn().await.map_err(error)?;
        if let Effect::Write(permit) = call.effect
            && !permit.holds()
        {
            return Err(error(CloudFault::Unavailable("the way to the cloud took too long".to_owned())));
        }
        let start = self.clock.monotonic();
        let mut answer = self.exchange(&call).await;
        if answer.result.is_err() && answer.broken && !matches!(call.effect, Effect::Write(_)) {
            answer = self.exchange(&call).await;
        }
        let took = self.clock.monotonic() - start;
        let outcome = outcome_of(&answer.result);
        let Answer { status, request, .. } = &answer;
        let (method, path) = (&call.method, call.url.path());
        tracing::debug!(%method, path, status, request, ?outcome, ms = took.as_millis(), "cloud call");
        self.observer.called(operation, outcome, took);
        answer.result.map_err(error)
    }

    async fn exchange(&self, call: &Call<'_>) -> Answer {
        let writes = matches!(call.effect, Effect::Write(_));
        let unanswered = |error: reqwest::Error| {
            if let Some(refused) = not_called(&error) {
                return Answer {
                    result: Err(CloudFault::Configuration(refused.to_string())),
                    ..Answer::default()
                };
            }
            let text = in_words(&error);
            let sent = !error.is_connect() && !error.is_builder();
            let fault =
                if writes && sent { CloudFault::Unclear(text) } else { CloudFault::Unavailable(text) };
            Answer { result: Err(fault), broken: !error.is_timeout(), ..Answer::default() }
        };
        let request = match self.request(call) {
            Ok(request) => request,
            Err(fault) => return Answer { result: Err(fault), ..Answer::default() },
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return unanswered(error),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = match bounded(response).await {
            Ok(body) => body,
            Err(Body::Broken(error)) => return unanswered(error),
            Err(Body::TooLarge) => {
                let text = format!("larger than {} MiB", LARGEST_REPLY >> 20);
                let fault = if writes { CloudFault::Unclear(text) } else { CloudFault::BadReply(text) };
                return Answer { result: Err(fault), ..Answer::default() };
            }
        };
        let hidden = [self.secret.reveal(), call.token.map_or("", SecretText::reveal)];
        let request = headers.get("x-openstack-request-id").and_then(|id| id.to_str().ok());
        let request = request.map(|id| without(id, &hidden));
        let result = if status.is_success() {
            Ok(Reply { headers, body })
        } else {
            let fault = refusal(status, &headers, &body, writes, &hidden);
            if let CloudFault::RateLimited { retry_after } = &fault {
                let pause = retry_after.unwrap_or(DEFAULT_PAUSE);
                self.lock().closed_until = self.clock.monotonic() + pause;
            }
            Err(fault)
        };
        Answer { result, status: Some(status.as_u16()), request, broken: false }
    }

    fn request(&self, call: &Call<'_>) -> Result<reqwest::RequestBuilder, CloudFault> {
        let limit = if matches!(call.effect, Effect::Read) { self.limits.read } else { self.limits.write };
        let mut request = self.client.request(call.method.clone(), call.url.clone()).timeout(limit);
        if let Some(token) = call.token {
            let mut value = reqwest::header::HeaderValue::from_str(token.reveal())
                .map_err(|_| CloudFault::BadReply("the token is not a header value".to_owned()))?;
            value.set_sensitive(true);
            request = request.header("X-Auth-Token", value);
        }
        if let Some(revision) = call.if_match {
            request = request.header("If-Match", format!("revision_number={revision}"));
        }
        Ok(match call.body {
            Some(body) => request.json(body),
            None => request,
        })
    }

    /// A host that is an address is not resolved, so it is judged here.
    fn may_call(&self, url: &Url) -> Result<(), NotCalled> {
        match url.host() {
            Some(url::Host::Ipv4(ip)) => self.reach.may_call(&ip.to_string(), ip.into()),
            Some(url::Host::Ipv6(ip)) => self.reach.may_call(&ip.to_string(), ip.into()),
            Some(url::Host::Domain(_)) | None => Ok(()),
        }
    }

    async fn wait_for_turn(&self) -> Result<(), CloudFault> {
        loop {
            let turn = self.lock().take(self.clock.monotonic());
            match turn {
                Turn::Now => return Ok(()),
                Turn::In(wait) => self.clock.sleep(wait).await,
                Turn::Closed(rest) => return Err(CloudFault::RateLimited { retry_after: Some(rest) }),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves names to addresses that may be called.
struct Resolver(Arc<Reach>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0.clone();
        Box::pin(async move {
            let found = reach.resolve(name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The refusal of [`Resolver`] behind a failed call.
fn not_called(error: &reqwest::Error) -> Option<NotCalled> {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let io = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(refused) = io.and_then(|error| error.downcast_ref::<NotCalled>()) {
            return Some(refused.clone());
        }
        cause = inner.source();
    }
    None
}

/// The text without what must not be shown.
fn without(text: &str, hidden: &[&str]) -> String {
    let secrets = hidden.iter().filter(|secret| !secret.is_empty());
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "(secret)"))
}

/// Whether a call may be sent.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Now,
    In(Duration),
    /// The cloud has asked for fewer calls.
    Closed(Duration),
}

impl Bucket {
    /// Takes a token where there is one.
    fn take(&mut self, now: Duration) -> Turn {
        if now < self.closed_until {
            return Turn::Closed(self.closed_until - now);
        }
        let since = now.saturating_sub(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + since * RATE_PER_SECOND).min(BURST);
        self.filled_at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Turn::Now;
        }
        Turn::In(Duration::from_secs_f64((1.0 - self.tokens) / RATE_PER_SECOND))
    }
}

/// What came of one exchange.
struct Answer {
    result: Result<Reply, CloudFault>,
    status: Option<u16>,
    /// The cloud's own name of the request, to be found in its logs.
    request: Option<String>,
    /// The connection ended before the answer did.
    broken: bool,
}

impl Default for Answer {
    fn default() -> Self {
        let result = Err(CloudFault::Unavailable(String::new()));
        Self { result, status: None, request: None, broken: false }
    }
}

fn outcome_of(result: &Result<Reply, CloudFault>) -> CallOutcome {
    match result {
        Ok(_) => CallOutcome::Ok,
        Err(CloudFault::Unavailable(_) | CloudFault::Unclear(_) | CloudFault::BadReply(_)) => {
            CallOutcome::Failed
        }
        Err(_) => CallOutcome::Refused,
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

fn in_words(error: &reqwest::Error) -> String {
    let text = if error.is_timeout() { "no answer in time".to_owned() } else { innermost(error) };
    text.chars().take(LONGEST_MESSAGE).collect()
}

/// The fault behind a status and `NeutronError.type`, in the cloud's words without those that are `hidden`.
pub fn refusal(
    status: StatusCode,
    headers: &reqwest::header::HeaderMap,
    body: &[u8],
    mutates: bool,
    hidden: &[&str],
) -> CloudFault {
    let (kind, message) = ErrorBody::read(body);
    let message: String = without(&message, hidden).chars().take(LONGEST_MESSAGE).collect();
    match (status.as_u16(), kind.as_str()) {
        (401, _) => CloudFault::Unauthorized(message),
        (403, _) => CloudFault::Forbidden(message),
        (404, "ExternalGatewayForFloatingIPNotFound") => CloudFault::NoRouter(message),
        // Not "it does not exist" but "the policy hides it", which a Neutron that is just starting says of everything
        // (seen on Neutron 29): no proof that something is gone.
        (404, "HTTPNotFound") => CloudFault::Unavailable(message),
        (404, _) => CloudFault::NotFound(message),
        (409, "OverQuota") => CloudFault::QuotaExceeded(message),
        (409, "IpAddressGenerationFailure") => CloudFault::PoolEmpty(message),
        (409, "FloatingIPPortAlreadyAssociated") => CloudFault::PortAlreadyBound(message),
        (409, "FipInUseByPortForwarding") => CloudFault::InUseByPortForwarding(message),
        (409, "QosPolicyInUse") => CloudFault::QosPolicyInUse(message),
        (409, "QoSRulesConflict") | (412, _) => CloudFault::RevisionChanged,
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
    fn only_a_resources_own_404_says_that_it_is_gone() {
        let fault = |kind: &str| {
            let body = format!(r#"{{"NeutronError": {{"type": "{kind}", "message": "m", "detail": ""}}}}"#);
            refusal(StatusCode::NOT_FOUND, &reqwest::header::HeaderMap::new(), body.as_bytes(), false, &[])
        };
        assert_eq!(fault("FloatingIPNotFound"), CloudFault::NotFound("m".into()));
        assert_eq!(fault("HTTPNotFound"), CloudFault::Unavailable("m".into()));
    }

    #[test]
    fn a_secret_that_the_cloud_sends_back_is_not_shown_and_not_cut_in_half() {
        let body =
            format!(r#"{{"error": {{"message": "{}hunter2hunter2"}}}}"#, "x".repeat(LONGEST_MESSAGE - 7));
        let headers = reqwest::header::HeaderMap::new();
        let fault =
            refusal(StatusCode::UNAUTHORIZED, &headers, body.as_bytes(), false, &["", "hunter2hunter2"]);
        assert!(!format!("{fault:?}").contains("hunter"), "{fault:?}");
    }

    #[test]
    fn the_bucket_lets_a_burst_through_and_then_the_rate() {
        let mut bucket = Bucket { tokens: BURST, filled_at: Duration::ZERO, closed_until: Duration::ZERO };
        for _ in 0..40 {
            assert_eq!(bucket.take(Duration::ZERO), Turn::Now);
        }
        assert_eq!(bucket.take(Duration::ZERO), Turn::In(Duration::from_millis(50)));
        assert_eq!(bucket.take(Duration::from_millis(50)), Turn::Now);
        bucket.closed_until = Duration::from_secs(9);
        assert_eq!(bucket.take(Duration::from_secs(4)), Turn::Closed(Duration::from_secs(5)));
        assert_eq!(bucket.take(Duration::from_secs(9)), Turn::Now);
    }
}
