//! Prometheus and promtool of Debian 12, for tests of metrics and alerts.

use std::path::PathBuf;

use crate::cache::Cache;
use crate::error::Result;
use crate::packages;
use crate::progress::Progress;

/// The entry of the cache. Debian corrects the package and does not change its version.
const KEY: &str = "prometheus-debian-12";

/// Programs in the cache.
#[derive(Clone, Debug)]
pub struct Prometheus {
    programs: PathBuf,
}

impl Prometheus {
    /// Fetched when they are missing, which needs a registry: not from inside the sandbox.
    pub fn get(cache: &Cache, progress: &Progress) -> Result<Self> {
        let entry = match cache.find(KEY) {
            Some(entry) => entry,
            None => progress.step("fetch Prometheus", |_| {
                cache.get(KEY, |folder| packages::unpack("prometheus", folder))
            })?,
        };
        Ok(Self { programs: entry.join("usr/bin") })
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.programs.join("prometheus")
    }

    /// Checks rules and runs their tests.
    #[must_use]
    pub fn promtool(&self) -> PathBuf {
        self.programs.join("promtool")
    }
}
