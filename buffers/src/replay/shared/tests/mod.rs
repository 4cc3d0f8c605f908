//! The shared replay through its public interface: a batch shows what was written.

mod model_checker;
mod stress;

use std::sync::Arc;

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use super::*;
use crate::error::Error;
use crate::frames::{FrameStream, Instrument, ObservationRef};
use crate::replay::ArrayBatch;
use crate::store::{StoreOptions, Tier};

const OPTIONS: ReplayOptions = ReplayOptions {
    capacity_transitions: 300,
    priority_exponent: 0.6,
    n_environments: 3,
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
const STACK: usize = 3;

fn dataset() -> Arc<Dataset> {
    let views = vec![
        View { name: "t", length: 2, width: 1, stride: 1, clock: Clock::Decision },
        View { name: "local", length: STACK, width: 2, stride: 1, clock: Clock::Local },
    ];
    let mut t = FrameStream::new(1);
    (0..2000).for_each(|row| {
        t.append(&[row as f32]);
    });
    let streams = vec![t, FrameStream::new(2)];
    let instrument = Instrument { streams, slow_row: vec![0; 2000], first_step: 1 };
    Arc::new(Dataset::new(views, vec![instrument]))
}

fn write(writer: &mut Writer, n: u32) {
    let environment = writer.environment();
    let row = |local: u32| [f32::from(environment), local as f32];
    (0..STACK as u32).for_each(|local| {
        writer.append_local(&row(local)).unwrap();
    });
    for local in STACK as u32 - 1..n {
        let to_local = writer.append_local(&row(local + 1)).unwrap();
        let from = ObservationRef { environment, local, t: local, ..ObservationRef::default() };
        let action = environment as u8;
        let (to_t, reward, discount) = (local + 1, local as f32, 0.9);
        writer.insert(Transition { from, to_t, to_local, action, reward, discount }).unwrap();
    }
}

fn check(batch: &ArrayBatch) {
    let drawn = &batch.drawn;
    for (observations, observation_refs) in [
        (&batch.observations, &drawn.observation_refs),
        (&batch.next_observations, &drawn.next_observation_refs),
    ] {
        for (i, of) in observation_refs.iter().enumerate() {
            let rows = observations[1][i * STACK * 2..][..STACK * 2].chunks(2).rev();
            for (back, row) in (0..).zip(rows) {
                assert_eq!(row, [f32::from(of.environment), (of.local - back) as f32]);
            }
            assert_eq!(observations[0][i * 2 + 1], of.t as f32);
        }
    }
    let environments = drawn.observation_refs.iter().map(|of| i64::from(of.environment));
    assert_eq!(drawn.actions, environments.collect::<Vec<_>>());
}

#[test]
fn a_writer_refuses_what_cannot_be_its_next_step() {
    let (_shared, mut writers, _) = SharedReplay::new(&OPTIONS, dataset()).unwrap();
    let writer = &mut writers[1];
    assert!(matches!(writer.append_local(&[1.0]), Err(Error::LocalRows { .. })));
    let first = writer.begin_episode(&[1.0, 0.0]).unwrap();
    assert_eq!(first, STACK as u32 - 1, "rows before it fill its stack");
    let from = ObservationRef { environment: 1, local: first, t: 5, ..ObservationRef::default() };
    let step = Transition { from, to_t: 6, to_local: first + 1, action: 0, reward: 0.0, discount: 0.9 };
    assert!(matches!(writer.insert(step), Err(Error::WrongTransition { .. })), "its row is not there yet");
    writer.append_local(&[1.0, 1.0]).unwrap();
    writer.insert(step).unwrap();
    let of_another = Transition { from: ObservationRef { environment: 0, ..from }, ..step };
    assert!(writer.insert(of_another).is_err());
    let wrong = ReplayOptions { local_width: 3, ..OPTIONS };
    assert!(matches!(SharedReplay::new(&wrong, dataset()), Err(Error::LocalRows { .. })));
}

#[test]
fn a_batch_shows_what_each_writer_wrote_in_whatever_tier() {
    let (shared, writers, mut sampler) = SharedReplay::new(&OPTIONS, dataset()).unwrap();
    let (mut rng, mut batch) = (Pcg64Mcg::seed_from_u64(1), ArrayBatch::default());
    let empty = sampler.sample_into(8, 0.4, &mut rng, &mut batch);
    assert!(matches!(empty, Err(Error::Empty)) && shared.is_empty());
    std::thread::scope(|scope| {
        for mut writer in writers {
            scope.spawn(move || write(&mut writer, 1000));
        }
        for _ in 0..20 {
            match sampler.sample_into(16, 0.4, &mut rng, &mut batch) {
                Err(Error::Empty) => {}
                outcome => {
                    outcome.unwrap();
                    check(&batch);
                    shared.update_priorities(&batch.drawn.slots, &[0.5; 16]).unwrap();
                }
            }
        }
    });
    sampler.sample_into(64, 0.4, &mut rng, &mut batch).unwrap();
    assert_eq!((shared.len(), shared.n_inserted()), (300, 3 * 998));
    let before = shared.bytes();
    let given_back = shared.compress(0).unwrap();
    assert_eq!(before - shared.bytes(), given_back);
    assert!(given_back > 0);
    sampler.sample_into(64, 0.4, &mut rng, &mut batch).unwrap();
    check(&batch);
}
