//! In the steady state, once each kind of window was read, sampling allocates nothing on Rust's heap or libtorch's.
//!
//! It is a binary of its own because it counts the allocations of its heap.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use std::alloc::System;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use buffers::frames::{Clock, Dataset, FrameStream, Instrument, ObservationRef, View};
use buffers::replay::{Replay, ReplayOptions, StoreOptions, TensorBatch, Tier, Transition};
use memsys::ledger;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const N_ROWS: u32 = 3000;

fn dataset(store: &StoreOptions) -> Arc<Dataset> {
    let view = |name, length, width, stride, clock| View { name, length, width, stride, clock };
    let views = vec![
        view("slow", 7, 3, 1, Clock::Slow),
        view("fast", 60, 7, 1, Clock::Decision),
        view("strided", 20, 8, 6, Clock::Decision),
        view("local", 1, 2, 1, Clock::Local),
    ];
    let stream = |view: &View| {
        let mut stream = FrameStream::new(view.width);
        let n_rows = if view.clock == Clock::Local { 0 } else { N_ROWS };
        (0..n_rows).for_each(|row| {
            stream.append(&vec![row as f32; view.width]);
        });
        stream
    };
    let instrument = Instrument {
        streams: views.iter().map(stream).collect(),
        slow_row: (0..N_ROWS).map(|t| t / 3).collect(),
        first_step: 130,
    };
    let mut dataset = Dataset::new(views, vec![instrument]);
    dataset.enforce_budget(store).unwrap();
    Arc::new(dataset)
}

fn replay(copies_observations: bool, priority_exponent: f64, tier: Tier, folder: &Path) -> Replay {
    let budget_bytes = if tier == Tier::Hot { u64::MAX } else { 0 };
    let store =
        |name| StoreOptions { tier, budget_bytes, file: Some(folder.join(name)), ..StoreOptions::default() };
    let options = ReplayOptions {
        capacity_transitions: 2000,
        priority_exponent,
        n_environments: 1,
        local_width: 2,
        copies_observations,
        store: store("rows"),
    };
    let mut replay = Replay::new(&options, dataset(&store("streams"))).unwrap();
    replay.begin_episode(0, &[0.0, 0.5]).unwrap();
    for i in 0..2700u32 {
        let to_local = replay.append_local(0, &[i as f32 + 1.0, 0.5]).unwrap();
        let from = ObservationRef { local: i, t: 130 + i, ..ObservationRef::default() };
        let action = (i % 5) as u8;
        let (to_t, reward, discount) = (131 + i, i as f32, 0.9);
        replay.insert(Transition { from, to_t, to_local, action, reward, discount }).unwrap();
        replay.enforce_budget().unwrap();
    }
    // Waits until the encoder's thread, which allocates too, has nothing left to do.
    let mut n_unchanged = 0;
    while tier != Tier::Hot && n_unchanged < 100 {
        let before = replay.tier_bytes();
        std::thread::sleep(Duration::from_millis(1));
        replay.enforce_budget().unwrap();
        n_unchanged = if replay.tier_bytes() == before { n_unchanged + 1 } else { 0 };
    }
    let held = replay.tier_bytes();
    assert!(tier == Tier::Hot || held.compressed + held.mapped > 0, "nothing went down: {held:?}");
    replay
}

/// The number of allocations that `work` makes on Rust's heap and on libtorch's.
fn allocations(mut work: impl FnMut()) -> (usize, u64) {
    let region = Region::new(HEAP);
    let tensors = ledger::n_allocations();
    work();
    let change = region.change();
    (change.allocations + change.reallocations, ledger::n_allocations() - tensors)
}

#[test]
fn a_kept_batch_is_filled_without_allocating() {
    memsys::libtorch::count_tensors().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (copies, exponent, tier) in [
        (false, 0.6, Tier::Hot),
        (true, 0.6, Tier::Hot),
        (false, 0.0, Tier::Hot),
        (false, 0.6, Tier::Compressed),
        (false, 0.6, Tier::Mapped),
    ] {
        let mut replay = replay(copies, exponent, tier, folder.path());
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let mut batch = TensorBatch::default();
        let errors: Vec<f32> = (0..64).map(|i| i as f32 * 0.01).collect();
        let mut step = |replay: &mut Replay| {
            replay.sample_into(64, 0.5, &mut rng, &mut batch).unwrap();
            replay.update_priorities(&batch.slots, &errors).unwrap();
        };
        let (_, first) = allocations(|| step(&mut replay));
        assert!(first > 0, "the tensors of the first batch are counted");
        // Buffers are made when a window of their kind is first read: packed, decoded, or over two chunks.
        (0..20).for_each(|_| step(&mut replay));
        assert_eq!(
            allocations(|| (0..100).for_each(|_| step(&mut replay))),
            (0, 0),
            "copies: {copies}, {tier:?}"
        );
        let held = batch.actions.shallow_clone();
        let before = Vec::<i64>::try_from(&held).unwrap();
        replay.sample_into(64, 0.5, &mut rng, &mut batch).unwrap();
        assert_eq!(Vec::<i64>::try_from(&held).unwrap(), before, "actions that something else holds stay");
        let actions = Vec::<i64>::try_from(&batch.actions).unwrap();
        let expected: Vec<i64> = batch.observation_refs.iter().map(|of| i64::from(of.local % 5)).collect();
        assert_eq!(actions, expected);
    }
}
