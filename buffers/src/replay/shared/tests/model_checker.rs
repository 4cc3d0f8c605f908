//! The core under a model checker, which tries many orders of its threads and can switch threads at each lock.

use std::sync::Arc;

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use shuttle::thread;

use crate::error::Error;
use crate::frames::ObservationRef;
use crate::replay::Transition;
use crate::replay::sampler::{Drawn, Sampler};
use crate::replay::shared::core::{Block, Core, Lease, Lock, Locks, Published};
use crate::store::{Chunk, Codec, Predictor, RowKind, RowShape, Transform};

const SHAPE: RowShape = RowShape { kind: RowKind::U8, width: 8 };
const CODEC: Codec = Codec { transform: Transform::None, predictor: Predictor::None, level: 1 };
const CAPACITY: usize = 5;
const ROWS: usize = 2;

struct ModelLocks;

impl Locks for ModelLocks {
    type Of<T> = shuttle::sync::Mutex<T>;
}

impl<T> Lock<T> for shuttle::sync::Mutex<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.lock().unwrap())
    }
}

/// The bytes of row `row` of an environment.
fn row(environment: u16, row: usize) -> [u8; 8] {
    [environment as u8, row as u8, 7, 7, 7, 7, 7, 7]
}

fn published(environment: u16, number: usize) -> Published {
    let rows = number * ROWS..(number + 1) * ROWS;
    let transition = |local: usize| Transition {
        from: ObservationRef {
            environment,
            local: local.saturating_sub(1) as u32,
            ..ObservationRef::default()
        },
        to_t: 0,
        to_local: local as u32,
        action: environment as u8,
        reward: local as f32,
        discount: 1.0,
    };
    let bytes = rows.clone().flat_map(|at| row(environment, at)).collect();
    let block = Block { environment, first_row: rows.start, n_rows: ROWS, rows: Arc::new(Chunk::Hot(bytes)) };
    Published { block, transitions: rows.map(transition).collect() }
}

/// Checks that a lease holds the rows that were written.
fn check_lease(lease: &Lease, observation_refs: &[ObservationRef]) {
    for (i, observation_ref) in observation_refs.iter().enumerate() {
        for at in (observation_ref.local as usize).saturating_sub(1)..=observation_ref.local as usize {
            let holds = |block: &&Block| (block.first_row..block.first_row + block.n_rows).contains(&at);
            let block = lease.blocks(i).iter().find(holds).expect("a drawn row is held");
            let rows = block.rows.rows().unwrap();
            assert_eq!(rows[(at - block.first_row) * 8..][..8], row(observation_ref.environment, at));
        }
    }
}

fn draw(core: &Core<ModelLocks>, rng: &mut Pcg64Mcg) -> Option<Drawn> {
    let (mut drawn, mut now, mut next) = (Drawn::default(), Lease::default(), Lease::default());
    match core.draw(3, 0.5, rng, &mut drawn, [&mut now, &mut next]) {
        Err(Error::Empty) => return None,
        outcome => outcome.unwrap(),
    }
    thread::yield_now();
    check_lease(&now, &drawn.observation_refs);
    check_lease(&next, &drawn.next_observation_refs);
    Some(drawn)
}

/// Two writers, a sampler, a learner that lags behind it, and a compressor.
fn all_at_once() {
    let core = Arc::new(Core::<ModelLocks>::new(Sampler::new(CAPACITY, 0.6), 2, 2));
    let (to_learner, from_sampler) = shuttle::sync::mpsc::channel::<Drawn>();
    let mut threads = Vec::new();
    for environment in 0..2 {
        let core = Arc::clone(&core);
        threads.push(thread::spawn(move || {
            (0..4).for_each(|number| core.publish(published(environment, number)).unwrap());
        }));
    }
    let sampling = Arc::clone(&core);
    threads.push(thread::spawn(move || {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        for _ in 0..4 {
            if let Some(drawn) = draw(&sampling, &mut rng) {
                to_learner.send(drawn).unwrap();
            }
        }
    }));
    let learning = Arc::clone(&core);
    threads.push(thread::spawn(move || {
        while let Ok(drawn) = from_sampler.recv() {
            learning.update_priorities(&drawn.slots, &[1e6; 3]).unwrap();
            learning.with_sampler(|sampler| {
                let transitions = sampler.transitions();
                for index in 0..transitions.len() {
                    // A priority that the learner gave stands at a transition that it has seen.
                    let seen = drawn.slots.contains(&transitions.slot(index));
                    let given = sampler.priorities().unwrap().priority(index) > 1e5;
                    assert!(!seen || given, "a priority was lost");
                }
                for (slot, (observation_ref, action)) in
                    drawn.slots.iter().zip(drawn.observation_refs.iter().zip(&drawn.actions))
                {
                    if let Some(index) = transitions.index(*slot) {
                        let held = transitions.at(index);
                        assert_eq!((held.from, i64::from(held.action)), (*observation_ref, *action));
                    }
                }
            });
        }
    }));
    let compressing = Arc::clone(&core);
    threads.push(thread::spawn(move || {
        for _ in 0..3 {
            compressing.compress(0, SHAPE, CODEC).unwrap();
            thread::yield_now();
        }
    }));
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    core.absorb().unwrap();
    core.with_sampler(|sampler| {
        let transitions = sampler.transitions();
        assert_eq!(transitions.n_inserted(), 2 * 4 * ROWS as u64, "nothing that was published is lost");
        // The transitions of a writer are held in the order in which it wrote them.
        for environment in 0..2u16 {
            let mut numbers: Vec<(crate::replay::Slot, u32)> = (0..transitions.len())
                .map(|index| (transitions.slot(index), transitions.at(index)))
                .filter(|(_, transition)| transition.from.environment == environment)
                .map(|(slot, transition)| (slot, transition.to_local))
                .collect();
            numbers.sort_unstable();
            assert!(numbers.windows(2).all(|pair| pair[0].1 + 1 == pair[1].1), "{numbers:?}");
        }
    });
    let mut rng = Pcg64Mcg::seed_from_u64(2);
    assert!(draw(&core, &mut rng).is_some());
    let held: u64 = core.row_bytes().iter().sum();
    assert!(held > 0 && core.row_bytes()[0] <= 2 * 4 * ROWS as u64 * 8);
}

#[test]
fn no_order_of_threads_tears_loses_or_mixes_up_a_transition() {
    shuttle::check_random(all_at_once, 1500);
    shuttle::check_pct(all_at_once, 500, 3);
}

/// A block that is evicted while it is being compressed stays evicted.
#[test]
fn every_order_of_one_eviction_and_one_compression_counts_its_bytes_right() {
    let both = || {
        let core = Arc::new(Core::<ModelLocks>::new(Sampler::new(2, 0.6), 1, 2));
        core.publish(published(0, 0)).unwrap();
        core.absorb().unwrap();
        let compressing = Arc::clone(&core);
        let thread = thread::spawn(move || compressing.compress(0, SHAPE, CODEC).unwrap());
        core.publish(published(0, 1)).unwrap();
        core.publish(published(0, 2)).unwrap();
        core.absorb().unwrap();
        thread.join().unwrap();
        core.compress(0, SHAPE, CODEC).unwrap();
        assert_eq!(core.row_bytes()[0], 0, "all that is left has been compressed");
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        assert!(draw(&core, &mut rng).is_some());
    };
    shuttle::check_dfs(both, Some(20_000));
}
