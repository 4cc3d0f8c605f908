//! The results of a finished run: the test, the hash of the weights, and the ledger.

use memsys::ledger::OwnerBytes;
use memsys::ledger::budget;
use memsys::nn::parameters::Weights;
use memsys::os::probe;
use memsys::step::cost::StepConfig;
use memsys::step::retry::StepRunner;
use memsys::system::MemoryOptimizationSystem;
use memsys::system::leaks::step_boundaries::Leak;
use memsys::system::recommend::Recommendation;
use memsys::{ledger, libtorch};
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::format;
use crate::market::backtest::Backtest;
use crate::market::backtest::performance::{EquityCurve, Performance};
use crate::market::dataset::hex;
use crate::report::html::Role;
use crate::resolve::Parts;
use crate::run::evaluation::{Evaluator, MarketTest, TestResult};
use crate::run::tensor_file::in_parts;
use crate::run::train_loop::RunState;

/// The key of the agent among the rows of the test.
pub const AGENT: &str = "agent";

/// The numbers of a finished run.
#[derive(Debug)]
pub struct Conclusion {
    /// What the test found.
    pub test: TestResult,
    /// SHA-256 over names and numbers of the weights that were tested.
    pub weights_sha256: String,
    /// The same of the last weights.
    pub last_weights_sha256: String,
    /// Peak resident bytes.
    pub peak_resident_bytes: u64,
    /// The memory limit, in bytes.
    pub limit_bytes: u64,
    /// Samples through learner steps, per second of the run.
    pub samples_per_second: f64,
    /// Samples through learner steps, per second of processor time of all threads: other work on a shared machine
    /// changes it less.
    pub samples_per_processor_second: f64,
    /// The ledger; `None` where the run was not managed.
    pub account: Option<Account>,
}

/// The ledger at the end of a run.
#[derive(Debug)]
pub struct Account {
    /// Peak counted bytes.
    pub peak_counted_bytes: u64,
    /// Bytes counted at the end.
    pub counted_bytes: u64,
    /// Bytes resident at the same moment.
    pub resident_bytes: u64,
    /// Counted bytes of cached blocks that were never written to, and so are not resident.
    pub untouched_bytes: u64,
    /// Residual: resident bytes less the bytes that are counted and touched.
    pub residual_bytes: i64,
    /// Allocations refused.
    pub denied_allocations: u64,
    /// Learner steps made more than once.
    pub steps_retried: u64,
    /// Collections of cached bytes.
    pub collections: u64,
    /// How learner steps were computed at the end.
    pub step_config: StepConfig,
    /// Every owner.
    pub owners: Vec<OwnerBytes>,
    /// Owners whose tensors only grew.
    pub leaks: Vec<Leak>,
    /// Alerts raised.
    pub alerts: u64,
    /// What the numbers recommend.
    pub recommendations: Vec<Recommendation>,
}

impl Account {
    /// Reads the ledger.
    ///
    /// # Errors
    /// Where the process's memory cannot be read.
    pub fn read(parts: &Parts, system: &MemoryOptimizationSystem, steps: &StepRunner) -> Result<Self> {
        let (counted_bytes, resident_bytes) = (ledger::counted_bytes(), probe::resident_bytes()?);
        let untouched_bytes = libtorch::untouched_bytes();
        let mut owners = Vec::new();
        ledger::read_owners(&mut owners);
        Ok(Self {
            peak_counted_bytes: ledger::peak_counted_bytes(),
            counted_bytes,
            resident_bytes,
            untouched_bytes,
            residual_bytes: resident_bytes as i64 - counted_bytes as i64 + untouched_bytes as i64,
            denied_allocations: budget::n_denied(),
            steps_retried: steps.n_retried(),
            collections: budget::n_collections(),
            step_config: steps.step_config(),
            owners,
            leaks: system.leaks(),
            alerts: system.health().alerts.n_queued,
            recommendations: system.recommendations(&parts.settings)?,
        })
    }
}

impl Conclusion {
    /// Tests the agent and reads the ledger.
    ///
    /// # Errors
    /// Where the test fails, or the process's memory cannot be read.
    pub(super) fn of(state: &mut RunState) -> Result<Self> {
        let weights = state.evaluated_weights()?;
        let test = state.evaluator.test(&*state.policy, &weights, state.parts.run.seed)?;
        let weights_sha256 = sha256(&weights)?;
        let last_weights_sha256 = sha256(state.learner.agent().online())?;
        let counters = &mut state.counters;
        counters.peak_resident_bytes = counters.peak_resident_bytes.max(probe::peak_resident_bytes()?);
        counters.wall_seconds = state.seconds_before + state.began.elapsed().as_secs_f64();
        let n_samples = counters.learner_steps as f64 * state.learner.batch() as f64;
        Ok(Self {
            test,
            weights_sha256,
            last_weights_sha256,
            peak_resident_bytes: counters.peak_resident_bytes,
            limit_bytes: state.parts.memory.limit.limit_bytes(probe::allowed_bytes()?),
            account: state
                .system
                .as_ref()
                .map(|system| Account::read(&state.parts, system, state.learner.steps()))
                .transpose()?,
            samples_per_processor_second: n_samples / counters.learner_processor_seconds.max(1e-9),
            samples_per_second: if n_samples > 0.0 { n_samples / counters.learner_seconds } else { 0.0 },
        })
    }
}

