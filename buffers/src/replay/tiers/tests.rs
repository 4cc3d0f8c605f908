use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::*;
use crate::frames::{Clock, Dataset, Instrument, ObservationRef, View};
use crate::replay::{ArrayBatch, Replay, ReplayOptions, Transition};
use crate::store::{Damage, FilePart, verify};

const N_ENVIRONMENTS: usize = 3;
const LOCAL_WIDTH: usize = 8;
const N_STEPS: usize = 3000;
const CAPACITY: usize = 5000;

fn dataset(store: &StoreOptions) -> Arc<Dataset> {
    let view = |name, length, width, stride, clock| View { name, length, width, stride, clock };
    let views = vec![
        view("fast", 60, 7, 1, Clock::Decision),
        view("strided", 20, 8, 6, Clock::Decision),
        view("slow", 12, 8, 1, Clock::Slow),
        view("local", 1, LOCAL_WIDTH, 1, Clock::Local),
    ];
    let mut rng = Pcg64Mcg::seed_from_u64(1);
    let mut stream = |view: &View| {
        let mut stream = FrameStream::new(view.width);
        for _ in 0..if view.clock == Clock::Local { 0 } else { N_STEPS } {
            stream.append(&(0..view.width).map(|_| (rng.random::<f32>() * 9.0).round()).collect::<Vec<_>>());
        }
        stream
    };
    let streams = views.iter().map(&mut stream).collect();
    let slow_row = (0..N_STEPS as u32).map(|t| t / 2).collect();
    let mut dataset = Dataset::new(views, vec![Instrument { streams, slow_row, first_step: 130 }]);
    dataset.enforce_budget(store).unwrap();
    Arc::new(dataset)
}

fn options(store: StoreOptions) -> ReplayOptions {
    ReplayOptions {
        capacity_transitions: CAPACITY,
        priority_exponent: 0.6,
        n_environments: N_ENVIRONMENTS,
        local_width: LOCAL_WIDTH,
        copies_observations: false,
        store,
    }
}

fn store(tier: Tier, budget_bytes: u64, file: PathBuf) -> StoreOptions {
    StoreOptions { tier, budget_bytes, file: Some(file), ..StoreOptions::default() }
}

/// Environments that write and a learner that samples, with a random generator of their own.
#[derive(Clone)]
struct Run {
    rng: Pcg64Mcg,
    n_local: [u32; N_ENVIRONMENTS],
    t: u32,
    n_steps: usize,
}

impl Run {
    fn new() -> Self {
        Self { rng: Pcg64Mcg::seed_from_u64(5), n_local: [0; N_ENVIRONMENTS], t: 0, n_steps: 0 }
    }

    fn step(&mut self, replay: &mut Replay, batch: &mut ArrayBatch) -> Vec<u32> {
        self.n_steps += 1;
        for environment in 0..N_ENVIRONMENTS {
            let row: Vec<f32> = (0..LOCAL_WIDTH).map(|_| (self.rng.random::<f32>() * 4.0).floor()).collect();
            let local = replay.append_local(environment as u16, &row).unwrap();
            assert_eq!(local, self.n_local[environment]);
            self.n_local[environment] += 1;
            // Sometimes a row begins an episode, and no transition ends with it.
            if local > 0 && !self.rng.random::<f64>().lt(&0.1) {
                self.t = (self.t + 1) % (N_STEPS as u32 - 131);
                let from = ObservationRef {
                    instrument: 0,
                    environment: environment as u16,
                    t: 130 + self.t,
                    local: local - 1,
                };
                let step = Transition {
                    from,
                    to_t: from.t + 1,
                    to_local: local,
                    action: (local % 3) as u8,
                    reward: self.rng.random::<f32>(),
                    discount: 0.9,
                };
                replay.insert(step).unwrap();
            }
        }
        replay.enforce_budget().unwrap();
        if !self.n_steps.is_multiple_of(20) {
            return Vec::new();
        }
        replay.sample_into(32, 0.5, &mut self.rng, batch).unwrap();
        let errors: Vec<f32> = (0..32).map(|_| self.rng.random::<f32>() * 3.0).collect();
        replay.update_priorities(&batch.drawn.slots, &errors).unwrap();
        bits(batch)
    }
}

