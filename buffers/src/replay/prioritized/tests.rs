use super::*;
use crate::frames::Clock;
use crate::replay::{ArrayBatch, TensorBatch};
use rand::SeedableRng;
use tch::Tensor;

const OPTIONS: ReplayOptions = ReplayOptions {
    capacity_transitions: 50,
    priority_exponent: 0.6,
    n_environments: 1,
    local_width: 2,
    copies_observations: false,
    store: StoreOptions {
        tier: Tier::Hot,
        budget_bytes: u64::MAX,
        begin_fraction: 0.8,
        file: None,
        window_bytes: 0,
        garbage_bytes: 0,
        local_kind: crate::store::RowKind::F32,
    },
};

fn dataset() -> Arc<Dataset> {
    let views = vec![View { name: "local", length: 1, width: 2, stride: 1, clock: Clock::Local }];
    Arc::new(Dataset::new(views, Vec::new()))
}

fn step(replay: &mut Replay, i: u32) -> Transition {
    let to_local = replay.append_local(0, &[i as f32 + 1.0, 0.5]).expect("a row of the view's width");
    let from = ObservationRef { local: i, ..ObservationRef::default() };
    Transition { from, to_t: 0, to_local, action: 1, reward: i as f32, discount: 0.9 }
}

fn replay(n: u32) -> Replay {
    let mut replay = Replay::new(&OPTIONS, dataset()).expect("hot rows need no file");
    replay.begin_episode(0, &[0.0, 0.5]).expect("a row of the view's width");
    for i in 0..n {
        let transition = step(&mut replay, i);
        replay.insert(transition).expect("a transition of appended rows");
    }
    replay
}

#[test]
fn a_batch_holds_the_observations_of_its_transitions() {
    let replay = replay(5000);
    for n in [32, 7] {
        let batch: TensorBatch = replay.sample(n, 0.4, &mut Pcg64Mcg::seed_from_u64(1)).unwrap();
        assert_eq!(batch.observations[0].size(), [n as i64, 1, 2]);
        for i in 0..n as i64 {
            let reward = batch.rewards.double_value(&[i]);
            assert!(reward >= 4950.0, "an overwritten transition was drawn");
            assert_eq!(batch.observations[0].double_value(&[i, 0, 0]), reward);
            assert_eq!(batch.next_observations[0].double_value(&[i, 0, 0]), reward + 1.0);
        }
    }
    assert!(replay.local[0].bytes() <= 2 * 1024 * 8, "rows that nothing points to are given back");
}

#[test]
fn inserting_many_at_once_equals_inserting_one_by_one() {
    let one = replay(5000);
    let mut many = replay(0);
    for block in 0..50 {
        let transitions: Vec<Transition> =
            (block * 100..block * 100 + 100).map(|i| step(&mut many, i)).collect();
        many.insert_many(transitions).unwrap();
    }
    assert_eq!((one.len(), one.n_inserted(), one.bytes()), (many.len(), many.n_inserted(), many.bytes()));
    let [a, b]: [ArrayBatch; 2] =
        [&one, &many].map(|replay| replay.sample(16, 0.4, &mut Pcg64Mcg::seed_from_u64(4)).unwrap());
    assert_eq!(a, b);
}

#[test]
fn hot_rows_of_any_number_of_environments_take_what_is_planned_and_little_more_than_they_are() {
    for n_environments in [1, 16, 64, 100, 1024, 4096] {
        let n_inserted = 16_384;
        let options =
            ReplayOptions { n_environments, capacity_transitions: 1 << 15, local_width: 8, ..OPTIONS };
        let views = vec![View { name: "local", length: 1, width: 8, stride: 1, clock: Clock::Local }];
        let mut replay = Replay::new(&options, Arc::new(Dataset::new(views, Vec::new()))).unwrap();
        for environment in 0..n_environments as u16 {
            replay.begin_episode(environment, &[0.5; 8]).unwrap();
        }
        for _ in 0..n_inserted / n_environments as u64 {
            for environment in 0..n_environments as u16 {
                let to_local = replay.append_local(environment, &[0.5; 8]).unwrap();
                let from = ObservationRef { environment, local: to_local - 1, ..ObservationRef::default() };
                let (action, reward, discount) = (1, 0.0, 0.9);
                replay.insert(Transition { from, to_t: 0, to_local, action, reward, discount }).unwrap();
            }
        }
        replay.enforce_budget().unwrap();
        let planned = Replay::planned_bytes(&options, n_inserted);
        // The chunk ahead of each environment is reserved, and is no part of its bytes yet.
        let ahead = replay.local.iter().map(|rows| rows.chunk_rows() as u64 * 32).sum::<u64>();
        let held = replay.bytes() + ahead;
        assert!(held <= planned, "{n_environments} environments: {held} held, {planned} planned");
        // The plan also has the oldest chunk, and does not know how full the newest ones are.
        assert!(planned <= held + 3 * ahead, "{n_environments} environments: {planned} planned, {held} held");
        let most_ahead = (n_inserted * 32).max(n_environments as u64 * 32 * 32);
        assert!(ahead <= most_ahead, "{n_environments} environments: {ahead} bytes ahead");
    }
}

