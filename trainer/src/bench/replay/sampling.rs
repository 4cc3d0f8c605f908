//! Rows of sampling: hot, compressed, mapped, by one thread and by several, and their latency.

use std::fs::File;
use std::path::Path;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use buffers::frames::{Clock, Dataset, ObservationRef, View};
use buffers::replay::{Replay, ReplayOptions, TensorBatch, Tier, Transition};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};

use crate::bench::median;
use crate::bench::replay::measured::{Bench, Measured};
use crate::bench::replay::work::{
    Filled, IMPORTANCE_SAMPLING_EXPONENT, N_ENVIRONMENTS, PRIORITY_EXPONENT, settled,
};
use crate::error::{Error, Result};

/// Transitions of a batch.
const BATCH: usize = 256;
/// Batches whose latency is measured.
const N_LATENCIES: usize = 10_000;
/// Numbers of a plain vector, as many as an observation of the market has.
const VECTOR_WIDTH: usize = 817;
/// Batches that are read cold.
const N_COLD: usize = 8;
/// Cold starts: each needs a file and a replay of its own.
const COLD_STARTS: usize = 3;

pub(super) fn hot_256(bench: &Bench, capacity: usize) -> Result<Measured> {
    sampled(bench, capacity, Tier::Hot, BATCH)
}

pub(super) fn hot_32(bench: &Bench, capacity: usize) -> Result<Measured> {
    sampled(bench, capacity, Tier::Hot, 32)
}

pub(super) fn compressed(bench: &Bench, capacity: usize) -> Result<Measured> {
    sampled(bench, capacity, Tier::Compressed, BATCH)
}

pub(super) fn mapped_warm(bench: &Bench, capacity: usize) -> Result<Measured> {
    sampled(bench, capacity, Tier::Mapped, BATCH)
}

fn sampled(bench: &Bench, capacity: usize, tier: Tier, batch: usize) -> Result<Measured> {
    let (mut filled, _) = bench.work.filled(capacity, tier)?;
    let rate = bench.rate(|| filled.sample_and_update(batch).map(|()| batch))?;
    Ok(Measured::plain(rate))
}

/// Several threads draw from one replay, each with a batch and a generator of its own: they take turns to draw and to
/// write the batch's priorities, and hold no lock while they gather.
pub(super) fn hot_threads(bench: &Bench, capacity: usize) -> Result<Measured> {
    let (Filled { mut replay, td_errors, .. }, _) = bench.work.filled(capacity, Tier::Hot)?;
    let (draws, rows) = replay.split();
    let draws = Mutex::new(draws);
    let turn = || draws.lock().unwrap_or_else(PoisonError::into_inner);
    let draw = |seed: u64, until: Instant| -> Result<usize> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut batch = TensorBatch::default();
        let mut n = 0;
        while Instant::now() < until {
            turn().draw_into(BATCH, IMPORTANCE_SAMPLING_EXPONENT, &mut rng, &mut batch)?;
            rows.gather_into(&mut batch)?;
            let first = rng.random_range(0..td_errors.len() - BATCH);
            turn().update_priorities(&batch.slots, &td_errors[first..first + BATCH])?;
            n += BATCH;
        }
        Ok(n)
    };
    let rate = bench.rate(|| {
        let until = Instant::now() + std::time::Duration::from_secs_f64(bench.seconds);
        on_threads(bench.threads, |seed| draw(seed, until))
    })?;
    let note = format!(
        "{} threads; they take turns to draw and to update, and gather without a lock",
        bench.threads
    );
    Ok(Measured { note, ..Measured::plain(rate) })
}

/// The sum of the results of `work` on `n` threads; each gets its number.
fn on_threads(n: usize, work: impl Fn(u64) -> Result<usize> + Sync) -> Result<usize> {
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..n as u64)
            .map(|i| {
                scope.spawn({
                    let work = &work;
                    move || work(i)
                })
            })
            .collect();
        started.into_iter().map(|thread| thread.join().expect("a panic ends the bench")).sum()
    })
}

/// Each row is an independent observation of 817 random walks, so nothing is shared between rows.
pub(super) fn vectors(bench: &Bench, capacity: usize) -> Result<Measured> {
    let view = View { name: "vector", length: 1, width: VECTOR_WIDTH, stride: 1, clock: Clock::Local };
    let dataset = Arc::new(Dataset::new(vec![view], Vec::new()));
    let options = ReplayOptions {
        capacity_transitions: capacity,
        priority_exponent: PRIORITY_EXPONENT,
        n_environments: N_ENVIRONMENTS,
        local_width: VECTOR_WIDTH,
        copies_observations: false,
        store: bench.work.store(Tier::Compressed, "vectors")?,
    };
    let mut replay = Replay::new(&options, Arc::clone(&dataset))?;
    let mut rng = Pcg64Mcg::seed_from_u64(3);
    let mut rows = vec![[0f32; VECTOR_WIDTH]; N_ENVIRONMENTS];
    let mut walk = |replay: &mut Replay, environment: usize| {
        let row = &mut rows[environment];
        row.iter_mut().for_each(|number| *number = *number * 0.99 + rng.random_range(-0.1..0.1));
        replay.append_local(environment as u16, row)
    };
    for environment in 0..N_ENVIRONMENTS {
        walk(&mut replay, environment)?;
    }
    while replay.len() < capacity {
        let environment = replay.len() % N_ENVIRONMENTS;
        let to_local = walk(&mut replay, environment)?;
        let from = ObservationRef {
            environment: environment as u16,
            local: to_local - 1,
            ..ObservationRef::default()
        };
        replay.insert(Transition { from, to_t: 0, to_local, action: 0, reward: 0.0, discount: 0.99 })?;
        if replay.len().is_multiple_of(1024) {
            replay.enforce_budget()?;
        }
    }
    settled(&mut replay)?;
    let mut filled = Filled::of(replay, dataset)?;
    let rate = bench.rate(|| filled.sample_and_update(BATCH).map(|()| BATCH))?;
    let bytes = filled.bytes() as f64 / filled.replay.len() as f64;
    let note = format!("817 independent walks a row, the hardest to compress: {bytes:.0} bytes a transition");
    Ok(Measured { value: rate, note, details: json!({ "bytes_per_transition": bytes }) })
}

