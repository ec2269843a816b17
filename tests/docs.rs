//! `docs/`: what is generated is current, every page is in the book, and every link leads somewhere.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use kafka_external_access::api::{KafkaExternalAccess, KafkaExternalAccessClass, conditions::Reason};
use kube::CustomResourceExt;
use serde_json::Value;
use strum::IntoEnumIterator;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// With `UPDATE` set, writes the page first.
fn assert_current(name: &str, page: &str) {
    let file = docs().join(name);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, page).expect("docs can be written");
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == page, "docs/{name} is not current; run: make generate");
}

#[test]
fn the_list_of_reasons_is_current() {
    let mut page = "# Reasons\n\nGenerated from the code by `make generate`. Each can stand in a condition, at a broker, or in an event.\n\n| reason | what it means | what to do |\n|---|---|---|\n".to_owned();
    for reason in Reason::iter() {
        writeln!(page, "| `{reason}` | {} | {} |", reason.meaning(), reason.remedy())
            .expect("a String can be written");
    }
    assert_current("reasons.md", &page);
}

#[test]
fn the_list_of_fields_is_current() {
    let mut page = "# Fields\n\nGenerated from the CustomResourceDefinitions by `make generate`. `[]` stands for each entry of a list. `kubectl explain kea.spec --recursive` shows the same.\n".to_owned();
    let (object, class) = (KafkaExternalAccess::crd(), KafkaExternalAccessClass::crd());
    for (crd, part, heading) in
        [(&object, "spec", "spec"), (&object, "status", "status"), (&class, "spec", "spec of a class")]
    {
        let crd = serde_json::to_value(crd).expect("JSON");
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut fields = Fields::default();
        fields.add(part, &schema["properties"][part]);
        write!(page, "\n## {heading}\n\n| field | type | what it is |\n|---|---|---|\n{}", fields.rows)
            .expect("text");
        if !fields.rules.is_empty() {
            write!(page, "\nRules:\n\n{}", fields.rules).expect("text");
        }
    }
    assert_current("api.md", &page);
}

/// Rows of a table, a field each, and the rules that hold between fields.
#[derive(Default)]
struct Fields {
    rows: String,
    rules: String,
}

impl Fields {
    fn add(&mut self, path: &str, schema: &Value) {
        let description = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
        let description = description.replace('|', "\\|");
        writeln!(self.rows, "| `{path}` | {} | {description} |", kind(schema)).expect("text");
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            writeln!(self.rules, "- `{path}`: {}", rule["message"].as_str().unwrap_or_default())
                .expect("text");
        }
        let item = &schema["items"];
        if item["properties"].is_object() {
            self.add_properties(&format!("{path}[]"), item);
        }
        self.add_properties(path, schema);
    }

    fn add_properties(&mut self, path: &str, schema: &Value) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            self.add(&format!("{path}.{name}"), field);
        }
    }
}

/// Type, bounds and default in a few words.
fn kind(schema: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut words = match schema["type"].as_str() {
        Some("array") => {
            let of = schema["items"]["type"].as_str().unwrap_or("value");
            format!("list of {of}")
        }
        Some(kind) => kind.to_owned(),
        None => "value".to_owned(),
    };
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<String> = choices.iter().filter(|choice| !choice.is_null()).map(text).collect();
        words = choices.join(", ");
    }
    if let (Some(least), Some(most)) = (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        write!(words, ", {least} to {most}").expect("text");
    }
    for (bound, unit) in [("maxLength", "characters"), ("maxItems", "entries")] {
        if let Some(most) = schema[bound].as_u64() {
            write!(words, ", at most {most} {unit}").expect("text");
        }
    }
    if let Some(default) = schema.get("default").filter(|default| !default.is_object()) {
        write!(words, "; default `{}`", text(default)).expect("text");
    }
    words
}

