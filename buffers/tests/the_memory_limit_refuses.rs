//! If the memory limit has no room for the next rows, the replay returns an error, and goes on once there is room.
//!
//! It is a binary of its own because the memory limit is that of the process.
#![allow(clippy::unwrap_used, reason = "a test fails where a step of it fails")]

use std::sync::Arc;

use buffers::Error;
use buffers::frames::{Clock, Dataset, ObservationRef, View};
use buffers::replay::{ArrayBatch, Replay, ReplayOptions, StoreOptions, Tier, Transition};
use memsys::ledger;
use memsys::ledger::budget;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

#[global_allocator]
static HEAP: memsys::os::CountedHeap = memsys::os::CountedHeap;

fn step(replay: &mut Replay, local: &mut u32) {
    let to_local = replay.append_local(0, &[*local as f32, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]).unwrap();
    assert_eq!(to_local, *local);
    if *local > 0 {
        let from = ObservationRef { local: *local - 1, ..ObservationRef::default() };
        let (action, reward, discount) = (1, 0.0, 0.9);
        replay.insert(Transition { from, to_t: 0, to_local, action, reward, discount }).unwrap();
    }
    *local += 1;
}

/// Appends rows and enforces the budget under a memory limit of `room` more bytes. Returns the number of rows before the
/// first refusal, at most `most`.
fn rows_within(replay: &mut Replay, local: &mut u32, room: u64, most: u32) -> u32 {
    budget::set_limit(ledger::counted_bytes() + room);
    let first = *local;
    let refused = (0..most).find_map(|_| {
        step(replay, local);
        replay.enforce_budget().err()
    });
    budget::set_limit(u64::MAX);
    assert!(matches!(refused, None | Some(Error::Memsys(memsys::Error::Refused(_)))), "{refused:?}");
    *local - first
}

#[test]
fn a_refused_replay_returns_an_error_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let views = vec![View { name: "local", length: 1, width: 8, stride: 1, clock: Clock::Local }];
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
        budget::set_limit(ledger::counted_bytes() + 200_000);
        let refused = Replay::new(&options, Arc::clone(&dataset));
        assert!(matches!(refused, Err(Error::Memsys(memsys::Error::Refused(_)))));
        budget::set_limit(u64::MAX);
        let mut replay = Replay::new(&options, Arc::clone(&dataset)).unwrap();
        let mut local = 0;
        (0..3000).for_each(|_| step(&mut replay, &mut local));
        replay.enforce_budget().unwrap();
        within.push(rows_within(&mut replay, &mut local, room, most));
        (0..1000).for_each(|_| step(&mut replay, &mut local));
        replay.enforce_budget().unwrap();
        let batch: ArrayBatch = replay.sample(64, 0.4, &mut Pcg64Mcg::seed_from_u64(1)).unwrap();
        for (row, observation_ref) in batch.observations[0].chunks(8).zip(&batch.drawn.observation_refs) {
            assert_eq!(row[0], observation_ref.local as f32);
        }
        assert_eq!(replay.len(), local as usize - 1);
        // A save commits the replay where nothing may be refused. Caches take no room there that is kept for others.
        let saved = budget::commit(|| {
            replay.commit()?;
            replay.sample::<ArrayBatch>(64, 0.4, &mut Pcg64Mcg::seed_from_u64(2))
        });
        saved.unwrap();
    }
    let most_bytes = budget::most_in_commit_bytes();
    assert!(most_bytes <= budget::COMMIT_ROOM_BYTES, "{most_bytes} bytes at once within a commit");
    assert!(within[0] < most, "hot rows pass the memory limit: {within:?}");
    assert!(
        within[1] > within[0] && within[2] > within[0],
        "before they are refused rows move down: {within:?}"
    );
}
