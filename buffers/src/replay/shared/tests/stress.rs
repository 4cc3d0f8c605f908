//! Threads at full speed over the shared core for a second, or for `STRESS_SECONDS`: `make soak-replay` runs them for a
//! minute. `make race` runs the whole shared replay under ThreadSanitizer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::frames::ObservationRef;
use crate::replay::Transition;
use crate::replay::sampler::{Drawn, Sampler};
use crate::replay::shared::core::{Block, Core, Lease, Lock, Published, StdLocks};
use crate::store::{Chunk, Codec, Predictor, RowKind, RowShape, Transform};

const SHAPE: RowShape = RowShape { kind: RowKind::F32, width: 2 };
const CODEC: Codec = Codec { transform: Transform::ByteShuffle, predictor: Predictor::None, level: 1 };
const N_WRITERS: u16 = 8;
const REACH: usize = 4;
/// The most batches that wait for the learner.
const MOST_WAITING: usize = 4;

fn rows(environment: u16, first: usize, n: usize) -> Vec<u8> {
    let row = |at: usize| [f32::from(environment).to_le_bytes(), ((at & 0xFFFF) as f32).to_le_bytes()];
    (first..first + n).flat_map(row).flatten().collect()
}

fn write(core: &Core<StdLocks>, environment: u16, stop: &AtomicBool) -> u64 {
    let mut rng = Pcg64Mcg::seed_from_u64(u64::from(environment));
    let mut first_row = 0;
    while !stop.load(Ordering::Relaxed) {
        let n_rows = rng.random_range(1..65);
        let observation_ref =
            |local: usize| ObservationRef { environment, local: local as u32, ..ObservationRef::default() };
        let transitions =
            (first_row..first_row + n_rows).filter(|local| *local >= REACH).map(|local| Transition {
                from: observation_ref(local - 1),
                to_t: 0,
                to_local: local as u32,
                action: environment as u8,
                reward: local as f32,
                discount: 0.9,
            });
        let chunk = Arc::new(Chunk::Hot(rows(environment, first_row, n_rows)));
        let block = Block { environment, first_row, n_rows, rows: chunk };
        core.publish(Published { block, transitions: transitions.collect() }).unwrap();
        first_row += n_rows;
    }
    (first_row.saturating_sub(REACH)) as u64
}

fn check(lease: &Lease, observation_refs: &[ObservationRef]) {
    for (i, observation_ref) in observation_refs.iter().enumerate() {
        let end = observation_ref.local as usize;
        let mut next = (end + 1).saturating_sub(REACH);
        for block in lease.blocks(i) {
            let after = (block.first_row + block.n_rows).min(end + 1);
            assert!(block.first_row <= next && next < after, "blocks are neighbours");
            let held = block.rows.rows().unwrap();
            let skipped = (next - block.first_row) * SHAPE.row_bytes();
            let wanted = rows(observation_ref.environment, next, after - next);
            assert_eq!(held[skipped..][..wanted.len()], wanted);
            next = after;
        }
        assert_eq!(next, end + 1, "a drawn row is held");
    }
}

#[test]
fn eight_writers_and_a_sampler() {
    let seconds = std::env::var("STRESS_SECONDS").map_or(1, |text| text.parse().unwrap());
    run(Duration::from_secs(seconds));
}

/// Eight writers, a sampler, a learner and a compressor share a core for `time`.
fn run(time: Duration) {
    let core = Core::<StdLocks>::new(Sampler::new(4096, 0.6), usize::from(N_WRITERS), REACH);
    let (stop, n_batches) = (AtomicBool::new(false), AtomicU64::new(0));
    let to_learner = Mutex::<VecDeque<Drawn>>::default();
    let n_written: u64 = std::thread::scope(|scope| {
        let (core, stop, n_batches, to_learner) = (&core, &stop, &n_batches, &to_learner);
        let writers: Vec<_> = (0..N_WRITERS).map(|i| scope.spawn(move || write(core, i, stop))).collect();
        let sampling = scope.spawn(move || {
            let mut rng = Pcg64Mcg::seed_from_u64(100);
            let (mut now, mut next) = (Lease::default(), Lease::default());
            while !stop.load(Ordering::Relaxed) {
                if to_learner.with(|waiting| waiting.len()) >= MOST_WAITING {
                    std::thread::yield_now();
                    continue;
                }
                let mut drawn = Drawn::default();
                if core.draw(64, 0.4, &mut rng, &mut drawn, [&mut now, &mut next]).is_ok() {
                    check(&now, &drawn.observation_refs);
                    check(&next, &drawn.next_observation_refs);
                    n_batches.fetch_add(1, Ordering::Relaxed);
                    to_learner.with(|waiting| waiting.push_back(drawn));
                }
            }
        });
        let learning = scope.spawn(move || {
            let mut i = 0;
            while !stop.load(Ordering::Relaxed) {
                let Some(drawn) = to_learner.with(VecDeque::pop_front) else {
                    std::thread::yield_now();
                    continue;
                };
                let errors: Vec<f32> = (0..drawn.slots.len()).map(|j| ((i + j) % 97) as f32 * 0.01).collect();
                core.update_priorities(&drawn.slots, &errors).unwrap();
                i += 1;
            }
        });
        let compressing = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                core.compress(16 << 10, SHAPE, CODEC).unwrap();
                std::thread::yield_now();
            }
        });
        let end = Instant::now() + time;
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        for thread in [sampling, learning, compressing] {
            thread.join().unwrap();
        }
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    core.absorb().unwrap();
    let n_inserted = core.with_sampler(|sampler| sampler.transitions().n_inserted());
    assert_eq!(n_inserted, n_written, "nothing is lost");
    let n_batches = n_batches.load(Ordering::Relaxed);
    assert!(n_batches > 0, "something was drawn");
    println!("{n_written} transitions, {n_batches} batches of 64");
}