fn pages() -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(docs()).expect("docs can be read").flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// Targets of `[text](target)` and `[name]: target`, without what stands in code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut code = false;
    for line in text.lines() {
        code ^= line.trim_start().starts_with("```");
        if code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect();
        let inline = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let named = line.starts_with('[').then(|| line.split_once("]: ")).flatten();
        found.extend(inline.chain(named.map(|(_, target)| target)).map(str::to_owned));
    }
    found
}

/// As Markdown makes it from a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

#[test]
fn every_page_is_in_the_book() {
    let summary = fs::read_to_string(docs().join("SUMMARY.md")).expect("the summary");
    let listed: BTreeSet<PathBuf> = links(&summary).into_iter().map(|link| docs().join(link)).collect();
    let mut there = pages();
    there.remove(&docs().join("SUMMARY.md"));
    assert_eq!(listed, there, "left: pages of docs/SUMMARY.md; right: pages of docs/");
}

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root.join(name));
    let mut checked = 0;
    for page in pages().into_iter().chain(others) {
        let text = fs::read_to_string(&page).expect("a page");
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, part) = link.split_once('#').map_or((link.as_str(), None), |(f, p)| (f, Some(p)));
            let target = match file {
                "" => page.clone(),
                file => page.parent().expect("a folder").join(file),
            };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            // The book has the pages of docs and nothing else.
            let leaves = page.starts_with(docs()) && file.starts_with("..");
            assert!(!leaves, "{}: {link} leads out of the book", page.display());
            if let Some(part) = part {
                let there = anchors(&fs::read_to_string(&target).expect("a page"));
                assert!(there.contains(part), "{}: {link} has no such heading", page.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} links were found");
}

/// The transcript of README.md, between its two marks.
fn transcript() -> String {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README");
    let between = readme
        .split_once("<!-- transcript: begin -->")
        .and_then(|(_, rest)| rest.split_once("<!-- transcript: end"));
    between.expect("a transcript").0.to_owned()
}

#[test]
fn the_transcript_shows_what_the_demo_runs() {
    let demo =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/demo.sh")).expect("the demo");
    let mut seen = 0;
    for line in transcript().lines() {
        let run = line.strip_prefix("$ ").map(|command| format!("\n{command}\n"));
        // What the demo fills in stands at the end.
        let said = line.strip_prefix("== ").map(|said| {
            let fixed = said.find(|c: char| c.is_ascii_digit()).map_or(said, |at| &said[..at]);
            format!("\nsay \"{fixed}")
        });
        for expected in run.into_iter().chain(said) {
            assert!(demo.contains(&expected), "scripts/demo.sh has no {expected:?}");
            seen += 1;
        }
    }
    assert!(seen >= 4, "{seen} commands");
}

#[test]
fn the_transcript_has_the_columns_and_fields_of_today() {
    let crd = serde_json::to_value(KafkaExternalAccess::crd()).expect("JSON");
    let version = &crd["spec"]["versions"][0];
    let columns = version["additionalPrinterColumns"].as_array().expect("columns").iter();
    let names = columns.filter_map(|column| column["name"].as_str()).map(str::to_uppercase);
    let columns: Vec<String> = ["NAME".to_owned()].into_iter().chain(names).collect();
    let transcript = transcript();
    let header = transcript.lines().find(|line| line.starts_with("NAME ")).expect("a table");
    assert_eq!(header.split_whitespace().collect::<Vec<_>>(), columns);

    let status = &version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
    let shown = transcript.split_once("\nStatus:\n").and_then(|(_, rest)| rest.split_once("\nEvents:"));
    let (shown, _) = shown.expect("a description");
    let mut seen = 0;
    for line in shown.lines().filter_map(|line| line.strip_prefix("  ")) {
        let Some((label, _)) =
            line.split_once(':').filter(|(label, _)| label.starts_with(char::is_uppercase))
        else {
            continue;
        };
        // `Project ID` is projectID.
        let label = label.replace(' ', "");
        let field = label[..1].to_lowercase() + &label[1..];
        assert!(status[&field].is_object(), "the status has no {field}");
        seen += 1;
    }
    assert!(seen >= 7, "{seen} fields");
}

