//! Copies the windows of many places, those of a view side by side.
//!
//! Scattered windows are bound by waits for memory, not by the copying. So of a block of windows it is first found
//! out where they all end, then they are read ahead, then copied: the waits of a block overlap.

use crate::error::Result;
use crate::frames::{Clock, Dataset, FrameStream, ObservationRef, View};

/// Windows whose waits for memory overlap.
const BLOCK: usize = 16;

/// A window's stream and its last row.
type End<'a> = (&'a FrameStream, usize);

/// Copies the windows of one of the instruments' views at `observation_refs` and at `next_observation_refs` (as many, each a little later than
/// its place) into `now` and `next`, which have room for `n × length × width` numbers. The two windows of a transition
/// are copied together, as they mostly share their rows. Room that is filled again and again is faster than fresh
/// memory. Nothing is allocated.
///
/// # Errors
/// Where a mapped chunk cannot be read.
///
/// # Panics
/// Where a window reaches outside its stream, there are not as many next places as places, or room is of
/// another size.
pub fn gather(
    dataset: &Dataset,
    local: &[FrameStream],
    view: usize,
    [observation_refs, next_observation_refs]: [&[ObservationRef]; 2],
    [now, next]: [&mut [f32]; 2],
) -> Result<()> {
    assert_eq!(observation_refs.len(), next_observation_refs.len(), "a next place for each place");
    let (index, view) = (view, &dataset.views()[view]);
    let n_numbers = view.n_numbers();
    assert_eq!([now.len(), next.len()], [observation_refs.len() * n_numbers; 2], "room of another size");
    let observation_refs = observation_refs.chunks(BLOCK).zip(next_observation_refs.chunks(BLOCK));
    let rooms = now.chunks_mut(BLOCK * n_numbers).zip(next.chunks_mut(BLOCK * n_numbers));
    for ((observation_refs, next_observation_refs), (now, next)) in observation_refs.zip(rooms) {
        let first = end(dataset, local, index, &observation_refs[0]);
        let mut ends = [[first; 2]; BLOCK];
        for (ends, (observation, next_observation_ref)) in
            ends.iter_mut().zip(observation_refs.iter().zip(next_observation_refs))
        {
            *ends =
                [end(dataset, local, index, observation), end(dataset, local, index, next_observation_ref)];
        }
        copy_block(view, &ends[..observation_refs.len()], now, next)?;
    }
    Ok(())
}

/// Has the system begin to read from files what the windows at these places will need.
pub fn will_need(dataset: &Dataset, local: &[FrameStream], observation_refs: [&[ObservationRef]; 2]) {
    for (index, view) in dataset.views().iter().enumerate() {
        for (observation, next_observation_ref) in observation_refs[0].iter().zip(observation_refs[1]) {
            let ends = [observation, next_observation_ref]
                .map(|observation| end(dataset, local, index, observation));
            let [(stream, row), (next_stream, next_row)] = ends;
            let apart = next_row.abs_diff(row);
            if std::ptr::eq(stream, next_stream) && view.stride == 1 && apart <= view.length.max(8) {
                // The two mostly lie in the same pages.
                stream.will_need(row.max(next_row), view.length + apart, 1);
            } else {
                ends.iter().for_each(|(stream, row)| stream.will_need(*row, view.length, view.stride));
            }
        }
    }
}

fn copy_block(view: &View, ends: &[[End; 2]], now: &mut [f32], next: &mut [f32]) -> Result<()> {
    for [(stream, row), _] in ends {
        stream.prefetch_chunk(*row);
    }
    for [(stream, row), _] in ends {
        stream.prefetch(*row, view.length, view.stride);
    }
    let now = now.chunks_exact_mut(view.n_numbers());
    let next = next.chunks_exact_mut(view.n_numbers());
    for ([(stream, row), (next_stream, next_row)], (now, next)) in ends.iter().zip(now.zip(next)) {
        if std::ptr::eq(*stream, *next_stream) && !stream.is_hot() {
            stream.try_copy_windows([*row, *next_row], view.length, view.stride, [now, next])?;
        } else {
            stream.try_copy_window(*row, view.length, view.stride, now)?;
            next_stream.try_copy_window(*next_row, view.length, view.stride, next)?;
        }
    }
    Ok(())
}

