//! Findings of a check, in categories, each with its remedy.

use std::fmt::Write;

use serde::Serialize;

use crate::cli::style::{ASIDE, BAD, GOOD, HEADING, Mark, WARNING, paint};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it stands.
    pub mark: Mark,
    /// What was seen.
    pub text: String,
    /// What to do; only where there is something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Findings that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Category {
    /// What was looked at.
    pub name: String,
    /// In the order of the road.
    pub findings: Vec<Finding>,
}

impl Category {
    /// Nothing was found yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), findings: Vec::new() }
    }

    /// As it should be.
    pub fn good(&mut self, text: impl Into<String>) {
        self.findings.push(Finding { mark: Mark::Good, text: text.into(), remedy: None });
    }

    /// Nothing that keeps anything from working.
    pub fn warn(&mut self, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(Mark::Warning, text.into(), remedy.into());
    }

    /// Something does not work.
    pub fn bad(&mut self, text: impl Into<String>, remedy: impl Into<String>) {
        self.add(Mark::Bad, text.into(), remedy.into());
    }

    fn add(&mut self, mark: Mark, text: String, remedy: String) {
        // Some sentences end with their remedy.
        let text = text.strip_suffix(&remedy).map_or(text.as_str(), str::trim_end).to_owned();
        self.findings.push(Finding { mark, text, remedy: (!remedy.is_empty()).then_some(remedy) });
    }
}

/// Nothing failed; warnings do not count.
pub fn passed(categories: &[Category]) -> bool {
    categories.iter().flat_map(|category| &category.findings).all(|finding| finding.mark != Mark::Bad)
}

/// `1 step`, `2 steps`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Names that are listed before the rest is counted.
const NAMED: usize = 5;

/// The first few, and how many more.
pub fn listed(names: &[String]) -> String {
    let first = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// For people.
pub fn render(categories: &[Category]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for category in categories.iter().filter(|category| !category.findings.is_empty()) {
        let _ = writeln!(text, "{}", paint(HEADING, &category.name));
        for Finding { mark, text: seen, remedy } in &category.findings {
            let _ = writeln!(text, "  {mark} {seen}");
            if let Some(remedy) = remedy {
                let _ = writeln!(text, "      {} {remedy}", paint(ASIDE, "fix:"));
            }
        }
        text.push('\n');
    }
    let count = |mark| {
        categories
            .iter()
            .flat_map(|category| &category.findings)
            .filter(|finding| finding.mark == mark)
            .count()
    };
    let (good, warnings, bad) = (count(Mark::Good), count(Mark::Warning), count(Mark::Bad));
    let style = if bad > 0 {
        BAD
    } else if warnings > 0 {
        WARNING
    } else {
        GOOD
    };
    let sum = format!("{good} passed, {}, {bad} failed", counted(warnings, "warning"));
    let _ = writeln!(text, "{}", paint(style, sum));
    text
}
