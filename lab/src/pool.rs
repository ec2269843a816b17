use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Context, Result};
use crate::paths::Paths;

/// Several state base folders, separated as in `PATH`: the labs that tests share.
const STATE_HOMES: &str = "LAB_STATE_HOMES";

/// How often a test looks whether a lab has become free.
const LOOK: Duration = Duration::from_millis(50);

/// A running lab that one test has for itself until this is dropped, or its process ends.
#[derive(Debug)]
pub struct Turn {
    paths: Paths,
    _lock: Flock<File>,
}

impl Turn {
    /// Waits for a lab that nobody else has: one of those below `$LAB_STATE_HOMES`, else the one of `$XDG_STATE_HOME`.
    /// Who waits longest is the next: one at a time looks for a free lab, the others wait for that.
    pub fn take() -> Result<Self> {
        let labs = shared_labs();
        let queue = labs.first().map(|first| first.turn_file().with_extension("queue")).unwrap_or_default();
        let file = lock_file(&queue)?;
        let place = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error);
        let _place = place.to(|| format!("lock {}", queue.display()))?;
        loop {
            for paths in &labs {
                if let Some(lock) = try_lock(paths)? {
                    return Ok(Self { paths: paths.clone(), _lock: lock });
                }
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Where the lab's files are.
    #[must_use]
    pub fn paths(&self) -> &Paths {
        &self.paths
    }
}

/// The labs below `$LAB_STATE_HOMES`, else the one of `$XDG_STATE_HOME`.
#[must_use]
pub fn shared_labs() -> Vec<Paths> {
    let homes = std::env::var_os(STATE_HOMES).unwrap_or_default();
    let homes: Vec<PathBuf> = std::env::split_paths(&homes).filter(|home| home.is_absolute()).collect();
    let default = Paths::from_environment();
    if homes.is_empty() {
        return vec![default];
    }
    homes.iter().map(|home| default.with_state_home(home)).collect()
}

fn lock_file(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).to(|| format!("create {}", parent.display()))?;
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    file.to(|| format!("open {}", path.display()))
}

fn try_lock(paths: &Paths) -> Result<Option<Flock<File>>> {
    let path = paths.turn_file();
    match Flock::lock(lock_file(&path)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error).to(|| format!("lock {}", path.display())),
    }
}
