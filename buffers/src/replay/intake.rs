//! Checks what a replay is given, in constant time. A mistake is then an error where it is made, and not a panic or wrong
//! rows in a later draw.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::frames::{Clock, Dataset, View, position};
use crate::replay::Transition;
use crate::store::RowKind;

/// The most local rows between the two observations of a transition: a ring keeps the distance in 15 bits.
const MOST_DISTANCE: usize = (1 << 15) - 1;

/// What was taken of one environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intake {
    /// Position of the first observation of the newest episode.
    episode: usize,
    /// Position after the observation at which the newest transition begins.
    next: usize,
}

impl Intake {
    /// Notes that an episode begins with the observation at a position.
    pub(super) fn begin_episode(&mut self, position: usize) {
        self.episode = position;
    }

    /// Checks a transition of the environment, whose local rows at `rows` are held, and notes it.
    ///
    /// # Errors
    /// [`Error::WrongTransition`].
    pub(super) fn take(
        &mut self,
        transition: &Transition,
        rows: Range<usize>,
        reach: usize,
        dataset: &Dataset,
    ) -> Result<()> {
        let [from, to] = ends(transition, rows.end);
        let what = impossible(transition, rows, reach, dataset).or({
            if from < self.next {
                // Rows are evicted in the order in which transitions begin.
                Some("it begins at or before the one inserted last: an environment gives one transition per step, in order")
            } else if from < self.episode && self.episode <= to {
                Some("it goes from one episode to the next")
            } else {
                None
            }
        });
        if let Some(what) = what {
            let environment = transition.from.environment;
            return Err(Error::WrongTransition { environment, from, to, what });
        }
        self.next = from + 1;
        Ok(())
    }
}

/// What is impossible about a transition over `dataset` and the local rows at `rows`, of which an observation shows up to
/// `reach`. `None` if nothing is.
pub(super) fn impossible(
    transition: &Transition,
    rows: Range<usize>,
    reach: usize,
    dataset: &Dataset,
) -> Option<&'static str> {
    let [from, to] = ends(transition, rows.end);
    if to <= from || to - from > MOST_DISTANCE {
        return Some("it does not lead to a later local row that is near");
    }
    if to >= rows.end {
        return Some("its local rows were not appended");
    }
    match (from + 1).checked_sub(reach) {
        None => return Some("its window reaches before the first local row: begin the episode first"),
        Some(first) if first.min(from) < rows.start => return Some("its local rows were overwritten"),
        Some(_) => {}
    }
    if dataset.views().iter().any(|view| view.clock != Clock::Local) {
        let instrument = transition.from.instrument;
        if usize::from(instrument) >= dataset.n_instruments() {
            return Some("its instrument does not exist");
        }
        let steps = dataset.first_step(instrument)..dataset.n_steps(instrument);
        if [transition.from.t, transition.to_t].iter().any(|t| !steps.contains(&(*t as usize))) {
            return Some("the dataset has no full windows at its steps");
        }
    }
    if !transition.reward.is_finite() || !(0.0..=1.0).contains(&transition.discount) {
        return Some("its reward is not finite, or its discount does not lie in [0, 1]");
    }
    None
}

/// The positions of a transition's local rows in a stream of `n_rows`.
fn ends(transition: &Transition, n_rows: usize) -> [usize; 2] {
    [transition.from.local, transition.to_local].map(|local| position(local, n_rows))
}

/// Checks that local rows can be what the dataset's views show of them.
///
/// # Errors
/// [`Error::LocalRows`].
pub(super) fn check_rows(kind: RowKind, local_width: usize, dataset: &Dataset) -> Result<()> {
    if kind == RowKind::U8 {
        return Err(Error::LocalRows { what: "they are given as f32 and cannot be stored as u8".to_owned() });
    }
    let differs = |view: &&View| view.clock == Clock::Local && view.width != local_width;
    match dataset.views().iter().find(differs) {
        None => Ok(()),
        Some(View { name, width, .. }) => Err(Error::LocalRows {
            what: format!("they have {local_width} numbers, and the view {name} shows {width}"),
        }),
    }
}

