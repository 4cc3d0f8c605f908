//! What a person sees while a run goes on: a bar on a terminal, plain lines without one.
//!
//! All of it goes to standard error, so that standard output stays for results. This reads no clock of its own for the
//! plain lines: their pace follows [`Metrics::wall_seconds`], so the same metrics give the same lines.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::format;
use crate::telemetry::metrics::{Kind, Metrics};

/// Least time between two plain lines, in seconds.
const LINE_SECONDS: f64 = 5.0;

/// The progress of one run towards its count of environment steps.
#[derive(Debug)]
pub struct Progress {
    n_steps: u64,
    face: Face,
    last_line_seconds: Option<f64>,
}

#[derive(Debug)]
enum Face {
    Bar(ProgressBar),
    Lines,
    Quiet,
}

impl Progress {
    /// Progress towards `n_steps` environment steps. A bar where standard error is a terminal, lines elsewhere, and
    /// nothing at all where `quiet`.
    #[must_use]
    pub fn new(n_steps: u64, quiet: bool) -> Self {
        let face = match quiet {
            true => Face::Quiet,
            false if io::stderr().is_terminal() => Face::Bar(bar(n_steps)),
            false => Face::Lines,
        };
        Self { n_steps, face, last_line_seconds: None }
    }

    /// Shows how far the run is. Cheap enough for every step: a bar redraws at most 20 times in a second, and a plain
    /// line comes at most every 5 seconds. Validation rows and the last step always get their line.
    pub fn update(&mut self, metrics: &Metrics) {
        match &self.face {
            Face::Bar(bar) => {
                bar.set_position(metrics.environment_steps);
                bar.set_prefix(steps(metrics, self.n_steps));
                bar.set_message(numbers(metrics));
            }
            Face::Lines => {
                if is_line_due(self.last_line_seconds, metrics, self.n_steps) {
                    self.last_line_seconds = Some(metrics.wall_seconds);
                    write_line(&line(metrics, self.n_steps));
                }
            }
            Face::Quiet => {}
        }
    }

    /// Prints a line, above the bar where there is one. Prints nothing where quiet: errors and results do not
    /// belong here.
    pub fn say(&self, text: &str) {
        match &self.face {
            Face::Bar(bar) => bar.suspend(|| write_line(text)),
            Face::Lines => write_line(text),
            Face::Quiet => {}
        }
    }

    /// Ends the display and leaves what it showed last.
    pub fn finish(&self) {
        if let Face::Bar(bar) = &self.face {
            bar.abandon();
        }
    }
}

fn bar(n_steps: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:24.cyan/blue} {percent:>3} %  {prefix}\n{wide_msg}")
        .expect("the template is a constant that a test renders")
        .progress_chars("━╸─");
    ProgressBar::new(n_steps).with_style(style)
}

/// Where the bar cannot be seen: how far in percent, then all that stands beside it.
fn line(metrics: &Metrics, n_steps: u64) -> String {
    let fraction = metrics.environment_steps as f64 / n_steps.max(1) as f64;
    format!("{:>3.0} %  {} · {}", (fraction * 100.0).floor(), steps(metrics, n_steps), numbers(metrics))
}

/// Environment steps so far and in all, and the time left where it is known.
fn steps(metrics: &Metrics, n_steps: u64) -> String {
    let steps = format!("step {}/{}", format::count(metrics.environment_steps), format::count(n_steps));
    let n_left = n_steps.saturating_sub(metrics.environment_steps);
    match metrics.environment_steps_per_second.filter(|rate| *rate > 0.0 && n_left > 0) {
        Some(rate) => format!("{steps}, {} left", format::duration(n_left as f64 / rate)),
        None => steps,
    }
}

