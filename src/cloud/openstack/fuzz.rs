//! What the parsers of a credential and of a cloud's replies promise of any bytes (`src/fuzzing.rs`).

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderValue},
};
use serde_json::from_slice;

use super::{
    auth::token_of,
    clouds_yaml::{self, CloudConfig, ConfigProblem, Identity},
    http::{Reply, refusal},
    wire::{
        self, One, Page, WireFloatingIp, WireNetwork, WirePort, WireQosPolicy, WireQuotas, WireRouter,
        WireRule,
    },
};
use crate::{
    cloud::{CloudFault, Credential, FloatingIp, IngressRule, Port, Quota, limits::QosPolicy},
    domain::Marker,
};

/// Longest message about what a cloud has said, in characters: its own words, and ours.
const LONGEST: usize = 1000;
const CANARY: &str = "canary-7f3a9c51";

/// `clouds.yaml` of a Secret: what is served leads to an HTTP server and nowhere else, and a text that is not YAML is not
/// quoted.
pub fn clouds_yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match clouds_yaml::parse(&credential(text)) {
        Ok(config) => {
            leads_to_a_server(&config.auth_url);
            assert!(config.auth_url.path().ends_with("/v3"), "{}", config.auth_url);
            assert!(["public", "internal", "admin"].contains(&config.interface.as_str()));
            let body = wire::login(&config.identity);
            let by_password = matches!(config.identity, Identity::Password { .. });
            assert_eq!(body["auth"]["scope"].is_object(), by_password, "a credential carries its project");
        }
        Err(ConfigProblem::NotYaml(place)) => {
            let fixed = place.starts_with("it is not the expected structure");
            let (line, column) =
                place.strip_prefix("line ").and_then(|rest| rest.split_once(", column ")).unwrap_or_default();
            let number = |text: &str| text.parse::<u64>().is_ok();
            assert!(fixed || number(line) && number(column), "{place}");
        }
        Err(_) => {}
    }
}

/// The answer to a login, its token in the first line: the endpoint of the catalogue is never less protected than
/// `auth_url`, and nothing is taken for a token that cannot be sent.
pub fn login(bytes: &[u8]) {
    let (secret, body) = first_line(bytes);
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(secret) {
        headers.insert("X-Subject-Token", value);
    }
    let reply = Reply { headers, body: body.to_vec() };
    for (scheme, region) in [("https", None), ("http", Some("RegionOne".to_owned()))] {
        let config = CloudConfig { region, ..config(scheme) };
        let hour = Duration::from_secs(3600);
        match token_of(&config, &reply, hour, Timestamp::UNIX_EPOCH) {
            Ok(token) => {
                leads_to_a_server(&token.endpoint);
                assert!(token.endpoint.path().ends_with("/v2.0"), "{}", token.endpoint);
                assert!(scheme == "http" || token.endpoint.scheme() == "https", "{}", token.endpoint);
                assert!(HeaderValue::from_str(token.secret.reveal()).is_ok());
            }
            Err(error) => assert!(error.to_string().chars().count() <= LONGEST, "{error}"),
        }
    }
}

/// A reply of Neutron, read as each kind of object it could be; the ports and rules that were in it.
pub fn replies(bytes: &[u8]) -> (Vec<Port>, Vec<IngressRule>) {
    let addresses = from_slice::<Page<WireFloatingIp>>(bytes).map(|page| page.items).unwrap_or_default();
    let one = from_slice::<One<WireFloatingIp>>(bytes).map(|one| one.floatingip);
    for address in addresses.into_iter().chain(one.ok()).map(FloatingIp::from) {
        let marker = Marker::parse(&address.description);
        assert!(marker.is_none_or(|marker| marker.to_string() == address.description));
    }
    if let Ok(quotas) = from_slice::<WireQuotas>(bytes) {
        let (used, reserved) = (quotas.quota.floatingip.used, quotas.quota.floatingip.reserved);
        let quota = Quota::from(quotas.quota.floatingip);
        assert!(quota.used >= used && quota.used >= reserved, "{quota:?}");
    }
    let policies = from_slice::<Page<WireQosPolicy>>(bytes).map(|page| page.items).unwrap_or_default();
    policies.into_iter().map(QosPolicy::from).for_each(drop);
    let _ = from_slice::<Page<WireNetwork>>(bytes);
    let _ = from_slice::<One<WireNetwork>>(bytes);
    let _ = from_slice::<Page<WireRouter>>(bytes);
    let mut ports = from_slice::<Page<WirePort>>(bytes).map(|page| page.items).unwrap_or_default();
    ports.extend(from_slice::<One<WirePort>>(bytes).map(|one| one.floatingip));
    let rules = from_slice::<Page<WireRule>>(bytes).map(|page| page.items).unwrap_or_default();
    (ports.into_iter().map(Port::from).collect(), rules.into_iter().map(IngressRule::from).collect())
}

/// A refusal: its status and `Retry-After` in the first line. No secret is shown, nothing long is said, and no silence is
/// kept for more than an hour.
pub fn refusals(bytes: &[u8]) {
    let (head, body) = first_line(bytes);
    let head = String::from_utf8_lossy(head);
    let (status, after) = head.split_once(' ').unwrap_or((&head, ""));
    let Some(status) = status.parse().ok().and_then(|status| StatusCode::from_u16(status).ok()) else {
        return;
    };
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(after) {
        headers.insert("Retry-After", value);
    }
    for mutates in [false, true] {
        let fault = refusal(status, &headers, body, mutates, &[CANARY, "token-e2e5"]);
        let text = format!("{fault} {fault:?}");
        assert!(!text.contains(CANARY) && !text.contains("token-e2e5"), "{text}");
        assert!(fault.to_string().chars().count() <= LONGEST, "{fault}");
        if let CloudFault::RateLimited { retry_after: Some(after) } = fault {
            assert!(after <= Duration::from_secs(3600), "{after:?}");
        }
        assert!(mutates || !matches!(fault, CloudFault::Unclear(_)), "a read is never unclear");
    }
}

/// Certificates of authorities in a Secret's `cacert`.
pub fn authorities(pem: &str) {
    if let Ok(certificates) = reqwest::Certificate::from_pem_bundle(pem.as_bytes()) {
        assert!(certificates.len() <= pem.matches("-----BEGIN").count());
    }
}

fn leads_to_a_server(url: &reqwest::Url) {
    assert!(["http", "https"].contains(&url.scheme()) && url.has_host(), "{url}");
    assert!(url.username().is_empty() && url.password().is_none(), "{url}");
    assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
}

fn credential(clouds_yaml: &str) -> Credential {
    Credential {
        namespace: "n".to_owned(),
        secret: "s".to_owned(),
        version: "1".to_owned(),
        cloud_name: "dev".to_owned(),
        clouds_yaml: clouds_yaml.to_owned(),
        cacert: None,
    }
}

fn config(scheme: &str) -> CloudConfig {
    let text = format!(
        "clouds: {{dev: {{auth: {{auth_url: '{scheme}://cloud:5000', username: u, password: p, project_name: p}}}}}}"
    );
    clouds_yaml::parse(&credential(&text)).expect("a good credential")
}

/// The first line, and what follows it.
fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}