/// Checks TD errors before any of them becomes a priority.
///
/// # Errors
/// [`Error::WrongTdErrors`].
pub(super) fn check_td_errors(n_slots: usize, td_errors: &[f32]) -> Result<()> {
    if n_slots != td_errors.len() {
        let what = format!("{} TD errors for {n_slots} transitions", td_errors.len());
        return Err(Error::WrongTdErrors { what });
    }
    match td_errors.iter().find(|td_error| !td_error.is_finite()) {
        None => Ok(()),
        Some(td_error) => Err(Error::WrongTdErrors { what: format!("a TD error of {td_error}") }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    use super::*;
    use crate::frames::{FrameStream, Instrument, ObservationRef};
    use crate::replay::{ArrayBatch, Replay, ReplayOptions, StoreOptions};

    const FIRST_STEP: u32 = 10;

    fn dataset(stack: usize, n_steps: u32) -> Arc<Dataset> {
        let view = |name, length, clock| View { name, length, width: 2, stride: 1, clock };
        let views = vec![view("bars", 3, Clock::Decision), view("frames", stack, Clock::Local)];
        let mut bars = FrameStream::new(2);
        (0..n_steps).for_each(|t| {
            bars.append(&[t as f32, 0.0]);
        });
        let streams = vec![bars, FrameStream::new(2)];
        let slow_row = vec![0; n_steps as usize];
        Arc::new(Dataset::new(views, vec![Instrument { streams, slow_row, first_step: FIRST_STEP as usize }]))
    }

    fn options() -> ReplayOptions {
        ReplayOptions {
            capacity_transitions: 1000,
            priority_exponent: 0.6,
            n_environments: 2,
            local_width: 2,
            copies_observations: false,
            store: StoreOptions::default(),
        }
    }

    fn replay(stack: usize) -> Replay {
        Replay::new(&options(), dataset(stack, 500)).unwrap()
    }

    /// A step of environment 1 between two local rows.
    fn step(local: u32, to_local: u32) -> Transition {
        let from = ObservationRef {
            environment: 1,
            t: FIRST_STEP + local % 400,
            local,
            ..ObservationRef::default()
        };
        Transition { from, to_t: from.t + 1, to_local, action: 1, reward: 0.5, discount: 0.9 }
    }

    /// Appends rows whose numbers are the episode's and the position's.
    fn episode(replay: &mut Replay, number: u32, n_rows: u32) -> u32 {
        let first = replay.begin_episode(1, &[number as f32, 0.0]).unwrap();
        for i in 1..n_rows {
            assert_eq!(replay.append_local(1, &[number as f32, i as f32]).unwrap(), first + i);
        }
        first
    }

    #[test]
    fn what_cannot_be_a_step_of_its_environment_is_refused_at_once_and_changes_nothing() {
        let mut replay = replay(1);
        episode(&mut replay, 0, 20);
        let first = step(3, 6);
        let good = step(4, 7);
        replay.insert(first).unwrap();
        let of = |change: &dyn Fn(&mut Transition)| {
            let mut wrong = good;
            change(&mut wrong);
            wrong
        };
        let wrong = [
            ("a row never appended", of(&|t| t.to_local = 20)),
            ("a row far past the end", of(&|t| (t.from.local, t.to_local) = (u32::MAX - 9, u32::MAX))),
            ("an environment that does not exist", of(&|t| t.from.environment = 2)),
            ("rows of an environment that appended none", of(&|t| t.from.environment = 0)),
            ("an instrument that does not exist", of(&|t| t.from.instrument = 1)),
            ("a step without full windows", of(&|t| t.from.t = FIRST_STEP - 1)),
            ("a step past the last bar", of(&|t| t.to_t = 500)),
            ("no way", of(&|t| t.to_local = t.from.local)),
            ("a way back", of(&|t| t.to_local = t.from.local - 1)),
            ("a 1-step transition beside an n-step one", step(3, 4)),
            ("a transition before the last one", step(1, 4)),
            ("a reward that is no number", of(&|t| t.reward = f32::NAN)),
            ("a discount above 1", of(&|t| t.discount = 1.5)),
        ];
        for (what, wrong) in wrong {
            let refused = replay.insert(wrong).unwrap_err();
            assert!(
                matches!(refused, Error::WrongTransition { .. } | Error::LocalRows { .. }),
                "{what}: {refused}"
            );
            assert!(replay.insert_many([wrong]).is_err(), "{what}");
            assert_eq!(replay.n_inserted(), 1, "{what}");
        }
        replay.insert(good).unwrap();
        let refused = replay.insert_many([step(5, 8), step(5, 6), step(6, 9)]);
        assert!(refused.is_err() && replay.n_inserted() == 3, "those before the refused one are inserted");
        // The last rows of an episode, and the first of the next one.
        let next = episode(&mut replay, 1, 5);
        assert!(replay.insert(step(next - 1, next + 1)).is_err(), "a step from one episode to the next");
        replay.insert(step(next, next + 3)).unwrap();
    }

    #[test]
    fn rows_of_another_width_or_kind_are_refused() {
        let mut replay = replay(1);
        for row in [&[1.0][..], &[1.0, 2.0, 3.0]] {
            assert!(matches!(replay.append_local(0, row), Err(Error::LocalRows { .. })));
            assert!(matches!(replay.begin_episode(0, row), Err(Error::LocalRows { .. })));
        }
        assert!(replay.append_local(2, &[1.0, 2.0]).is_err(), "no such environment");
        let wide = ReplayOptions { local_width: 3, ..options() };
        let refused = Replay::new(&wide, dataset(1, 500)).unwrap_err();
        assert!(refused.to_string().contains("3 numbers, and the view frames shows 2"), "{refused}");
        let bytes = StoreOptions { local_kind: RowKind::U8, ..StoreOptions::default() };
        let bytes = ReplayOptions { store: bytes, ..options() };
        assert!(matches!(Replay::new(&bytes, dataset(1, 500)), Err(Error::LocalRows { .. })));
    }

    #[test]
    fn an_insert_between_draw_and_gather_is_an_error() {
        let mut replay = replay(1);
        episode(&mut replay, 0, 20);
        (0..10).for_each(|local| replay.insert(step(local, local + 1)).unwrap());
        let (mut rng, mut batch) = (Pcg64Mcg::seed_from_u64(1), ArrayBatch::default());
        replay.draw_into(4, 0.4, &mut rng, &mut batch).unwrap();
        replay.insert(step(10, 11)).unwrap();
        let refused = replay.gather_into(&mut batch);
        assert!(matches!(refused, Err(Error::InsertedSinceDrawn { n_inserted: 1 })), "{refused:?}");
        replay.draw_into(4, 0.4, &mut rng, &mut batch).unwrap();
        replay.gather_into(&mut batch).unwrap();
    }

    #[test]
    fn a_td_error_that_is_no_number_is_an_error_and_changes_no_priority() {
        let mut replay = replay(1);
        episode(&mut replay, 0, 20);
        (0..10).for_each(|local| replay.insert(step(local, local + 1)).unwrap());
        let slots = [replay.slot(2), replay.slot(3)];
        let before: Vec<f64> = replay.priorities().unwrap().collect();
        for wrong in [&[0.1, f32::NAN][..], &[f32::INFINITY, 0.1], &[0.1]] {
            let refused = replay.update_priorities(&slots, wrong);
            assert!(matches!(refused, Err(Error::WrongTdErrors { .. })), "{refused:?}");
        }
        assert_eq!(replay.priorities().unwrap().collect::<Vec<_>>(), before);
        replay.update_priorities(&slots, &[0.1, 0.2]).unwrap();
    }

    #[test]
    fn a_stack_at_the_start_of_an_episode_shows_no_frame_of_the_one_before() {
        const STACK: usize = 4;
        let mut replay = replay(STACK);
        assert!(replay.append_local(1, &[9.0, 9.0]).is_ok());
        assert!(replay.insert(step(0, 1)).is_err(), "no stack ends with the first row of all");
        for number in 1..20 {
            let first = episode(&mut replay, number, 5);
            (0..4).for_each(|i| replay.insert(step(first + i, first + i + 1)).unwrap());
        }
        let batch: ArrayBatch = replay.sample(64, 0.4, &mut Pcg64Mcg::seed_from_u64(1)).unwrap();
        let mut n_first = 0;
        for frames in [&batch.observations[1], &batch.next_observations[1]] {
            for stack in frames.chunks_exact(STACK * 2) {
                let rows: Vec<[f32; 2]> = stack.as_chunks().0.to_vec();
                let [number, newest] = rows[STACK - 1];
                let shown = |back: usize| [number, (newest - back as f32).max(0.0)];
                let expected: Vec<[f32; 2]> = (0..STACK).rev().map(shown).collect();
                assert_eq!(rows, expected);
                n_first += u32::from(newest == 0.0);
            }
        }
        assert!(n_first > 5, "{n_first} first observations were drawn");
    }

    #[test]
    fn positions_of_local_rows_go_on_past_two_to_the_32nd() {
        let mut whole = replay(1);
        let mut late = replay(1);
        late.begin_rows_at((1 << 32) - 1024);
        let mut local = 0u32;
        for number in 0..60 {
            for (replay, shift) in [(&mut whole, 0), (&mut late, 1024u32.wrapping_neg())] {
                let first = episode_at(replay, number, local.wrapping_add(shift));
                for i in 0..49u32 {
                    let [from, to] = [i, i + 1].map(|i| first.wrapping_add(i));
                    let t = FIRST_STEP + i;
                    let from = ObservationRef { t, local: from, ..step(0, 1).from };
                    replay.insert(Transition { from, to_t: t + 1, to_local: to, ..step(0, 1) }).unwrap();
                }
                replay.enforce_budget().unwrap();
            }
            local += 50;
            let [a, b]: [ArrayBatch; 2] = [&whole, &late]
                .map(|replay| replay.sample(32, 0.4, &mut Pcg64Mcg::seed_from_u64(local.into())).unwrap());
            assert_eq!(a.observations, b.observations, "row {local}");
            assert_eq!(a.next_observations, b.next_observations, "row {local}");
        }
        assert!(local > 2048 && late.local_bytes() <= whole.local_bytes() + 8192, "old rows are evicted");
    }

    fn episode_at(replay: &mut Replay, number: u32, expected: u32) -> u32 {
        let first = replay.begin_episode(1, &[number as f32, 0.0]).unwrap();
        assert_eq!(first, expected);
        for i in 1..50u32 {
            replay.append_local(1, &[number as f32, i as f32]).unwrap();
        }
        first
    }
}
