//! The memory optimization system: what watches over memory, under one object.
//!
//! ```text
//! ledger ─┐                                    ┌─> alerts ──> callbacks (a thread of their own)
//! probe ──┼─> snapshot ─> watch (pure) ────────┼─> directives ─> collector, buffers, the step configurations' ceiling
//! budget ─┘   monitor's thread, every 5 s      └─> trend
//! step marks ─────────────────────────────────────> leaks
//! ```
//!
//! It observes everything and decides; it never reaches into another's data. Caches are collected on the monitor's
//! thread, buffers are asked to give, and the learner asks for its ceiling by itself. The refusal of an allocation is
//! not its business: the memory limit holds ([`crate::ledger::budget`]) between any two readings and without them.
//!
//! The ledger and the memory limit are the process's. A second system in one process sees the same bytes.

pub mod alerts;
pub mod assessment;
pub mod collector;
pub mod directive;
pub mod leaks;
pub mod level;
pub mod monitor;
pub mod policy;
pub mod reclaimable;
pub mod recommend;
pub mod snapshot;
pub mod trend;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::ledger::budget;
use crate::ledger::{self, OwnerBytes};
use crate::limit::MemoryLimit;
use crate::os::probe;
use crate::os::probe::{DeviceBytes, Probe, ReadDevice};
use crate::step::ceiling::StepCeiling;
use crate::system::alerts::{Alert, AlertCounts, Callbacks, OnAlert};
use crate::system::assessment::Watch;
use crate::system::directive::{Carried, Directive};
use crate::system::leaks::step_boundaries::{FEWEST_MARKS, Leak, StepMarks};
use crate::system::level::{Level, Thresholds};
use crate::system::monitor::{Monitor, MonitorHealth};
use crate::system::reclaimable::Buffer;
use crate::system::recommend::{Recommendation, RunSettings, recommend};
use crate::system::snapshot::Snapshot;
use crate::system::trend::Trend;

/// Readings that the trend looks over: ten minutes at the usual interval.
const N_READINGS: usize = 120;
/// Directives that are remembered.
const N_CARRIED: usize = 64;

/// Watches over the memory of this process until it is dropped.
///
/// ```
/// use memsys::{ledger::Owner, line::Line, reservation::Reservation, system::MemoryOptimizationSystem};
///
/// let system = MemoryOptimizationSystem::builder()
///     .limit(Line::Percent(60.0))
///     .on_alert(|alert| eprintln!("{alert}"))
///     .start()?;
/// let mut table = Reservation::declared(Owner::named("run/table"));
/// table.try_set(64 << 20)?; // refused where the memory limit has no room
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

/// How a system is to be; see [`MemoryOptimizationSystem::builder`].
pub struct Builder {
    limit: Option<MemoryLimit>,
    thresholds: Thresholds,
    interval: Duration,
    is_watching_only: bool,
    n_step_marks: usize,
    callbacks: Vec<Box<OnAlert>>,
    buffers: Vec<Arc<dyn Buffer>>,
    devices: Vec<Box<ReadDevice>>,
}

/// How the system itself fares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Whether the monitor's thread is alive.
    pub is_running: bool,
    /// Its turns and panics.
    pub monitor: MonitorHealth,
    /// What became of alerts.
    pub alerts: AlertCounts,
    /// Readings that failed.
    pub n_failed_readings: u64,
    /// Directives that failed.
    pub n_failed_directives: u64,
    /// What the last failure said.
    pub last_failure: Option<String>,
}

/// What the monitor's thread and the callers share.
struct Shared {
    started: Instant,
    probe: Probe,
    is_watching_only: bool,
    state: Mutex<State>,
    /// The reading of the turn that is under way, apart from the state: what blocks while it is read blocks turns alone.
    reading: Mutex<Snapshot>,
    marks: Mutex<StepMarks>,
    buffers: Mutex<Vec<Arc<dyn Buffer>>>,
    step_configs: Arc<StepCeiling>,
    callbacks: Option<Callbacks>,
    peak_loaded_bytes: AtomicU64,
}

struct State {
    latest: Snapshot,
    watch: Watch,
    carried: VecDeque<Carried>,
    n_failed_readings: u64,
    n_failed_directives: u64,
    last_failure: Option<String>,
}

