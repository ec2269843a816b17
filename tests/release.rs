//! What a release needs beside its build (`scripts/release/`, `.github/workflows/`): versions that agree, notes, checksums,
//! an SBOM of what is linked and nothing else, and workflows that run nothing unpinned with no right too many.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const TARGET: &str = "x86_64-unknown-linux-musl";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a script prints; `Err`: what it complains about.
fn run(script: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(script)
        .args(arguments)
        // Of no commit: a copy of the source may be without its history.
        .env("SOURCE_DATE_EPOCH", "0")
        .output()
        .expect("a script starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("scripts print text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn script(name: &str, arguments: &[&str]) -> Result<String, String> {
    run(&root().join("scripts/release").join(name), arguments)
}

/// A folder of its own that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        Self(folder)
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder can be made");
        fs::write(file, text).expect("a file can be written");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A copy of what names the version, with a changelog of its own.
fn copy(name: &str, changelog: &str) -> Scratch {
    let copy = Scratch::new(name);
    for file in [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "tests/chart/introduction.md",
        "docs/quickstart.md",
        "docs/hosts.md",
        "charts/kafka-external-access/Chart.yaml",
    ] {
        copy.write(file, &fs::read_to_string(root().join(file)).expect("a file"));
    }
    for file in ["check.sh", "notes.sh"] {
        let to = copy.0.join("scripts/release").join(file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder can be made");
        fs::copy(root().join("scripts/release").join(file), to).expect("a script can be copied");
    }
    copy.write("CHANGELOG.md", changelog);
    copy
}

fn check(copy: &Scratch, tag: &[&str]) -> Result<String, String> {
    run(&copy.0.join("scripts/release/check.sh"), tag)
}

fn released() -> String {
    format!(
        "# Changelog\n\n## [Unreleased]\n\n## [{VERSION}] - 2026-01-02\n\n### Added\n- One thing.\n\n## [0.0.1] - 2026-01-01\n\n### Added\n- The first.\n"
    )
}

#[test]
fn the_version_is_the_same_everywhere() {
    assert_eq!(script("check.sh", &[]), Ok(format!("{VERSION}\n")));
}

#[test]
fn a_version_that_differs_anywhere_is_no_release() {
    let tag = format!("v{VERSION}");
    assert_eq!(check(&copy("agrees", &released()), &[&tag]), Ok(format!("{VERSION}\n")));
    let other = "9.9.9";
    // As a Debian package has it.
    let packed = VERSION.replace('-', "~");
    for (file, line) in [
        ("Cargo.toml", format!("version = \"{VERSION}\"\nedition")),
        ("Cargo.lock", format!("name = \"lab\"\nversion = \"{VERSION}\"")),
        ("README.md", format!("kafka-external-access:{VERSION}")),
        ("tests/chart/introduction.md", format!("kafka-external-access:{VERSION}")),
        ("docs/quickstart.md", format!("kafka-external-access:{VERSION}")),
        ("docs/hosts.md", format!("kafka-external-access_{packed}_")),
        ("charts/kafka-external-access/Chart.yaml", format!("\nversion: {VERSION}")),
        ("charts/kafka-external-access/Chart.yaml", format!("appVersion: {VERSION}")),
    ] {
        let copy = copy("differs", &released());
        let text = fs::read_to_string(copy.0.join(file)).expect("a file");
        assert!(text.contains(&line), "{file} has no {line:?}");
        copy.write(file, &text.replace(&line, &line.replace(VERSION, other).replace(&packed, other)));
        let refused = check(&copy, &[&tag]).expect_err(file);
        assert!(refused.contains(file) && refused.contains(other), "{file}: {refused}");
    }
}

#[test]
fn a_tag_needs_its_notes_and_nothing_unreleased_beside_them() {
    let tag = format!("v{VERSION}");
    let heading = format!("## [{VERSION}] - 2026-01-02");
    for (name, changelog, tag, sentence) in [
        ("another tag", released(), "v9.9.9", "tag v9.9.9"),
        ("no heading", released().replace(&heading, "## [0.0.2] - 2026-01-02"), &tag, "no heading"),
        ("no date", released().replace(&heading, &format!("## [{VERSION}]")), &tag, "no heading"),
        ("no notes", released().replace("- One thing.", ""), &tag, "no notes"),
        (
            "unreleased",
            released().replace("## [Unreleased]", "## [Unreleased]\n\n### Fixed\n- Another."),
            &tag,
            "is unreleased",
        ),
    ] {
        let refused = check(&copy("tagged", &changelog), &[tag]).expect_err(name);
        assert!(refused.contains(sentence), "{name}: {refused}");
    }
}

#[test]
fn notes_are_the_version_s_own_section() {
    let copy = copy("notes", &released());
    let notes = |version: &str| run(&copy.0.join("scripts/release/notes.sh"), &[version]);
    assert_eq!(notes(VERSION), Ok("### Added\n- One thing.\n".to_owned()));
    assert_eq!(notes("0.0.1"), Ok("### Added\n- The first.\n".to_owned()));
    assert!(notes("Unreleased").is_err() && notes("0.0").is_err());
}

#[test]
fn checksums_are_those_of_every_file_and_show_a_change() {
    let folder = Scratch::new("checksums");
    folder.write("b.tar.gz", "archive");
    folder.write("a.json", "{}");
    let path = folder.0.to_str().expect("a path of text");
    // Again: the list is not in the list.
    for _ in 0..2 {
        script("checksums.sh", &[path]).expect("checksums");
    }
    let sums = fs::read_to_string(folder.0.join("SHA256SUMS")).expect("checksums");
    let names: Vec<&str> = sums.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(names, ["a.json", "b.tar.gz"]);
    let check = || {
        let mut command = Command::new("sha256sum");
        command
            .args(["--check", "--status", "SHA256SUMS"])
            .current_dir(&folder.0)
            .status()
            .expect("sha256sum")
    };
    assert!(check().success());
    folder.write("a.json", "{ }");
    assert!(!check().success());
}

#[test]
fn the_sbom_has_what_is_linked_and_nothing_else() {
    let folder = Scratch::new("sbom");
    let file = folder.0.join("sbom.json");
    let write = || {
        script("sbom.py", &[TARGET, file.to_str().expect("a path of text")]).expect("an SBOM");
        fs::read_to_string(&file).expect("an SBOM")
    };
    let text = write();
    assert!(text == write(), "the same source gives two SBOMs");
    let bill: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(bill["bomFormat"], "CycloneDX");
    assert_eq!(bill["metadata"]["component"]["version"], VERSION);

    let components = bill["components"].as_array().expect("components");
    let names: BTreeSet<&str> = components.iter().filter_map(|one| one["name"].as_str()).collect();
    for linked in ["aws-lc-sys", "kube", "rust-std", "tokio"] {
        assert!(names.contains(linked), "{linked} is missing");
    }
    // Of tests, of the lab, and of builds.
    for not in ["kafka-external-access", "lab", "proptest", "rcgen", "indicatif", "cc"] {
        assert!(!names.contains(not), "{not} is not in the program");
    }
    let refs: BTreeSet<&str> = components
        .iter()
        .chain([&bill["metadata"]["component"]])
        .filter_map(|one| one["bom-ref"].as_str())
        .collect();
    assert_eq!(refs.len(), components.len() + 1, "a reference stands for one component");
    for one in components {
        let hashed = one["hashes"][0]["content"].as_str().is_some_and(|hash| hash.len() == 64);
        assert!(hashed || one["name"] == "rust-std", "{one}");
        let licence = one["licenses"][0]["expression"].as_str().unwrap_or_default();
        assert!(!licence.is_empty() && !licence.contains(['/', '?']) && licence != "NOASSERTION", "{one}");
    }
    let edges = bill["dependencies"].as_array().expect("dependencies");
    let from: BTreeSet<&str> = edges.iter().filter_map(|edge| edge["ref"].as_str()).collect();
    assert_eq!(from, refs);
    for to in edges.iter().flat_map(|edge| edge["dependsOn"].as_array().expect("a list")) {
        assert!(refs.contains(to.as_str().expect("a reference")), "{to} is no component");
    }
}

#[test]
fn one_size_is_too_much_for_an_image_everywhere() {
    let script = fs::read_to_string(root().join("scripts/release/image.sh")).expect("a script");
    assert!(script.contains(&format!("\nmost={}\n", lab::image::LARGEST)));
}

/// Name and content of each workflow.
fn workflows() -> BTreeMap<String, Value> {
    let entries = fs::read_dir(root().join(".github/workflows")).expect("workflows").flatten();
    let workflow = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a workflow");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, serde_saphyr::from_str(&text).expect("a workflow is YAML"))
    };
    entries.map(|entry| workflow(entry.path())).collect()
}

fn jobs(workflow: &Value) -> impl Iterator<Item = (&String, &Value)> {
    workflow["jobs"].as_object().expect("jobs").iter()
}

fn steps(job: &Value) -> impl Iterator<Item = &Value> {
    job["steps"].as_array().into_iter().flatten()
}

#[test]
fn every_action_is_pinned_to_one_commit() {
    let pinned =
        regex::Regex::new(r"uses: ([\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$").expect("a pattern");
    let mut commits: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for name in workflows().keys() {
        let text = fs::read_to_string(root().join(".github/workflows").join(name)).expect("a workflow");
        for line in text.lines().filter(|line| line.contains("uses: ") && !line.contains("uses: ./")) {
            let found = pinned.captures(line).unwrap_or_else(|| panic!("{name}: not pinned: {line}"));
            let pair = (found[2].to_owned(), found[3].to_owned());
            commits.entry(found[1].to_owned()).or_default().insert(pair);
        }
    }
    assert!(commits.len() >= 5, "{commits:?}");
    for (action, pairs) in commits {
        assert_eq!(pairs.len(), 1, "{action} is pinned to {pairs:?}");
    }
}

/// Which job may write what.
const MAY_WRITE: [(&str, &[&str]); 3] = [
    ("image", &["attestations", "id-token", "packages"]),
    ("chart", &["attestations", "id-token", "packages"]),
    ("publish", &["attestations", "contents", "id-token"]),
];

#[test]
fn no_job_has_a_right_too_many() {
    for (file, workflow) in workflows() {
        assert_eq!(workflow["permissions"], serde_json::json!({}), "{file}");
        for (name, job) in jobs(&workflow) {
            let rights =
                job["permissions"].as_object().unwrap_or_else(|| panic!("{file}: {name} has no list"));
            let writes: Vec<&str> = rights
                .iter()
                .filter(|(_, level)| *level == "write")
                .map(|(right, _)| right.as_str())
                .collect();
            let may = MAY_WRITE.iter().find(|(job, _)| file == "release.yml" && job == name);
            let sorted: BTreeSet<&str> = writes.iter().copied().collect();
            assert_eq!(
                sorted,
                may.map(|(_, rights)| rights.iter().copied().collect()).unwrap_or_default(),
                "{name}"
            );
            assert!(
                job["uses"].is_string() || job["timeout-minutes"].is_u64(),
                "{file}: {name} may run for ever"
            );
        }
    }
}

#[test]
fn workflows_run_what_is_there_and_no_text_of_somebody_else() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("the Makefile");
    let mut seen = 0;
    for (file, workflow) in workflows() {
        for step in jobs(&workflow).flat_map(|(_, job)| steps(job)) {
            let checkout = step["uses"].as_str().is_some_and(|uses| uses.starts_with("actions/checkout@"));
            assert!(
                !checkout || step["with"]["persist-credentials"] == false,
                "{file}: a checkout keeps its token"
            );
            let Some(run) = step["run"].as_str() else { continue };
            // It would be part of the script. Values come by the environment.
            assert!(!run.contains("${{"), "{file}: {run}");
            for word in
                run.split_whitespace().filter(|word| word.starts_with("scripts/") || *word == ".ci/run")
            {
                assert!(root().join(word).is_file(), "{file}: there is no {word}");
                seen += 1;
            }
            if let Some(chore) = run.strip_prefix("make ") {
                assert!(makefile.contains(&format!("\n{}: ", chore.trim())), "{file}: no chore {chore}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 10, "{seen} commands were seen");
}
