//! Time, randomness and leadership as the product sees them. The simulation brings its own.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;

/// Time. Wall time is for people and for records; durations are measured on the monotonic clock.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// The wall clock as it would be had nobody set it since this process started: decisions that wait for a time rest on
    /// it, so that none comes too early, or never, because a clock was put right.
    fn steady(&self) -> Timestamp;
    /// Time since an arbitrary fixed moment; never goes back and counts while the machine is suspended.
    fn monotonic(&self) -> Duration;
    /// Returns after `period`.
    async fn sleep(&self, period: Duration);
}

/// Randomness, used for jitter only.
pub trait Random: Send + Sync {
    /// A number in `0.0..1.0`.
    fn fraction(&self) -> f64;
}

/// Proof that this process led at the moment the proof was made. Every call that changes something outside the
/// process takes one, so a write without a check of leadership does not compile.
pub struct WritePermit {
    /// On the monotonic clock; `None`: nobody else can lead.
    ends: Option<(Arc<dyn Clock>, Duration)>,
}

impl WritePermit {
    /// Good until this moment of the monotonic clock. For implementations of [`Leadership`] only.
    pub(crate) fn until(clock: Arc<dyn Clock>, ends: Duration) -> Self {
        Self { ends: Some((clock, ends)) }
    }

    /// True while the write may be sent. To be asked right before sending by who does something that takes time between
    /// taking the permit and using it: a login, a connection, a turn of a rate limit.
    pub fn holds(&self) -> bool {
        self.ends.as_ref().is_none_or(|(clock, ends)| clock.monotonic() < *ends)
    }
}

impl fmt::Debug for WritePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WritePermit").field(&self.ends.as_ref().map(|(_, ends)| ends)).finish()
    }
}

/// The right to write.
#[async_trait]
pub trait Leadership: Send + Sync {
    /// A permit for one write that is sent now. `None`: another replica may lead; write nothing.
    fn permit(&self) -> Option<WritePermit>;

    /// Since when this process leads without interruption, on its steady clock. Before that another one may have sent
    /// anything.
    fn since(&self) -> Timestamp;

    /// Returns when this process is about to end: what is begun is finished, and nothing is begun any more.
    async fn ending(&self) {
        std::future::pending().await
    }
}

/// Leads because nobody else can: tests against a simulated world.
#[derive(Debug)]
pub struct SoleReplica;

impl Leadership for SoleReplica {
    fn since(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn permit(&self) -> Option<WritePermit> {
        Some(WritePermit { ends: None })
    }
}
