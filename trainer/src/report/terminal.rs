//! The lines that a person reads when a run ends.

use crate::format;
use crate::report::conclusion::{Conclusion, TEST_PART, warnings};
use crate::report::test_rows::{episode_lines, with_interval};
use crate::run::evaluation::TestResult;
use crate::run::train_loop::RunState;

/// Which weights were tested.
fn judged_words(state: &RunState) -> String {
    match state.counters.best {
        Some(best) => format!(
            "tested: the weights of environment step {}, whose validation was the best; the last ones are of step {}",
            format::count(best.environment_steps),
            format::count(state.counters.environment_steps)
        ),
        None => "tested: the last weights, as nothing was validated".to_owned(),
    }
}

/// The lines: steps and memory, warnings, test, recommendations, and where report and summary lie.
pub(super) fn lines(state: &RunState, conclusion: &Conclusion) -> Vec<String> {
    let counters = &state.counters;
    let mut lines = vec![format!(
        "done: {} environment steps, {} learner steps in {}; {:.0} samples/s; peak {} of a memory limit of {}",
        format::count(counters.environment_steps),
        format::count(counters.learner_steps),
        format::duration(counters.wall_seconds),
        conclusion.samples_per_second,
        format::bytes(conclusion.peak_resident_bytes),
        format::bytes(conclusion.limit_bytes),
    )];
    lines.extend(warnings(state, conclusion));
    match &conclusion.test {
        TestResult::Market(test) => {
            lines.push(format!("agent: {}", test.verdict(TEST_PART)));
            for row in test.rows() {
                let p = &row.performance;
                let stopped = row.stopped_words().map_or_else(String::new, |words| format!("  {words}"));
                lines.push(format!(
                    "  {:<38} log return {:>8.4}  sharpe {:>24}  max drawdown {:>6.2} %  trades {:>6}  cost {:>6.2} %{stopped}",
                    row.label,
                    p.log_return,
                    with_interval(p.sharpe, p.sharpe_interval),
                    p.max_drawdown * 100.0,
                    p.trades,
                    p.cost * 100.0
                ));
            }
            if let Some(oracle) = &test.oracle {
                lines.push(format!(
                    "  the oracle expects a log return of {:.4}: the best attainable but for chance",
                    oracle.expected_log_return
                ));
            }
        }
        TestResult::Episodes(test) => lines.extend(episode_lines(&test.agent, test.last.as_deref())),
    }
    if let Some(account) = &conclusion.account {
        lines.extend(account.recommendations.iter().map(|one| format!("memory: {one}")));
        for leak in &account.leaks {
            lines.push(format!("leak: {leak}"));
        }
    }
    lines.push(judged_words(state));
    lines.push(format!("weights_sha256 {}", conclusion.weights_sha256));
    lines.push(format!("last_weights_sha256 {}", conclusion.last_weights_sha256));
    lines.push(format!("report  {}", state.folder.report().display()));
    lines.push(format!("summary {}", state.folder.summary().display()));
    lines
}
