//! values.yaml, its schema, and README.md, which is made from the comments in values.yaml.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use serde_json::Value;

use crate::helm::CHART;

/// A value that a user may set.
#[derive(Debug)]
struct Setting {
    path: String,
    comment: String,
    default: String,
}

/// Settings by section, in the order of values.yaml. A section begins with `# -- Title`; the comment above a key is its
/// description; a key with a mapping below it, whose keys have comments, stands for them.
fn sections(text: &str) -> Vec<(String, Vec<Setting>)> {
    let (mut sections, mut comment, mut parents) = (Vec::new(), Vec::new(), Vec::<String>::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let text = line.trim_start();
        let depth = (line.len() - text.len()) / 2;
        if let Some(title) = text.strip_prefix("# -- ") {
            sections.push((title.to_owned(), Vec::new()));
            comment.clear();
        } else if let Some(words) = text.strip_prefix("# ") {
            comment.push(words.to_owned());
        } else if text.is_empty() {
            comment.clear();
        } else if let Some((key, value)) = text.split_once(':').filter(|_| !text.starts_with('-')) {
            parents.truncate(depth);
            parents.push(key.to_owned());
            let below = lines.peek().is_some_and(|next| next.starts_with(&" ".repeat(2 * depth + 2)));
            let list = lines.peek().is_some_and(|next| next.trim_start().starts_with("- "));
            let described = !comment.is_empty();
            // A mapping with a comment of its own is one value, whatever is below it.
            let setting = described || !(below && value.is_empty());
            if setting && (described || parents.len() == 1 || key == "renderMode") {
                let default = if below || list { "see values.yaml" } else { value.trim() }.to_owned();
                let setting = Setting { path: parents.join("."), comment: comment.join(" "), default };
                let (_, settings) = sections.last_mut().expect("values.yaml begins with a section");
                settings.push(setting);
            }
            comment.clear();
        }
    }
    sections
}

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(CHART).join(name)).unwrap_or_default()
}

fn readme() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (title, settings) in sections(&read("values.yaml")) {
        let (name, more) = title.split_once(". ").unwrap_or((title.trim_end_matches('.'), ""));
        write!(page, "\n### {name}\n\n").expect("a String can be written");
        if !more.is_empty() {
            write!(page, "{more}\n\n").expect("a String can be written");
        }
        page.push_str("| value | default | |\n|---|---|---|\n");
        for Setting { path, comment, default } in settings {
            writeln!(page, "| `{path}` | `{default}` | {comment} |").expect("a String can be written");
        }
    }
    page
}

const INTRODUCTION: &str = include_str!("introduction.md");

#[test]
fn the_readme_is_current() {
    let page = readme();
    let file = Path::new(CHART).join("README.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &page).expect("the README can be written");
    }
    assert!(read("README.md") == page, "the chart's README.md is not current; run: make generate");
}

/// Paths of all keys: of a mapping those of its members too. Free mappings end the descent.
fn keys(schema: &Value, prefix: &str, found: &mut BTreeMap<String, bool>) {
    for (name, of) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let closed = of["additionalProperties"] == Value::Bool(false);
        found.insert(path.clone(), closed);
        if of["type"] == "object" {
            keys(of, &format!("{path}."), found);
        }
    }
}

#[test]
fn the_schema_knows_every_value_and_no_other() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("the schema is JSON");
    assert_eq!(schema["additionalProperties"], Value::Bool(false));
    let mut known = BTreeMap::new();
    keys(&schema, "", &mut known);
    // Helm and charts above this one give these two.
    assert!(known.remove("global").is_some() && known.remove("enabled").is_some());
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).expect("values.yaml is YAML");
    let mut given = Vec::new();
    fn walk(value: &Value, prefix: &str, known: &BTreeMap<String, bool>, given: &mut Vec<String>) {
        for (name, of) in value.as_object().into_iter().flatten() {
            let path = format!("{prefix}{name}");
            if known.get(&path) == Some(&true) {
                walk(of, &format!("{path}."), known, given);
            }
            given.push(path);
        }
    }
    walk(&values, "", &known, &mut given);
    given.sort();
    assert_eq!(given, known.into_keys().collect::<Vec<_>>());
}