#[test]
fn a_restored_replay_goes_on_as_the_saved_one() {
    let mut one = replay(130);
    let slots: Vec<Slot> = (0..50).map(|index| one.slot(index)).collect();
    one.update_priorities(&slots, &(0..50).map(|i| i as f32 * 0.1).collect::<Vec<_>>()).unwrap();
    let mut two: Replay = postcard::from_bytes(&postcard::to_stdvec(&one).unwrap()).unwrap();
    let wrong = ReplayOptions { capacity_transitions: 51, ..OPTIONS };
    assert!(matches!(two.reattach(&wrong, dataset()), Err(Error::Mismatch { found: 50, wanted: 51, .. })));
    two.reattach(&OPTIONS, dataset()).unwrap();
    let mut rngs = [Pcg64Mcg::seed_from_u64(6), Pcg64Mcg::seed_from_u64(6)];
    for i in 130..200 {
        let batches = [&mut one, &mut two].into_iter().zip(&mut rngs).map(|(replay, rng)| {
            let transition = step(replay, i);
            replay.insert(transition).unwrap();
            let batch: ArrayBatch = replay.sample(8, 0.5, rng).unwrap();
            replay.update_priorities(&batch.drawn.slots, &[i as f32 * 0.01; 8]).unwrap();
            batch
        });
        let batches: Vec<_> = batches.collect();
        assert_eq!(batches[0], batches[1]);
    }
}

fn numbers(tensors: &[Tensor]) -> Vec<f32> {
    Vec::try_from(tensors[0].flatten(0, -1)).expect("an f32 tensor is a vector of f32")
}

#[test]
fn a_batch_that_is_sampled_into_is_as_a_fresh_one() {
    let replay = replay(120);
    let mut rngs = [Pcg64Mcg::seed_from_u64(6), Pcg64Mcg::seed_from_u64(6)];
    let mut reused = TensorBatch::default();
    for n in [8, 8, 3, 16, 16] {
        let fresh: TensorBatch = replay.sample(n, 0.5, &mut rngs[0]).unwrap();
        replay.sample_into(n, 0.5, &mut rngs[1], &mut reused).unwrap();
        assert_eq!(numbers(&fresh.observations), numbers(&reused.observations));
        assert_eq!(numbers(&fresh.next_observations), numbers(&reused.next_observations));
        assert_eq!(
            (&fresh.slots, &fresh.next_observation_refs),
            (&reused.slots, &reused.next_observation_refs)
        );
        assert_eq!((&fresh.weights, &fresh.rewards), (&reused.weights, &reused.rewards));
    }
}

#[test]
fn a_tensor_that_something_else_holds_is_not_written() {
    let replay = replay(120);
    let mut rng = Pcg64Mcg::seed_from_u64(6);
    let mut batch: TensorBatch = replay.sample(8, 0.5, &mut rng).unwrap();
    let handle = batch.observations[0].shallow_clone();
    let view = batch.next_observations[0].narrow(0, 2, 3);
    let before = (handle.copy(), view.copy());
    replay.sample_into(8, 0.5, &mut rng, &mut batch).unwrap();
    assert_eq!((&handle, &view), (&before.0, &before.1));
    drop((handle, view));
    let at = batch.observations[0].data_ptr();
    replay.sample_into(8, 0.5, &mut rng, &mut batch).unwrap();
    assert_eq!(batch.observations[0].data_ptr(), at, "memory that nothing holds is used again");
}