fn bits(batch: &ArrayBatch) -> Vec<u32> {
    let ArrayBatch { observations, next_observations, drawn } = batch;
    let columns = [&drawn.rewards, &drawn.discounts, &drawn.weights];
    let numbers = observations.iter().chain(next_observations).chain(columns).flatten();
    let actions = drawn.actions.iter().map(|action| *action as u32);
    numbers.map(|number| number.to_bits()).chain(actions).collect()
}

fn tiers(folder: &std::path::Path) -> [StoreOptions; 5] {
    let to = |name: &str| folder.join(name);
    [
        StoreOptions::default(),
        store(Tier::Compressed, 0, to("none")),
        store(Tier::Compressed, 280_000, to("none")),
        store(Tier::Mapped, 0, to("all.plr")),
        store(Tier::Mapped, 180_000, to("some.plr")),
    ]
}

#[test]
fn every_tier_gives_the_same_batches_over_eviction_and_wrap_around() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = None;
    for of_rows in tiers(folder.path()) {
        let of_streams = StoreOptions { file: Some(folder.path().join("streams.plr")), ..of_rows.clone() };
        let mut replay = Replay::new(&options(of_rows.clone()), dataset(&of_streams)).unwrap();
        let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
        let batches: Vec<Vec<u32>> = (0..5000).map(|_| run.step(&mut replay, &mut batch)).collect();
        assert!(replay.n_inserted() as usize > 2 * CAPACITY, "the ring has wrapped");
        let bytes = replay.tier_bytes();
        match of_rows.tier {
            Tier::Hot => assert_eq!((bytes.compressed, bytes.mapped), (0, 0)),
            Tier::Compressed => assert!(bytes.compressed > 0 && bytes.mapped == 0, "{bytes:?}"),
            Tier::Mapped => assert!(bytes.mapped > 0, "{bytes:?}"),
        }
        let transitions = crate::replay::transitions::Transitions::planned_bytes(CAPACITY, CAPACITY);
        let hot_local = bytes.hot - if of_rows.tier == Tier::Hot { transitions } else { 0 };
        if of_rows.budget_bytes == 0 {
            assert!(hot_local <= 4 * 1024 * 32, "only unfinished chunks are hot: {hot_local}");
        }
        match &expected {
            None => expected = Some(batches),
            Some(expected) => assert!(&batches == expected, "{of_rows:?}"),
        }
    }
}

#[test]
fn a_budget_holds_once_it_is_enforced() {
    let folder = tempfile::tempdir().unwrap();
    for of_rows in
        tiers(folder.path()).into_iter().filter(|store| (1..u64::MAX).contains(&store.budget_bytes))
    {
        let mut replay = Replay::new(&options(of_rows.clone()), dataset(&StoreOptions::default())).unwrap();
        let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
        (0..3000).for_each(|_| {
            run.step(&mut replay, &mut batch);
            let held = replay.bytes() - replay.priority_bytes();
            assert!(held <= of_rows.budget_bytes, "{held} of {}", of_rows.budget_bytes);
        });
    }
}

#[test]
fn a_mapped_replay_goes_on_from_its_last_checkpoint_whatever_was_written_after() {
    let folder = tempfile::tempdir().unwrap();
    for (budget, name) in [(0, "all.plr"), (180_000, "some.plr")] {
        let path = folder.path().join(name);
        let options = options(store(Tier::Mapped, budget, path.clone()));
        let dataset = dataset(&StoreOptions::default());
        let mut whole = Replay::new(&options, Arc::clone(&dataset)).unwrap();
        let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
        (0..2500).for_each(|_| {
            run.step(&mut whole, &mut batch);
        });
        assert!(
            postcard::to_stdvec(&whole).is_err(),
            "what is not in the file cannot be left out of a state"
        );
        whole.commit().unwrap();
        let saved = postcard::to_stdvec(&whole).unwrap();
        assert!(saved.len() < CAPACITY * 8 + 2000, "priorities and counts alone: {}", saved.len());
        let then = run.clone();
        let expected: Vec<_> = (0..1500).map(|_| run.step(&mut whole, &mut batch)).collect();
        // The process dies after the file's next commit and before the next state is saved, with uncommitted rows.
        whole.commit().unwrap();
        (0..700).for_each(|_| {
            run.step(&mut whole, &mut batch);
        });
        drop(whole);
        let mut run = then;
        let mut again: Replay = postcard::from_bytes(&saved).unwrap();
        again.reattach(&options, Arc::clone(&dataset)).unwrap();
        let first: Vec<_> = (0..1500).map(|_| run.step(&mut again, &mut batch)).collect();
        assert!(first == expected);
        again.commit().unwrap();
        let found = verify(&path).unwrap();
        assert!(found.is_clean(), "{found}");
    }
}

