//! Time and randomness of the machine.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use crate::seams::{Clock, Random};

/// The machine's clocks.
#[derive(Debug, Default)]
pub struct SystemClock {}

/// The clock that goes on while the machine sleeps, as a lease does (clock_gettime(2)); `Instant` stands still on Linux.
#[cfg(target_os = "linux")]
const MONOTONIC: ClockId = ClockId::CLOCK_BOOTTIME;
/// Elsewhere this one goes on.
#[cfg(not(target_os = "linux"))]
const MONOTONIC: ClockId = ClockId::CLOCK_MONOTONIC;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        // It fails for clocks that do not exist; then every lease is over.
        clock_gettime(MONOTONIC).map_or(Duration::MAX, Duration::from)
    }

    async fn sleep(&self, period: Duration) {
        tokio::time::sleep(period).await;
    }
}

/// The machine's randomness.
#[derive(Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fraction(&self) -> f64 {
        rand::random()
    }
}
