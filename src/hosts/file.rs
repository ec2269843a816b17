//! One change of a file that others read at any moment: they see the old one or the new one, whole.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

/// How often a file that somebody else changes at the same moment is read again.
const TRIES: usize = 3;

/// Why a file was not changed.
#[derive(Debug, thiserror::Error)]
pub enum FileError<E> {
    /// The machine refuses.
    #[error("{path}: {error}{}", advice(error))]
    Machine {
        /// The file.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// The content cannot be changed.
    #[error("{path}: {error}")]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        error: E,
    },
    /// Somebody else changes it again and again.
    #[error("{0}: somebody else keeps changing it at the same moment")]
    Contested(PathBuf),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run this as root",
        // Containers and some sandboxes mount the single file.
        io::ErrorKind::ResourceBusy => "; the file is a mount of its own and cannot be replaced by rename",
        _ => "",
    }
}

/// Changes a file by rename within its folder: mode and owner stay, and a symbolic link goes on leading to it. True: it
/// was changed; false: it was right already.
pub fn change<E>(
    path: &Path,
    edit: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, E>,
) -> Result<bool, FileError<E>> {
    let machine = |error| FileError::Machine { path: path.to_owned(), error };
    let real = fs::canonicalize(path).map_err(machine)?;
    // Of several of these programs on a machine one changes the file at a time; it ends with the opened folder.
    let folder = File::open(real.parent().unwrap_or(Path::new("/"))).map_err(machine)?;
    folder.lock().map_err(machine)?;
    for _ in 0..TRIES {
        let before = fs::read(&real).map_err(machine)?;
        let edited = edit(&before);
        let edited = edited.map_err(|error| FileError::Content { path: path.to_owned(), error })?;
        let Some(after) = edited.filter(|after| *after != before) else { return Ok(false) };
        if replace(&real, &before, &after).map_err(machine)? {
            return Ok(true);
        }
    }
    Err(FileError::Contested(path.to_owned()))
}

/// False: the file is not what it was, and nothing was done.
fn replace(path: &Path, before: &[u8], after: &[u8]) -> io::Result<bool> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.kafka-external-access"));
    // One that an interrupted change has left.
    fs::remove_file(&beside).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let done = write_beside(path, &beside, before, after);
    if !matches!(done, Ok(true)) {
        let _ = fs::remove_file(&beside);
    }
    done
}

fn write_beside(path: &Path, beside: &Path, before: &[u8], after: &[u8]) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    new.write_all(after)?;
    fchown(&new, Some(metadata.uid()), Some(metadata.gid()))?;
    new.set_permissions(Permissions::from_mode(metadata.mode() & 0o7777))?;
    new.sync_all()?;
    if fs::read(path)? != before {
        return Ok(false);
    }
    fs::rename(beside, path)?;
    // The rename itself outlives a power failure, where the file system can promise that.
    let _ = File::open(path.parent().unwrap_or(Path::new("/"))).and_then(|folder| folder.sync_all());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kafka-hosts-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    fn append(text: &[u8]) -> Result<Option<Vec<u8>>, io::Error> {
        Ok(Some([text, b"more\n"].concat()))
    }

    #[test]
    fn mode_and_link_stay_and_nothing_is_left_beside_the_file() {
        let folder = folder("mode");
        let (file, link) = (folder.join("hosts.real"), folder.join("hosts"));
        fs::write(&file, "one\n").expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("a mode");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        fs::write(folder.join(".hosts.real.kafka-external-access"), "left").expect("a file");
        assert!(change(&link, append).expect("changed"));
        assert_eq!(fs::read_to_string(&file).expect("a file"), "one\nmore\n");
        assert_eq!(fs::metadata(&file).expect("a file").mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 2);
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn a_file_that_somebody_changes_meanwhile_is_read_again_and_keeps_their_change() {
        let folder = folder("race");
        let file = folder.join("hosts");
        fs::write(&file, "one\n").expect("a file");
        let rounds = std::cell::Cell::new(0);
        let edit = |text: &[u8]| {
            rounds.set(rounds.get() + 1);
            if rounds.get() == 1 {
                fs::write(&file, "theirs\n").expect("a file");
            }
            append(text)
        };
        assert!(change(&file, edit).expect("changed"));
        assert_eq!(fs::read_to_string(&file).expect("a file"), "theirs\nmore\n");
        let always = |text: &[u8]| {
            rounds.set(rounds.get() + 1);
            fs::write(&file, format!("theirs {}\n", rounds.get())).expect("a file");
            append(text)
        };
        assert!(matches!(change(&file, always), Err(FileError::Contested(_))));
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1, "nothing is left beside it");
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn what_is_right_is_not_written() {
        let folder = folder("right");
        let file = folder.join("hosts");
        fs::write(&file, "one\n").expect("a file");
        let inode = fs::metadata(&file).expect("a file").ino();
        assert!(!change(&file, |text| Ok::<_, io::Error>(Some(text.to_vec()))).expect("read"));
        assert_eq!(fs::metadata(&file).expect("a file").ino(), inode);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
