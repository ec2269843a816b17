//! How much of its bandwidth a listener uses: counters of brokers become rates.
//!
//! | readings of one broker | then |
//! |---|---|
//! | the first, or the first of another pod, or a counter that went back | nothing is known yet |
//! | two or more | the mean between the oldest of the window and the newest |
//! | a rate whose step (1, 2, 5, 10, ... Mbit/s) differs from the one shown | shown once a window has passed since the last change |
//! | a mean over a whole window of at least 80 % of the limit | near the limit |
//! | none for two windows | nothing is shown any more |
//! | one that failed | `MetricsUnreadable` until the next that succeeds |

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::{Problem, desired::Desired, observed::Metering};
use crate::{
    api::{BrokerBandwidth, conditions::Reason},
    domain::{Ordinal, Uid},
    kafka::traffic::{Traffic, TrafficError},
};

/// Readings in a window.
const WINDOW: i32 = 5;
const NEAR: f64 = 0.8;

/// One reading of a broker's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// The pod: another one counts from zero.
    pub pod: Uid,
    /// Bytes.
    pub traffic: Traffic,
}

/// What is remembered of all brokers.
pub type Usage = BTreeMap<Ordinal, BrokerUsage>;

/// What is remembered of one broker.
#[derive(Clone, Debug, Default)]
pub struct BrokerUsage {
    samples: VecDeque<Sample>,
    shown: Option<(Steps, Timestamp)>,
    unread: Option<TrafficError>,
}

/// Rates in Mbit/s, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Steps {
    egress: u32,
    ingress: u32,
}

/// Takes new readings in.
pub fn see(usage: &mut Usage, metering: &Metering, now: Timestamp) {
    let window = SignedDuration::try_from(metering.interval).unwrap_or_default() * WINDOW;
    for (ordinal, reading) in &metering.readings {
        let broker = usage.entry(*ordinal).or_default();
        broker.unread = reading.as_ref().err().cloned();
        if let Ok(sample) = reading {
            broker.take(sample, window);
        }
    }
    usage.retain(|ordinal, broker| {
        if broker.samples.back().is_none_or(|last| now.duration_since(last.at) >= window * 2) {
            (broker.samples, broker.shown) = (VecDeque::new(), None);
        }
        let asked = metering.readings.is_empty() || metering.readings.contains_key(ordinal);
        !broker.samples.is_empty() || (asked && broker.unread.is_some())
    });
}

/// The first broker whose counters could not be read: nothing waits for them.
pub(super) fn unread(usage: &Usage, desired: &Desired) -> Option<Problem> {
    desired.metrics.as_ref()?;
    let (ordinal, error) =
        usage.iter().find_map(|(ordinal, broker)| Some((ordinal, broker.unread.as_ref()?)))?;
    let text = format!("the use of bandwidth of {}-{ordinal} is not known: {error}", desired.stateful_set);
    Some(Problem::new(Reason::MetricsUnreadable, text))
}

/// The counters of each broker, as read last.
pub fn counters(usage: &Usage) -> BTreeMap<Ordinal, Traffic> {
    let last = |(ordinal, broker): (&Ordinal, &BrokerUsage)| Some((*ordinal, broker.samples.back()?.traffic));
    usage.iter().filter_map(last).collect()
}

/// What a broker's status says, beside its limits.
pub fn told(usage: &Usage, ordinal: Ordinal, limits: Option<BrokerBandwidth>) -> Option<BrokerBandwidth> {
    let Some(broker) = usage.get(&ordinal) else { return limits };
    let Some((steps, _)) = broker.shown else { return limits };
    let limits = limits.unwrap_or_default();
    Some(BrokerBandwidth {
        egress_mbps: Some(steps.egress),
        ingress_mbps: Some(steps.ingress),
        source: Some("metrics".to_owned()),
        near_limit: broker.near(&limits).then_some(true),
        ..limits
    })
}

/// The sum over all brokers, for a column: `50 Mbit/s`.
pub fn column(rates: impl Iterator<Item = Option<u32>>) -> Option<String> {
    let known: Vec<u32> = rates.flatten().collect();
    match known.iter().sum::<u32>() {
        _ if known.is_empty() => None,
        0 => Some("<1 Mbit/s".to_owned()),
        sum => Some(format!("{sum} Mbit/s")),
    }
}

impl BrokerUsage {
    fn take(&mut self, sample: &Sample, window: SignedDuration) {
        let goes_on = self.samples.back().is_some_and(|last| {
            last.pod == sample.pod
                && last.at < sample.at
                && last.traffic.sent <= sample.traffic.sent
                && last.traffic.received <= sample.traffic.received
        });
        if !goes_on {
            self.samples.clear();
        }
        self.samples.push_back(sample.clone());
        // The oldest that is kept is at least a window old, so that a full window can be told from a part of one.
        while self.samples.get(1).is_some_and(|second| sample.at.duration_since(second.at) >= window) {
            self.samples.pop_front();
        }
        let Some((egress, ingress)) = self.rates() else { return };
        let steps = Steps { egress: step(egress), ingress: step(ingress) };
        let stands = self
            .shown
            .is_some_and(|(shown, since)| shown == steps || sample.at.duration_since(since) < window);
        if !stands {
            self.shown = Some((steps, sample.at));
        }
    }

    /// Mbit/s from the broker and towards it, since the oldest reading.
    fn rates(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let seconds = last.at.duration_since(first.at).as_secs_f64();
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 * 8.0 / 1e6 / seconds;
        (seconds > 0.0).then(|| {
            (rate(first.traffic.sent, last.traffic.sent), rate(first.traffic.received, last.traffic.received))
        })
    }

