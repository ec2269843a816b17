//! Carries a change of stored listener settings out, so that nothing stays stored unconfirmed.

use std::{net::Ipv4Addr, time::Duration};

use super::dynamic::{advertises_anywhere, take_back};
use crate::{
    domain::{Endpoint, NodeId},
    kafka::{BrokerView, Brokers, KafkaError, SettingChange, Target, Validate},
    seams::{Clock, Leadership},
};

/// How long a broker may take to open a listener that it has stored.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(250);

/// What is needed to reach the broker on both listeners.
pub struct Subject<'a> {
    /// Brokers.
    pub brokers: &'a dyn Brokers,
    /// Time.
    pub clock: &'a dyn Clock,
    /// The right to write.
    pub leadership: &'a dyn Leadership,
    /// The broker's id.
    pub node: NodeId,
    /// The internal listener of the broker, at its pod's address.
    pub internal: &'a Target,
}

/// Why a change did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The broker refused, or did not answer.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// Stored, not opened in time, and taken back.
    #[error(
        "the broker stored the listener but did not open it in time: {0}; the settings were removed again"
    )]
    NotApplied(String),
    /// The settings were removed, and what they said is still told.
    #[error("the listener's settings were removed, and yet {0}")]
    NotWithdrawn(String),
    /// Stored, not opened in time, and not taken back either.
    #[error(
        "the broker stored the listener but did not open it in time: {seen}; removing the settings failed as well: {error}; they may still be stored, see kafka-configs --entity-type brokers --describe"
    )]
    StillStored {
        /// What was seen last at the listener.
        seen: String,
        /// Why the settings could not be removed.
        error: KafkaError,
    },
    /// Another replica may lead.
    #[error("this replica does not lead")]
    NotLeading,
}

/// Stores the changes, after a dry run, and confirms that the broker answers on the listener at `external` as itself
/// and advertises `endpoint` there; otherwise the settings are removed at once.
pub async fn apply(
    subject: &Subject<'_>,
    external: &Target,
    endpoint: &Endpoint,
    changes: &[SettingChange],
) -> Result<(), ApplyError> {
    alter(subject, changes, Validate::Only).await?;
    let stored = alter(subject, changes, Validate::AndApply).await;
    let seen = match stored {
        Ok(()) => confirm(subject, external, endpoint).await,
        // No clear answer to the write: it may be stored. What can be confirmed stands, the rest is taken back.
        Err(ApplyError::Kafka(error)) if error.class() == crate::domain::ErrorClass::Transient => {
            confirm(subject, external, endpoint).await
        }
        Err(refused) => return Err(refused),
    };
    let Err(last) = seen else { return Ok(()) };
    Err(match alter(subject, &take_back(), Validate::AndApply).await {
        Err(ApplyError::Kafka(error)) => ApplyError::StillStored { seen: last, error },
        Err(other) => other,
        Ok(()) => ApplyError::NotApplied(last),
    })
}

/// Removes our settings and confirms by the broker's own view that nothing of `endpoint` is left; `None`: it stays,
/// because the broker's file says the same.
pub async fn remove(
    subject: &Subject<'_>,
    endpoint: Option<&Endpoint>,
    changes: &[SettingChange],
) -> Result<(), ApplyError> {
    alter(subject, changes, Validate::AndApply).await?;
    let Some(endpoint) = endpoint else { return Ok(()) };
    let gone = |view: &BrokerView| !advertises_anywhere(view, endpoint);
    until(subject, subject.internal, gone).await.map_err(ApplyError::NotWithdrawn)
}

async fn alter(
    subject: &Subject<'_>,
    changes: &[SettingChange],
    validate: Validate,
) -> Result<(), ApplyError> {
    let permit = subject.leadership.permit().ok_or(ApplyError::NotLeading)?;
    subject.brokers.alter(permit, subject.internal, subject.node, changes, validate).await?;
    if validate == Validate::AndApply {
        tracing::info!(node = %subject.node, at = %subject.internal.at, ?changes, "settings altered");
    }
    Ok(())
}

async fn confirm(subject: &Subject<'_>, external: &Target, endpoint: &Endpoint) -> Result<(), String> {
    let right =
        |view: &BrokerView| view.node == subject.node && view.advertised.get(&view.node) == Some(endpoint);
    until(subject, external, right).await
}

/// Looks until the view is as wanted; the error says what was seen last.
async fn until(
    subject: &Subject<'_>,
    at: &Target,
    right: impl Fn(&BrokerView) -> bool,
) -> Result<(), String> {
    let start = subject.clock.monotonic();
    loop {
        let last = match subject.brokers.describe(at).await {
            Ok(view) if right(&view) => return Ok(()),
            Ok(view) => match view.advertised.get(&view.node) {
                Some(endpoint) => format!("broker {} advertises {endpoint}", view.node),
                None => format!("broker {} is not registered there", view.node),
            },
            Err(error) => error.to_string(),
        };
        if subject.clock.monotonic().saturating_sub(start) >= CONFIRM_WITHIN {
            return Err(last);
        }
        subject.clock.sleep(POLL).await;
    }
}

/// The listener in the pod, before any address leads to it.
pub fn in_pod(internal: &Target, pod: Ipv4Addr, port: u16) -> Target {
    Target { at: (pod, port).into(), ..internal.clone() }
}
