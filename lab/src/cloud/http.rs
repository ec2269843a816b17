use std::time::Duration;

use serde_json::Value;
use ureq::http::{Method, Request};

use crate::error::{Context, LabError, Result};
use crate::sandbox::Sandbox;

/// Calls the cloud's services, from inside the sandbox's network wherever the caller is.
#[derive(Clone, Debug)]
pub(super) struct Http {
    agent: ureq::Agent,
    sandbox: Option<Sandbox>,
}

/// An answer of the cloud that is a success.
pub(super) struct Reply {
    /// The body, `null` when there is none.
    pub body: Value,
    /// Keystone's header `X-Subject-Token`.
    pub subject_token: Option<String>,
}

impl Http {
    /// For a process that runs in the sandbox.
    pub fn here() -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(60)))
            // A restarted service does not know the connections of its predecessor.
            .max_idle_connections(0);
        Self { agent: config.build().into(), sandbox: None }
    }

    /// For a process of the machine.
    pub fn into(sandbox: &Sandbox) -> Self {
        Self { sandbox: Some(sandbox.clone()), ..Self::here() }
    }

    /// Calls once; nothing is repeated. A status of 400 or more is [`LabError::Api`].
    pub fn call(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let call = || self.exchange(method, url, token, body);
        match &self.sandbox {
            Some(sandbox) => sandbox.in_network(call),
            None => call(),
        }
    }

    fn exchange(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let line = format!("{method} {url}");
        let mut request = Request::builder().method(method).uri(url);
        if let Some(token) = token {
            request = request.header("X-Auth-Token", token);
        }
        let sent = match body {
            Some(body) => {
                let request = request.header("Content-Type", "application/json").body(body.to_string());
                request.map_err(std::io::Error::other).map(|request| self.agent.run(request))
            }
            None => request.body(()).map_err(std::io::Error::other).map(|request| self.agent.run(request)),
        };
        let reply = sent.and_then(|reply| reply.map_err(ureq::Error::into_io));
        let mut reply = reply.to(|| line.clone())?;
        let status = reply.status().as_u16();
        let subject_token = reply.headers().get("X-Subject-Token").and_then(|value| value.to_str().ok());
        let subject_token = subject_token.map(str::to_owned);
        let text = reply.body_mut().read_to_string().map_err(ureq::Error::into_io).to(|| line.clone())?;
        if status >= 400 {
            return Err(LabError::Api { request: line, status, body: text });
        }
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text)
                .map_err(std::io::Error::from)
                .to(|| format!("read the answer to {line}"))?
        };
        Ok(Reply { body, subject_token })
    }
}
