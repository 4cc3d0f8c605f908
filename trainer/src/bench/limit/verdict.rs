//! What the trials show together: a table, the same as JSON, and whether the limit holds.

use serde_json::{Value, json};

use crate::bench::limit::children::BESIDE_BYTES;
use crate::bench::limit::trial::{LimitedRun, SHARES, Trial};
use crate::error::{Error, Result};
use crate::format;

/// A plan is near where it lies no further above the peak than this share of it.
const NEAR: f64 = 0.05;

/// What the trials show together.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    trials: &'a [Trial],
    seed: u64,
    is_grouped: bool,
    seconds: f64,
}

impl<'a> Verdict<'a> {
    pub(super) fn new(trials: &'a [Trial], seed: u64, is_grouped: bool, seconds: f64) -> Self {
        Self { trials, seed, is_grouped, seconds }
    }

    fn runs(&self) -> impl Iterator<Item = &'a LimitedRun> {
        self.trials.iter().flat_map(|trial| &trial.runs)
    }

    fn count(&self, is_counted: impl Fn(&LimitedRun) -> bool) -> usize {
        self.runs().filter(|run| is_counted(run)).count()
    }

    fn n_with_ratio(&self, is_counted: impl Fn(f64) -> bool) -> usize {
        self.trials.iter().filter_map(Trial::plan_ratio).filter(|ratio| is_counted(*ratio)).count()
    }

    /// The table, with what went wrong and the sums below it.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for trial in self.trials {
            text.push_str(&row(trial));
            text.push('\n');
            for problem in trial.problems() {
                text.push_str(&format!("      {problem}\n"));
            }
        }
        let [killed, failed, over, near, under] = self.sums();
        let (n, n_runs) = (self.trials.len(), self.runs().count());
        let n_resumed = self.count(|run| run.is_resumed);
        let in_groups = match self.is_grouped {
            true => format!("in control groups of the limit + {}", format::bytes(BESIDE_BYTES)),
            false => "without control groups".to_owned(),
        };
        text.push_str(&format!(
            "{n} configurations of seed {}, {n_runs} runs {in_groups}, {n_resumed} of them interrupted and resumed, in {}\n\
             killed by the kernel {killed}, failed {failed}, peak above the limit {over}\n\
             plan against peak at the minimum: within {} in {near} of {n}, under the peak in {under}\n",
            self.seed,
            format::duration(self.seconds),
            format::percent(NEAR),
        ));
        text
    }

    /// The same numbers.
    pub(super) fn to_json(&self) -> Value {
        let [killed, failed, over, near, under] = self.sums();
        json!({
            "seed": self.seed,
            "seconds": self.seconds,
            "in_control_groups": self.is_grouped,
            "group_beside_bytes": BESIDE_BYTES,
            "configurations": self.trials,
            "killed": killed,
            "failed": failed,
            "over": over,
            "plans_failed": self.n_plans_failed(),
            "plans_near": near,
            "plans_under": under,
        })
    }

    /// Whether the limit holds.
    ///
    /// # Errors
    /// [`Error::LimitPassed`] where it does not.
    pub(super) fn result(&self) -> Result<()> {
        let n_runs = self.runs().count();
        let n_passed = self.count(|run| run.problem.is_some());
        match n_passed + self.n_plans_failed() {
            0 => Ok(()),
            _ => Err(Error::LimitPassed { n_passed, n_runs, n_plans_failed: self.n_plans_failed() }),
        }
    }

    fn n_plans_failed(&self) -> usize {
        self.trials.iter().filter(|trial| trial.plan_problem.is_some()).count()
    }

    /// Runs that were killed, that failed, that passed the limit; plans that are near, plans under the peak.
    fn sums(&self) -> [usize; 5] {
        [
            self.count(|run| run.is_killed),
            self.count(|run| run.has_failed),
            self.count(|run| run.peak_bytes > run.limit_bytes),
            self.n_with_ratio(|ratio| (1.0..=1.0 + NEAR).contains(&ratio)),
            self.n_with_ratio(|ratio| ratio < 1.0),
        ]
    }
}

