//! The shared replay through its doors: what was written is what a batch shows.

mod model_checker;
mod stress;

use std::sync::Arc;

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use super::*;
use crate::error::Error;
use crate::frames::{FrameStream, Scene};
use crate::store::{StoreOptions, Tier};

const OPTIONS: ReplayOptions = ReplayOptions {
    capacity_transitions: 300,
    priority_exponent: 0.6,
    n_environments: 3,
    own_width: 2,
    copies_observations: false,
    store: StoreOptions {
        tier: Tier::Hot,
        budget_bytes: u64::MAX,
        begin_fraction: 0.8,
        file: None,
        window_bytes: 0,
        own_kind: crate::store::RowKind::F32,
    },
};
const STACK: usize = 3;

fn scenes() -> Arc<Scenes> {
    let views = vec![
        View { name: "base", length: 2, width: 1, stride: 1, clock: Clock::Base },
        View { name: "own", length: STACK, width: 2, stride: 1, clock: Clock::Own },
    ];
    let mut base = FrameStream::new(1);
    (0..2000).for_each(|row| {
        base.append(&[row as f32]);
    });
    let streams = vec![base, FrameStream::new(2)];
    let scene = Scene { streams, slow_row: vec![0; 2000], first_base: 1 };
    Arc::new(Scenes::new(views, vec![scene]))
}

fn write(writer: &mut Writer, n: u32) {
    let environment = writer.environment();
    let row = |own: u32| [f32::from(environment), own as f32];
    (0..STACK as u32).for_each(|own| {
        writer.append_own(&row(own));
    });
    for own in STACK as u32 - 1..n {
        let to_own = writer.append_own(&row(own + 1));
        let from = Place { environment, own, base: own, ..Place::default() };
        let action = environment as u8;
        writer.insert(Transition {
            from,
            to_base: own + 1,
            to_own,
            action,
            reward: own as f32,
            discount: 0.9,
        });
    }
}

fn check(batch: &Batch) {
    for (observations, places) in
        [(&batch.observations, &batch.places), (&batch.next_observations, &batch.next_places)]
    {
        for (i, place) in (0i64..).zip(places) {
            for back in 0..STACK as i64 {
                let number = |at| observations[1].double_value(&[i, STACK as i64 - 1 - back, at]);
                assert_eq!(
                    (number(0), number(1)),
                    (place.environment.into(), (i64::from(place.own) - back) as f64)
                );
            }
            assert_eq!(observations[0].double_value(&[i, 1, 0]), f64::from(place.base));
        }
    }
    assert_eq!(
        Vec::<i64>::try_from(&batch.actions).unwrap(),
        batch.places.iter().map(|place| i64::from(place.environment)).collect::<Vec<_>>()
    );
}

#[test]
fn a_batch_shows_what_each_writer_wrote_in_whatever_tier() {
    let (shared, writers, mut sampler) = SharedReplay::new(&OPTIONS, scenes());
    let (mut rng, mut batch) = (Pcg64Mcg::seed_from_u64(1), Batch::default());
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
                    shared.update_priorities(&batch.slots, &[0.5; 16]);
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
