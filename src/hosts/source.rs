//! Whom a machine asks for the names: the API server, or the operator's endpoint.

use std::time::Duration;

use kube::Api;

use super::{endpoint::Endpoint, told::Told};
use crate::{
    api::KafkaExternalAccess,
    domain::{AccessKey, innermost},
    seams::Clock,
};

/// Limit for one reading.
const READING: Duration = Duration::from_secs(10);

/// Whom it asks.
pub enum Source {
    /// With the rights of a kubeconfig.
    ApiServer(Api<KafkaExternalAccess>),
    /// With a token.
    Operator(Endpoint),
}

/// Why nothing was told.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No answer, or a refusal.
    #[error("{0} does not tell: {1}")]
    Unread(&'static str, String),
    /// There is an answer, and there is no such object.
    #[error("there is no KafkaExternalAccess {0}")]
    NoObject(AccessKey),
}

impl Source {
    /// The names of the object's brokers, read now.
    pub async fn read(&self, object: &AccessKey, clock: &dyn Clock) -> Result<Told, SourceError> {
        let asked = async {
            match self {
                Self::ApiServer(objects) => from_api_server(objects, &object.name).await,
                Self::Operator(endpoint) => endpoint.read(object).await,
            }
        };
        let told = tokio::select! {
            told = asked => told,
            () = clock.sleep(READING) => Err(format!("no answer within {} s", READING.as_secs())),
        };
        told.map_err(|why| SourceError::Unread(self.name(), why))?
            .ok_or_else(|| SourceError::NoObject(object.clone()))
    }

    /// As it is called in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ApiServer(_) => "the API server",
            Self::Operator(_) => "the operator",
        }
    }
}

async fn from_api_server(objects: &Api<KafkaExternalAccess>, name: &str) -> Result<Option<Told>, String> {
    match objects.get_opt(name).await {
        Ok(object) => Ok(object.map(|object| Told::of(&object.status.unwrap_or_default(), Duration::ZERO))),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => Err(innermost(&error)),
    }
}