impl MemoryOptimizationSystem {
    /// A system with the usual thresholds, a reading every 5 seconds, and the memory limit as it is.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            limit: None,
            thresholds: Thresholds::default(),
            interval: Duration::from_secs(5),
            is_watching_only: false,
            n_step_marks: FEWEST_MARKS,
            callbacks: Vec::new(),
            buffers: Vec::new(),
            devices: Vec::new(),
        }
    }

    /// Reads how memory stands now, on this thread.
    ///
    /// # Errors
    /// Where the kernel does not say what is resident.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        self.read_into(&mut snapshot)?;
        Ok(snapshot)
    }

    /// The same into `out`, whose room is used again.
    ///
    /// # Errors
    /// Where the kernel does not say what is resident; `out` is as it was then.
    pub fn read_into(&self, out: &mut Snapshot) -> Result<()> {
        self.shared.read(None, out)
    }

    /// The monitor's latest reading.
    #[must_use]
    pub fn latest(&self) -> Snapshot {
        self.shared.state().latest.clone()
    }

    /// Asks the monitor for a reading now, because of `event`. Never waits.
    pub fn notify(&self, event: &'static str) {
        self.monitor.notify(event);
    }

    /// Takes the monitor's turn on this thread: a reading, and whatever follows from it.
    pub fn turn(&self, event: &'static str) {
        self.shared.turn(Some(event));
    }

    /// How near the memory limit is, as of the monitor's latest reading.
    #[must_use]
    pub fn level(&self) -> Level {
        self.shared.state().watch.level()
    }

    /// The directives of late with what they gave, oldest first.
    #[must_use]
    pub fn directives(&self) -> Vec<Carried> {
        self.shared.state().carried.iter().copied().collect()
    }

    /// What the numbers say about the settings.
    ///
    /// # Errors
    /// Where the kernel does not say what is resident.
    pub fn recommendations(&self, settings: &RunSettings) -> Result<Vec<Recommendation>> {
        Ok(recommend(&self.snapshot()?, settings))
    }

    /// The `n` owners that hold most, largest first.
    #[must_use]
    pub fn top_owners(&self, n: usize) -> Vec<OwnerBytes> {
        ledger::largest_owners(n)
    }

    /// Where the resident bytes are heading; `None` before there are three readings.
    #[must_use]
    pub fn trend(&self) -> Option<Trend> {
        self.shared.state().watch.readings().trend(budget::limit_bytes())
    }

    /// Marks the boundary of a learner step, for [`leaks`](Self::leaks).
    pub fn mark_step(&self) {
        self.shared.marks().mark();
    }

    /// Owners whose tensors only grew over the latest step marks.
    #[must_use]
    pub fn leaks(&self) -> Vec<Leak> {
        self.shared.marks().leaks()
    }

    /// The ceiling that the learner asks for before a step.
    #[must_use]
    pub fn step_configs(&self) -> Arc<StepCeiling> {
        Arc::clone(&self.shared.step_configs)
    }

    /// Adds a buffer that can give bytes back, in the order in which they are asked.
    pub fn add_buffer(&self, buffer: Arc<dyn Buffer>) {
        self.shared.buffers().push(buffer);
    }

    /// How the system itself fares.
    #[must_use]
    pub fn health(&self) -> Health {
        let state = self.shared.state();
        Health {
            is_running: self.monitor.is_running(),
            monitor: self.monitor.health(),
            alerts: self.shared.callbacks.as_ref().map(Callbacks::counts).unwrap_or_default(),
            n_failed_readings: state.n_failed_readings,
            n_failed_directives: state.n_failed_directives,
            last_failure: state.last_failure.clone(),
        }
    }
}

