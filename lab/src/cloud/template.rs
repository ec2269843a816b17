use std::fs;
use std::path::{Path, PathBuf};

use super::openstack::{OpenStack, tables, tables_are_of};
use super::seed::seed;
use crate::cache::Cache;
use crate::error::{Context, Result};
use crate::paths::{Paths, fnv};
use crate::sandbox::Sandbox;

/// Everything that what is set up depends on.
const SET_UP_BY: &str =
    concat!(include_str!("seed.rs"), include_str!("facts.rs"), include_str!("../addresses.rs"));

fn key() -> String {
    format!("openstack-seeded-{:08x}", fnv((tables_are_of() + SET_UP_BY).as_bytes()))
}

/// A folder with the database of a cloud that is set up, and the facts about it: `mysql` and `facts.json`. It is made once, by setting up a cloud in a
/// sandbox of its own, so that a fresh lab copies it and starts.
pub(super) fn set_up(cache: &Cache, program: &Path) -> Result<PathBuf> {
    let tables = tables(cache)?;
    cache.get(&key(), |folder| {
        let home = folder.with_extension("work");
        let paths = Paths::below(&home, &home.join("cache"));
        // Of a run that was cut off.
        Sandbox::attach(&paths).map_or(Ok(()), Sandbox::stop)?;
        let sandbox = Sandbox::start(&paths, program)?;
        let made = make(&sandbox, cache, &tables, folder);
        sandbox.stop()?;
        made?;
        crate::cache::remove_folder(&home)
    })
}

/// Whether [`set_up`] has something to do.
pub(super) fn is_set_up(cache: &Cache) -> bool {
    cache.find(&key()).is_some()
}

fn make(sandbox: &Sandbox, cache: &Cache, tables: &Path, folder: &Path) -> Result<()> {
    crate::kubernetes::Cluster::make_bridge(sandbox)?;
    let services = OpenStack::new(sandbox, cache)?;
    services.start(tables)?;
    seed(sandbox)?;
    services.stop_all()?;
    let made = sandbox.paths().part("cloud")?;
    for name in ["mysql", "facts.json"] {
        fs::rename(made.join(name), folder.join(name)).to(|| format!("keep {name}"))?;
    }
    Ok(())
}

/// Takes the facts over with the database that they are about.
pub(super) fn facts(template: &Path, paths: &Paths) -> Result<()> {
    let file = paths.cloud_facts();
    if !file.exists() {
        fs::copy(template.join("facts.json"), &file).to(|| format!("write {}", file.display()))?;
    }
    Ok(())
}
