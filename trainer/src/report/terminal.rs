//! The lines that a person reads when a run ends.

use crate::format;
use crate::report::conclusion::{Conclusion, TEST_PART, spread, warnings};
use crate::run::evaluation::TestResult;
use crate::run::train_loop::RunState;

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
                lines.push(format!(
                    "  {:<34} log return {:>8.4}  sharpe {:>7.2}  max drawdown {:>6.2} %  trades {:>6}  cost {:>6.2} %",
                    row.label,
                    p.log_return,
                    p.sharpe,
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
        TestResult::Episodes(returns) => {
            let [mean, deviation, lowest, highest] = spread(returns);
            lines.push(format!(
                "agent: mean return {mean:.1} over {} episodes (± {deviation:.1}, {lowest:.0} to {highest:.0})",
                returns.len()
            ));
        }
    }
    if let Some(account) = &conclusion.account {
        lines.extend(account.recommendations.iter().map(|one| format!("memory: {one}")));
        for leak in &account.leaks {
            lines.push(format!("leak: {leak}"));
        }
    }
    lines.push(format!("weights_sha256 {}", conclusion.weights_sha256));
    lines.push(format!("last_weights_sha256 {}", conclusion.last_weights_sha256));
    lines.push(format!("report  {}", state.folder.report().display()));
    lines.push(format!("summary {}", state.folder.summary().display()));
    lines
}
