//! What the commands for people share: the way to the cluster and to brokers, marks, colours and outputs.

use std::{io::Write, process::ExitCode};

use serde::Serialize;

pub mod bootstrap;
pub mod cluster;
pub mod commands;
pub mod connect;
pub mod report;
pub mod status;
pub mod style;
pub mod top;

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people; colours on a terminal.
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

impl Output {
    /// The value as JSON or YAML, or the text.
    pub fn of(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<String, String> {
        match self {
            Self::Text => Ok(text()),
            Self::Json => {
                serde_json::to_string_pretty(value).map(|json| json + "\n").map_err(|error| error.to_string())
            }
            Self::Yaml => serde_saphyr::to_string(value).map_err(|error| error.to_string()),
        }
    }
}

/// Prints on standard output, in colours where somebody sees them. Whoever reads may have enough early (`| head`).
pub fn show(text: &str) {
    let mut out = anstream::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Ends a command that could not do its work.
pub fn failed(error: impl std::fmt::Display) -> ExitCode {
    anstream::eprintln!("{} {error}", style::paint(style::BAD, "error:"));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    /// Compares a text without its colours with `tests/transcripts/NAME.txt`; `UPDATE=1` rewrites that.
    pub fn transcript(name: &str, text: &str) {
        let text = anstream::adapter::strip_str(text).to_string();
        let file = format!("{}/tests/transcripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &text).expect("a transcript can be written");
        }
        assert_eq!(text, std::fs::read_to_string(&file).unwrap_or_default(), "{name}");
    }

    /// An object of `tests/transcripts/NAME.yaml`.
    pub fn object(name: &str) -> crate::api::KafkaExternalAccess {
        let file = format!("{}/tests/transcripts/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&file).expect("an object");
        serde_saphyr::from_str(&text).expect("an object")
    }
}
