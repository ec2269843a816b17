use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Context, Result};
use crate::paths::Paths;

/// Things built once per version and shared by every checkout on the machine. An entry appears whole or not at all.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache at its place.
    #[must_use]
    pub fn new(paths: &Paths) -> Self {
        Self { folder: paths.cache().to_owned() }
    }

    /// The entry's folder when it was built already.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<PathBuf> {
        let entry = self.folder.join(key);
        entry.is_dir().then_some(entry)
    }

    /// The folder of the entry `key` (`<part>-<version>`). When it does not exist, `build` fills an empty folder that then becomes the entry;
    /// a second builder of the same key, in whatever process, waits for the first.
    pub fn get(&self, key: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        if let Some(entry) = self.find(key) {
            return Ok(entry);
        }
        fs::create_dir_all(&self.folder).to(|| format!("create {}", self.folder.display()))?;
        let _lock = lock(&self.folder.join(format!("{key}.lock")))?;
        if let Some(entry) = self.find(key) {
            return Ok(entry);
        }
        let entry = self.folder.join(key);
        let building = self.folder.join(format!("{key}.building"));
        remove_folder(&building)?;
        fs::create_dir_all(&building).to(|| format!("create {}", building.display()))?;
        build(&building)?;
        fs::rename(&building, &entry).to(|| format!("put {} into the cache", entry.display()))?;
        Ok(entry)
    }
}

/// Takes a lock that ends with the returned value, or with the process.
pub(crate) fn lock(path: &Path) -> Result<Flock<File>> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).to(|| format!("create {}", parent.display()))?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .to(|| format!("open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .to(|| format!("lock {}", path.display()))
}

/// Removes a folder with all that is in it; a folder that does not exist is fine.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.to(|| format!("remove {}", path.display())),
    }
}
