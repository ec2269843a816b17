//! Every sample that a reader may copy is accepted by the API server: the files of `examples/`, and each block of YAML in the
//! pages.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    schema::changed,
    world::{World, in_lab, smallest},
};

/// Blocks that are no object of the API server's, by a line of theirs.
const OTHERS: [(&str, &str); 2] =
    [("kind: Config", "a kubeconfig"), ("includeObjectNames:", "rules of the JMX exporter")];

/// Blocks between ```yaml and ```, without their indentation.
fn blocks(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for line in page.lines() {
        let indented = line.len() - line.trim_start().len();
        match &mut open {
            None if line.trim() == "```yaml" => open = Some((indented, String::new())),
            None => {}
            Some(_) if line.trim() == "```" => found.extend(open.take().map(|(_, block)| block)),
            Some((by, block)) => {
                block.push_str(&line[indented.min(*by)..]);
                block.push('\n');
            }
        }
    }
    found
}

/// What to apply for a block: an object as it stands, and the smallest object with a part that is shown alone.
fn applied(block: &str) -> Result<String, String> {
    let value: Value = serde_saphyr::from_str(block).map_err(|error| error.to_string())?;
    let fields = value.as_object().ok_or("it is no object")?;
    if fields.contains_key("kind") {
        return Ok(block.to_owned());
    }
    match fields.keys().map(String::as_str).collect::<Vec<_>>()[..] {
        ["spec"] => Ok(changed(smallest(), &value).to_string()),
        _ => Err("neither an object nor a `spec`".to_owned()),
    }
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).expect("docs").flatten().map(|entry| entry.path());
    let pages = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain([root.join("README.md")]).collect()
}

/// Page and text of everything that the pages would have a reader apply.
fn samples() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for page in pages() {
        let name = page.display().to_string();
        let text = fs::read_to_string(&page).expect("a page");
        for block in blocks(&text) {
            if OTHERS.iter().any(|(line, _)| block.lines().any(|own| own.starts_with(line))) {
                continue;
            }
            let sample = applied(&block).unwrap_or_else(|error| panic!("{name}: {error}:\n{block}"));
            found.push((name.clone(), sample));
        }
    }
    found
}

/// With strict fields, and without an effect.
fn accepted(world: &World, sample: &str) -> lab::Result<String> {
    let apply = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    world.lab.command("kubectl").args(apply).text_with_input(sample.as_bytes())
}

#[test]
fn every_example_is_accepted() {
    in_lab("examples", async |world| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
        let mut seen = 0;
        for entry in fs::read_dir(folder).expect("examples").flatten() {
            let text = fs::read_to_string(entry.path()).expect("an example");
            accepted(world, &text).unwrap_or_else(|error| panic!("{}: {error}", entry.path().display()));
            seen += 1;
        }
        assert!(seen >= 12, "{seen} examples");
    });
}

#[test]
fn every_object_in_the_pages_is_accepted() {
    in_lab("pages", async |world| {
        let samples = samples();
        for (page, sample) in &samples {
            accepted(world, sample).unwrap_or_else(|error| panic!("{page}: {error}:\n{sample}"));
        }
        // README, quickstart, and what other pages show in part.
        assert!(samples.len() >= 7, "{} samples", samples.len());
        let misspelt = changed(smallest(), &json!({"spec": {"listener": {"prot": 9094}}}));
        accepted(world, &misspelt.to_string()).expect_err("a misspelt field");
    });
}

#[test]
fn a_block_of_yaml_is_taken_as_it_stands() {
    let page = "text\n\n   ```yaml\n   spec:\n     mode: Plan\n   ```\n\n```\nno: yaml\n```\n\n```yaml\nkind: A\n```\n";
    assert_eq!(blocks(page), ["spec:\n  mode: Plan\n", "kind: A\n"]);
    assert!(applied("kind: A\n").is_ok() && applied("spec: {mode: Plan}\n").is_ok());
    assert!(applied("other: 1\n").is_err() && applied("- 1\n").is_err());
}

#[test]
fn the_pages_have_samples() {
    assert!(samples().len() >= 7);
}