    fn near(&self, limits: &BrokerBandwidth) -> bool {
        let whole = self.samples.len() > usize::try_from(WINDOW).unwrap_or_default();
        let near = |rate: f64, limit: Option<u32>| limit.is_some_and(|limit| rate >= NEAR * f64::from(limit));
        self.rates().is_some_and(|(egress, ingress)| {
            whole && (near(egress, limits.limit_egress_mbps) || near(ingress, limits.limit_ingress_mbps))
        })
    }
}

/// The nearest of 1, 2, 5, 10, 20, 50, ... on a logarithmic scale; 0 below one half.
fn step(mbps: f64) -> u32 {
    if mbps < 0.5 {
        return 0;
    }
    let steps = (0..7).flat_map(|power| [1, 2, 5].map(|digit: u32| digit * 10_u32.pow(power)));
    let distance = |step: u32| (mbps.ln() - f64::from(step).ln()).abs();
    steps.min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Story {
        usage: Usage,
        at: Timestamp,
        sent: u64,
        limit: Option<u32>,
    }

    impl Story {
        fn new(limit: Option<u32>) -> Self {
            Self { usage: Usage::new(), at: Timestamp::UNIX_EPOCH, sent: 0, limit }
        }

        /// A minute at this rate in the broker's life.
        fn minute(&mut self, mbps: u64, pod: &str) -> Option<BrokerBandwidth> {
            self.at += MINUTE;
            self.sent += mbps * 60 * 1_000_000 / 8;
            let sample =
                Sample { at: self.at, pod: Uid::new(pod), traffic: Traffic { sent: self.sent, received: 0 } };
            let readings = BTreeMap::from([(Ordinal(0), Ok(sample))]);
            see(&mut self.usage, &Metering { interval: MINUTE, readings }, self.at);
            let limits = self.limit.map(|limit| BrokerBandwidth {
                limit_egress_mbps: Some(limit),
                ..BrokerBandwidth::default()
            });
            told(&self.usage, Ordinal(0), limits)
        }

        fn egress(&mut self, mbps: u64, pod: &str) -> Option<u32> {
            self.minute(mbps, pod).and_then(|told| told.egress_mbps)
        }
    }

    #[test]
    fn two_readings_make_a_rate_and_another_pod_starts_anew() {
        let mut story = Story::new(None);
        assert_eq!(story.egress(48, "a"), None);
        assert_eq!(story.egress(48, "a"), Some(50));
        story.sent = 0;
        assert_eq!(story.egress(90, "b"), Some(50), "shown until something else is known");
        assert_eq!(story.usage[&Ordinal(0)].samples.len(), 1);
    }

    #[test]
    fn what_is_shown_moves_once_in_a_window_at_most() {
        let mut story = Story::new(None);
        let told: Vec<Option<u32>> =
            [0, 10, 100, 100, 100, 100, 100, 100].map(|rate| story.egress(rate, "a")).to_vec();
        let changes = told.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(changes, 2, "{told:?}");
        assert_eq!(told.last(), Some(&Some(100)));
    }

    #[test]
    fn near_the_limit_is_told_after_a_whole_window_and_ends() {
        let mut story = Story::new(Some(100));
        let near: Vec<bool> =
            (0..7).map(|_| story.minute(85, "a").is_some_and(|told| told.near_limit == Some(true))).collect();
        assert_eq!(near, [false, false, false, false, false, true, true]);
        let after: Vec<bool> =
            (0..3).map(|_| story.minute(10, "a").is_some_and(|told| told.near_limit == Some(true))).collect();
        assert_eq!(after, [false; 3]);
    }

    #[test]
    fn a_broker_that_shows_nothing_for_two_windows_is_forgotten() {
        let mut story = Story::new(None);
        story.minute(10, "a");
        story.minute(10, "a");
        let silent = Metering { interval: MINUTE, readings: BTreeMap::new() };
        see(&mut story.usage, &silent, story.at + MINUTE * 11);
        assert!(story.usage.is_empty());
    }

    #[test]
    fn a_reading_that_failed_is_remembered_until_the_next() {
        let mut usage = Usage::new();
        let failed = TrafficError::TooMuch;
        let metering = |readings| Metering { interval: MINUTE, readings };
        see(&mut usage, &metering(BTreeMap::from([(Ordinal(0), Err(failed))])), Timestamp::UNIX_EPOCH);
        see(&mut usage, &metering(BTreeMap::new()), Timestamp::UNIX_EPOCH);
        assert!(usage[&Ordinal(0)].unread.is_some(), "a look between two readings knows of it");
        let sample = Sample { at: Timestamp::UNIX_EPOCH, pod: Uid::new("a"), traffic: Traffic::default() };
        see(&mut usage, &metering(BTreeMap::from([(Ordinal(0), Ok(sample))])), Timestamp::UNIX_EPOCH);
        assert!(usage[&Ordinal(0)].unread.is_none());
    }

    #[test]
    fn steps_are_one_two_five() {
        let told: Vec<u32> = [0.2, 0.6, 1.4, 1.5, 3.0, 3.3, 7.0, 7.2, 14.0, 15.0, 999.0].map(step).to_vec();
        assert_eq!(told, [0, 1, 1, 2, 2, 5, 5, 10, 10, 20, 1000]);
    }

    #[test]
    fn the_column_says_the_sum_of_what_is_known() {
        assert_eq!(column([None, None].into_iter()), None);
        assert_eq!(column([Some(0), Some(0)].into_iter()).as_deref(), Some("<1 Mbit/s"));
        assert_eq!(column([Some(20), None, Some(50)].into_iter()).as_deref(), Some("70 Mbit/s"));
    }
}
