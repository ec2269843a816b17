//! Who may read which names. A folder holds one file for each object, as a mounted Secret does, with one token a line:
//! while a token is replaced the old and the new one stand there together.

use std::{fs, path::Path};

use aws_lc_rs::{
    constant_time,
    digest::{Digest, SHA256, digest},
};

use crate::domain::AccessKey;

/// In characters. 32 hexadecimal digits hold 128 bits.
const SHORTEST: usize = 32;
const LONGEST: usize = 512;
/// In bytes, of a file.
const LARGEST: u64 = 64 * 1024;

/// What opens what. The tokens themselves are not kept.
#[derive(Default)]
pub struct Tokens {
    /// Of each object and token together.
    known: Vec<Digest>,
}

impl Tokens {
    /// Those in a folder, and what is wrong with its files, without a token in it. A name begins with the namespace, which
    /// has no dot in it: `NAMESPACE.NAME`. A folder that cannot be read has none: who takes it away takes the rights away.
    pub fn read(folder: &Path) -> (Self, Vec<String>) {
        let mut tokens = Self::default();
        let mut problems = Vec::new();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries.flatten(),
            Err(error) => return (tokens, vec![format!("{}: {error}", folder.display())]),
        };
        let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            // The kubelet keeps its own links and folders beside the keys of a Secret: `..data`.
            if name.starts_with('.') {
                continue;
            }
            if let Err(problem) = tokens.add(&name, &file) {
                problems.push(format!("{}: {problem}", file.display()));
            }
        }
        (tokens, problems)
    }

    /// All tokens of the file, or none.
    fn add(&mut self, name: &str, file: &Path) -> Result<(), String> {
        let (namespace, name) = name.split_once('.').ok_or("it is not called NAMESPACE.NAME")?;
        let object = AccessKey { namespace: namespace.to_owned(), name: name.to_owned() };
        if fs::metadata(file).map_err(|error| error.to_string())?.len() > LARGEST {
            return Err(format!("it is larger than {} KiB", LARGEST >> 10));
        }
        let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
        let mut new = Vec::new();
        for (index, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
            let fits =
                (SHORTEST..=LONGEST).contains(&line.len()) && line.chars().all(|c| c.is_ascii_graphic());
            if !fits {
                let rule = "a token has 32 to 512 visible characters and no space";
                return Err(format!("line {}: {rule}", index + 1));
            }
            new.push(of(&object, line));
        }
        self.known.extend(new);
        Ok(())
    }

    /// True: the token is one of the object's. How long it takes depends on the number of all tokens, and neither on how
    /// much of one was guessed nor on which objects there are.
    pub fn open(&self, object: &AccessKey, token: &str) -> bool {
        let presented = of(object, token);
        self.known.iter().fold(false, |found, known| {
            found | constant_time::verify_slices_are_equal(known.as_ref(), presented.as_ref()).is_ok()
        })
    }
}

/// No line feed is in either part, so no two pairs have one text.
fn of(object: &AccessKey, token: &str) -> Digest {
    digest(&SHA256, format!("{object}\n{token}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_opens_its_object_and_nothing_else_and_a_wrong_one_opens_nothing() {
        let folder = std::env::temp_dir().join(format!("kafka-tokens-{}", std::process::id()));
        fs::create_dir_all(folder.join("..2026_11_26")).expect("a folder");
        let (old, new) = ("o".repeat(SHORTEST), "n".repeat(LONGEST));
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file");
        write("ydata.kafka", &format!("{old}\n\n  {new}\r\n"));
        write("ydata.kafka.two", &old);
        write("short.a", &format!("{}\n{}", "s".repeat(SHORTEST), "s".repeat(SHORTEST - 1)));
        write("space.a", &format!("{} x", "s".repeat(SHORTEST)));
        write("long.a", &"l".repeat(LONGEST + 1));
        write("nobody", &old);
        write("huge.a", &format!("{old}\n").repeat(2048));
        write("bytes.a", "");
        fs::write(folder.join("bytes.a"), [0xff; 40]).expect("a file");
        write(".hidden", &old);
        let (tokens, problems) = Tokens::read(&folder);
        let told: Vec<&str> = problems
            .iter()
            .filter_map(|p| p.rsplit('/').next()?.split_once(": "))
            .map(|(file, _)| file)
            .collect();
        assert_eq!(told, ["bytes.a", "huge.a", "long.a", "nobody", "short.a", "space.a"]);
        assert!(problems.iter().all(|problem| !problem.contains("sss") && !problem.contains("lll")));
        let open = |object: &str, token: &str| tokens.open(&object.parse().expect("a key"), token);
        assert!(open("ydata/kafka", &old) && open("ydata/kafka", &new) && open("ydata/kafka.two", &old));
        for (object, token) in [
            ("ydata/kafka.two", new.as_str()),
            ("ydata/kafka", ""),
            ("ydata/kafka", &old[1..]),
            ("ydata/kafka2", &old),
            ("other/kafka", &old),
            ("short/a", &"s".repeat(SHORTEST)),
            ("huge/a", &old),
        ] {
            assert!(!open(object, token), "{object}");
        }
        fs::remove_dir_all(&folder).expect("removed");
        let (tokens, problems) = Tokens::read(&folder);
        assert_eq!((tokens.known.len(), problems.len()), (0, 1), "the folder is gone, and so are the rights");
    }
}
