use std::path::Path;
use std::process::Command;

use crate::error::{Context, Result};
use crate::process::text;

/// Installs, by apt, the packages of those programs that the machine lacks. A program is a name to be found in PATH or an absolute path.
pub fn ensure(wanted: &[(&str, &str)]) -> Result<()> {
    let mut missing: Vec<&str> =
        wanted.iter().filter(|(program, _)| !exists(program)).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    text(apt().arg("update"))?;
    text(apt().args(["install", "--yes", "--no-install-recommends"]).args(missing))?;
    Ok(())
}

/// Unpacks a package into a folder: nothing is installed, and no service of it starts.
pub(crate) fn unpack(package: &str, folder: &Path) -> Result<()> {
    text(apt().arg("update"))?;
    text(apt().args(["download", package]).current_dir(folder))?;
    let files = std::fs::read_dir(folder).to(|| format!("look into {}", folder.display()))?;
    let archive =
        files.flatten().map(|file| file.path()).find(|path| path.extension() == Some("deb".as_ref()));
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let archive = archive.ok_or_else(missing).to(|| format!("find the archive of {package}"))?;
    text(Command::new("dpkg").arg("--extract").arg(&archive).arg(folder))?;
    std::fs::remove_file(&archive).to(|| format!("remove {}", archive.display()))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn exists(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(Into::into);
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}
