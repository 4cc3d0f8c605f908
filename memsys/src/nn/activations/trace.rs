//! Readings of the ledger at the borders of stages.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tch::Tensor;

use crate::error::Result;
use crate::ledger;
use crate::libtorch;
use crate::step::stage_trace::{At, Mark, StageTrace};

thread_local! {
    static RECORDER: RefCell<Option<Arc<Mutex<Recorder>>>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Recorder {
    before_bytes: u64,
    peak_bytes: u64,
    last: Instant,
    marks: Vec<Mark>,
}

impl Recorder {
    fn begin() -> Self {
        let peak_bytes = ledger::restart_tensor_peak();
        let before_bytes = ledger::tensor_bytes();
        Self { before_bytes, peak_bytes, last: Instant::now(), marks: Vec::new() }
    }

    fn mark(&mut self, stage: usize, at: At) {
        let micros = self.last.elapsed().as_secs_f64() * 1e6;
        let (live, peak) = (ledger::tensor_bytes(), ledger::peak_tensor_bytes());
        ledger::restart_tensor_peak();
        self.peak_bytes = self.peak_bytes.max(peak);
        let beyond = |bytes: u64| bytes.cast_signed() - self.before_bytes.cast_signed();
        self.marks.push(Mark { stage, at, live_bytes: beyond(live), peak_bytes: beyond(peak), micros });
        self.last = Instant::now();
    }
}

/// Runs one forward and backward pass and returns what it returned, with the bytes and times of its stages. `None` if
/// the stages do not each occur once. The ledger's peak of tensors is afterwards what it would be without the trace.
///
/// Nothing else in the process should allocate tensors meanwhile, because the ledger counts those of all threads.
pub fn traced<T>(pass: impl FnOnce() -> T) -> (T, Option<StageTrace>) {
    let recorder = Arc::new(Mutex::new(Recorder::begin()));
    let outer = RECORDER.replace(Some(Arc::clone(&recorder)));
    let output = pass();
    RECORDER.set(outer);
    let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
    recorder.mark(0, At::Finish);
    ledger::raise_tensor_peak_to(recorder.peak_bytes);
    (output, StageTrace::from_marks(&recorder.marks))
}

fn recorder() -> Option<Arc<Mutex<Recorder>>> {
    RECORDER.with_borrow(Option::clone)
}

fn mark(recorder: &Mutex<Recorder>, stage: usize, at: At) {
    recorder.lock().unwrap_or_else(PoisonError::into_inner).mark(stage, at);
}

/// Marks the begin of a stage, if this thread traces.
pub(super) fn begin(stage: usize) {
    if let Some(recorder) = recorder() {
        mark(&recorder, stage, At::Begin);
    }
}

/// Marks the end of a stage, and later the begin of its backward, if this thread traces.
pub(super) fn end(stage: usize, output: &Tensor) -> Result<()> {
    let Some(recorder) = recorder() else { return Ok(()) };
    mark(&recorder, stage, At::End);
    libtorch::on_backward(output, Box::new(move || mark(&recorder, stage, At::Backward)))
}