/// Names of the YAML files of a folder, without their ending.
fn named(folder: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let yaml = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    yaml.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect()
}

const ALERTS: &str = "charts/kafka-external-access/files/alerts";

#[test]
fn every_alert_has_a_runbook_and_a_test_and_every_one_of_those_an_alert() {
    let page = fs::read_to_string(docs().join("runbooks.md")).expect("the runbooks");
    let sections = page.split("\n## ").skip(1).map(|section| section.split_once('\n').expect("a text"));
    let mut runbooks = BTreeSet::new();
    for (alert, text) in sections {
        let headings: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        assert_eq!(headings, ["Meaning", "Impact", "Diagnosis", "Mitigation"], "{alert}");
        let parts = text.split("\n### ").skip(1).map(|part| part.split_once('\n').expect("a text").1);
        assert!(parts.clone().all(|part| part.trim().len() > 10), "{alert}: a heading without a text");
        assert!(parts.clone().nth(2).is_some_and(|part| part.contains("```")), "{alert}: no command");
        runbooks.insert(alert.to_owned());
    }
    assert_eq!(runbooks, named(ALERTS), "left: sections of docs/runbooks.md; right: {ALERTS}");
    assert_eq!(named("tests/alerts"), named(ALERTS), "left: tests/alerts; right: {ALERTS}");
}

#[test]
fn alerts_runbooks_and_dashboard_name_metrics_that_exist() {
    const PREFIX: &str = "kafka_external_access_";
    let page = fs::read_to_string(docs().join("metrics.md")).expect("the metrics");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let listed: BTreeSet<&str> =
        rows.flat_map(|(names, _)| names.split(", ").map(|name| name.trim_matches('`'))).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let alerts = named(ALERTS).into_iter().map(|name| root.join(ALERTS).join(name + ".yaml"));
    let dashboard = root.join("charts/kafka-external-access/files/dashboards/kafka-external-access.json");
    for file in alerts.chain([docs().join("runbooks.md"), dashboard]) {
        let text = fs::read_to_string(&file).expect("a text");
        let end =
            |rest: &str| rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let names: BTreeSet<&str> = text.split(PREFIX).skip(1).map(|rest| &rest[..end(rest)]).collect();
        assert!(!names.is_empty(), "{} names no metric", file.display());
        for name in names {
            let plain = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(listed.contains(plain), "{}: {PREFIX}{name} does not exist", file.display());
        }
    }
}

/// The rows of the tables of docs/security.md whose first column numbers them, and what is in their last column.
fn rules_of_security() -> Vec<(String, String)> {
    let page = fs::read_to_string(docs().join("security.md")).expect("docs/security.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("## Tenants"));
    let cells = |row: &str| -> Vec<String> {
        row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()
    };
    let rule = |row: Vec<String>| match row.as_slice() {
        [number, _, shown] if number.parse::<u32>().is_ok() || number.is_empty() => {
            Some((number.clone(), shown.clone()))
        }
        _ => None,
    };
    rows.filter(|line| line.starts_with('|')).map(cells).filter_map(rule).collect()
}

/// Every test of the tree: the words of its path without `.rs`, and its name.
fn tests() -> Vec<(Vec<String>, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for file in ["src", "tests", "lab"].into_iter().flat_map(|folder| rust_files(&root.join(folder))) {
        let path = file.strip_prefix(root).expect("below the root").with_extension("");
        let words: Vec<String> = path.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let text = fs::read_to_string(&file).expect("a source");
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            let name = line.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
            match name {
                Some((name, _)) if marked => {
                    found.push((words.clone(), name.to_owned()));
                    marked = false;
                }
                _ => marked |= line == "#[test]" || line.starts_with("#[tokio::test"),
            }
        }
    }
    found
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let files = entries.flat_map(|path| match path.is_dir() {
        true => rust_files(&path),
        false => vec![path],
    });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// `file::name_of_a_test`, `file::beginning_of_names_*`, `make chore`, `cargo ...` or a path.
fn is_shown(reference: &str, tests: &[(Vec<String>, String)]) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Some((file, name)) = reference.rsplit_once("::") {
        let beginning = name.strip_suffix('*');
        let named = |other: &str| beginning.map_or(other == name, |beginning| other.starts_with(beginning));
        return tests.iter().any(|(path, other)| {
            named(other) && file.split("::").all(|word| path.iter().any(|w| w == word))
        });
    }
    if let Some(chore) = reference.strip_prefix("make ") {
        let chore = chore.split(' ').next().unwrap_or_default();
        let makefile = fs::read_to_string(root.join("Makefile")).expect("Makefile");
        return makefile.lines().any(|line| line.starts_with(&format!("{chore}:")));
    }
    reference.starts_with("cargo ") || root.join(reference).exists()
}