/// Learner steps, reward, loss, rate and resident bytes. What is not known is left out.
fn numbers(metrics: &Metrics) -> String {
    let mut parts = vec![format!("learner {}", format::count(metrics.learner_steps))];
    let mut tell = |name: &str, value: Option<f64>, words: fn(f64) -> String| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            parts.push(format!("{name}{}", words(value)));
        }
    };
    tell("validation ", metrics.validation_log_return, |value| format::signed_percent(value.exp_m1()));
    tell("return ", metrics.episode_return, format::number);
    tell("return ", metrics.episode_return_bps, |value| format!("{} bps", format::number(value)));
    tell("reward ", metrics.mean_reward, |value| format::signed(value, 3));
    tell("reward ", metrics.mean_reward_bps, |value| format!("{} bps", format::signed(value, 3)));
    tell("loss ", metrics.loss, format::number);
    tell("", metrics.samples_per_second, |value| format!("{} samples/s", whole(value)));
    if metrics.resident_bytes > 0 {
        parts.push(format::bytes(metrics.resident_bytes));
    }
    parts.join(" · ")
}

fn whole(value: f64) -> String {
    format::fixed(value, usize::from(value < 9.95))
}

fn is_line_due(last_seconds: Option<f64>, metrics: &Metrics, n_steps: u64) -> bool {
    metrics.kind == Kind::Validation
        || metrics.environment_steps >= n_steps
        || last_seconds.is_none_or(|last| metrics.wall_seconds - last >= LINE_SECONDS)
}

/// A standard error that is closed must not stop a run.
fn write_line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics {
            environment_steps: 12_500,
            learner_steps: 3_125,
            wall_seconds: 20.0,
            mean_reward_bps: Some(0.1234),
            loss: Some(0.012_34),
            samples_per_second: Some(1_503.7),
            environment_steps_per_second: Some(625.0),
            resident_bytes: 512 << 20,
            ..Metrics::default()
        }
    }

    #[test]
    fn a_line_holds_both_counters_reward_loss_rate_bytes_and_time_left() {
        assert_eq!(
            line(&metrics(), 50_000),
            " 25 %  step 12,500/50,000, 1 min 00 s left · learner 3,125 · reward +0.123 bps · loss 0.01234 · \
             1,504 samples/s · 512 MiB"
        );
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let start = Metrics { environment_steps: 1, loss: Some(f64::NAN), ..Metrics::default() };
        assert_eq!(line(&start, 50_000), "  0 %  step 1/50,000 · learner 0");
        assert_eq!(line(&Metrics::default(), 0), "  0 %  step 0/0 · learner 0");
    }

    #[test]
    fn lines_keep_their_distance_except_validation_and_the_end() {
        let at = |wall_seconds| Metrics { wall_seconds, ..metrics() };
        assert!(is_line_due(None, &at(0.1), 50_000));
        assert!(!is_line_due(Some(20.0), &at(24.9), 50_000));
        assert!(is_line_due(Some(20.0), &at(25.0), 50_000));
        assert!(is_line_due(Some(20.0), &at(20.1), 12_500));
        let validation = Metrics { kind: Kind::Validation, ..at(20.1) };
        assert!(is_line_due(Some(20.0), &validation, 50_000));
    }

    #[test]
    fn the_bar_shows_the_newest_metrics_and_quiet_counts_no_line() {
        let hidden = bar(50_000);
        hidden.set_draw_target(indicatif::ProgressDrawTarget::hidden());
        let mut progress =
            Progress { n_steps: 50_000, face: Face::Bar(hidden.clone()), last_line_seconds: None };
        progress.update(&metrics());
        assert_eq!(hidden.position(), 12_500);
        assert_eq!(hidden.prefix(), "step 12,500/50,000, 1 min 00 s left");
        assert!(hidden.message().starts_with("learner 3,125 · "), "{}", hidden.message());
        progress.finish();
        assert!(hidden.is_finished());

        let mut quiet = Progress::new(50_000, true);
        quiet.update(&metrics());
        assert_eq!(quiet.last_line_seconds, None);
    }
}
