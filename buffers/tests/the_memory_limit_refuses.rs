//! A memory limit without room for the next rows: the replay says so and goes on as before once there is room. The memory limit is the
//! process's, so that this stands alone.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use std::sync::Arc;

use buffers::Error;
use buffers::frames::{Clock, Dataset, ObservationRef, View};
use buffers::replay::{Replay, ReplayOptions, StoreOptions, Tier, Transition};
use memsys::ledger;
use memsys::ledger::budget;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

#[global_allocator]
static HEAP: memsys::os::CountedHeap = memsys::os::CountedHeap;

fn step(replay: &mut Replay, local: &mut u32) {
    let to_local = replay.append_local(0, &[*local as f32, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]);
    assert_eq!(to_local, *local);
    if *local > 0 {
        let from = ObservationRef { local: *local - 1, ..ObservationRef::default() };
        replay.insert(Transition { from, to_t: 0, to_local, action: 1, reward: 0.0, discount: 0.9 });
    }
    *local += 1;
}

/// Settles as rows come, under a memory limit of `room` more bytes; rows until it is refused, at most `most`.
fn rows_within(replay: &mut Replay, local: &mut u32, room: u64, most: u32) -> u32 {
    budget::set_limit(ledger::counted_bytes() + room);
    let first = *local;
    let refused = (0..most).find_map(|_| {
        step(replay, local);
        replay.enforce_budget().err()
    });
    budget::set_limit(u64::MAX);
    assert!(matches!(refused, None | Some(Error::Libtorch(memsys::Error::Refused(_)))), "{refused:?}");
    *local - first
}

#[test]
fn what_the_limit_refuses_is_told_and_the_replay_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let views = vec![View { name: "own", length: 1, width: 8, stride: 1, clock: Clock::Local }];
    let dataset = Arc::new(Dataset::new(views, Vec::new()));
    let (room, most) = (200_000, 30_000);
    let mut within = Vec::new();
    for tier in [Tier::Hot, Tier::Compressed, Tier::Mapped] {
        let file = Some(folder.path().join("rows.plr"));
        let options = ReplayOptions {
            capacity_transitions: 100_000,
            priority_exponent: 0.6,
            n_environments: 1,
            local_width: 8,
            copies_observations: false,
            store: StoreOptions { tier, file, ..StoreOptions::default() },
        };
        budget::set_limit(ledger::counted_bytes() + 400_000);
        let refused = Replay::new(&options, Arc::clone(&dataset));
        assert!(matches!(refused, Err(Error::Libtorch(memsys::Error::Refused(_)))));
        budget::set_limit(u64::MAX);
        let mut replay = Replay::new(&options, Arc::clone(&dataset)).unwrap();
        let mut local = 0;
        (0..3000).for_each(|_| step(&mut replay, &mut local));
        replay.enforce_budget().unwrap();
        within.push(rows_within(&mut replay, &mut local, room, most));
        (0..1000).for_each(|_| step(&mut replay, &mut local));
        replay.enforce_budget().unwrap();
        let batch = replay.sample(64, 0.4, &mut Pcg64Mcg::seed_from_u64(1)).unwrap();
        for (row, observation) in batch.observation_refs.iter().enumerate() {
            assert_eq!(batch.observations[0].double_value(&[row as i64, 0, 0]), f64::from(observation.local));
        }
        assert_eq!(replay.len(), local as usize - 1);
    }
    assert!(within[0] < most, "hot rows pass the memory limit: {within:?}");
    assert!(
        within[1] > within[0] && within[2] > within[0],
        "before they are refused rows move down: {within:?}"
    );
}