pub(super) fn mapped_cold(bench: &Bench, capacity: usize) -> Result<Measured> {
    cold(bench, capacity, false)
}

pub(super) fn mapped_cold_prefetch(bench: &Bench, capacity: usize) -> Result<Measured> {
    cold(bench, capacity, true)
}

/// The first batches of a replay none of whose chunks is in memory.
fn cold(bench: &Bench, capacity: usize, prefetch: bool) -> Result<Measured> {
    let mut rates = Vec::new();
    let mut n_read = Vec::new();
    for _ in 0..COLD_STARTS {
        let (mut filled, _) = bench.work.filled(capacity, Tier::Mapped)?;
        for path in bench.work.files().iter().filter(|path| path.exists()) {
            forget(path)?;
        }
        let before = bytes_read();
        let began = Instant::now();
        if prefetch {
            ahead(&mut filled)?;
        } else {
            (0..N_COLD).try_for_each(|_| filled.sample_and_update(BATCH))?;
        }
        rates.push((N_COLD * BATCH) as f64 / began.elapsed().as_secs_f64());
        n_read.push((bytes_read() - before) as f64);
    }
    let n_read = median(&mut n_read);
    let mut note = format!(
        "the first {N_COLD} batches; pages given up by fsync and POSIX_FADV_DONTNEED, {} read from the disk then",
        crate::format::bytes(n_read as u64)
    );
    if prefetch {
        note.push_str("; a batch is drawn while another thread gathers the one before");
    }
    Ok(Measured {
        value: median(&mut rates),
        note,
        details: json!({ "bytes_read": n_read, "threads": 1 + usize::from(prefetch) }),
    })
}

/// Builds the cold batches as a run does that prefetches: a batch is drawn while the one before is gathered on another
/// thread.
fn ahead(filled: &mut Filled) -> Result<()> {
    let Filled { replay, rng, .. } = filled;
    let replay = &*replay;
    let (mut drawn, mut spare) = (TensorBatch::default(), TensorBatch::default());
    replay.draw_into(BATCH, IMPORTANCE_SAMPLING_EXPONENT, rng, &mut drawn)?;
    for number in 0..N_COLD {
        std::thread::scope(|scope| -> Result<()> {
            let gathering = scope.spawn(|| replay.gather_into(&mut drawn));
            if number + 1 < N_COLD {
                replay.draw_into(BATCH, IMPORTANCE_SAMPLING_EXPONENT, rng, &mut spare)?;
            }
            Ok(gathering.join().expect("a panic ends the bench")?)
        })?;
        std::mem::swap(&mut drawn, &mut spare);
    }
    Ok(())
}

/// Writes a file out and gives up its pages in the page cache.
fn forget(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(Error::io(path))?;
    file.sync_all().map_err(Error::io(path))?;
    memsys::os::forget_cached(&file).map_err(Error::io(path))
}

/// Bytes that this process has read from disks.
pub(super) fn bytes_read() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("read_bytes: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

pub(super) fn latency(bench: &Bench, capacity: usize) -> Result<Measured> {
    let (mut filled, _) = bench.work.filled(capacity, Tier::Hot)?;
    (0..200).try_for_each(|_| filled.sample_and_update(BATCH))?;
    let mut millis = Vec::with_capacity(N_LATENCIES);
    for _ in 0..N_LATENCIES {
        let began = Instant::now();
        filled.sample_and_update(BATCH)?;
        millis.push(began.elapsed().as_secs_f64() * 1e3);
    }
    millis.sort_by(f64::total_cmp);
    let at = |share: f64| millis[((millis.len() as f64 * share) as usize).min(millis.len() - 1)];
    let [median, p99, p999] = [0.5, 0.99, 0.999].map(at);
    let note =
        format!("median {median:.3} ms, 99th {p99:.3} ms, 99.9th {p999:.3} ms of {N_LATENCIES} batches");
    let details: Value = json!({ "median_ms": median, "p99_ms": p99, "p999_ms": p999 });
    Ok(Measured { value: p99 / median, note, details })
}
