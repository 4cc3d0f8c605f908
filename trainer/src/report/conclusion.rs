//! The results of a finished run: the test, the hash of the weights, and the ledger.

use memsys::ledger::OwnerBytes;
use memsys::ledger::budget;
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
use crate::run::evaluation::{MarketTest, TestResult};
use crate::run::tensor_file::in_parts;
use crate::run::train_loop::RunState;

/// The key of the agent among the rows of the test.
pub const AGENT: &str = "agent";

/// The numbers of a finished run.
#[derive(Debug)]
pub struct Conclusion {
    /// What the test found.
    pub test: TestResult,
    /// SHA-256 of the online weights.
    pub weights_sha256: String,
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
        let weights_sha256 = weights_sha256(state)?;
        let counters = &mut state.counters;
        counters.peak_resident_bytes = counters.peak_resident_bytes.max(probe::peak_resident_bytes()?);
        counters.wall_seconds = state.seconds_before + state.began.elapsed().as_secs_f64();
        let n_samples = counters.learner_steps as f64 * state.learner.batch() as f64;
        Ok(Self {
            test,
            weights_sha256,
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

/// SHA-256 over names and numbers of the online weights, in the network's order.
fn weights_sha256(state: &RunState) -> Result<String> {
    let mut hash = Sha256::new();
    for (name, tensor) in state.learner.agent().online().named() {
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

    /// The t statistic of the agent's mean log return per bar over that of staying flat (0), and whether chance
    /// explains it: |t| < 2. Chance alone exceeds it about once in twenty times.
    #[must_use]
    pub fn t_test(&self) -> (f64, bool) {
        let curve = EquityCurve::join(&self.agent);
        let returns: Vec<f64> = curve.equity.windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect();
        let [mean, deviation, ..] = spread(&returns);
        let t = if deviation > 0.0 { mean / deviation * (returns.len() as f64).sqrt() } else { 0.0 };
        (t, t.abs() < 2.0)
    }

    /// The agent's result and whether chance explains it, in one sentence.
    #[must_use]
    pub fn verdict(&self) -> String {
        let performance = Performance::of_portfolio(&self.agent);
        let (t, is_chance) = self.t_test();
        let earned = format::signed_percent(performance.total_return);
        let t_test = if performance.trades == 0 {
            "it did not trade".to_owned()
        } else if is_chance {
            format!("chance explains it (t = {t:.1})")
        } else {
            format!("chance hardly explains it (t = {t:.1})")
        };
        format!("{earned} over the test part, costs paid: {t_test}")
    }
}

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
    warnings
}