/// SHA-256 over names and numbers of weights, in the network's order.
fn sha256(weights: &Weights) -> Result<String> {
    let mut hash = Sha256::new();
    for (name, tensor) in weights.named() {
        hash.update(name.as_bytes());
        in_parts(tensor, |part| {
            hash.update(part);
            Ok(())
        })?;
    }
    Ok(hex(&hash.finalize()))
}

/// Mean, standard deviation, lowest and highest.
#[must_use]
pub fn spread(values: &[f64]) -> [f64; 4] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [mean, variance.sqrt(), lowest, highest]
}

/// One row of a market's test.
#[derive(Debug)]
pub struct TestRow<'a> {
    /// Its key in the summary.
    pub key: &'static str,
    /// Its name in the report.
    pub label: &'static str,
    /// Whose it is.
    pub role: Role,
    /// What it did.
    pub backtests: &'a [Backtest],
    /// How it did.
    pub performance: Performance,
}

impl MarketTest {
    /// The agent, the baselines, and the oracle where there is one.
    #[must_use]
    pub fn rows(&self) -> Vec<TestRow<'_>> {
        let row = |key, label, role, backtests| TestRow {
            key,
            label,
            role,
            backtests,
            performance: Performance::of_portfolio(backtests),
        };
        let mut rows = vec![row(AGENT, AGENT, Role::Agent, self.agent.as_slice())];
        for (baseline, backtests) in &self.baselines {
            rows.push(row(baseline.key(), baseline.label(), Role::Baseline, backtests));
        }
        if let Some(oracle) = &self.oracle {
            rows.push(row("oracle", "oracle", Role::Oracle, &oracle.backtests));
        }
        rows
    }

    /// The t statistic of the agent's mean log return per bar over that of staying flat (0); none where its returns do
    /// not vary, such as those of an agent that never trades.
    #[must_use]
    pub fn t_statistic(&self) -> Option<f64> {
        let curve = EquityCurve::join(&self.agent);
        let returns: Vec<f64> = curve.equity.windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect();
        let [mean, deviation, ..] = spread(&returns);
        (deviation > 1e-12 * mean.abs()).then(|| mean / deviation * (returns.len() as f64).sqrt())
    }

    /// The agent's result over `what`, and whether chance explains it, in one sentence.
    #[must_use]
    pub fn verdict(&self, what: &str) -> String {
        let performance = Performance::of_portfolio(&self.agent);
        let earned = format::signed_percent(performance.total_return);
        let t_test = match self.t_statistic() {
            _ if performance.trades == 0 => "it did not trade".to_owned(),
            None => format!("chance cannot be told from skill (t = {})", format::UNKNOWN),
            Some(t) if is_chance(t) => format!("chance explains it (t = {t:.1})"),
            Some(t) => format!("chance hardly explains it (t = {t:.1})"),
        };
        format!("{earned} over {what}, costs paid: {t_test}")
    }
}

/// Whether chance explains a t statistic: |t| < 2. Chance alone exceeds it about once in twenty times.
#[must_use]
pub fn is_chance(t_statistic: f64) -> bool {
    t_statistic.abs() < 2.0
}

/// What the report of a run calls its test.
pub(super) const TEST_PART: &str = "the test part";

/// Warnings that stand before the results.
pub(super) fn warnings(state: &RunState, conclusion: &Conclusion) -> Vec<String> {
    let mut warnings = Vec::new();
    if state.counters.learner_steps == 0 {
        warnings.push(format!(
            "the agent never learned: its first learner step comes after {} transitions (agent.learning_starts); give \
             more --steps",
            format::count(state.parts.learning.pace.learning_starts as u64)
        ));
    }
    if conclusion.peak_resident_bytes > conclusion.limit_bytes {
        warnings.push(format!(
            "the peak of {} passed the memory limit of {}{}",
            format::bytes(conclusion.peak_resident_bytes),
            format::bytes(conclusion.limit_bytes),
            if state.parts.memory.is_managed { "" } else { ": without management nothing holds it" }
        ));
    }
    if let Evaluator::Market(market) = &state.evaluator {
        warnings.extend(market.test_warnings());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test of an agent whose equity goes as told, without trades.
    fn test(equity: &[f64]) -> MarketTest {
        let agent = Backtest {
            name: "t".to_owned(),
            times_millis: (0..).take(equity.len()).collect(),
            equity: equity.to_vec(),
            price: vec![1.0; equity.len()],
            position: vec![0; equity.len()],
            start_equity: 100.0,
            reward_sum: 0.0,
            penalty_sum: 0.0,
            pnl: 0.0,
            cost: 0.0,
            traded_notional: 0.0,
            n_bars_exposed: 0,
            trades: Vec::new(),
            terminated_at: None,
        };
        MarketTest { agent: vec![agent], baselines: Vec::new(), oracle: None }
    }

    #[test]
    fn returns_without_spread_have_no_t_statistic() {
        for equity in [&[100.0; 5][..], &[100.0], &[], &[100.0, 110.0], &[100.0, 110.0, 121.0, 133.1]] {
            let test = test(equity);
            assert_eq!(test.t_statistic(), None, "{equity:?}");
            let json = crate::report::summary::test_json(&TestResult::Market(test));
            let excess = &json["excess_over_flat"];
            assert!(excess["t_statistic"].is_null() && excess["within_chance"].is_null(), "{json}");
            assert!(json["agent"]["win_rate"].is_null(), "{json}");
        }
        let t = test(&[100.0, 101.0, 100.0, 102.0]).t_statistic().expect("the returns vary");
        assert!(t > 0.0 && is_chance(t), "{t}");
    }
}
