//! Eight writers, a sampler, a learner and a compressor share a replay at full speed: `race SECONDS`. `race.sh` builds
//! it with ThreadSanitizer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use buffers::Error;
use buffers::frames::{Clock, Dataset, FrameStream, Instrument, ObservationRef, View};
use buffers::replay::{
    ArrayBatch, ReplayOptions, SharedReplay, SharedSampler, Slot, StoreOptions, Transition, Writer,
};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

const N_WRITERS: usize = 8;
const LOCAL_WIDTH: usize = 2;
/// Local rows of a window.
const LENGTH: usize = 4;
const BATCH: usize = 64;
/// The most batches that wait for the learner.
const MOST_WAITING: usize = 4;
/// Hot and compressed bytes of local rows that the compressor leaves.
const HELD_BYTES: u64 = 16 << 10;
/// f32 holds the numbers of rows below this exactly.
const ROW_NUMBERS: u32 = 1 << 16;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(60);
    let options = ReplayOptions {
        capacity_transitions: 4096,
        priority_exponent: 0.6,
        n_environments: N_WRITERS,
        local_width: LOCAL_WIDTH,
        copies_observations: false,
        store: StoreOptions::default(),
    };
    let views =
        vec![View { name: "local", length: LENGTH, width: LOCAL_WIDTH, stride: 1, clock: Clock::Local }];
    let instrument =
        Instrument { streams: vec![FrameStream::new(LOCAL_WIDTH)], slow_row: Vec::new(), first_step: 0 };
    let dataset = Arc::new(Dataset::new(views, vec![instrument]));
    let (shared, writers, sampler) = SharedReplay::new(&options, dataset).expect("rows fit the view");
    let (stop, n_batches, to_learner) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::default());
    let n_written: u64 = std::thread::scope(|scope| {
        let (shared, stop, n_batches, to_learner) = (&*shared, &stop, &n_batches, &to_learner);
        let writers: Vec<_> =
            writers.into_iter().map(|writer| scope.spawn(move || write(writer, stop))).collect();
        let others = [
            scope.spawn(move || sample(sampler, to_learner, n_batches, stop)),
            scope.spawn(move || learn(shared, to_learner, stop)),
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    shared.compress(HELD_BYTES).expect("encoding does not fail");
                    std::thread::yield_now();
                }
            }),
        ];
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        // The sanitizer sees a thread that is joined, but not the end of a scope inside the standard library.
        for other in others {
            other.join().expect("a reader does not panic");
        }
        writers.into_iter().map(|writer| writer.join().expect("a writer does not panic")).sum()
    });
    // Compressing absorbs what the writers published last.
    shared.compress(HELD_BYTES).expect("encoding does not fail");
    assert_eq!(shared.n_inserted(), n_written, "no transition is lost");
    let n_batches = n_batches.load(Ordering::Relaxed);
    assert!(n_batches > 0, "some batch was sampled");
    println!("{n_written} transitions, {n_batches} batches of {BATCH}");
}

/// The numbers of local row `local` of an environment.
fn row(environment: u16, local: u32) -> [f32; LOCAL_WIDTH] {
    [f32::from(environment), (local % ROW_NUMBERS) as f32]
}

/// Writes steps until `stop`, and returns how many.
fn write(mut writer: Writer, stop: &AtomicBool) -> u64 {
    let environment = writer.environment();
    let mut rng = Pcg64Mcg::seed_from_u64(u64::from(environment));
    let mut n_written = 0;
    let mut local = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..rng.random_range(1..65) {
            let appended = writer.append_local(&row(environment, local)).expect("the row has the width");
            assert_eq!(appended, local);
            if local >= LENGTH as u32 {
                let from = ObservationRef { environment, local: local - 1, ..ObservationRef::default() };
                let action = environment as u8;
                let reward = local as f32;
                let step = Transition { from, to_t: 0, to_local: local, action, reward, discount: 0.9 };
                writer.insert(step).expect("steps come in order");
                n_written += 1;
            }
            local += 1;
        }
        writer.flush().expect("there is memory");
    }
    n_written
}

fn sample(
    mut sampler: SharedSampler,
    to_learner: &Mutex<VecDeque<Vec<Slot>>>,
    n_batches: &AtomicU64,
    stop: &AtomicBool,
) {
    let mut rng = Pcg64Mcg::seed_from_u64(100);
    let mut batch = ArrayBatch::default();
    while !stop.load(Ordering::Relaxed) {
        if locked(to_learner).len() >= MOST_WAITING {
            std::thread::yield_now();
            continue;
        }
        match sampler.sample_into(BATCH, 0.4, &mut rng, &mut batch) {
            Err(Error::Empty) => continue,
            outcome => outcome.expect("rows in memory can be read"),
        }
        check(&batch.observations[0], &batch.drawn.observation_refs);
        check(&batch.next_observations[0], &batch.drawn.next_observation_refs);
        n_batches.fetch_add(1, Ordering::Relaxed);
        locked(to_learner).push_back(batch.drawn.slots.clone());
    }
}

/// Checks that the windows show the rows that were written.
fn check(windows: &[f32], observation_refs: &[ObservationRef]) {
    for (window, of) in windows.chunks_exact(LENGTH * LOCAL_WIDTH).zip(observation_refs) {
        for (found, back) in window.chunks_exact(LOCAL_WIDTH).zip((0..LENGTH as u32).rev()) {
            assert_eq!(found, row(of.environment, of.local - back));
        }
    }
}

fn learn(shared: &SharedReplay, to_learner: &Mutex<VecDeque<Vec<Slot>>>, stop: &AtomicBool) {
    let mut n_updates = 0;
    while !stop.load(Ordering::Relaxed) {
        let Some(slots) = locked(to_learner).pop_front() else {
            std::thread::yield_now();
            continue;
        };
        let td_errors: Vec<f32> = (0..slots.len()).map(|i| ((n_updates + i) % 97) as f32 * 0.01).collect();
        shared.update_priorities(&slots, &td_errors).expect("errors are finite");
        n_updates += 1;
    }
}

/// Tries a lock again and again: a wait inside a standard library that was built without ThreadSanitizer looks like a
/// race (see `race.sh`).
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
}
