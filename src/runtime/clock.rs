//! Time and randomness of the machine.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use crate::seams::{Clock, Random};

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    /// Wall and monotonic clock at the start.
    start: (Timestamp, Duration),
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: (Timestamp::now(), monotonic()) }
    }
}

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

    fn steady(&self) -> Timestamp {
        let (wall, start) = self.start;
        wall.checked_add(monotonic().saturating_sub(start)).unwrap_or(wall)
    }

    fn monotonic(&self) -> Duration {
        monotonic()
    }

    async fn sleep(&self, period: Duration) {
        tokio::time::sleep(period).await;
    }
}

fn monotonic() -> Duration {
    // It fails for clocks that do not exist; then every lease is over.
    clock_gettime(MONOTONIC).map_or(Duration::MAX, Duration::from)
}

/// The machine's randomness.
#[derive(Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fraction(&self) -> f64 {
        rand::random()
    }
}
