//! The memory optimization system: one object that watches the memory of the process and acts on what it sees.
//!
//! ```text
//! ledger ─┐                                    ┌─> alerts ──> callbacks (on a separate thread)
//! probe ──┼─> snapshot ─> assessment (pure) ───┴─> directives ─> collector, the learner
//! budget ─┘   monitor's thread, every 5 s
//! step marks ─────────────────────────────────────> leaks
//! ```
//!
//! It asks holders of bytes to give some back, on the monitor's thread, and asks the learner for a step configuration of
//! fewer bytes. It never touches another component's data, and it refuses no allocation.
//! The [`budget`] enforces the memory limit at every allocation, with or without this system.
//!
//! Ledger and memory limit belong to the process: a second memory system in one process sees the same bytes.

pub mod alerts;
pub mod assessment;
pub mod collector;
pub mod config;
pub mod directive;
pub mod leaks;
pub mod level;
pub mod monitor;
pub mod policy;
pub mod recommend;
mod residual;
pub mod snapshot;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::ledger::budget;
use crate::ledger::reclaimable::{self, Generation};
use crate::ledger::{self, OwnerBytes};
use crate::limit::MemoryLimit;
use crate::os::probe;
use crate::os::probe::{DeviceBytes, Probe, ReadDevice};
use crate::step::advice::StepAdvice;
use crate::system::alerts::{Alert, AlertCounts, Callbacks, OnAlert};
use crate::system::assessment::{Assessment, Holders};
use crate::system::directive::{Directive, DirectiveRecord};
use crate::system::leaks::step_boundaries::{FEWEST_MARKS, Leak, StepMarks};
use crate::system::level::{Level, Thresholds};
use crate::system::monitor::{Monitor, MonitorHealth};
use crate::system::recommend::{Recommendation, RunSettings, recommend};
use crate::system::residual::Residuals;
use crate::system::snapshot::Snapshot;

/// Number of the latest directives that are remembered.
const N_DIRECTIVE_RECORDS: usize = 64;

/// Watches the memory of this process until it is dropped.
///
/// ```
/// use memsys::ledger::{Owner, reservation::Reservation};
/// use memsys::{limit::MemoryLimit, system::MemoryOptimizationSystem};
///
/// let system = MemoryOptimizationSystem::builder()
///     .limit(MemoryLimit::Percent(60.0))
///     .on_alert(|alert| eprintln!("{alert}"))
///     .start()?;
/// let mut table = Reservation::declared(Owner::named("run/table"));
/// table.try_set(64 << 20)?; // refused if the memory limit has no room
/// let snapshot = system.snapshot()?;
/// assert!(snapshot.resident_bytes > 0 && snapshot.counted_bytes >= 64 << 20);
/// assert!(system.top_owners(10).iter().any(|owner| owner.path == "run/table"));
/// # Ok::<(), memsys::Error>(())
/// ```
#[derive(Debug)]
pub struct MemoryOptimizationSystem {
    monitor: Monitor,
    shared: Arc<Shared>,
}

/// The options of a memory system; see [`MemoryOptimizationSystem::builder`].
pub struct Builder {
    limit: Option<MemoryLimit>,
    thresholds: Thresholds,
    interval: Duration,
    is_watching_only: bool,
    n_step_marks: usize,
    callbacks: Vec<Box<OnAlert>>,
    devices: Vec<Box<ReadDevice>>,
}

/// The health of the memory system itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Whether the monitor's thread is alive.
    pub is_running: bool,
    /// The monitor's turns and panics.
    pub monitor: MonitorHealth,
    /// What happened to alerts.
    pub alerts: AlertCounts,
    /// Number of readings that failed.
    pub n_failed_readings: u64,
    /// Number of directives that failed.
    pub n_failed_directives: u64,
    /// The holders of bytes that panicked when they were asked for some, by name. They are not asked again.
    pub panicked_holders: Vec<&'static str>,
    /// The message of the latest failure.
    pub last_failure: Option<String>,
}

/// The state that the monitor's thread and the callers share.
struct Shared {
    started: Instant,
    probe: Probe,
    is_watching_only: bool,
    state: Mutex<State>,
    /// The reading of the current turn. It is apart from `state` so that a slow reading blocks other turns only.
    reading: Mutex<Snapshot>,
    marks: Mutex<StepMarks>,
    step_advice: Arc<StepAdvice>,
    callbacks: Option<Callbacks>,
    peak_loaded_bytes: AtomicU64,
}

struct State {
    latest: Snapshot,
    assessment: Assessment,
    residuals: Residuals,
    records: VecDeque<DirectiveRecord>,
    n_failed_readings: u64,
    n_failed_directives: u64,
    last_failure: Option<String>,
}

