use std::path::{Path, PathBuf};

use crate::error::{Context, Result};

const NAME: &str = "kafka-external-access-lab";

/// Where the lab keeps its files. State lives as long as the lab runs; the cache outlives it and is shared by all checkouts.
#[derive(Clone, Debug)]
pub struct Paths {
    state: PathBuf,
    cache: PathBuf,
}

impl Paths {
    /// By the XDG base directory specification: `$XDG_STATE_HOME` and `$XDG_CACHE_HOME`, else `~/.local/state` and `~/.cache`.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::below(&base("XDG_STATE_HOME", ".local/state"), &base("XDG_CACHE_HOME", ".cache"))
    }

    /// Below these base folders, which `$XDG_STATE_HOME` and `$XDG_CACHE_HOME` may name. Labs with different state folders run side by side.
    #[must_use]
    pub fn below(state_home: &Path, cache_home: &Path) -> Self {
        Self { state: state_home.join(NAME), cache: cache_home.join(NAME) }
    }

    /// The same cache, and another lab's state.
    pub(crate) fn with_state_home(&self, state_home: &Path) -> Self {
        Self { state: state_home.join(NAME), cache: self.cache.clone() }
    }

    /// Variables by which [`Self::from_environment`] finds these paths in another process.
    pub(crate) fn environment(&self) -> [(&'static str, &Path); 2] {
        [("XDG_STATE_HOME", &self.state), ("XDG_CACHE_HOME", &self.cache)]
            .map(|(name, folder)| (name, folder.parent().unwrap_or(folder)))
    }

    /// The state folder; `down` removes it.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The folder of things built once: `<part>-<version>`.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The state folder of one part, created when it is missing.
    pub fn part(&self, name: &str) -> Result<PathBuf> {
        let folder = self.state.join(name);
        std::fs::create_dir_all(&folder).to(|| format!("create {}", folder.display()))?;
        Ok(folder)
    }

    /// The log file of one part.
    #[must_use]
    pub fn log(&self, part: &str) -> PathBuf {
        self.logs().join(format!("{part}.log"))
    }

    /// The folder of all log files.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.state.join("log")
    }

    /// Facts about the running lab, written when it is up.
    #[must_use]
    pub fn facts(&self) -> PathBuf {
        self.state.join("lab.json")
    }

    /// Facts about the cloud, written when it is set up.
    #[must_use]
    pub fn cloud_facts(&self) -> PathBuf {
        self.state.join("cloud/facts.json")
    }

    /// The copy of the `lab` program that the running lab uses (the holder, the CNI plugin, the gateway), so that a new build of the checkout
    /// does not pull it away from under them.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.programs().join("lab")
    }

    /// The programs of the running lab: links to what was built, and [`Self::program`].
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.state.join("bin")
    }

    /// Name of the lab's group in every cgroup hierarchy. Labs with different state folders do not share it.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("kea-lab-{:08x}", fnv(self.state.as_os_str().as_encoded_bytes()))
    }

    /// One lock for everything that changes the lab; beside the state folder, because that one is removed.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.state.with_extension("lock")
    }

    /// Taken by the test that uses the lab.
    pub(crate) fn turn_file(&self) -> PathBuf {
        self.state.with_extension("turn")
    }

    pub(crate) fn holder(&self) -> PathBuf {
        self.state.join("holder.json")
    }

    pub(crate) fn pid_file(&self, part: &str) -> PathBuf {
        self.state.join("run").join(format!("{part}.json"))
    }
}

fn base(variable: &str, fallback: &str) -> PathBuf {
    // The specification: a relative path in the variable is to be ignored.
    match std::env::var_os(variable).map(PathBuf::from) {
        Some(path) if path.is_absolute() => path,
        _ => PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(fallback),
    }
}

/// FNV-1a, 32 bits: stable between builds, unlike the standard library's hasher.
pub(crate) fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
