use std::io;
use std::path::{Path, PathBuf};

/// Everything that can go wrong in the lab, in words that say which part it was.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A system or file operation failed.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, as the end of the sentence "cannot ...".
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A program ran and did not succeed.
    #[error("`{command}` {outcome}\n{output}")]
    Program {
        /// The command line.
        command: String,
        /// How it ended.
        outcome: String,
        /// The end of what it printed.
        output: String,
    },
    /// A part of the lab did not start or did not become ready.
    #[error("{part} {reason}; the last lines of {}:\n{tail}", log.display())]
    Part {
        /// Name of the part, as `cargo lab logs` takes it.
        part: String,
        /// What was expected and not seen.
        reason: String,
        /// Its log file.
        log: PathBuf,
        /// The end of its log file.
        tail: String,
    },
    /// Something that was waited for did not happen in time.
    #[error("waited {seconds} s for {what}: {last}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long, in seconds.
        seconds: u64,
        /// What was seen instead, the last time.
        last: String,
    },
    /// A file holds something else than expected.
    #[error("{}: {reason}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A service of the cloud refused a call.
    #[error("{request}: {status} {body}")]
    Api {
        /// Method and URL.
        request: String,
        /// HTTP status, 400 or more.
        status: u16,
        /// What the service said.
        body: String,
    },
    /// The lab does not run.
    #[error("no lab is running; start it with `cargo lab up`")]
    NotRunning,
    /// The lab makes namespaces and mounts, which only root may do.
    #[error("the lab needs root: it makes namespaces, mounts and network interfaces of its own")]
    NotRoot,
}

/// The lab's result.
pub type Result<T> = std::result::Result<T, LabError>;

/// Says what was tried when a system operation fails.
pub trait Context<T> {
    /// `action` is the end of the sentence "cannot ...".
    fn to(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn to(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| LabError::System { action: action(), source: error.into() })
    }
}

/// Writes a file and the folders above it.
pub fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).to(|| format!("create {}", parent.display()))?;
    }
    std::fs::write(path, content).to(|| format!("write {}", path.display()))
}

/// Reads a text file.
pub fn read_file(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).to(|| format!("read {}", path.display()))
}