#[test]
fn a_new_replay_takes_the_place_of_an_older_ones_file_but_not_of_one_in_use() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(store(Tier::Mapped, 0, folder.path().join("rows.plr")));
    let dataset = dataset(&StoreOptions::default());
    let fill = |replay: &mut Replay| {
        let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
        (0..900).map(|_| run.step(replay, &mut batch)).collect::<Vec<_>>()
    };
    let mut one = Replay::new(&options, Arc::clone(&dataset)).unwrap();
    let first = fill(&mut one);
    one.commit().unwrap();
    let mut two = Replay::new(&options, Arc::clone(&dataset)).unwrap();
    assert!(matches!(two.commit(), Err(Error::Locked { .. })));
    drop(one);
    assert!(fill(&mut two) == first);
    let none = ReplayOptions { store: StoreOptions { file: None, ..options.store.clone() }, ..options };
    assert!(matches!(Replay::new(&none, dataset), Err(Error::NoFile)));
}

#[test]
fn requested_bytes_are_freed_when_the_budget_is_next_enforced() {
    let folder = tempfile::tempdir().unwrap();
    for tier in [Tier::Compressed, Tier::Mapped] {
        let of_rows = store(tier, 1 << 30, folder.path().join("rows.plr"));
        let mut replay = Replay::new(&options(of_rows), dataset(&StoreOptions::default())).unwrap();
        let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
        (0..1500).for_each(|_| {
            run.step(&mut replay, &mut batch);
        });
        let (before, buffer) = (replay.bytes(), replay.buffer());
        let could = buffer.bytes();
        assert!(could > 0 && buffer.give_back(50_000) == 0, "nothing is cached, so nothing is given at once");
        let given = replay.enforce_budget().unwrap();
        assert!(given >= 50_000 && before - replay.bytes() >= 50_000, "{given}");
        // The bytes of hot chunks are an estimate, which is better once some are compressed.
        assert!(tier == Tier::Compressed || buffer.bytes() < could);
        assert_eq!(replay.enforce_budget().unwrap(), 0, "a request is met once");
    }
    let mut hot = Replay::new(&options(StoreOptions::default()), dataset(&StoreOptions::default())).unwrap();
    let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
    (0..1500).for_each(|_| {
        run.step(&mut hot, &mut batch);
    });
    assert_eq!(
        (hot.buffer().bytes(), hot.buffer().give_back(1 << 20), hot.enforce_budget().unwrap()),
        (0, 0, 0)
    );
}

#[test]
fn the_rest_of_a_damaged_file_is_served() {
    serve_the_rest(0.6);
    serve_the_rest(0.0);
}

