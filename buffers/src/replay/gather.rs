//! Copies the windows of many observations, those of one view side by side.
//!
//! Memory latency and not copying bounds the speed of scattered windows. So gathering works in blocks: it finds where all
//! windows of a block end, prefetches them, and then copies them. The latencies of a block overlap.

use crate::error::Result;
use crate::frames::{Clock, Dataset, FrameStream, ObservationRef, View};

/// Windows per block.
const BLOCK: usize = 16;

/// A window's stream and its last row.
type End<'a> = (&'a FrameStream, usize);

/// Copies the windows of view number `view` at `observation_refs` into `now` and those at `next_observation_refs` into
/// `next`. Each output has `n × length × width` numbers. The two windows of a transition mostly share their rows, so they
/// are copied together. Allocates nothing; outputs that are reused are faster than fresh memory.
///
/// # Errors
/// If a mapped chunk cannot be read.
///
/// # Panics
/// If a window reaches outside its stream, the two lists differ in length, or an output has another size.
pub fn gather(
    dataset: &Dataset,
    local: &[FrameStream],
    view: usize,
    [observation_refs, next_observation_refs]: [&[ObservationRef]; 2],
    [now, next]: [&mut [f32]; 2],
) -> Result<()> {
    assert_eq!(
        observation_refs.len(),
        next_observation_refs.len(),
        "a next observation for each observation"
    );
    let (index, view) = (view, &dataset.views()[view]);
    let n_numbers = view.n_numbers();
    assert_eq!([now.len(), next.len()], [observation_refs.len() * n_numbers; 2], "room of another size");
    let observation_refs = observation_refs.chunks(BLOCK).zip(next_observation_refs.chunks(BLOCK));
    let rooms = now.chunks_mut(BLOCK * n_numbers).zip(next.chunks_mut(BLOCK * n_numbers));
    for ((observation_refs, next_observation_refs), (now, next)) in observation_refs.zip(rooms) {
        let first = end(dataset, local, index, &observation_refs[0]);
        let mut ends = [[first; 2]; BLOCK];
        for (ends, (now, next)) in ends.iter_mut().zip(observation_refs.iter().zip(next_observation_refs)) {
            *ends = [now, next].map(|observation_ref| end(dataset, local, index, observation_ref));
        }
        copy_block(view, &ends[..observation_refs.len()], now, next)?;
    }
    Ok(())
}

/// Asks the system to begin reading the parts of files that the windows of these observations need.
pub fn will_need(dataset: &Dataset, local: &[FrameStream], observation_refs: [&[ObservationRef]; 2]) {
    for (index, view) in dataset.views().iter().enumerate() {
        for (now, next) in observation_refs[0].iter().zip(observation_refs[1]) {
            let ends = [now, next].map(|observation_ref| end(dataset, local, index, observation_ref));
            let [(stream, row), (next_stream, next_row)] = ends;
            let apart = next_row.abs_diff(row);
            if std::ptr::eq(stream, next_stream) && view.stride == 1 && apart <= view.length.max(8) {
                // The two windows mostly lie in the same pages.
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
    observation_ref: &ObservationRef,
) -> End<'a> {
    let ObservationRef { instrument, environment, t, local: row } = *observation_ref;
    match dataset.views()[view].clock {
        Clock::Decision => (dataset.stream(view, instrument), t as usize),
        Clock::Slow => (dataset.stream(view, instrument), dataset.slow_row(instrument, t) as usize),
        Clock::Local => {
            let rows = &local[usize::from(environment)];
            (rows, rows.position(row))
        }
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
                view("local", 1, narrow, 1, Clock::Local),
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
                    let plain: Vec<f32> = observation_refs.iter().flat_map(|observation_ref| {
                        let end = match view.clock {
                            Clock::Decision => observation_ref.t,
                            Clock::Slow => observation_ref.t / 3,
                            Clock::Local => observation_ref.local,
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
