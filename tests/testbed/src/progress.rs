//! What the person at the terminal sees while a testbed comes up: a live line per step, or, where stderr is no
//! terminal (CI, tests), one plain line per finished step with the seconds since the start.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A long step says a word at least this often where no live line can be drawn, so that CI does not look stuck.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

/// Where steps are reported. Cheap to clone; clones share one display.
#[derive(Clone)]
pub struct Progress {
    start: Instant,
    display: Display,
}

#[derive(Clone)]
enum Display {
    Live(MultiProgress),
    Plain,
    Silent,
}

impl Progress {
    /// Live lines on a terminal, plain lines elsewhere.
    pub fn new() -> Self {
        let display =
            if std::io::stderr().is_terminal() { Display::Live(MultiProgress::new()) } else { Display::Plain };
        Self { start: Instant::now(), display }
    }

    /// Says nothing at all.
    pub fn silent() -> Self {
        Self { start: Instant::now(), display: Display::Silent }
    }

    /// Starts a step; it counts as failed unless [`Step::done`] is called on it.
    pub fn step(&self, title: impl Into<String>) -> Step {
        let title = title.into();
        let bar = match &self.display {
            Display::Live(multi) => {
                let bar = multi.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {prefix} {msg:.dim} {elapsed:.dim}") {
                    bar.set_style(style);
                }
                bar.set_prefix(title.clone());
                bar.enable_steady_tick(Duration::from_millis(120));
                Some(bar)
            }
            Display::Plain | Display::Silent => None,
        };
        Step { progress: self.clone(), title, bar, said: Arc::new(Mutex::new(Instant::now())), finished: false }
    }

    /// A line of its own, such as a remark about what is used instead of what.
    pub fn note(&self, line: impl AsRef<str>) {
        match &self.display {
            Display::Live(multi) => drop(multi.println(format!("  {}", line.as_ref()))),
            Display::Plain => eprintln!("{:>7.1} s  {}", self.start.elapsed().as_secs_f64(), line.as_ref()),
            Display::Silent => {}
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// One step under way.
pub struct Step {
    progress: Progress,
    title: String,
    bar: Option<ProgressBar>,
    said: Arc<Mutex<Instant>>,
    finished: bool,
}

impl Step {
    /// What the step is doing now.
    pub fn detail(&self, text: impl Into<String>) {
        let text = text.into();
        if let Some(bar) = &self.bar {
            bar.set_message(text);
            return;
        }
        let Ok(mut said) = self.said.lock() else { return };
        if said.elapsed() >= SIGN_OF_LIFE {
            *said = Instant::now();
            self.progress.note(format!("{}: {text}", self.title));
        }
    }

    /// Ends the step well; `outcome` is what came of it, possibly empty.
    pub fn done(mut self, outcome: impl AsRef<str>) {
        self.finished = true;
        let outcome = outcome.as_ref();
        let separator = if outcome.is_empty() { "" } else { ": " };
        match &self.bar {
            Some(bar) => {
                if let Ok(style) = ProgressStyle::with_template("{prefix:.green} {msg} {elapsed:.dim}") {
                    bar.set_style(style);
                }
                bar.set_prefix("✓");
                bar.finish_with_message(format!("{}{separator}{outcome}", self.title));
            }
            None => self.progress.note(format!("{}{separator}{outcome}", self.title)),
        }
    }

    /// Ends the step without a line: there was nothing to do.
    pub fn skip(mut self) {
        self.finished = true;
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.finished
            && let Some(bar) = &self.bar
        {
            bar.abandon_with_message("(not finished)");
        }
    }
}