fn serve_the_rest(priority_exponent: f64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.plr");
    let of_rows = store(Tier::Mapped, 0, path.clone());
    let options = ReplayOptions { priority_exponent, ..options(of_rows) };
    let dataset = dataset(&StoreOptions::default());
    let mut replay = Replay::new(&options, Arc::clone(&dataset)).unwrap();
    let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
    (0..2500).for_each(|_| {
        run.step(&mut replay, &mut batch);
    });
    replay.commit().unwrap();
    let saved = postcard::to_stdvec(&replay).unwrap();
    drop(replay);
    let whole = std::fs::read(&path).unwrap();
    let mut n_hit = 0;
    for part in 1..12 {
        let mut broken = whole.clone();
        broken[whole.len() * part / 12] ^= 4;
        std::fs::write(&path, &broken).unwrap();
        let mut replay: Replay = postcard::from_bytes(&saved).unwrap();
        match replay.reattach(&options, Arc::clone(&dataset)) {
            // A stream cannot continue from a damaged unfinished chunk.
            Err(Error::Damaged { .. }) => continue,
            reattached => drop(reattached.unwrap()),
        }
        let mut rng = Pcg64Mcg::seed_from_u64(9);
        let mut n_excluded = 0;
        for _ in 0..600 {
            match replay.sample_into(32, 0.5, &mut rng, &mut batch) {
                Ok(()) => {}
                Err(Error::Damaged { path, damage }) => {
                    let n = replay.exclude(&path, &damage);
                    assert!(n > 0, "{damage} is needed by a transition that was drawn");
                    n_excluded += n;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(n_excluded < CAPACITY / 2, "{n_excluded}");
        n_hit += u32::from(n_excluded > 0);
        let (mut run, mut batch) = (run.clone(), ArrayBatch::default());
        (0..15).for_each(|_| {
            run.step(&mut replay, &mut batch);
        });
    }
    assert!(n_hit > 3, "{n_hit} of the flips hit what is drawn");
}

#[test]
fn a_file_that_is_mostly_garbage_is_compacted_and_older_states_still_find_their_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.plr");
    let options = options(store(Tier::Mapped, 0, path.clone()));
    let dataset = dataset(&StoreOptions::default());
    let mut replay = Replay::new(&options, Arc::clone(&dataset)).unwrap();
    replay.keep_no_garbage();
    let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
    let (mut before, mut n_compactions, mut longest) = (None, 0, 0);
    for _ in 0..30 {
        (0..400).for_each(|_| {
            run.step(&mut replay, &mut batch);
        });
        let length = std::fs::metadata(&path).map_or(0, |file| file.len());
        replay.commit().unwrap();
        let now = std::fs::metadata(&path).unwrap().len();
        n_compactions += u32::from(now < length);
        longest = longest.max(now);
        let same = replay.state_without_commit();
        // The process dies before this state is saved: the state before continues from the file as it is now.
        if let Some((saved, then)) = before.replace((postcard::to_stdvec(&replay).unwrap(), run.clone())) {
            let (mut then, mut other): (Run, _) = (then, ArrayBatch::default());
            drop(replay);
            let mut older: Replay = postcard::from_bytes(&saved).unwrap();
            older.reattach(&options, Arc::clone(&dataset)).unwrap();
            older.keep_no_garbage();
            (0..400).for_each(|_| {
                then.step(&mut older, &mut other);
            });
            older.commit().unwrap();
            // The same steps again: the same state, under a commit of another name.
            let saved = postcard::to_stdvec(&older).unwrap();
            before = Some((saved, then));
            assert!(older.state_without_commit() == same, "the same steps gave another state");
            replay = older;
        }
    }
    assert!(n_compactions > 3, "compacted {n_compactions} times");
    assert!(longest < 4 * (CAPACITY as u64 * (32 + LOCAL_WIDTH as u64 * 4)), "{longest}");
    assert!(verify(&path).unwrap().is_clean());
}

#[test]
fn a_state_is_resumed_beside_its_own_file_alone_and_never_makes_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.plr");
    let options = options(store(Tier::Mapped, 0, path.clone()));
    let dataset = dataset(&StoreOptions::default());
    let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
    let mut replay = Replay::new(&options, Arc::clone(&dataset)).unwrap();
    // The states of four commits, each with the file as it was then.
    let saved: Vec<(Vec<u8>, Vec<u8>)> = (0..4)
        .map(|_| {
            (0..200).for_each(|_| {
                run.step(&mut replay, &mut batch);
            });
            replay.commit().unwrap();
            (postcard::to_stdvec(&replay).unwrap(), std::fs::read(&path).unwrap())
        })
        .collect();
    drop(replay);
    let reattach = |state: usize| {
        let mut replay: Replay = postcard::from_bytes(&saved[state].0).unwrap();
        replay.reattach(&options, Arc::clone(&dataset)).map(|_| replay)
    };
    for (state, file, word) in [
        (1, 1, ""),
        // A process that was killed after the commit and before its state was saved.
        (1, 2, ""),
        (1, 3, "went on without the saved state (commit 4, the state was saved with 2)"),
        (2, 1, "is older than the saved state (commit 2, the state was saved with 3)"),
    ] {
        std::fs::write(&path, &saved[file].1).unwrap();
        match reattach(state) {
            Ok(_) => assert!(word.is_empty(), "{word}"),
            Err(error) => assert!(!word.is_empty() && error.to_string().contains(word), "{error}"),
        }
    }
    // Another history of the same file, with as many commits.
    std::fs::write(&path, &saved[1].1).unwrap();
    let mut other = reattach(1).unwrap();
    other.commit().unwrap();
    drop(other);
    let error = reattach(2).map(drop).unwrap_err();
    assert!(matches!(error, Error::OtherHistory { found: Some(3), wanted: 3, .. }), "{error}");
    // Another file.
    std::fs::remove_file(&path).unwrap();
    let (mut run, mut other) = (Run::new(), Replay::new(&options, Arc::clone(&dataset)).unwrap());
    (0..200).for_each(|_| {
        run.step(&mut other, &mut batch);
    });
    other.commit().unwrap();
    drop(other);
    let error = reattach(0).map(drop).unwrap_err();
    assert!(matches!(error, Error::OtherHistory { found: None, .. }), "{error}");
    std::fs::remove_file(&path).unwrap();
    let error = reattach(0).map(drop).unwrap_err();
    assert!(matches!(error, Error::MissingFile { .. }) && !path.exists(), "{error}");
}

#[test]
fn a_saved_replay_over_other_rows_is_refused_before_anything_is_drawn() {
    for tier in [Tier::Hot, Tier::Compressed] {
        let folder = tempfile::tempdir().unwrap();
        let options = options(store(tier, 0, folder.path().join("rows.plr")));
        let whole = dataset(&StoreOptions::default());
        let mut replay = Replay::new(&options, Arc::clone(&whole)).unwrap();
        let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
        (0..300).for_each(|_| {
            run.step(&mut replay, &mut batch);
        });
        let saved = postcard::to_stdvec(&replay).unwrap();
        let mut restored: Replay = postcard::from_bytes(&saved).unwrap();
        restored.reattach(&options, Arc::clone(&whole)).unwrap();
        let fewer = Arc::new(Dataset::new(whole.views().to_vec(), Vec::new()));
        let mut restored: Replay = postcard::from_bytes(&saved).unwrap();
        let error = restored.reattach(&options, fewer).unwrap_err();
        let word = "transition 0 is impossible: its instrument does not exist";
        assert!(error.to_string().contains(word), "{error}");
    }
}

/// A replay whose file is mostly garbage once `n_steps` were taken.
fn with_garbage(path: &Path, n_steps: usize) -> (Replay, Run) {
    let options = options(store(Tier::Mapped, 0, path.to_owned()));
    let mut replay = Replay::new(&options, dataset(&StoreOptions::default())).unwrap();
    replay.keep_no_garbage();
    let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
    for _ in 0..n_steps / 400 {
        (0..400).for_each(|_| {
            run.step(&mut replay, &mut batch);
        });
    }
    (replay, run)
}

#[test]
fn a_compaction_that_does_not_fit_leaves_nothing_behind_and_the_commits_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.plr");
    let aside = path.with_extension("new");
    let (mut replay, mut run) = with_garbage(&path, 400);
    let mut batch = ArrayBatch::default();
    // No file can be made where a folder that is not empty lies.
    std::fs::create_dir_all(aside.join("in the way")).unwrap();
    let (mut n_told, mut longest) = (0, 0);
    for _ in 0..24 {
        (0..400).for_each(|_| {
            run.step(&mut replay, &mut batch);
        });
        n_told += u32::from(replay.commit().unwrap().is_some());
        longest = std::fs::metadata(&path).unwrap().len();
        assert!(verify(&path).unwrap().is_clean());
    }
    assert_eq!(n_told, 1, "it is told once");
    std::fs::remove_dir_all(&aside).unwrap();
    for _ in 0..24 {
        (0..400).for_each(|_| {
            run.step(&mut replay, &mut batch);
        });
        assert!(replay.commit().unwrap().is_none());
    }
    let now = std::fs::metadata(&path).unwrap().len();
    assert!(now < longest, "it is tried later: {now} bytes of {longest}");
    assert!(!aside.exists());
}