#[test]
fn copies_are_what_the_streams_hold() {
    let options = ReplayOptions { copies_observations: true, ..OPTIONS };
    let mut copied = Replay::new(&options, dataset()).unwrap();
    copied.begin_episode(0, &[0.0, 0.5]).unwrap();
    for block in 0..12 {
        let transitions: Vec<Transition> =
            (block * 10..block * 10 + 10).map(|i| step(&mut copied, i)).collect();
        copied.insert_many(transitions).unwrap();
    }
    let mut restored: Replay = postcard::from_bytes(&postcard::to_stdvec(&copied).unwrap()).unwrap();
    restored.reattach(&options, dataset()).unwrap();
    let plain = replay(120);
    let sample =
        |replay: &Replay| -> ArrayBatch { replay.sample(32, 0.4, &mut Pcg64Mcg::seed_from_u64(1)).unwrap() };
    let expected = sample(&plain);
    for replay in [&copied, &restored] {
        let batch = sample(replay);
        assert_eq!(batch.observations, expected.observations);
        assert_eq!(batch.next_observations, expected.next_observations);
    }
    assert_eq!(copied.bytes() - plain.bytes(), 50 * 2 * 2 * 4);
}

#[test]
fn bytes_are_as_planned() {
    let replay = replay(5000);
    let planned = Replay::planned_bytes(&ReplayOptions { local_width: 0, ..OPTIONS }, 5000);
    assert_eq!(replay.bytes() - replay.local_bytes(), planned);
}

#[test]
fn an_empty_replay_is_an_error() {
    let outcome = replay(0).sample::<ArrayBatch>(1, 0.4, &mut Pcg64Mcg::seed_from_u64(1));
    assert!(matches!(outcome, Err(Error::Empty)));
}

#[test]
fn arrays_and_tensors_hold_the_same_batch() {
    let replay = replay(120);
    let arrays: ArrayBatch = replay.sample(16, 0.5, &mut Pcg64Mcg::seed_from_u64(6)).unwrap();
    let tensors: TensorBatch = replay.sample(16, 0.5, &mut Pcg64Mcg::seed_from_u64(6)).unwrap();
    assert_eq!(arrays.observations[0], numbers(&tensors.observations));
    assert_eq!(arrays.next_observations[0], numbers(&tensors.next_observations));
    let columns = [&tensors.rewards, &tensors.discounts, &tensors.weights];
    let columns = columns.map(|column| numbers(std::slice::from_ref(column)));
    assert_eq!([arrays.drawn.rewards, arrays.drawn.discounts, arrays.drawn.weights], columns);
    assert_eq!(arrays.drawn.actions, Vec::<i64>::try_from(&tensors.actions).unwrap());
    assert_eq!(
        (arrays.drawn.slots, arrays.drawn.observation_refs),
        (tensors.slots, tensors.observation_refs)
    );
}

#[test]
fn threads_that_share_a_replay_gather_while_others_draw_and_update() {
    let mut shared = replay(5000);
    let (draws, rows) = shared.split();
    let draws = std::sync::Mutex::new(draws);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let draws = &draws;
            scope.spawn(move || {
                let (mut rng, mut batch) = (Pcg64Mcg::seed_from_u64(seed), TensorBatch::default());
                for round in 0..50 {
                    draws.lock().unwrap().draw_into(16, 0.4, &mut rng, &mut batch).unwrap();
                    rows.gather_into(&mut batch).unwrap();
                    let shown: Vec<f32> = numbers(&batch.observations).into_iter().step_by(2).collect();
                    assert_eq!(shown, numbers(std::slice::from_ref(&batch.rewards)));
                    draws.lock().unwrap().update_priorities(&batch.slots, &[round as f32 * 0.1; 16]).unwrap();
                }
            });
        }
    });
    assert!(shared.priorities().unwrap().all(|priority| priority > 0.0));

    // One thread gets the same batches from the two halves as from the whole replay.
    let mut whole = replay(5000);
    let mut parted = replay(5000);
    let (mut draws, rows) = parted.split();
    let [mut rng, mut same] = [3, 3].map(Pcg64Mcg::seed_from_u64);
    let mut batch = TensorBatch::default();
    for _ in 0..3 {
        let expected: TensorBatch = whole.sample(16, 0.4, &mut rng).unwrap();
        whole.update_priorities(&expected.slots, &[0.3; 16]).unwrap();
        draws.draw_into(16, 0.4, &mut same, &mut batch).unwrap();
        rows.gather_into(&mut batch).unwrap();
        draws.update_priorities(&batch.slots, &[0.3; 16]).unwrap();
        assert_eq!(
            (&batch.slots, numbers(&batch.observations)),
            (&expected.slots, numbers(&expected.observations))
        );
    }
}
