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
use crate::market::dataset::hex;
use crate::resolve::Parts;
use crate::run::evaluation::{Evaluator, TestResult};
use crate::run::tensor_file::in_parts;
use crate::run::train_loop::RunState;

/// The numbers of a finished run.
#[derive(Debug)]
pub struct Conclusion {
    /// What the test found.
    pub test: TestResult,
    /// Environment steps after which the test was reported before the run was extended.
    pub reported_before: Vec<u64>,
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
        let (mut test, weights_sha256) = {
            let weights = state.evaluated_weights()?;
            let test = state.evaluator.test(&*state.policy, &weights, state.parts.run.seed)?;
            (test, sha256(&weights)?)
        };
        let online = state.learner.agent().online();
        let last_weights_sha256 = sha256(online)?;
        if last_weights_sha256 != weights_sha256 {
            state.evaluator.test_last(&mut test, &*state.policy, online)?;
        }
        let counters = &mut state.counters;
        counters.peak_resident_bytes = counters.peak_resident_bytes.max(probe::peak_resident_bytes()?);
        counters.wall_seconds = state.seconds_before + state.began.elapsed().as_secs_f64();
        let n_samples = counters.learner_steps as f64 * state.learner.batch() as f64;
        let now = counters.environment_steps;
        Ok(Self {
            test,
            reported_before: counters.reported_at.iter().copied().filter(|&steps| steps < now).collect(),
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

/// That the test was reported before, in words; none where this is its first report.
#[must_use]
pub fn reported_before_words(reported_at: &[u64]) -> Option<String> {
    let steps: Vec<String> = reported_at.iter().map(|&steps| format::count(steps)).collect();
    (!steps.is_empty()).then(|| {
        format!(
            "not unseen: the run was extended after its test had been reported at environment step {}",
            steps.join(", ")
        )
    })
}

/// What the report of a run calls its test.
pub(super) const TEST_PART: &str = "the test part";

/// Warnings that stand before the results.
pub(super) fn warnings(state: &RunState, conclusion: &Conclusion) -> Vec<String> {
    let mut warnings: Vec<String> = reported_before_words(&conclusion.reported_before).into_iter().collect();
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
