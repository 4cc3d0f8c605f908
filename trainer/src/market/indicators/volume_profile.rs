//! How much was traded at which price: a window's volume, spread over levels of one tick.
//!
//! Level k is [k tick, (k + 1) tick). A bar's volume lies with uniform density over [low, high]; a bar without
//! range falls whole into its level.
//!
//! A window of quiet bars with a single crash in it spans millions of ticks, so the profile is kept as segments:
//! runs of levels that hold the same by construction. A usual profile has a segment for each level; a very tall
//! one only for the levels at which some bar begins or ends and for the stretches between them.

use crate::market::bar::Bar;
use crate::market::indicators::tolerance::{EQUAL_FRACTION, negligible};

/// Profiles up to this tall have a segment for each level.
const MOST_DENSE_LEVELS: i64 = 2048;
/// The highest level that is told apart: beyond it an f64 holds no single ticks.
const HIGHEST_LEVEL: f64 = (1_u64 << 53) as f64;

/// A profile and its buffers, which are kept from one window to the next.
#[derive(Debug, Clone, Default)]
pub struct VolumeProfile {
    /// First level of each segment and, last, the first level beyond the profile; strictly rising.
    bounds: Vec<i64>,
    /// Volume in each *level* of a segment.
    volumes: Vec<f64>,
    /// First and last level of each bar.
    spans: Vec<(i64, i64)>,
}

impl VolumeProfile {
    /// Builds the profile of `bars` in levels of `tick` (> 0, in units of price). Where no bar has volume, each
    /// weighs 1.
    pub fn rebuild(&mut self, bars: &[Bar], tick: f64) {
        let ticks_per_unit = 1.0 / tick;
        self.spans.clear();
        self.spans.extend(bars.iter().map(|bar| {
            if has_range(bar) {
                // Rounding at a bound moves next to nothing: the overlap there is next to nothing.
                let level_of = |price: f64| (price * ticks_per_unit).floor().min(HIGHEST_LEVEL) as i64;
                (level_of(bar.low), level_of(bar.high))
            } else {
                // A price within rounding of a level's lower bound lies in that level, whole.
                let level = (bar.close * ticks_per_unit * (1.0 + EQUAL_FRACTION)).floor();
                let level = level.min(HIGHEST_LEVEL) as i64;
                (level, level)
            }
        }));
        self.lay_out();

        let traded = bars.iter().any(|bar| bar.volume > 0.0);
        for (bar, (first, last)) in bars.iter().zip(&self.spans) {
            let weight = if traded { bar.volume } else { 1.0 };
            if first == last {
                let segment = segment_of(&self.bounds, *first);
                self.volumes[segment] += weight;
                continue;
            }
            let density = weight / (bar.high - bar.low);
            let (lowest, highest) = (segment_of(&self.bounds, *first), segment_of(&self.bounds, *last));
            self.volumes[lowest] += density * ((first + 1) as f64 * tick - bar.low).max(0.0);
            for volume in &mut self.volumes[lowest + 1..highest] {
                *volume += density * tick;
            }
            self.volumes[highest] += density * (bar.high - *last as f64 * tick).max(0.0);
        }
    }

    /// Chooses the segments for the bars' spans and empties them.
    fn lay_out(&mut self) {
        self.bounds.clear();
        let lowest = self.spans.iter().map(|span| span.0).min();
        let highest = self.spans.iter().map(|span| span.1).max();
        if let (Some(lowest), Some(highest)) = (lowest, highest) {
            if highest - lowest < MOST_DENSE_LEVELS {
                self.bounds.extend(lowest..=highest + 1);
            } else {
                let edges = self.spans.iter().flat_map(|(first, last)| [*first, first + 1, *last, last + 1]);
                self.bounds.extend(edges);
                self.bounds.sort_unstable();
                self.bounds.dedup();
            }
        }
        self.volumes.clear();
        self.volumes.resize(self.bounds.len().saturating_sub(1), 0.0);
    }

    /// The volume in each level of segment 0, 1, …, lowest prices first.
    #[must_use]
    pub fn volumes(&self) -> &[f64] {
        &self.volumes
    }

