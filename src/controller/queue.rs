//! The work queue: at most one run per key, later additions coalesce, the earliest time wins, failures back off.
//!
//! A pure state machine on times that are handed in; [`WorkQueue`] is the thin shell that waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::seams::{Clock, Random};

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Keys, and when each is due.
#[derive(Debug)]
struct Schedule<K> {
    due: BTreeMap<K, Duration>,
    running: BTreeSet<K>,
    failures: BTreeMap<K, u32>,
    closed: bool,
}

impl<K: Ord + Clone> Schedule<K> {
    fn add(&mut self, key: K, at: Duration) {
        let due = self.due.entry(key).or_insert(at);
        *due = (*due).min(at);
    }

    /// The key that is due longest and does not run, or how long until one is.
    fn next(&mut self, now: Duration) -> Next<K> {
        let waiting = self.due.iter().filter(|(key, _)| !self.running.contains(*key));
        let Some((key, at)) = waiting.min_by_key(|(_, at)| **at).map(|(key, at)| (key.clone(), *at)) else {
            return Next::Nothing;
        };
        if at > now {
            return Next::In(at - now);
        }
        self.due.remove(&key);
        self.running.insert(key.clone());
        Next::Run(key)
    }

    fn done(&mut self, key: &K, outcome: &Outcome, now: Duration, fraction: f64) {
        self.running.remove(key);
        if outcome.failed {
            let failures = self.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            // What a plan that rests on a failure wants to see later counts for nothing.
            let wait = backoff(*failures, fraction);
            self.add(key.clone(), now + wait);
            return;
        }
        self.failures.remove(key);
        if let Some(wait) = outcome.look_again {
            self.add(key.clone(), now + wait);
        }
    }

    fn forget(&mut self, key: &K) {
        self.due.remove(key);
        self.failures.remove(key);
    }
}

/// Doubles from half a second to a minute, with up to a fifth more so that keys spread.
fn backoff(failures: u32, fraction: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)));
    doubled.min(LONGEST_BACKOFF).mul_f64(1.0 + 0.2 * fraction)
}

#[derive(Debug, PartialEq, Eq)]
enum Next<K> {
    Run(K),
    In(Duration),
    Nothing,
}

/// What a run says about the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Run again after this time although nothing happens; `None`: only when something happens.
    pub look_again: Option<Duration>,
    /// The run failed: back off.
    pub failed: bool,
}

/// The queue.
pub struct WorkQueue<K> {
    schedule: Mutex<Schedule<K>>,
    changed: Notify,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl<K: Ord + Clone + Hash + Send> WorkQueue<K> {
    /// An empty queue.
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let schedule = Schedule {
            due: BTreeMap::new(),
            running: BTreeSet::new(),
            failures: BTreeMap::new(),
            closed: false,
        };
        Self { schedule: Mutex::new(schedule), changed: Notify::new(), clock, random }
    }

    /// Something happened to `key`: run it as soon as possible. While it runs, once more afterwards.
    pub fn add(&self, key: K) {
        let now = self.clock.monotonic();
        self.lock().add(key, now);
        self.changed.notify_one();
    }

    /// The key is gone: no planned run, no memory of failures.
    pub fn forget(&self, key: &K) {
        self.lock().forget(key);
    }

    /// Hands out no more keys.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_waiters();
    }

    /// The next key that is due; `None` once the queue is closed. Each key taken must be given back to [`Self::done`].
    pub async fn take(&self) -> Option<K> {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Registered before the look: what happens between look and wait is not missed.
            changed.as_mut().enable();
            let next = {
                let mut schedule = self.lock();
                if schedule.closed {
                    return None;
                }
                schedule.next(self.clock.monotonic())
            };
            match next {
                Next::Run(key) => return Some(key),
                Next::In(wait) => {
                    // In a fixed order: the same schedule has the same run.
                    tokio::select! { biased; () = changed => {} () = self.clock.sleep(wait) => {} }
                }
                Next::Nothing => changed.await,
            }
        }
    }

    /// The run of `key` ended.
    pub fn done(&self, key: &K, outcome: &Outcome) {
        let (now, fraction) = (self.clock.monotonic(), self.random.fraction());
        self.lock().done(key, outcome, now, fraction);
        self.changed.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Schedule<K>> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn schedule() -> Schedule<&'static str> {
        Schedule { due: BTreeMap::new(), running: BTreeSet::new(), failures: BTreeMap::new(), closed: false }
    }

    #[test]
    fn a_key_runs_once_at_a_time_and_once_more_for_what_happened_meanwhile() {
        let mut s = schedule();
        s.add("a", seconds(1));
        s.add("a", seconds(1));
        assert_eq!(s.next(seconds(1)), Next::Run("a"));
        s.add("a", seconds(1));
        s.add("a", seconds(2));
        assert_eq!(s.next(seconds(2)), Next::Nothing);
        s.done(&"a", &Outcome::default(), seconds(2), 0.0);
        assert_eq!(s.next(seconds(2)), Next::Run("a"));
        s.done(&"a", &Outcome::default(), seconds(2), 0.0);
        assert_eq!(s.next(seconds(2)), Next::Nothing);
    }

    #[test]
    fn the_earliest_time_wins() {
        let mut s = schedule();
        s.add("a", seconds(30));
        s.add("a", seconds(10));
        s.add("a", seconds(20));
        assert_eq!(s.next(seconds(4)), Next::In(seconds(6)));
        assert_eq!(s.next(seconds(10)), Next::Run("a"));
    }

    #[test]
    fn failures_back_off_and_a_success_forgets_them() {
        let mut s = schedule();
        let failed = Outcome { look_again: Some(seconds(300)), failed: true };
        for (n, wait) in [(1, 500), (2, 1000), (3, 2000)] {
            s.add("a", Duration::ZERO);
            assert_eq!(s.next(Duration::ZERO), Next::Run("a"), "{n}");
            s.done(&"a", &failed, Duration::ZERO, 0.0);
            assert_eq!(s.next(Duration::ZERO), Next::In(Duration::from_millis(wait)));
        }
        s.add("a", Duration::ZERO);
        assert_eq!(s.next(Duration::ZERO), Next::Run("a"));
        s.done(&"a", &Outcome { look_again: Some(seconds(9)), failed: false }, Duration::ZERO, 0.0);
        assert_eq!(s.next(Duration::ZERO), Next::In(seconds(9)));
        assert_eq!(backoff(1, 0.0), FIRST_BACKOFF);
        assert_eq!(backoff(99, 0.0), LONGEST_BACKOFF);
    }

    #[test]
    fn a_key_that_runs_does_not_hold_up_others() {
        let mut s = schedule();
        s.add("a", Duration::ZERO);
        s.add("b", seconds(1));
        assert_eq!(s.next(seconds(1)), Next::Run("a"));
        assert_eq!(s.next(seconds(1)), Next::Run("b"));
    }
}