impl MemoryOptimizationSystem {
    /// Options with the default thresholds, a reading every 5 seconds, and the memory limit unchanged.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            limit: None,
            thresholds: Thresholds::default(),
            interval: Duration::from_secs(5),
            is_watching_only: false,
            n_step_marks: FEWEST_MARKS,
            callbacks: Vec::new(),
            devices: Vec::new(),
        }
    }

    /// Reads the state of memory now, on this thread.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) if the kernel does not tell the resident bytes.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        self.read_into(&mut snapshot)?;
        Ok(snapshot)
    }

    /// As [`snapshot`](Self::snapshot), but reuses the vectors of `out`.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) if the kernel does not tell the resident bytes; `out` then stays as it was.
    pub fn read_into(&self, out: &mut Snapshot) -> Result<()> {
        self.shared.read(None, out)
    }

    /// The monitor's latest reading.
    #[must_use]
    pub fn latest(&self) -> Snapshot {
        self.shared.state().latest.clone()
    }

    /// Asks the monitor for a reading now, because of `event`, and does not wait for it.
    pub fn notify(&self, event: &'static str) {
        self.monitor.notify(event);
    }

    /// Takes a turn on this thread instead of the monitor's: a reading and whatever follows from it.
    pub fn turn(&self, event: &'static str) {
        self.shared.turn(Some(event));
    }

    /// The level at the latest reading of a turn.
    #[must_use]
    pub fn level(&self) -> Level {
        self.shared.state().assessment.level()
    }

    /// The latest directives with what they gave back, oldest first; at most 64.
    #[must_use]
    pub fn directives(&self) -> Vec<DirectiveRecord> {
        self.shared.state().records.iter().copied().collect()
    }

    /// What a snapshot now recommends for `settings`.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) if the kernel does not tell the resident bytes.
    pub fn recommendations(&self, settings: &RunSettings) -> Result<Vec<Recommendation>> {
        Ok(recommend(&self.snapshot()?, settings))
    }

    /// The `n` owners that hold the most bytes now, the largest first.
    #[must_use]
    pub fn top_owners(&self, n: usize) -> Vec<OwnerBytes> {
        ledger::largest_owners(n)
    }

    /// Marks the boundary of a learner step, for [`leaks`](Self::leaks).
    pub fn mark_step(&self) {
        self.shared.marks().mark();
    }

    /// Owners whose tensors only grew over the latest step marks, the fastest first.
    #[must_use]
    pub fn leaks(&self) -> Vec<Leak> {
        self.shared.marks().leaks()
    }

    /// What the learner reads before a step.
    #[must_use]
    pub fn step_advice(&self) -> Arc<StepAdvice> {
        Arc::clone(&self.shared.step_advice)
    }

    /// The health of the memory system itself.
    #[must_use]
    pub fn health(&self) -> Health {
        let state = self.shared.state();
        Health {
            is_running: self.monitor.is_running(),
            monitor: self.monitor.health(),
            alerts: self.shared.callbacks.as_ref().map(Callbacks::counts).unwrap_or_default(),
            n_failed_readings: state.n_failed_readings,
            n_failed_directives: state.n_failed_directives,
            panicked_holders: reclaimable::panicked(),
            last_failure: state.last_failure.clone(),
        }
    }
}

