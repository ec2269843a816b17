//! How many bytes a listener has carried: from the broker's metrics endpoint (Prometheus text format 0.0.4), usually the
//! Prometheus JMX exporter, which shows `kafka.server:type=socket-server-metrics` (KIP-187) as one counter for each
//! listener and network thread.

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use crate::domain::innermost;

/// For one reading, connection included.
const LIMIT: Duration = Duration::from_secs(10);
/// A broker with thousands of partitions shows some ten MB.
const MOST_BYTES: usize = 64 << 20;
const LONGEST_LINE: usize = 64 << 10;

/// Where a broker's counters are, and what they are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// The pod's address and the endpoint's port.
    pub at: SocketAddr,
    /// Path of the endpoint, with its slash.
    pub path: String,
    /// Counter of bytes sent.
    pub sent: String,
    /// Counter of bytes received.
    pub received: String,
    /// The value of label `listener` that counts.
    pub listener: String,
}

/// Bytes since the broker started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the broker.
    pub sent: u64,
    /// Towards the broker.
    pub received: u64,
}

/// Why the counters are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrafficError {
    /// No answer.
    #[error("the metrics endpoint at {at} does not answer: {reason}")]
    NoAnswer {
        /// Where it was asked.
        at: SocketAddr,
        /// In the words of the network.
        reason: String,
    },
    /// An answer without metrics.
    #[error("the metrics endpoint at {at} answers with HTTP status {status}")]
    Status {
        /// Where it was asked.
        at: SocketAddr,
        /// HTTP status.
        status: u16,
    },
    /// The counters are not among the metrics.
    #[error("the metrics endpoint shows no {name} with label listener=\"{listener}\"")]
    NoCounter {
        /// The counter.
        name: String,
        /// The listener.
        listener: String,
    },
    /// The kubelet that counts the pod's bytes cannot be asked.
    #[error("the kubelet of node {node} cannot be asked: {reason}")]
    Kubelet {
        /// The node.
        node: String,
        /// In the words of the API server, and what to do.
        reason: String,
    },
    /// The kubelet answers, and does not count the pod's bytes.
    #[error(
        "the kubelet of node {node} shows no network counters of the pod: its container runtime does not report them"
    )]
    NotCounted {
        /// The node.
        node: String,
    },
    /// More than any broker shows.
    #[error("the metrics endpoint sends more than 64 MiB, or a line of more than 64 KiB")]
    TooMuch,
}

static HTTP: LazyLock<Result<reqwest::Client, String>> = LazyLock::new(|| {
    let client =
        reqwest::Client::builder().timeout(LIMIT).redirect(reqwest::redirect::Policy::none()).no_proxy();
    client.build().map_err(|error| error.to_string())
});

/// Reads the counters once. Follows no redirect and knows no proxy.
pub(super) async fn read(meter: &Meter) -> Result<Traffic, TrafficError> {
    let no_answer = |reason: String| TrafficError::NoAnswer { at: meter.at, reason };
    let http = HTTP.as_ref().map_err(|error| no_answer(error.clone()))?;
    let url = format!("http://{}{}", meter.at, meter.path);
    let mut answer = http.get(url).send().await.map_err(|error| no_answer(innermost(&error)))?;
    if !answer.status().is_success() {
        return Err(TrafficError::Status { at: meter.at, status: answer.status().as_u16() });
    }
    let mut sum = Sum::new(meter);
    let mut bytes = 0_usize;
    while let Some(chunk) = answer.chunk().await.map_err(|error| no_answer(innermost(&error)))? {
        bytes += chunk.len();
        if bytes > MOST_BYTES {
            return Err(TrafficError::TooMuch);
        }
        sum.take(&chunk)?;
    }
    sum.end()
}

/// Adds both counters up over all network threads, line by line as the text comes.
struct Sum<'a> {
    meter: &'a Meter,
    line: Vec<u8>,
    sent: Option<f64>,
    received: Option<f64>,
}

impl<'a> Sum<'a> {
    fn new(meter: &'a Meter) -> Self {
        Self { meter, line: Vec::new(), sent: None, received: None }
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<(), TrafficError> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&bytes[..end]);
            self.finish_line();
            bytes = &bytes[end + 1..];
        }
        if self.line.len() + bytes.len() > LONGEST_LINE {
            return Err(TrafficError::TooMuch);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn finish_line(&mut self) {
        if let Some((name, value)) = std::str::from_utf8(&self.line).ok().and_then(|line| self.counted(line))
        {
            let total = if name == self.meter.sent { &mut self.sent } else { &mut self.received };
            *total = Some(total.unwrap_or_default() + value);
        }
        self.line.clear();
    }

    /// Name and value, when the line is one of the two counters for the listener.
    fn counted<'l>(&self, line: &'l str) -> Option<(&'l str, f64)> {
        let (name, rest) = line.split_once('{')?;
        if name != self.meter.sent && name != self.meter.received {
            return None;
        }
        let (labels, value) = labels(rest)?;
        labels.iter().find(|(key, value)| *key == "listener" && *value == self.meter.listener)?;
        let value: f64 = value.split_whitespace().next()?.parse().ok()?;
        (value.is_finite() && value >= 0.0).then_some((name, value))
    }

    fn end(mut self) -> Result<Traffic, TrafficError> {
        self.finish_line();
        let known = |total: Option<f64>, name: &str| {
            let missing =
                TrafficError::NoCounter { name: name.to_owned(), listener: self.meter.listener.clone() };
            total.map(|total| total as u64).ok_or(missing)
        };
        Ok(Traffic {
            sent: known(self.sent, &self.meter.sent)?,
            received: known(self.received, &self.meter.received)?,
        })
    }
}

