//! Copies the windows of many places, those of a view side by side.
//!
//! Scattered windows are bound by waits for memory, not by the copying. So of a block of windows it is first found
//! out where they all end, then they are read ahead, then copied: the waits of a block overlap.

use crate::error::Result;
use crate::frames::{Clock, FrameStream, Place, Scenes, View};

/// Windows whose waits for memory overlap.
const BLOCK: usize = 16;

/// A window's stream and its last row.
type End<'a> = (&'a FrameStream, usize);

/// Copies the windows of one of the scenes' views at `places` and at `next_places` (as many, each a little later than
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
    scenes: &Scenes,
    own: &[FrameStream],
    view: usize,
    [places, next_places]: [&[Place]; 2],
    [now, next]: [&mut [f32]; 2],
) -> Result<()> {
    assert_eq!(places.len(), next_places.len(), "a next place for each place");
    let (index, view) = (view, &scenes.views()[view]);
    let n_numbers = view.n_numbers();
    assert_eq!([now.len(), next.len()], [places.len() * n_numbers; 2], "room of another size");
    let places = places.chunks(BLOCK).zip(next_places.chunks(BLOCK));
    let rooms = now.chunks_mut(BLOCK * n_numbers).zip(next.chunks_mut(BLOCK * n_numbers));
    for ((places, next_places), (now, next)) in places.zip(rooms) {
        let first = end(scenes, own, index, &places[0]);
        let mut ends = [[first; 2]; BLOCK];
        for (ends, (place, next_place)) in ends.iter_mut().zip(places.iter().zip(next_places)) {
            *ends = [end(scenes, own, index, place), end(scenes, own, index, next_place)];
        }
        copy_block(view, &ends[..places.len()], now, next)?;
    }
    Ok(())
}

/// Has the system begin to read from files what the windows at these places will need.
pub fn will_need(scenes: &Scenes, own: &[FrameStream], places: [&[Place]; 2]) {
    for (index, view) in scenes.views().iter().enumerate() {
        for (place, next_place) in places[0].iter().zip(places[1]) {
            let ends = [place, next_place].map(|place| end(scenes, own, index, place));
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

fn end<'a>(scenes: &'a Scenes, own: &'a [FrameStream], view: usize, place: &Place) -> End<'a> {
    match scenes.views()[view].clock {
        Clock::Base => (scenes.stream(view, place.scene), place.base as usize),
        Clock::Slow => (scenes.stream(view, place.scene), scenes.slow_row(place.scene, place.base) as usize),
        Clock::Own => (&own[usize::from(place.environment)], place.own as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Scene;
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
                view("fast", 60, 7, 1, Clock::Base),
                view("strided", 20, 8, 6, Clock::Base),
                view("row", 1, 5, 1, Clock::Base),
                view("own", 1, narrow, 1, Clock::Own),
            ];
            let stream = |view: &View, n_rows| numbered(if view.clock == Clock::Own { 0 } else { n_rows }, view.width);
            let scene = |n_rows: usize| Scene {
                streams: views.iter().map(|view| stream(view, n_rows)).collect(),
                slow_row: (0..n_rows).map(|base| (base / 3) as u32).collect(),
                first_base: 120,
            };
            let scenes = Scenes::new(views.clone(), vec![scene(3000), scene(1500)]);
            let own = [numbered(1100, narrow), numbered(40, narrow)];
            let mut rng = Pcg64Mcg::seed_from_u64(seed);
            let mut places = [Vec::new(), Vec::new()];
            for _ in 0..n {
                let (scene, environment) = (rng.random_range(0..2u16), rng.random_range(0..2u16));
                for side in &mut places {
                    let base = rng.random_range(120..scenes.n_base(scene) as u32);
                    let own = rng.random_range(0..own[usize::from(environment)].n_rows() as u32);
                    side.push(Place { scene, environment, base, own });
                }
            }
            let room = || views.iter().map(|view| vec![9.0; n * view.n_numbers()]).collect::<Vec<_>>();
            let mut gathered = [room(), room()];

            let [now, next] = &mut gathered;
            for (view, (now, next)) in now.iter_mut().zip(next).enumerate() {
                gather(&scenes, &own, view, [&places[0], &places[1]], [now, next]).unwrap();
            }
            for (places, gathered) in places.iter().zip(&gathered) {
                for (index, view) in views.iter().enumerate() {
                    let plain: Vec<f32> = places.iter().flat_map(|place| {
                        let end = match view.clock {
                            Clock::Base => place.base,
                            Clock::Slow => place.base / 3,
                            Clock::Own => place.own,
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
