//! How far a command's work is: a bar on a terminal, lines without one.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::console::{Verbosity, say, tells};
use crate::format;

/// The least time between two lines, so that quick work is done in silence.
const PAUSE: Duration = Duration::from_secs(2);

/// The progress of one piece of work. Without a terminal a line comes at each tenth, but not sooner than after a pause.
#[derive(Debug)]
pub(super) struct WorkProgress {
    what: &'static str,
    n_done: u64,
    n_all: u64,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl WorkProgress {
    /// No piece of `n_all` is done; `what` says what they are.
    pub(super) fn new(what: &'static str, n_all: u64) -> Self {
        let is_shown = tells(Verbosity::Usual) && io::stderr().is_terminal();
        let style =
            ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}, {eta} left").expect("a fixed text");
        let bar = is_shown.then(|| ProgressBar::new(n_all).with_style(style).with_message(what));
        Self { what, n_done: 0, n_all, last_line: Instant::now(), bar }
    }

    /// `n` more pieces are done.
    pub(super) fn advance(&mut self, n: u64) {
        let tenth = |n_done: u64| n_done * 10 / self.n_all.max(1);
        let before = tenth(self.n_done);
        self.n_done += n;
        match &self.bar {
            Some(bar) => bar.set_position(self.n_done),
            None if tenth(self.n_done) > before && self.last_line.elapsed() >= PAUSE => {
                self.last_line = Instant::now();
                let [n_done, n_all] = [self.n_done, self.n_all].map(format::count);
                say(&format!("  {n_done} of {n_all} {}", self.what));
            }
            None => {}
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