#[test]
fn damage_in_another_file_excludes_no_transition_of_the_replay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.plr");
    let (mut replay, _) = with_garbage(&path, 800);
    replay.commit().unwrap();
    let damage = Damage {
        part: FilePart::Rows,
        offset: 8192,
        n_bytes: 1,
        bit: Some(2),
        chunk: Some((TRANSITIONS, 0)),
    };
    assert_eq!(replay.exclude(&folder.path().join("streams.plr"), &damage), 0);
    assert!(replay.priorities().unwrap().all(|priority| priority > 0.0));
    assert_eq!(replay.exclude(&path, &damage), 1 << TRANSITIONS_SHIFT);
}

#[test]
fn a_file_that_is_cut_while_a_batch_is_gathered_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.plr");
    let (mut replay, _) = with_garbage(&path, 2400);
    replay.commit().unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let (mut rng, mut batch) = (Pcg64Mcg::seed_from_u64(3), ArrayBatch::default());
    // Once a chunk was compared with its checksum, its rows are read from mapped pages.
    let warm = |replay: &Replay, rng: &mut Pcg64Mcg, batch: &mut ArrayBatch| {
        (0..200).for_each(|_| replay.sample_into(64, 0.5, rng, batch).unwrap());
    };
    for cut_bytes in [100, 5000, length / 2, length - 9000, length] {
        warm(&replay, &mut rng, &mut batch);
        let whole = std::fs::read(&path).unwrap();
        replay.draw_into(64, 0.5, &mut rng, &mut batch).unwrap();
        file.set_len(length - cut_bytes).unwrap();
        for _ in 0..2 {
            match replay.gather_into(&mut batch).unwrap_err() {
                Error::Truncated { path: named, found_bytes, .. } => {
                    assert_eq!((named, found_bytes), (path.clone(), length - cut_bytes));
                }
                error => panic!("{cut_bytes}: {error}"),
            }
        }
        assert!(matches!(replay.draw_into(64, 0.5, &mut rng, &mut batch), Err(Error::Truncated { .. })));
        std::fs::write(&path, whole).unwrap();
    }
    warm(&replay, &mut rng, &mut batch);
}