    /// First level of each segment and, last, the first level beyond the profile.
    #[must_use]
    pub fn bounds(&self) -> &[i64] {
        &self.bounds
    }
}

/// False for a bar whose high is its low, within rounding.
fn has_range(bar: &Bar) -> bool {
    !negligible(bar.high - bar.low, bar.close)
}

/// The segment that begins at `level`, one at which a bar begins or ends.
fn segment_of(bounds: &[i64], level: i64) -> usize {
    let (lowest, beyond) = (bounds[0], bounds[bounds.len() - 1]);
    if beyond - lowest == bounds.len() as i64 - 1 {
        (level - lowest) as usize
    } else {
        bounds.partition_point(|bound| *bound < level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::indicators::random_walk::{bar, random_walk};

    /// Volume in one level: each bar's overlap with it.
    fn naive(bars: &[Bar], tick: f64, level: i64) -> f64 {
        let traded = bars.iter().map(|bar| bar.volume).sum::<f64>() > 0.0;
        let (bottom, top) = (level as f64 * tick, (level + 1) as f64 * tick);
        let part = |bar: &Bar| {
            let weight = if traded { bar.volume } else { 1.0 };
            if bar.high > bar.low {
                weight * (bar.high.min(top) - bar.low.max(bottom)).max(0.0) / (bar.high - bar.low)
            } else if (bar.close / tick).floor() as i64 == level {
                weight
            } else {
                0.0
            }
        };
        bars.iter().map(part).sum()
    }

    fn check(bars: &[Bar], tick: f64) {
        let mut profile = VolumeProfile::default();
        profile.rebuild(&random_walk(7, 99), 0.01);
        profile.rebuild(bars, tick);
        let highest = profile.volumes().iter().copied().fold(0.0, f64::max);
        for (segment, volume) in profile.volumes().iter().enumerate() {
            let (from, until) = (profile.bounds()[segment], profile.bounds()[segment + 1]);
            for level in [from, i64::midpoint(from, until), until - 1] {
                let expected = naive(bars, tick, level);
                assert!((volume - expected).abs() <= 1e-7 * highest, "level {level}: {volume}, {expected}");
            }
        }
        let sum: f64 = profile
            .volumes()
            .iter()
            .zip(profile.bounds().windows(2))
            .map(|(volume, bounds)| volume * (bounds[1] - bounds[0]) as f64)
            .sum();
        let volume: f64 = bars.iter().map(|bar| bar.volume).sum();
        let expected = if volume > 0.0 { volume } else { bars.len() as f64 };
        assert!((sum / expected - 1.0).abs() < 1e-7, "{sum} of {expected}");
    }

    #[test]
    fn every_level_holds_the_bars_overlap_with_it() {
        for seed in 0..20 {
            let bars = random_walk(100, seed);
            check(&bars, 0.0317);
            // Tall enough for segments of many levels.
            check(&bars, 0.000_317);
        }
    }

    #[test]
    fn bars_without_volume_weigh_one_each() {
        let mut bars = random_walk(100, 5);
        for bar in &mut bars {
            bar.volume = 0.0;
        }
        check(&bars, 0.02);
    }

    #[test]
    fn a_crash_over_a_billion_ticks_needs_few_segments() {
        let mut bars: Vec<Bar> =
            (0..99).map(|i| bar(i, [100.0, 100.0 + 2e-7, 100.0 - 2e-7, 100.0])).collect();
        bars.push(bar(99, [100.0, 100.0, 1.0, 1.0]));
        let mut profile = VolumeProfile::default();
        profile.rebuild(&bars, 4e-8);
        assert!(profile.volumes().len() <= 400);
    }

    #[test]
    fn a_price_on_a_bound_lies_in_the_level_above_it() {
        let mut profile = VolumeProfile::default();
        profile.rebuild(&[bar(0, [0.3; 4])], 0.1);
        assert_eq!(profile.bounds(), [3, 4]);
        profile.rebuild(&[bar(0, [100.0, 100.5, 100.0, 100.5])], 0.25);
        assert_eq!(profile.volumes(), [0.5, 0.5, 0.0]);
    }
}