#[test]
fn every_rule_of_the_security_page_names_a_test_that_exists_or_says_that_it_is_not_kept() {
    let (tests, golden) = (tests(), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"));
    assert!(tests.len() > 400, "only {} tests were found", tests.len());
    let rules = rules_of_security();
    let numbers: Vec<u32> = rules.iter().filter_map(|(number, _)| number.parse().ok()).collect();
    assert_eq!(numbers, (1..=42).collect::<Vec<u32>>());
    let mut kept = [0; 3];
    for (number, shown) in &rules {
        let code = shown.split('`').skip(1).step_by(2);
        let cases = shown.split('"').skip(1).step_by(2);
        let mut references = 0;
        for reference in code {
            assert!(is_shown(reference, &tests), "{number}: `{reference}` is not there");
            references += 1;
        }
        for case in cases {
            assert!(golden.join(case).is_dir(), "{number}: there is no golden case \"{case}\"");
            references += 1;
        }
        let state = if shown.starts_with("no") { 2 } else { usize::from(shown.starts_with("in part")) };
        assert!(references > 0 || state == 2, "{number}: nothing shows it");
        kept[state] += usize::from(!number.is_empty());
    }
    let page = fs::read_to_string(docs().join("security.md")).expect("docs/security.md");
    let sum = format!("{} are kept, {} in part, {} not.", kept[0], kept[1], kept[2]);
    assert!(page.contains(&sum), "docs/security.md does not say: {sum}");
}

/// A number, or a product of some; `IDLE_READS` is declared in the bench.
fn product(text: &str, bench: &str) -> u64 {
    let text = match text.trim() {
        "IDLE_READS" => bench.split_once("IDLE_READS: usize = ").expect("it is declared").1,
        number => number,
    };
    let factors = text.split(';').next().unwrap_or_default().split('*');
    factors.map(|factor| factor.trim().parse::<u64>().expect("a number")).product()
}

#[test]
fn the_performance_page_has_the_counts_goals_and_peer_that_the_bench_declares() {
    let bench = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/counts.rs"));
    let bench = bench.expect("the bench");
    let call = r#"(?s)table\.count\(\s*"([^"]+)",.*?,\s*([0-9A-Z_ *]+),\s*"([^"]*)",?\s*\);"#;
    let call = regex::Regex::new(call).expect("an expression");
    let declared: Vec<(String, u64, String)> = call
        .captures_iter(&bench)
        .map(|found| (found[1].to_owned(), product(&found[2], &bench), found[3].to_owned()))
        .collect();
    assert_eq!(declared.len(), bench.matches("table.count(").count(), "a count is not understood");
    let page = fs::read_to_string(docs().join("performance.md")).expect("docs/performance.md");
    let (_, counts) =
        page.split_once("| count | seen | at most | peer |\n|---|---|---|---|\n").expect("a table");
    let mut shown = Vec::new();
    for row in counts.lines().take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [what, seen, goal, peer] = cells[..] else { panic!("{row}") };
        let number = |text: &str| text.parse::<u64>().expect("a number");
        assert!(number(seen) <= number(goal), "{row}");
        shown.push((what.to_owned(), number(goal), peer.to_owned()));
    }
    assert_eq!(shown, declared, "left: docs/performance.md; right: benches/counts.rs");
}