fn end<'a>(
    dataset: &'a Dataset,
    local: &'a [FrameStream],
    view: usize,
    observation: &ObservationRef,
) -> End<'a> {
    match dataset.views()[view].clock {
        Clock::Decision => (dataset.stream(view, observation.instrument), observation.t as usize),
        Clock::Slow => (
            dataset.stream(view, observation.instrument),
            dataset.slow_row(observation.instrument, observation.t) as usize,
        ),
        Clock::Local => (&local[usize::from(observation.environment)], observation.local as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Instrument;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    fn numbered(n_rows: usize, width: usize) -> FrameStream {
        let mut stream = FrameStream::new(width);
        (0..n_rows).for_each(|row| {
            stream.append(&(0..width).map(|i| (row * width + i) as f32).collect::<Vec<_>>());
        });
        stream
    }

    proptest! {
        #[test]
        fn gathered_windows_are_what_plain_loops_copy(n in 0usize..70, seed: u64, narrow in 1usize..9) {
            let view = |name, length, width, stride, clock| View { name, length, width, stride, clock };
            let views = vec![
                view("slow", 7, narrow, 1, Clock::Slow),
                view("fast", 60, 7, 1, Clock::Decision),
                view("strided", 20, 8, 6, Clock::Decision),
                view("row", 1, 5, 1, Clock::Decision),
                view("own", 1, narrow, 1, Clock::Local),
            ];
            let stream = |view: &View, n_rows| numbered(if view.clock == Clock::Local { 0 } else { n_rows }, view.width);
            let instrument = |n_rows: usize| Instrument {
                streams: views.iter().map(|view| stream(view, n_rows)).collect(),
                slow_row: (0..n_rows).map(|t| (t / 3) as u32).collect(),
                first_step: 120,
            };
            let dataset = Dataset::new(views.clone(), vec![instrument(3000), instrument(1500)]);
            let local = [numbered(1100, narrow), numbered(40, narrow)];
            let mut rng = Pcg64Mcg::seed_from_u64(seed);
            let mut observation_refs = [Vec::new(), Vec::new()];
            for _ in 0..n {
                let (instrument, environment) = (rng.random_range(0..2u16), rng.random_range(0..2u16));
                for side in &mut observation_refs {
                    let t = rng.random_range(120..dataset.n_steps(instrument) as u32);
                    let local = rng.random_range(0..local[usize::from(environment)].n_rows() as u32);
                    side.push(ObservationRef { instrument, environment, t, local });
                }
            }
            let room = || views.iter().map(|view| vec![9.0; n * view.n_numbers()]).collect::<Vec<_>>();
            let mut gathered = [room(), room()];

            let [now, next] = &mut gathered;
            for (view, (now, next)) in now.iter_mut().zip(next).enumerate() {
                gather(&dataset, &local, view, [&observation_refs[0], &observation_refs[1]], [now, next]).unwrap();
            }
            for (observation_refs, gathered) in observation_refs.iter().zip(&gathered) {
                for (index, view) in views.iter().enumerate() {
                    let plain: Vec<f32> = observation_refs.iter().flat_map(|observation| {
                        let end = match view.clock {
                            Clock::Decision => observation.t,
                            Clock::Slow => observation.t / 3,
                            Clock::Local => observation.local,
                        } as usize;
                        (0..view.length).flat_map(move |i| {
                            let row = end - (view.length - 1 - i) * view.stride;
                            (0..view.width).map(move |j| (row * view.width + j) as f32)
                        })
                    }).collect();
                    prop_assert_eq!(&gathered[index], &plain);
                }
            }
        }
    }
}
