//! Prometheus and promtool of Debian 12, for tests of metrics and alerts, and the kinds of the Prometheus Operator.

use std::path::PathBuf;

use crate::cache::Cache;
use crate::error::{Context, Result};
use crate::kubernetes::go_module;
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

/// The Prometheus Operator, whose kinds charts make objects of.
const OPERATOR: &str = "0.85.0";
const KINDS: [&str; 3] = ["podmonitors", "prometheusrules", "servicemonitors"];

/// A folder with the definitions of those kinds that a chart may use, as the operator's own module has them.
pub fn operator_kinds(cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    let key = format!("prometheus-operator-kinds-{OPERATOR}");
    if let Some(entry) = cache.find(&key) {
        return Ok(entry);
    }
    progress.step("fetch the kinds of the Prometheus Operator", |_| {
        cache.get(&key, |folder| {
            let module =
                go_module(&format!("github.com/prometheus-operator/prometheus-operator@v{OPERATOR}"))?;
            for kind in KINDS {
                let file = format!("monitoring.coreos.com_{kind}.yaml");
                let from = module.join("example/prometheus-operator-crd").join(&file);
                std::fs::copy(&from, folder.join(&file)).to(|| format!("copy {}", from.display()))?;
            }
            Ok(())
        })
    })
}