#[test]
fn a_replay_goes_on_in_any_tier_as_in_the_one_that_it_was_saved_in() {
    let tiers = [Tier::Hot, Tier::Compressed, Tier::Mapped];
    // With few transitions, and with more than the ring holds.
    for (n_before, from) in [150, 2500].into_iter().flat_map(|n| tiers.map(|tier| (n, tier))) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.plr");
        let in_tier = |tier| options(store(tier, 0, path.clone()));
        let dataset = dataset(&StoreOptions::default());
        let mut replay = Replay::new(&in_tier(from), Arc::clone(&dataset)).unwrap();
        let (mut run, mut batch) = (Run::new(), ArrayBatch::default());
        (0..n_before).for_each(|_| {
            run.step(&mut replay, &mut batch);
        });
        replay.commit().unwrap();
        let saved = postcard::to_stdvec(&replay).unwrap();
        drop(replay);
        let file = std::fs::read(&path).ok();
        let go_on = |to| {
            match &file {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap_or_default(),
            }
            let mut replay: Replay = postcard::from_bytes(&saved).unwrap();
            replay.reattach(&in_tier(to), Arc::clone(&dataset)).unwrap();
            let (mut run, mut batch) = (run.clone(), ArrayBatch::default());
            let seen: Vec<Vec<u32>> = (0..300).map(|_| run.step(&mut replay, &mut batch)).collect();
            // And it can be saved there, and goes on again.
            replay.commit().unwrap();
            let again = postcard::to_stdvec(&replay).unwrap();
            drop(replay);
            let mut replay: Replay = postcard::from_bytes(&again).unwrap();
            replay.reattach(&in_tier(to), Arc::clone(&dataset)).unwrap();
            (seen, (0..100).map(|_| run.step(&mut replay, &mut batch)).collect::<Vec<_>>())
        };
        let wanted = go_on(from);
        for to in tiers {
            assert!(go_on(to) == wanted, "from {from:?} to {to:?} after {n_before} steps");
        }
    }
}