/// The labels up to the closing brace, and what follows it. `\\`, `\"` and `\n` are escaped in values.
fn labels(mut text: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut found = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((found, rest));
        }
        let (key, rest) = text.split_once("=\"")?;
        let (mut value, mut end, mut escaped) = (String::new(), None, false);
        for (at, letter) in rest.char_indices() {
            match (escaped, letter) {
                (true, 'n') => value.push('\n'),
                (false, '"') => {
                    end = Some(at);
                    break;
                }
                (false, '\\') => {}
                (_, letter) => value.push(letter),
            }
            escaped = !escaped && letter == '\\';
        }
        text = &rest[end? + 1..];
        found.push((key, value));
    }
}

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz {
    use super::*;

    fn summed(meter: &Meter, text: &[u8], size: usize) -> Result<Traffic, TrafficError> {
        let mut sum = Sum::new(meter);
        for piece in text.chunks(size) {
            sum.take(piece)?;
        }
        sum.end()
    }

    /// A text means the same in one piece and in many.
    pub fn pieces(meter: &Meter, text: &[u8], size: usize) {
        assert_eq!(summed(meter, text, size), summed(meter, text, LONGEST_LINE));
    }

    /// Any value of a label is read back as it was written.
    pub fn label(value: &str) {
        let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let line = format!("a=\"{escaped}\",b=\"c\"}} 1");
        let expected = vec![("a", value.to_owned()), ("b", "c".to_owned())];
        assert_eq!(labels(&line), Some((expected, " 1")));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the JMX exporter 1.x prints it without rules.
    const SHOWN: &str = "# HELP kafka_server_socket_server_metrics_outgoing_byte_total The total number of bytes sent\n\
        # TYPE kafka_server_socket_server_metrics_outgoing_byte_total untyped\n\
        kafka_server_socket_server_metrics_outgoing_byte_total{listener=\"EXTERNAL\",networkProcessor=\"3\"} 1.5E3\n\
        kafka_server_socket_server_metrics_outgoing_byte_total{networkProcessor=\"4\", listener=\"EXTERNAL\",} 500 1700000000\n\
        kafka_server_socket_server_metrics_outgoing_byte_total{listener=\"INTERNAL\",networkProcessor=\"0\"} 9e9\n\
        kafka_server_socket_server_metrics_incoming_byte_total{listener=\"EXTERNAL\",networkProcessor=\"3\"} 7.0\n\
        kafka_server_socket_server_metrics_incoming_byte_total{listener=\"EXTERNAL\",networkProcessor=\"4\"} NaN";

    fn meter() -> Meter {
        Meter {
            at: SocketAddr::from(([127, 0, 0, 1], 9404)),
            path: "/metrics".to_owned(),
            sent: "kafka_server_socket_server_metrics_outgoing_byte_total".to_owned(),
            received: "kafka_server_socket_server_metrics_incoming_byte_total".to_owned(),
            listener: "EXTERNAL".to_owned(),
        }
    }

    fn summed(text: &[u8], pieces: usize) -> Result<Traffic, TrafficError> {
        let meter = meter();
        let mut sum = Sum::new(&meter);
        for piece in text.chunks(pieces) {
            sum.take(piece)?;
        }
        sum.end()
    }

    #[test]
    fn network_threads_of_one_listener_are_added_up_however_the_text_is_cut() {
        for pieces in [1, 7, 4096] {
            assert_eq!(summed(SHOWN.as_bytes(), pieces), Ok(Traffic { sent: 2000, received: 7 }), "{pieces}");
        }
    }

    #[test]
    fn a_counter_that_is_not_shown_is_named() {
        let only_internal = SHOWN.replace("EXTERNAL", "OTHER");
        let error = summed(only_internal.as_bytes(), 4096).expect_err("no counter");
        assert_eq!(
            error.to_string(),
            "the metrics endpoint shows no kafka_server_socket_server_metrics_outgoing_byte_total with label listener=\"EXTERNAL\""
        );
    }

    #[test]
    fn a_value_may_hold_quotes_braces_and_commas() {
        let parsed = labels("a=\"x\\\"},\\\\\\n\",listener=\"E\"} 1").expect("labels");
        assert_eq!(parsed, (vec![("a", "x\"},\\\n".to_owned()), ("listener", "E".to_owned())], " 1"));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        assert_eq!(summed(&[b'x'; LONGEST_LINE + 1], 1000), Err(TrafficError::TooMuch));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(kafka_server_socket_server_metrics_outgoing_byte_total)?[ -~\\n\\\\\"{}=,]{0,200}") {
            let _ = summed(text.as_bytes(), 13);
        }
    }
}
