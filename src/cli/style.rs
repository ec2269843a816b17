//! Marks and colours. What is printed through `anstream` loses its colours where nobody sees them: no terminal, `NO_COLOR`.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

/// As it should be.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Somebody should look.
pub const WARNING: Style = AnsiColor::Yellow.on_default();
/// Not as it should be.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Beside the point.
pub const ASIDE: Style = Style::new().dimmed();
/// A heading.
pub const HEADING: Style = Style::new().bold();

/// The text in a style.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// How something stands, in one sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Good,
    /// Nothing to say about.
    Idle,
    /// Somebody should look, or wait.
    Warning,
    /// Not as it should be.
    Bad,
}

impl Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (style, sign) = match self {
            Self::Good => (GOOD, "√"),
            Self::Idle => (ASIDE, "·"),
            Self::Warning => (WARNING, "‼"),
            Self::Bad => (BAD, "×"),
        };
        f.write_str(&paint(style, sign))
    }
}

const CELLS: u64 = 20;

/// Twenty cells, filled as far as `used` of `limit`.
pub fn bar(used: u32, limit: u32) -> String {
    let filled = (u64::from(used) * CELLS).div_ceil(u64::from(limit.max(1))).min(CELLS);
    let style = match used.saturating_mul(10) / limit.max(1) {
        0..=7 => GOOD,
        8 => WARNING,
        _ => BAD,
    };
    let cells = |count: u64, sign: &str| sign.repeat(usize::try_from(count).unwrap_or_default());
    format!("{}{}", paint(style, cells(filled, "█")), paint(ASIDE, cells(CELLS - filled, "░")))
}

/// The screen is emptied, where there is one.
pub fn clear() -> &'static str {
    use std::io::IsTerminal;
    if std::io::stdout().is_terminal() { "\u{1b}[2J\u{1b}[H" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_any_use_at_all_and_never_more_than_all() {
        let cells =
            |used, limit| anstream::adapter::strip_str(&bar(used, limit)).to_string().matches('█').count();
        assert_eq!([cells(0, 100), cells(1, 100), cells(50, 100), cells(100, 100)], [0, 1, 10, 20]);
        assert_eq!([cells(500, 100), cells(5, 0)], [20, 20]);
    }
}
