//! What objects say, read from the API server when somebody asks.
//!
//! Not from the watch's cache: a watch that is silent and one that is cut look alike for minutes, so nobody could say how
//! old a cached object is. Read like this every replica gives the same answer, whether it leads or not. Many machines that
//! ask at the same time cost one reading.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;

use crate::{
    api::{KafkaExternalAccess, KafkaExternalAccessStatus},
    domain::AccessKey,
    hosts::told::Told,
    kubernetes::KubernetesError,
    seams::Clock,
};

/// Reads an object from the API server.
pub type Read = Box<
    dyn Fn(AccessKey) -> BoxFuture<'static, Result<Option<KafkaExternalAccess>, KubernetesError>>
        + Send
        + Sync,
>;

/// What is known of an object's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These, as of their age.
    Names(Told),
    /// The object does not exist.
    Missing,
    /// The API server did not tell, and nothing was known before.
    Unknown,
}

/// Reads, and remembers for a moment.
pub struct Names {
    read: Read,
    clock: Arc<dyn Clock>,
    /// How long an answer is given again.
    fresh: Duration,
    /// How long the API server may take.
    patience: Duration,
    /// Of objects that somebody was allowed to ask for, so their number is that of the tokens at most.
    slots: Mutex<BTreeMap<AccessKey, Arc<tokio::sync::Mutex<Slot>>>>,
}

#[derive(Default)]
struct Slot {
    /// When the API server was asked last, on the monotonic clock.
    asked: Option<Duration>,
    known: Known,
}

#[derive(Default)]
enum Known {
    #[default]
    Nothing,
    Missing,
    /// What was read, and when.
    Status(Box<KafkaExternalAccessStatus>, Duration),
}

impl Names {
    /// Nothing is read yet.
    pub fn new(read: Read, clock: Arc<dyn Clock>, fresh: Duration, patience: Duration) -> Self {
        Self { read, clock, fresh, patience, slots: Mutex::default() }
    }

    /// The names of the object's brokers. While the API server does not tell: those that were read last.
    pub async fn of(&self, object: &AccessKey) -> Answer {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(object.clone()).or_default().clone()
        };
        // Whoever comes while another asks takes what that one gets.
        let mut slot = slot.lock().await;
        let now = self.clock.monotonic();
        if slot.asked.is_none_or(|asked| now.saturating_sub(asked) >= self.fresh) {
            self.ask(object, &mut slot, now).await;
        }
        match &slot.known {
            Known::Nothing => Answer::Unknown,
            Known::Missing => Answer::Missing,
            Known::Status(status, at) => {
                let mut told = Told::of(status, self.clock.monotonic().saturating_sub(*at));
                // Whoever may write a status must not be able to send machines somewhere else.
                told.pairs.retain(|named| named.pair().is_ok());
                Answer::Names(told)
            }
        }
    }

    async fn ask(&self, object: &AccessKey, slot: &mut Slot, now: Duration) {
        let read = tokio::select! {
            read = (self.read)(object.clone()) => read.map_err(|error| error.to_string()),
            () = self.clock.sleep(self.patience) => Err("no answer in time".to_owned()),
        };
        match read {
            Ok(Some(read)) => slot.known = Known::Status(Box::new(read.status.unwrap_or_default()), now),
            Ok(None) => slot.known = Known::Missing,
            Err(error) => {
                tracing::warn!(%object, %error, "names are told as they were before");
                if matches!(slot.known, Known::Missing) {
                    slot.known = Known::Nothing;
                }
            }
        }
        slot.asked = Some(self.clock.monotonic());
    }
}