impl Builder {
    /// Draws the process's line.
    #[must_use]
    pub fn limit(mut self, limit: MemoryLimit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Where policies and alerts set in.
    #[must_use]
    pub fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// From one reading to the next.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Notes directives and carries none of them out.
    #[must_use]
    pub fn watch_only(mut self) -> Self {
        self.is_watching_only = true;
        self
    }

    /// Marks that a leak is told from; 20 or more.
    #[must_use]
    pub fn step_marks(mut self, n_marks: usize) -> Self {
        self.n_step_marks = n_marks;
        self
    }

    /// Has `callback` told of each alert, on a thread where it may take its time.
    #[must_use]
    pub fn on_alert(mut self, callback: impl Fn(&Alert) + Send + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Adds a buffer that can give bytes back, in the order in which they are asked.
    #[must_use]
    pub fn buffer(mut self, buffer: Arc<dyn Buffer>) -> Self {
        self.buffers.push(buffer);
        self
    }

    /// Adds a device to each reading.
    #[must_use]
    pub fn device(mut self, read: impl Fn() -> DeviceBytes + Send + Sync + 'static) -> Self {
        self.devices.push(Box::new(read));
        self
    }

    /// Sets the memory limit and starts to watch.
    ///
    /// # Errors
    /// Where the kernel does not tell how memory stands, or no thread can be started.
    pub fn start(self) -> Result<MemoryOptimizationSystem> {
        let probe = self.devices.into_iter().fold(Probe::open()?, Probe::with_device);
        if let Some(limit) = self.limit {
            budget::set_limit(limit.limit_bytes(probe::allowed_bytes()?));
        }
        let callbacks =
            if self.callbacks.is_empty() { None } else { Some(Callbacks::start(self.callbacks)?) };
        let state = State {
            latest: Snapshot::default(),
            watch: Watch::new(self.thresholds, N_READINGS),
            carried: VecDeque::with_capacity(N_CARRIED),
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
            buffers: Mutex::new(self.buffers),
            step_configs: Arc::new(StepCeiling::default()),
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

    fn buffers(&self) -> MutexGuard<'_, Vec<Arc<dyn Buffer>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, event: Option<&'static str>, out: &mut Snapshot) -> Result<()> {
        snapshot::read(&self.probe, out)?;
        out.at_millis = self.started.elapsed().as_millis() as u64;
        out.event = event;
        let peak = self.peak_loaded_bytes.fetch_max(out.peak_loaded_bytes, Relaxed);
        out.peak_loaded_bytes = out.peak_loaded_bytes.max(peak);
        Ok(())
    }

    /// One reading and whatever follows from it. No lock is held while a directive is carried out.
    fn turn(&self, event: Option<&'static str>) {
        let mut directives = Vec::new();
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(failure) = self.read(event, &mut reading) {
            let mut state = self.state();
            state.n_failed_readings += 1;
            state.last_failure = Some(failure.to_string());
            return;
        }
        self.allow_residual(&reading);
        let at_millis = reading.at_millis;
        self.follow(&mut reading, &mut directives);
        drop(reading);
        for directive in directives {
            let given = if self.is_watching_only { Ok(None) } else { self.carry_out(&directive) };
            self.note(Carried { at_millis, directive, given_bytes: None }, given);
        }
    }

    /// What follows from a reading, which becomes the latest in exchange for the room of the one before: alerts are
    /// told, directives come back.
    fn follow(&self, reading: &mut Snapshot, directives: &mut Vec<Directive>) {
        let buffer_bytes = self.buffers().iter().map(|buffer| buffer.bytes()).sum();
        let mut state = self.state();
        let told = state.watch.observe(reading, buffer_bytes, self.step_configs.range(), directives);
        if let (Some(level), Some(callbacks)) = (told, &self.callbacks) {
            callbacks.tell(Alert { level, snapshot: reading.clone() });
        }
        std::mem::swap(&mut state.latest, reading);
    }

    /// Keeps the room for the residual at the highest that it was, so that the memory limit holds with it.
    fn allow_residual(&self, snapshot: &Snapshot) {
        let residual_bytes = u64::try_from(snapshot.residual_bytes).unwrap_or(0);
        if !self.is_watching_only && residual_bytes > snapshot.residual_allowance_bytes {
            budget::allow_residual(residual_bytes);
        }
    }

    /// Bytes that were given back, where that is known at once.
    fn carry_out(&self, directive: &Directive) -> Result<Option<u64>> {
        match *directive {
            Directive::Collect { generation, bytes, .. } => collector::collect(generation, bytes).map(Some),
            Directive::TrimHeap { .. } => collector::trim().map(Some),
            Directive::Shrink { bytes, .. } => Ok(Some(self.shrink(bytes))),
            Directive::LowerStepConfig { .. } => {
                self.step_configs.lower();
                Ok(None)
            }
            Directive::RaiseStepConfig { .. } => {
                self.step_configs.raise();
                Ok(None)
            }
        }
    }

    fn shrink(&self, bytes: u64) -> u64 {
        // A copy, so that a buffer may call the system.
        let buffers = self.buffers().clone();
        let mut given = 0;
        for buffer in buffers {
            if given < bytes {
                given += buffer.give_back(bytes - given);
            }
        }
        given
    }

    fn note(&self, carried: Carried, given: Result<Option<u64>>) {
        let mut state = self.state();
        let given_bytes = given.unwrap_or_else(|failure| {
            state.n_failed_directives += 1;
            state.last_failure = Some(failure.to_string());
            None
        });
        if state.carried.len() == N_CARRIED {
            state.carried.pop_front();
        }
        state.carried.push_back(Carried { given_bytes, ..carried });
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, thresholds, interval, is_watching_only, n_step_marks, .. } = self;
        formatter
            .debug_struct("Builder")
            .field("line", limit)
            .field("thresholds", thresholds)
            .field("interval", interval)
            .field("is_watching_only", is_watching_only)
            .field("n_step_marks", n_step_marks)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { started, probe, is_watching_only, step_configs, callbacks, .. } = self;
        formatter
            .debug_struct("Shared")
            .field("started", started)
            .field("probe", probe)
            .field("is_watching_only", is_watching_only)
            .field("step_configs", step_configs)
            .field("callbacks", callbacks)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
