use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::error::Result;

/// Shows what the lab is doing, and for how long it has been doing it. Steps may run in parallel. Without a terminal each step prints one line when it ends.
#[derive(Clone)]
pub struct Progress {
    bars: MultiProgress,
    shown: bool,
}

impl Progress {
    /// Shows steps on standard error.
    #[must_use]
    pub fn shown() -> Self {
        Self { bars: MultiProgress::new(), shown: true }
    }

    /// Shows nothing: for tests.
    #[must_use]
    pub fn silent() -> Self {
        Self { bars: MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden()), shown: false }
    }

    /// Runs `work` as one step named `text`.
    pub fn step<T>(&self, text: &str, work: impl FnOnce(&Step) -> Result<T>) -> Result<T> {
        let step = Step { bar: self.bars.add(ProgressBar::new_spinner()), start: Instant::now() };
        step.bar.set_style(style());
        step.bar.set_message(text.to_owned());
        step.bar.enable_steady_tick(Duration::from_millis(200));
        let result = work(&step);
        step.bar.finish_and_clear();
        let mark = if result.is_ok() { '✓' } else { '✗' };
        self.say(&format!("{mark} {text} ({:.1} s)", step.start.elapsed().as_secs_f64()));
        result
    }

    /// Prints one line above the running steps.
    pub fn say(&self, line: &str) {
        if self.shown && self.bars.println(line).is_ok() && self.bars.is_hidden() {
            eprintln!("{line}");
        }
    }
}

/// One running step.
pub struct Step {
    bar: ProgressBar,
    start: Instant,
}

impl Step {
    /// Shows what the step is at right now.
    pub fn note(&self, text: &str) {
        self.bar.set_prefix(text.to_owned());
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} {elapsed} {prefix:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