const HEAD: &str =
    "  #    minimum       plan       peak  ratio  +5 %  +30 %  plan/peak  limit      configuration";

/// A trial in a line: its minimum, planned and measured peak there, peak over limit at each limit, and what it is.
pub(super) fn row(trial: &Trial) -> String {
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| format::UNKNOWN.to_owned(), format::bytes);
    let at = |i: usize| trial.runs.get(i);
    let ratio = |i: usize| match at(i) {
        Some(run) if !run.is_killed && !run.has_failed => {
            format!("{:.3}", run.peak_bytes as f64 / run.limit_bytes as f64)
        }
        _ => format::UNKNOWN.to_owned(),
    };
    let plan_ratio =
        trial.plan_ratio().map_or_else(|| format::UNKNOWN.to_owned(), |ratio| format!("{ratio:.3}"));
    let outcome =
        match (trial.plan_problem.is_some(), trial.runs.iter().filter(|run| run.problem.is_some()).count()) {
            (true, _) if trial.runs.is_empty() => "no plan".to_owned(),
            (false, 0) => "holds".to_owned(),
            (true, 0) => "plan fails".to_owned(),
            (_, n) => format!("{n} of {}", SHARES.len()),
        };
    format!(
        "{:>3} {:>10} {:>10} {:>10} {:>6} {:>5} {:>6} {:>10}  {:<10} {}",
        trial.number,
        bytes(trial.minimum_bytes),
        bytes(trial.planned_peak_bytes),
        bytes(at(0).map(|run| run.peak_bytes)),
        ratio(0),
        ratio(1),
        ratio(2),
        plan_ratio,
        outcome,
        trial.words,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 100 << 20;

    fn trial(planned_peak_bytes: u64, peak_bytes: u64, problem: Option<&str>) -> Trial {
        let run = |share: f64| LimitedRun {
            share,
            limit_bytes: (LIMIT as f64 * share) as u64,
            peak_bytes,
            group_peak_bytes: None,
            is_killed: problem.is_some(),
            has_failed: false,
            is_resumed: false,
            problem: problem.map(str::to_owned),
        };
        Trial {
            number: 1,
            words: "compact".to_owned(),
            arguments: Vec::new(),
            interrupted_after: None,
            minimum_bytes: Some(LIMIT),
            planned_peak_bytes: Some(planned_peak_bytes),
            plan_problem: None,
            runs: SHARES.map(run).to_vec(),
        }
    }

    #[test]
    fn a_plan_is_near_up_to_5_percent_above_the_peak_and_never_below() {
        let check = |planned: u64, near: usize, under: usize| {
            let trials = [trial(planned, 1_000_000, None)];
            let [.., found_near, found_under] = Verdict::new(&trials, 1, true, 1.0).sums();
            assert_eq!((found_near, found_under), (near, under), "{planned}");
        };
        check(1_000_000, 1, 0);
        check(1_050_000, 1, 0);
        check(1_060_000, 0, 0);
        check(999_999, 0, 1);
    }

    #[test]
    fn one_killed_run_is_a_limit_that_does_not_hold() {
        let held = [trial(LIMIT, LIMIT, None)];
        Verdict::new(&held, 1, true, 1.0).result().unwrap();
        let killed = [held[0].clone(), trial(LIMIT, LIMIT, Some("killed"))];
        let error = Verdict::new(&killed, 1, true, 1.0).result().unwrap_err();
        assert!(matches!(error, Error::LimitPassed { n_passed: 3, n_runs: 6, .. }), "{error}");
        let text = Verdict::new(&killed, 1, true, 1.0).text();
        assert!(
            text.contains("killed by the kernel 3") && text.contains("at 100 MiB (104857600): killed"),
            "{text}"
        );
    }
}