impl Builder {
    /// Sets the memory limit of the process when the system starts.
    #[must_use]
    pub fn limit(mut self, limit: MemoryLimit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Sets the thresholds of policies and alerts.
    #[must_use]
    pub fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// Sets the time from one reading to the next.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Records directives and carries none of them out.
    #[must_use]
    pub fn watch_only(mut self) -> Self {
        self.is_watching_only = true;
        self
    }

    /// Sets the number of step marks from which a leak is inferred; 20 or more.
    #[must_use]
    pub fn step_marks(mut self, n_marks: usize) -> Self {
        self.n_step_marks = n_marks;
        self
    }

    /// Calls `callback` for each alert, on a separate thread, where it may take its time.
    #[must_use]
    pub fn on_alert(mut self, callback: impl Fn(&Alert) + Send + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Adds a device to every reading.
    #[must_use]
    pub fn device(mut self, read: impl Fn() -> DeviceBytes + Send + Sync + 'static) -> Self {
        self.devices.push(Box::new(read));
        self
    }

    /// Sets the memory limit and starts the monitor.
    ///
    /// # Errors
    /// [`Error::Probe`](crate::Error::Probe) if the kernel does not tell the resident bytes or the size of memory,
    /// [`Error::Thread`](crate::Error::Thread) if a thread cannot be started.
    pub fn start(self) -> Result<MemoryOptimizationSystem> {
        let probe = self.devices.into_iter().fold(Probe::open()?, Probe::with_device);
        if let Some(limit) = self.limit {
            budget::set_limit(limit.limit_bytes(probe::allowed_bytes()?));
        }
        let callbacks =
            if self.callbacks.is_empty() { None } else { Some(Callbacks::start(self.callbacks)?) };
        let state = State {
            latest: Snapshot::default(),
            assessment: Assessment::new(self.thresholds),
            residuals: Residuals::default(),
            records: VecDeque::with_capacity(N_DIRECTIVE_RECORDS),
            n_failed_readings: 0,
            n_failed_directives: 0,
            last_failure: None,
        };
        let shared = Arc::new(Shared {
            started: Instant::now(),
            probe,
            is_watching_only: self.is_watching_only,
            state: Mutex::new(state),
            reading: Mutex::new(Snapshot::default()),
            marks: Mutex::new(StepMarks::new(self.n_step_marks)),
            step_advice: Arc::default(),
            callbacks,
            peak_loaded_bytes: AtomicU64::new(0),
        });
        let watched = Arc::clone(&shared);
        let monitor = Monitor::start(self.interval, move |event| watched.turn(event))?;
        Ok(MemoryOptimizationSystem { monitor, shared })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn marks(&self) -> MutexGuard<'_, StepMarks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, event: Option<&'static str>, out: &mut Snapshot) -> Result<()> {
        snapshot::read(&self.probe, out)?;
        out.at_millis = self.started.elapsed().as_millis() as u64;
        out.event = event;
        let peak = self.peak_loaded_bytes.fetch_max(out.peak_loaded_bytes, Relaxed);
        out.peak_loaded_bytes = out.peak_loaded_bytes.max(peak);
        Ok(())
    }

    /// Takes one reading and does what follows from it. No lock is held while a directive is carried out.
    fn turn(&self, event: Option<&'static str>) {
        let mut directives = Vec::new();
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(failure) = self.read(event, &mut reading) {
            let mut state = self.state();
            state.n_failed_readings += 1;
            state.last_failure = Some(failure.to_string());
            return;
        }
        self.allow_residual(&mut reading);
        let at_millis = reading.at_millis;
        self.assess(&mut reading, &mut directives);
        drop(reading);
        for directive in directives {
            let given = if self.is_watching_only { Ok(None) } else { self.carry_out(&directive) };
            self.record(DirectiveRecord { at_millis, directive, given_bytes: None }, given);
        }
    }

    /// Assesses a reading: queues an alert if one is due and writes the directives that follow. The reading becomes the
    /// latest one; `reading` receives the one before, so that its vectors are used again.
    fn assess(&self, reading: &mut Snapshot, directives: &mut Vec<Directive>) {
        let holders = Holders {
            reclaimable_bytes: reclaimable::reclaimable_bytes(Generation::Cold, Generation::Cold),
            can_use_fewer_bytes: self.step_advice.can_use_fewer_bytes(),
            n_answered: self.step_advice.n_answered(),
        };
        let mut state = self.state();
        let announced = state.assessment.observe(reading, holders, directives);
        if let (Some(level), Some(callbacks)) = (announced, &self.callbacks) {
            callbacks.tell(Alert { level, snapshot: reading.clone() });
        }
        std::mem::swap(&mut state.latest, reading);
    }

    /// Sets room under the memory limit aside for the residual of the latest readings. Before the room grows, the heap is
    /// trimmed and memory read again: freed memory that the C library keeps is not residual.
    fn allow_residual(&self, reading: &mut Snapshot) {
        if self.is_watching_only {
            return;
        }
        if residual_bytes(reading) > reading.residual_allowance_bytes {
            crate::os::trim_heap();
            if let Err(failure) = snapshot::read(&self.probe, reading) {
                self.state().last_failure = Some(failure.to_string());
                return;
            }
        }
        let aside = self.state().residuals.observe(residual_bytes(reading), crate::os::n_heap_trims());
        budget::observe_residual(aside);
        reading.residual_allowance_bytes = budget::residual_allowance_bytes();
    }

    /// Carries a directive out and returns the bytes given back, if that is known at once.
    fn carry_out(&self, directive: &Directive) -> Result<Option<u64>> {
        match *directive {
            Directive::Collect { generation, bytes, .. } => collector::collect(generation, bytes).map(Some),
            Directive::TrimHeap { .. } => collector::trim().map(Some),
            Directive::Shrink { bytes, .. } => {
                Ok(Some(reclaimable::collect(Generation::Cold, Generation::Cold, bytes)))
            }
            Directive::LowerStepConfig { .. } => {
                self.step_advice.ask_for_fewer_bytes();
                Ok(None)
            }
        }
    }

    fn record(&self, record: DirectiveRecord, given: Result<Option<u64>>) {
        let mut state = self.state();
        let given_bytes = given.unwrap_or_else(|failure| {
            state.n_failed_directives += 1;
            state.last_failure = Some(failure.to_string());
            None
        });
        if state.records.len() == N_DIRECTIVE_RECORDS {
            state.records.pop_front();
        }
        state.records.push_back(DirectiveRecord { given_bytes, ..record });
    }
}

fn residual_bytes(snapshot: &Snapshot) -> u64 {
    u64::try_from(snapshot.residual_bytes).unwrap_or(0)
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, thresholds, interval, is_watching_only, n_step_marks, .. } = self;
        formatter
            .debug_struct("Builder")
            .field("limit", limit)
            .field("thresholds", thresholds)
            .field("interval", interval)
            .field("is_watching_only", is_watching_only)
            .field("n_step_marks", n_step_marks)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { started, probe, is_watching_only, step_advice, callbacks, .. } = self;
        formatter
            .debug_struct("Shared")
            .field("started", started)
            .field("probe", probe)
            .field("is_watching_only", is_watching_only)
            .field("step_advice", step_advice)
            .field("callbacks", callbacks)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
