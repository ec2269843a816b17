//! Logs to standard output, and how much they say; traces.

use std::sync::Arc;

use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, filter_fn},
    fmt,
    layer::{Filter, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Says what is logged; the process changes it while it runs.
#[derive(Clone, Debug)]
pub struct LogLevel(Arc<reload::Handle<EnvFilter, Registry>>);

/// Why a level was not taken; the one before it holds.
#[derive(Debug, thiserror::Error)]
pub enum LogLevelError {
    /// Not in the words of `RUST_LOG`.
    #[error("\"{text}\" is no filter: {problem}")]
    NotAFilter {
        /// What was asked for.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing logs any more: the process ends.
    #[error("{0}")]
    Gone(#[from] reload::Error),
}

impl LogLevel {
    /// A filter that starts as `filter`. Spans are for traces: lines of the log name the object themselves.
    pub(super) fn starting_as(filter: EnvFilter) -> (Self, impl Filter<Registry>) {
        let (layer, handle) = reload::Layer::new(filter);
        (Self(Arc::new(handle)), layer.and(filter_fn(|of| of.is_event())))
    }

    /// The filter that holds, in the words of `RUST_LOG`.
    pub fn show(&self) -> Result<String, LogLevelError> {
        Ok(self.0.with_current(ToString::to_string)?)
    }

    /// From now on this filter holds, until the process ends: `info`, or `kafka_external_access=debug,info`.
    pub fn set(&self, text: &str) -> Result<(), LogLevelError> {
        let text = text.trim();
        let filter = filter(text)?;
        // Told first, because afterwards the log may be silent; a warning, because somebody steps in.
        let before = self.show()?;
        tracing::warn!(before, now = text, "log level changes");
        Ok(self.0.reload(filter)?)
    }
}

/// A filter in the words of `RUST_LOG`. A single word that is no level would be taken for the name of a target, and all
/// others fall silent, so it is refused.
fn filter(text: &str) -> Result<EnvFilter, LogLevelError> {
    let refused = |problem: String| LogLevelError::NotAFilter { text: text.to_owned(), problem };
    if text.is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    let is_no_level = |word: &&str| !word.contains(['=', '[']) && word.parse::<LevelFilter>().is_err();
    if let Some(word) = text.split(',').map(str::trim).find(is_no_level) {
        let levels = "trace, debug, info, warn, error or off";
        return Err(refused(format!(
            "\"{word}\" is no level ({levels}); one of a target is written {word}=debug"
        )));
    }
    EnvFilter::try_new(text).map_err(|error| refused(error.to_string()))
}

/// Starts logging, and traces where the environment asks for them; the filter of the log comes from `RUST_LOG`, else, and
/// where that is none, `info`.
pub fn start(format: LogFormat) -> (LogLevel, Option<Traces>) {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| "info".to_owned());
    let (filter, no_filter) = match filter(&asked) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let (level, filter) = LogLevel::starting_as(filter);
    let lines = match format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).boxed(),
        LogFormat::Text => fmt::layer().with_ansi(false).boxed(),
    };
    let (traces, problem) = traces();
    let registry = tracing_subscriber::registry().with(lines.with_filter(filter));
    #[cfg(feature = "otlp")]
    let registry = registry.with(traces.as_ref().map(super::traces::Traces::layer));
    registry.init();
    if let Some(error) = no_filter {
        tracing::warn!(%error, "RUST_LOG is not taken; the level is info");
    }
    if let Some(problem) = problem {
        tracing::warn!(problem, "no traces are sent");
    }
    (level, traces)
}

/// What sends traces in this build.
#[cfg(feature = "otlp")]
pub type Traces = super::traces::Traces;
/// Nothing sends traces in this build.
#[cfg(not(feature = "otlp"))]
#[derive(Clone, Copy, Debug)]
pub enum Traces {}

#[cfg(not(feature = "otlp"))]
impl Traces {
    /// Cannot be called.
    pub async fn end(self) {
        match self {}
    }
}

/// Traces, where the environment asks for them, or why there are none.
fn traces() -> (Option<Traces>, Option<String>) {
    let asked = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    let asked = asked.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if !asked {
        return (None, None);
    }
    #[cfg(feature = "otlp")]
    return match Traces::to(None) {
        Ok(traces) => (Some(traces), None),
        Err(error) => (None, Some(error.to_string())),
    };
    #[cfg(not(feature = "otlp"))]
    (None, Some("this program was built without the feature otlp".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use tracing::{Dispatch, subscriber::NoSubscriber};

    use super::*;

    /// A log of this thread.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn has(&self, words: &str) -> bool {
            String::from_utf8_lossy(&self.0.lock().expect("not poisoned")).contains(words)
        }
    }

    #[test]
    fn a_level_holds_at_once_and_a_mistake_changes_nothing() {
        // With one subscriber in the process, the thread that first comes by a line decides for all whether it is of
        // interest, and other tests have none.
        let _other = Dispatch::new(NoSubscriber::default());
        let (level, filter) = LogLevel::starting_as(EnvFilter::new("info"));
        let log = Log::default();
        let writer = log.clone();
        let layer = fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let layer = layer.with_filter(filter);
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let say = |words: &str| tracing::debug!("{words}");
        say("first");
        assert!(!log.has("first"));
        level.set("kafka_external_access=debug,info\n").expect("a filter");
        assert_eq!(level.show().expect("it holds"), "kafka_external_access=debug,info");
        say("second");
        assert!(log.has("second") && log.has("log level changes"));
        for mistake in ["", "  ", "kafka_external_access=loud", "a=b=c", "warning", "info,warning"] {
            let refused = level.set(mistake).expect_err("refused");
            assert!(matches!(refused, LogLevelError::NotAFilter { .. }), "{refused}");
        }
        say("third");
        assert!(log.has("third"));
        level.set("warn").expect("a filter");
        say("fourth");
        assert!(!log.has("fourth") && log.has("now=\"warn\""));
    }
}
