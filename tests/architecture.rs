//! Holds the tree to its own rules: which way `use` points, how long a file may be, where time and chance come in, that no
//! code of ours is unsafe, and under which licences and from where dependencies come.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What a folder or file of `src` may use. Left out: everything may.
const MAY_USE: [(&str, &[&str]); 10] = [
    ("domain.rs", &[]),
    ("reach.rs", &[]),
    ("seams.rs", &[]),
    ("api", &[]),
    ("cloud", &["domain", "reach", "seams", "kafka"]),
    ("kafka", &["domain", "seams"]),
    ("kubernetes", &["api", "domain", "seams"]),
    ("listeners", &["cloud", "domain", "seams", "kafka"]),
    ("plan", &["api", "cloud", "domain", "kafka", "kubernetes", "listeners", "reach"]),
    ("observe", &["api", "cloud", "domain", "kafka", "kubernetes", "listeners", "plan", "reach", "seams"]),
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

/// As in deny.toml, and the one of the root certificates that builds for other systems use. `OR` needs one of them, `AND` each, and `/` is an old spelling of `OR`.
const LICENCES: [&str; 9] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

fn may_be_used(expression: &str) -> bool {
    let one = |licence: &str| LICENCES.contains(&licence.trim().trim_matches(['(', ')']).trim());
    let either = |text: &str| text.replace('/', " OR ").split(" OR ").any(one);
    expression.split(" AND ").all(either)
}

/// The values of a key in each `[[package]]` of Cargo.lock, or in a Cargo.toml: these files are written by cargo, one key
/// a line.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
    Some(line.trim_matches('"'))
}

/// Where cargo keeps the sources of a package; `None`: no build of this machine uses it.
fn manifest(name: &str, version: &str) -> Option<String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/src")).ok()?.flatten();
    let mut manifests = registries.map(|folder| folder.path().join(format!("{name}-{version}/Cargo.toml")));
    manifests.find_map(|path| fs::read_to_string(path).ok())
}

#[test]
fn every_dependency_comes_from_one_registry_under_a_licence_that_may_be_used() {
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).expect("Cargo.lock");
    let (mut read, mut registry) = (0, None);
    for package in lock.split("[[package]]").skip(1) {
        let (Some(name), Some(version)) = (value(package, "name"), value(package, "version")) else {
            panic!("a package without name and version: {package}");
        };
        let Some(source) = value(package, "source") else {
            assert!(["kafka-external-access", "lab"].contains(&name), "{name} comes from a folder");
            continue;
        };
        let first = *registry.get_or_insert(source);
        assert!(source == first && source.starts_with("registry+"), "{name} comes from {source}");
        let Some(manifest) = manifest(name, version) else { continue };
        let licence = value(&manifest, "license").unwrap_or_default();
        assert!(may_be_used(licence), "{name}: licence \"{licence}\"");
        read += 1;
    }
    assert!(read > 100, "licences of {read} packages were read");
}

#[test]
fn a_licence_expression_is_read_as_it_is_meant() {
    for fine in [
        "MIT",
        "MIT OR Apache-2.0",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
    ] {
        assert!(may_be_used(fine), "{fine}");
    }
    for not in ["", "GPL-3.0", "MIT AND GPL-3.0", "AGPL-3.0 OR SSPL-1.0"] {
        assert!(!may_be_used(not), "{not}");
    }
}

/// `make mutants` plants them; one that does not fit any more would only be found by the next record.
#[test]
fn every_planted_bug_fits_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let patches: Vec<PathBuf> = fs::read_dir(root.join("tests/mutants"))
        .expect("patches")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .collect();
    assert!(patches.len() > 14, "a guard and fourteen bugs: {patches:?}");
    for patch in patches {
        let mut git = Command::new("git");
        let done = git.current_dir(root).args(["apply", "--check"]).arg(&patch).output().expect("git runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn no_code_of_ours_is_unsafe() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = |path: &str| fs::read_to_string(root.join(path)).expect("a manifest");
    assert!(manifest("Cargo.toml").contains("unsafe_code = \"forbid\""));
    for path in ["Cargo.toml", "lab/Cargo.toml"] {
        assert!(
            manifest(path).contains("[lints]\nworkspace = true"),
            "{path} does not take the workspace's lints"
        );
    }
}

#[test]
fn nothing_of_the_product_needs_a_webhook() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut read = 0;
    for folder in ["crds", "charts/kafka-external-access/templates"] {
        for entry in fs::read_dir(root.join(folder)).expect("a folder").flatten() {
            let Ok(text) = fs::read_to_string(entry.path()) else { continue };
            let lower = text.to_lowercase();
            assert!(!lower.contains("webhook"), "{}", entry.path().display());
            read += 1;
        }
    }
    assert!(read > 10, "only {read} files were read");
}
