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
//! | one of the kubelet | the pod's, so more than what the address carries: never near its limit, and nothing that is paid for |

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

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
    /// Of what.
    pub source: Source,
}

/// Whose bytes are counted, in the words of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "camelCase")]
pub enum Source {
    /// The listener's, by the broker.
    Metrics,
    /// The pod's, by the kubelet.
    PodEgress,
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

fn window(interval: Duration) -> SignedDuration {
    SignedDuration::try_from(interval).unwrap_or_default() * WINDOW
}

/// Takes new readings in.
pub fn see(usage: &mut Usage, metering: &Metering, now: Timestamp) {
    let window = window(metering.interval);
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
pub fn counters(usage: &Usage) -> BTreeMap<Ordinal, (Source, Traffic)> {
    let last = |broker: &BrokerUsage| broker.samples.back().map(|last| (last.source, last.traffic));
    usage.iter().filter_map(|(ordinal, broker)| Some((*ordinal, last(broker)?))).collect()
}

/// What a broker's status says, beside its limits.
pub fn told(
    usage: &Usage,
    ordinal: Ordinal,
    limits: Option<BrokerBandwidth>,
    interval: Duration,
) -> Option<BrokerBandwidth> {
    let Some(broker) = usage.get(&ordinal) else { return limits };
    let (Some((steps, _)), Some(last)) = (broker.shown, broker.samples.back()) else { return limits };
    let limits = limits.unwrap_or_default();
    Some(BrokerBandwidth {
        egress_mbps: Some(steps.egress),
        ingress_mbps: Some(steps.ingress),
        source: Some(last.source.to_string()),
        window: Some(format!("{:#}", window(interval))),
        near_limit: broker.near(&limits, window(interval)).then_some(true),
        ..limits
    })
}

/// The sum over all brokers, for a column: `50 Mbit/s`, or `50 Mbit/s (pods)`.
pub fn column<'a>(
    brokers: impl Iterator<Item = &'a BrokerBandwidth>,
    rate: fn(&BrokerBandwidth) -> Option<u32>,
) -> Option<String> {
    let known: Vec<(u32, bool)> = brokers.filter_map(|told| Some((rate(told)?, of_pod(told)))).collect();
    let whose = if known.iter().any(|(_, of_pod)| *of_pod) { " (pods)" } else { "" };
    match known.iter().map(|(rate, _)| rate).sum::<u32>() {
        _ if known.is_empty() => None,
        0 => Some(format!("<1 Mbit/s{whose}")),
        sum => Some(format!("{sum} Mbit/s{whose}")),
    }
}

/// What is told is the traffic of the pod, not of the listener.
pub(super) fn of_pod(told: &BrokerBandwidth) -> bool {
    told.source.as_ref() == Some(&Source::PodEgress.to_string())
}

impl BrokerUsage {
    fn take(&mut self, sample: &Sample, window: SignedDuration) {
        // A kubelet looks when it likes.
        if self.samples.back().is_some_and(|last| last.pod == sample.pod && last.at == sample.at) {
            return;
        }
        let goes_on = self.samples.back().is_some_and(|last| {
            (&last.pod, last.source) == (&sample.pod, sample.source)
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

    fn near(&self, limits: &BrokerBandwidth, window: SignedDuration) -> bool {
        let listener = self.samples.back().is_some_and(|last| last.source == Source::Metrics);
        let both = self.samples.front().zip(self.samples.back());
        let whole = listener && both.is_some_and(|(first, last)| last.at.duration_since(first.at) >= window);
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
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Story {
        usage: Usage,
        at: Timestamp,
        sent: u64,
        limit: Option<u32>,
        source: Source,
    }

    impl Story {
        fn new(limit: Option<u32>) -> Self {
            let source = Source::Metrics;
            Self { usage: Usage::new(), at: Timestamp::UNIX_EPOCH, sent: 0, limit, source }
        }

        /// A minute at this rate in the broker's life.
        fn minute(&mut self, mbps: u64, pod: &str) -> Option<BrokerBandwidth> {
            self.at += MINUTE;
            self.sent += mbps * 60 * 1_000_000 / 8;
            let traffic = Traffic { sent: self.sent, received: 0 };
            let sample = Sample { at: self.at, pod: Uid::new(pod), traffic, source: self.source };
            let readings = BTreeMap::from([(Ordinal(0), Ok(sample))]);
            see(&mut self.usage, &Metering { interval: MINUTE, due_in: MINUTE, readings }, self.at);
            let limits = self.limit.map(|limit| BrokerBandwidth {
                limit_egress_mbps: Some(limit),
                ..BrokerBandwidth::default()
            });
            told(&self.usage, Ordinal(0), limits, MINUTE)
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
    fn readings_that_do_not_continue_one_another_make_no_rate() {
        let sample = |at: i64, pod: &str, sent: u64, received: u64, source: Source| Sample {
            at: Timestamp::from_second(at).expect("a time"),
            pod: Uid::new(pod),
            traffic: Traffic { sent, received },
            source,
        };
        let first = sample(60, "a", 10, 10, Source::Metrics);
        for (case, second, kept) in [
            ("it goes on", sample(61, "a", 10, 10, Source::Metrics), 2),
            ("another pod", sample(61, "b", 10, 10, Source::Metrics), 1),
            ("another source", sample(61, "a", 10, 10, Source::PodEgress), 1),
            ("an older look", sample(59, "a", 10, 10, Source::Metrics), 1),
            ("another pod in the same moment", sample(60, "b", 10, 10, Source::Metrics), 1),
            ("less sent", sample(61, "a", 9, 10, Source::Metrics), 1),
            ("less received", sample(61, "a", 10, 9, Source::Metrics), 1),
        ] {
            let mut usage = BrokerUsage::default();
            usage.take(&first, SignedDuration::from_mins(5));
            usage.take(&second, SignedDuration::from_mins(5));
            assert_eq!(usage.samples.len(), kept, "{case}");
            assert_eq!(usage.samples.back(), Some(&second), "{case}");
            let told = counters(&BTreeMap::from([(Ordinal(3), usage)]));
            assert_eq!(told, BTreeMap::from([(Ordinal(3), (second.source, second.traffic))]), "{case}");
        }
        assert_eq!(counters(&BTreeMap::from([(Ordinal(3), BrokerUsage::default())])), BTreeMap::new());
    }

    #[test]
    fn what_is_shown_stands_for_a_whole_window() {
        let mut story = Story::new(None);
        let told = [10, 10, 100, 100, 100, 100, 100].map(|rate| story.egress(rate, "a"));
        // Shown at the second reading, so the next may come at the seventh: five minutes later.
        assert_eq!(told[1..6], [Some(10); 5]);
        assert_eq!(told[6], Some(100));
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
    fn what_the_kubelet_counts_of_a_pod_is_never_near_the_limit_of_its_address() {
        let mut story = Story::new(Some(100));
        story.source = Source::PodEgress;
        for _ in 0..6 {
            story.minute(99, "a");
        }
        let told = story.minute(99, "a").expect("told");
        assert_eq!((told.source.as_deref(), told.egress_mbps), (Some("podEgress"), Some(100)));
        assert_eq!((told.window.as_deref(), told.near_limit), (Some("5m"), None));
    }

    #[test]
    fn a_look_of_the_kubelet_that_is_seen_twice_counts_once() {
        let mut story = Story::new(None);
        story.source = Source::PodEgress;
        story.minute(50, "a");
        story.minute(50, "a");
        let known = story.usage[&Ordinal(0)].samples.clone();
        story.at -= MINUTE;
        assert_eq!(story.egress(0, "a"), Some(50));
        assert_eq!(story.usage[&Ordinal(0)].samples, known);
    }

    #[test]
    fn a_broker_that_shows_nothing_for_two_windows_is_forgotten() {
        let mut story = Story::new(None);
        story.minute(10, "a");
        story.minute(10, "a");
        let silent = Metering { interval: MINUTE, due_in: MINUTE, readings: BTreeMap::new() };
        see(&mut story.usage, &silent, story.at + MINUTE * 9);
        assert_eq!(counters(&story.usage).len(), 1);
        see(&mut story.usage, &silent, story.at + MINUTE * 10);
        assert!(story.usage.is_empty());
    }

    #[test]
    fn a_reading_that_failed_is_remembered_until_the_next() {
        let mut usage = Usage::new();
        let failed = TrafficError::TooMuch;
        let metering = |readings| Metering { interval: MINUTE, due_in: MINUTE, readings };
        see(&mut usage, &metering(BTreeMap::from([(Ordinal(0), Err(failed))])), Timestamp::UNIX_EPOCH);
        see(&mut usage, &metering(BTreeMap::new()), Timestamp::UNIX_EPOCH);
        assert!(usage[&Ordinal(0)].unread.is_some(), "a look between two readings knows of it");
        let traffic = Traffic::default();
        let sample =
            Sample { at: Timestamp::UNIX_EPOCH, pod: Uid::new("a"), traffic, source: Source::Metrics };
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
        let column = |rates: &[Option<u32>], source: &str| {
            let told = |rate: &Option<u32>| BrokerBandwidth {
                egress_mbps: *rate,
                source: Some(source.to_owned()),
                ..BrokerBandwidth::default()
            };
            let told: Vec<_> = rates.iter().map(told).collect();
            super::column(told.iter(), |told| told.egress_mbps)
        };
        assert_eq!(column(&[None, None], "metrics"), None);
        assert_eq!(column(&[Some(0), Some(0)], "metrics").as_deref(), Some("<1 Mbit/s"));
        assert_eq!(column(&[Some(20), None, Some(50)], "metrics").as_deref(), Some("70 Mbit/s"));
        assert_eq!(column(&[Some(20)], "podEgress").as_deref(), Some("20 Mbit/s (pods)"));
    }
}
