//! Conditions: which, and since when.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Problem;
use crate::api::conditions::{ConditionType, Reason};

/// Longest message that is written.
pub const LONGEST_MESSAGE: usize = 1024;
/// The longest step in `status.plan` (the schema says the same): a patch that is cut short is of no use to anybody.
pub const LONGEST_STEP: usize = 16 * 1024;

/// Three-valued, as Kubernetes spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// So it is.
    True,
    /// So it is not.
    False,
    /// It cannot be told.
    Unknown,
}

impl Status {
    /// The API's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A condition to report.
pub struct Finding {
    /// Which.
    pub kind: ConditionType,
    /// Its value.
    pub status: Status,
    /// Why.
    pub problem: Problem,
}

impl Finding {
    /// A condition that needs no explanation beyond its reason.
    pub fn plain(kind: ConditionType, status: Status, reason: Reason) -> Self {
        Self { kind, status, problem: Problem::new(reason, reason.meaning()) }
    }
}

/// The conditions to write: `lastTransitionTime` moves with the status value only.
pub fn merge(
    previous: &[Condition],
    findings: Vec<Finding>,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |finding: Finding| {
        let kind: &str = finding.kind.into();
        let before = previous.iter().find(|condition| condition.type_ == kind);
        let unchanged = before.filter(|before| before.status == finding.status.word());
        let since =
            unchanged.map_or_else(|| Time(to_seconds(now)), |before| before.last_transition_time.clone());
        Condition {
            type_: kind.to_owned(),
            status: finding.status.word().to_owned(),
            reason: finding.problem.reason.to_string(),
            message: shortened(&finding.problem.message, LONGEST_MESSAGE),
            last_transition_time: since,
            observed_generation: Some(generation),
        }
    };
    findings.into_iter().map(condition).collect()
}

/// The API server keeps whole seconds; a fraction would make every status differ from the stored one.
pub fn to_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// At most so many bytes, cut at a character.
pub fn shortened(text: &str, longest: usize) -> String {
    if text.len() <= longest {
        return text.to_owned();
    }
    let mut end = longest - 3;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_whole_seconds() {
        let at: Timestamp = "2026-05-01T10:20:30.987Z".parse().expect("a time");
        assert_eq!(to_seconds(at).to_string(), "2026-05-01T10:20:30Z");
    }

    #[test]
    fn a_message_is_cut_at_a_character_and_never_longer_than_it_may_be() {
        let whole = "x".repeat(LONGEST_MESSAGE);
        assert_eq!(shortened(&whole, LONGEST_MESSAGE), whole);
        let cut = shortened(&format!("{whole}x"), LONGEST_MESSAGE);
        assert_eq!(cut, format!("{}...", "x".repeat(LONGEST_MESSAGE - 3)));
        // Three bytes each: the limit falls into one of them.
        let cut = shortened(&"€".repeat(LONGEST_MESSAGE), LONGEST_MESSAGE);
        assert_eq!(cut, format!("{}...", "€".repeat((LONGEST_MESSAGE - 3) / 3)));
    }
}
