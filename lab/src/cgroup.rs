use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::error::{Context, Result, write_file};

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the lab's group in every hierarchy; the kubelet puts all pods below it, so that removing it removes all of them.
pub(crate) fn create(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).to(|| format!("create {}", group.display()))?;
        // Version 1: a new cpuset group is empty, and no process can live in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read_to_string(hierarchy.join(file))
                && !value.trim().is_empty()
            {
                write_file(&group.join(file), value)?;
            }
        }
        // Version 2: controllers are handed down explicitly.
        if let Ok(controllers) = fs::read_to_string(group.join("cgroup.controllers")) {
            let enable: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
            write_file(&group.join("cgroup.subtree_control"), enable.join(" "))?;
        }
    }
    Ok(())
}

/// Removes the group and all below it. Its processes must have ended.
pub(crate) fn remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        remove_tree(&hierarchy.join(name))?;
    }
    Ok(())
}

/// Version 1 has one folder for each hierarchy; version 2 is one hierarchy, whose root names its controllers.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_owned()];
    }
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect()
}

fn remove_tree(group: &Path) -> Result<()> {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    // A group stays busy for a moment after its last process has ended.
    let mut attempts = 0;
    loop {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy && attempts < 50 => {
                attempts += 1;
                sleep(Duration::from_millis(20));
            }
            other => return other.to(|| format!("remove {}", group.display())),
        }
    }
}
