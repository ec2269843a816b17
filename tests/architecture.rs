//! Holds the tree to its own rules: which way `use` points, how long a file may be, where time and chance come in.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a folder or file of `src` may use. Left out: everything may.
const MAY_USE: [(&str, &[&str]); 9] = [
    ("domain.rs", &[]),
    ("seams.rs", &[]),
    ("api", &[]),
    ("cloud", &["domain", "seams", "kafka"]),
    ("kafka", &["domain", "seams"]),
    ("kubernetes", &["api", "domain", "seams"]),
    ("listeners", &["cloud", "domain", "seams", "kafka"]),
    ("plan", &["api", "cloud", "domain", "kafka", "kubernetes", "listeners"]),
    ("observe", &["api", "cloud", "domain", "kafka", "kubernetes", "listeners", "plan", "seams"]),
];

/// Where the real clocks, timers and randomness may appear, and why.
const MAY_TELL_TIME: [(&str, &str); 3] = [
    ("runtime/clock.rs", "the real clock and the real randomness"),
    ("kubernetes/api.rs", "the real API server: a limit for each call"),
    ("kafka/wire.rs", "the real broker: a limit for each step"),
];
const TIME_AND_CHANCE: [&str; 6] =
    ["tokio::time", "SystemTime", "Instant::now", "Timestamp::now", "rand::random", "Zoned::now"];
const LONGEST_FILE: usize = 520;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("src can be read").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Path below `src`, and the text without its tests.
fn files() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&src).expect("below src").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a source can be read");
        let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
        (name, product)
    };
    sources(&src).into_iter().map(read).collect()
}

#[test]
fn use_points_one_way_only() {
    for (name, text) in files() {
        let Some((own, allowed)) = MAY_USE.iter().find(|(part, _)| name.starts_with(part)) else { continue };
        for (at, _) in text.match_indices("crate::") {
            let rest = &text[at + "crate::".len()..];
            // `use crate::{a::.., b::..}`: the names at the first level of the braces.
            let modules: Vec<String> = match rest.strip_prefix('{') {
                Some(group) => first_level(group),
                None => vec![rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()],
            };
            for module in modules {
                let same = own.trim_end_matches(".rs") == module;
                assert!(
                    same || allowed.contains(&module.as_str()),
                    "src/{name} must not use crate::{module}"
                );
            }
        }
    }
}

fn first_level(group: &str) -> Vec<String> {
    let (mut depth, mut word, mut words) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => words.push(std::mem::take(&mut word)),
            c if depth == 0 => word.push(c),
            _ => {}
        }
    }
    words.push(word);
    let first = |word: String| word.trim().split("::").next().unwrap_or_default().to_owned();
    words.into_iter().map(first).filter(|word| !word.is_empty()).collect()
}

#[test]
fn decisions_are_pure() {
    for (name, text) in files().into_iter().filter(|(name, _)| name.starts_with("plan")) {
        for forbidden in ["async ", ".await", "kube::Client", "reqwest", "tokio"] {
            assert!(!text.contains(forbidden), "src/{name} contains {forbidden}");
        }
    }
}

#[test]
fn time_and_chance_come_in_through_the_seams() {
    for (name, text) in files() {
        if MAY_TELL_TIME.iter().any(|(file, _)| *file == name) {
            continue;
        }
        for forbidden in TIME_AND_CHANCE {
            assert!(!text.contains(forbidden), "src/{name} uses {forbidden}; take it from the seams");
        }
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    for (name, text) in files() {
        let lines = text.lines().count();
        assert!(lines <= LONGEST_FILE, "src/{name} has {lines} lines");
    }
}
