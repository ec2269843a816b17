//! Keystone v3: a token for one project, renewed in time, and the network service's endpoint from its catalogue.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use reqwest::{Method, Url};

use super::{
    clouds_yaml::{CloudConfig, endpoint},
    http::{Call, Effect, Http, Reply},
    refusals::Refusals,
    wire::{self, TokenBody, TokenFields},
};
use crate::{
    cloud::{CloudError, CloudFault},
    domain::ProjectId,
    kafka::SecretText,
    seams::Clock,
};

const OPERATION: &str = "log in to the cloud";
/// In characters, of the catalogue's words in a message.
const LONGEST_LIST: usize = 300;

/// A token and what it is good for.
#[derive(Clone, Debug)]
pub struct Token {
    pub secret: SecretText,
    pub project: ProjectId,
    /// Of the network service, with `/v2.0`, without a slash at the end.
    pub endpoint: Url,
    /// On the monotonic clock: four fifths of its life.
    renew_at: Duration,
}

/// Hands out tokens; one login at a time.
pub struct Keystone {
    config: CloudConfig,
    clock: Arc<dyn Clock>,
    held: tokio::sync::Mutex<Held>,
}

/// What the last logins gave.
#[derive(Default)]
struct Held {
    token: Option<Token>,
    refusals: Refusals,
}

impl Keystone {
    pub fn new(config: CloudConfig, clock: Arc<dyn Clock>) -> Self {
        Self { config, clock, held: tokio::sync::Mutex::default() }
    }

    /// A token that is good for a while. `refused`: not this one, the cloud has just refused it.
    pub async fn token(&self, http: &Http, refused: Option<&Token>) -> Result<Token, CloudError> {
        let mut held = self.held.lock().await;
        let now = self.clock.monotonic();
        let good = |token: &&Token| {
            now < token.renew_at && refused.is_none_or(|refused| refused.secret != token.secret)
        };
        if let Some(token) = held.token.as_ref().filter(good) {
            return Ok(token.clone());
        }
        held.refusals.hold(now)?;
        let login = self.login(http).await;
        held.refusals.take(&login, self.clock.monotonic());
        held.token = login.as_ref().ok().cloned();
        login
    }

    async fn login(&self, http: &Http) -> Result<Token, CloudError> {
        let mut url = self.config.auth_url.clone();
        url.set_path(&format!("{}/auth/tokens", url.path().trim_end_matches('/')));
        let body = wire::login(&self.config.identity);
        let call = Call {
            operation: OPERATION,
            effect: Effect::Login,
            method: Method::POST,
            url,
            body: Some(&body),
            token: None,
            if_match: None,
        };
        let asked_at = self.clock.monotonic();
        let reply = http.send(call).await.map_err(|error| CloudError {
            fault: match error.fault {
                // Not Keystone's own words: something else answers there.
                CloudFault::NotFound(text) if text.is_empty() => {
                    CloudFault::Configuration("no Identity API v3 answers at auth_url".to_owned())
                }
                // An unknown application credential is a 404 (seen on Keystone 30); a wrong secret is a 401.
                CloudFault::NotFound(text) => CloudFault::Unauthorized(text),
                other => other,
            },
            ..error
        })?;
        token_of(&self.config, &reply, asked_at, self.clock.now())
    }
}

/// The token of an answer to a login that was sent at `asked_at` of the monotonic clock.
pub fn token_of(
    config: &CloudConfig,
    reply: &Reply,
    asked_at: Duration,
    now: Timestamp,
) -> Result<Token, CloudError> {
    let bad = |text: &str| CloudError { operation: OPERATION, fault: CloudFault::BadReply(text.to_owned()) };
    let secret = reply.headers.get("X-Subject-Token").and_then(|value| value.to_str().ok());
    let secret = SecretText::new(secret.ok_or_else(|| bad("no X-Subject-Token"))?);
    let fields = reply.json::<TokenBody>(OPERATION)?.token;
    let project = fields.project.as_ref().map(|project| ProjectId::new(&project.id));
    let project = project.ok_or_else(|| configuration("the credential is not scoped to a project"))?;
    // Both by Keystone's clock, which need not be ours.
    let issued_at = fields.issued_at.unwrap_or(now);
    let life = Duration::try_from(fields.expires_at.duration_since(issued_at)).unwrap_or_default();
    let endpoint = network_endpoint(config, &fields)?;
    Ok(Token { secret, project, endpoint, renew_at: asked_at + life.mul_f64(0.8) })
}

/// The endpoint of the network service in the wanted region and interface; several left is an error, never the first
/// one.
fn network_endpoint(config: &CloudConfig, token: &TokenFields) -> Result<Url, CloudError> {
    let endpoints =
        token.catalog.iter().filter(|service| service.kind == "network").flat_map(|s| &s.endpoints);
    let of_interface: Vec<_> = endpoints.filter(|endpoint| endpoint.interface == config.interface).collect();
    let wanted = |region: &Option<String>| config.region.is_none() || *region == config.region;
    let found: Vec<_> = of_interface.iter().filter(|endpoint| wanted(&endpoint.region_id)).collect();
    let regions = || {
        let mut names: Vec<&str> = of_interface.iter().filter_map(|e| e.region_id.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ").chars().take(LONGEST_LIST).collect::<String>()
    };
    match found.as_slice() {
        [] if of_interface.is_empty() => Err(configuration(&format!(
            "the catalogue has no network service with interface {}",
            config.interface
        ))),
        [] => Err(configuration(&format!(
            "the catalogue has no network service in region {}; it has: {}",
            config.region.as_deref().unwrap_or_default(),
            regions()
        ))),
        [one] => as_protected(config, with_version(&one.url)?),
        _ => Err(configuration(&format!("set region_name to one of: {}", regions()))),
    }
}

/// The token goes there with every call: never less protected than the credential on its way to `auth_url`.
fn as_protected(config: &CloudConfig, endpoint: Url) -> Result<Url, CloudError> {
    if config.auth_url.scheme() == "https" && endpoint.scheme() != "https" {
        let text = "the catalogue's network endpoint is http although auth_url is https, so tokens would travel in plain text; correct the catalogue, or choose another interface";
        return Err(configuration(text));
    }
    Ok(endpoint)
}

fn configuration(text: &str) -> CloudError {
    CloudError { operation: OPERATION, fault: CloudFault::Configuration(text.to_owned()) }
}

/// Catalogues have the endpoint with and without `/v2.0`.
fn with_version(url: &str) -> Result<Url, CloudError> {
    endpoint(url, "/v2.0")
        .ok_or_else(|| configuration("the catalogue's network endpoint is not an http or https URL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_appended_unless_it_is_there() {
        for url in ["http://net:9696", "http://net:9696/", "http://net:9696/v2.0", "http://net:9696/v2.0/"] {
            assert_eq!(with_version(url).expect("a URL").as_str(), "http://net:9696/v2.0");
        }
        for url in ["http://", "http:///", "http://net:9696?a=b", "http://net:9696#a", "net:9696"] {
            assert!(with_version(url).is_err(), "{url}");
        }
    }
}
