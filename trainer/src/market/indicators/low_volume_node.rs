//! The nearest low-volume node: a price the market passed through without stopping.

use crate::market::bar::Bar;
use crate::market::indicators::tolerance::{above, negligible};
use crate::market::indicators::volume_profile::VolumeProfile;

/// Profile levels within this part of the highest are equal.
const EQUAL_LEVELS_FRACTION: f64 = 1e-6;

/// Constants of the nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeOptions {
    /// Bars in the profile, the current one included.
    pub window_bars: usize,
    /// Levels in the median range of the window's bars.
    pub levels_per_range: f64,
    /// A node lies below this part of the highest level.
    pub highest_fraction: f64,
    /// Tests that make a node fully tested.
    pub full_tests: f64,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self { window_bars: 100, levels_per_range: 10.0, highest_fraction: 0.3, full_tests: 5.0 }
    }
}

/// A low-volume node as seen from the last close of its window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowVolumeNode {
    /// The price in the middle of the node.
    pub level: f64,
    /// The close less the level, signed, in units of price.
    pub distance: f64,
    /// How much the node matters, in [0, 1].
    pub strength: f64,
}

/// Finds nodes, window after window, with buffers of its own.
#[derive(Debug, Clone, Default)]
pub struct NodeFinder {
    options: NodeOptions,
    profile: VolumeProfile,
    ranges: Vec<f64>,
}

impl NodeFinder {
    /// A finder with its constants.
    #[must_use]
    pub fn new(options: NodeOptions) -> Self {
        Self { options, profile: VolumeProfile::default(), ranges: Vec::new() }
    }

    /// Bars in a window.
    #[must_use]
    pub fn window_bars(&self) -> usize {
        self.options.window_bars
    }

    /// The node nearest to the close of the last of `window`'s bars; of equally near ones the lower. None if the
    /// profile has none, or if the median bar has no range.
    ///
    /// A node is a run of equal levels strictly below both neighbouring runs and below `highest_fraction` of the
    /// highest level; the outermost runs are none. Its price is the run's middle.
    #[must_use]
    pub fn find(&mut self, window: &[Bar]) -> Option<LowVolumeNode> {
        let close = window.last()?.close;
        let tick = self.median_range(window) / self.options.levels_per_range;
        if negligible(tick * self.options.levels_per_range, close) {
            return None;
        }
        self.profile.rebuild(window, tick);
        let (volumes, bounds) = (self.profile.volumes(), self.profile.bounds());
        let highest = volumes.iter().copied().fold(0.0, f64::max);
        let equal = EQUAL_LEVELS_FRACTION * highest;
        let ceiling = self.options.highest_fraction * highest - equal;

        let mut nearest: Option<(f64, f64)> = None;
        let mut from = 0;
        for end in 1..volumes.len() {
            if (volumes[end] - volumes[end - 1]).abs() <= equal {
                continue;
            }
            let volume = volumes[from];
            // Neighbouring runs differ by more than `equal` where they meet.
            if from > 0 && volumes[from - 1] > volume && volumes[end] > volumes[end - 1] && volume < ceiling {
                let level = 0.5 * (bounds[from] + bounds[end]) as f64 * tick;
                let nearer = nearest.is_none_or(|(held, _)| {
                    let gain = (held - close).abs() - (level - close).abs();
                    gain > 0.0 && !negligible(gain, close)
                });
                if nearer {
                    nearest = Some((level, volume));
                }
            }
            from = end;
        }
        let (level, volume) = nearest?;
        let strength = self.strength(window, level, volume / highest);
        Some(LowVolumeNode { level, distance: close - level, strength })
    }

    /// The median of high − low, the mean of the two middle ones if the number is even.
    fn median_range(&mut self, window: &[Bar]) -> f64 {
        self.ranges.clear();
        self.ranges.extend(window.iter().map(|bar| bar.high - bar.low));
        let middle = window.len() / 2;
        let (below, upper, _) = self.ranges.select_nth_unstable_by(middle, f64::total_cmp);
        if window.len() % 2 == 1 {
            return *upper;
        }
        let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        0.5 * (lower + *upper)
    }

    /// 0.4 thinness + 0.15 tests + 0.15 rejection + 0.2 recency + 0.1 nearness, each in [0, 1].
    fn strength(&self, window: &[Bar], level: f64, volume_fraction: f64) -> f64 {
        let n_bars = window.len() as f64;
        let (mut n_tests, mut rejections, mut recency) = (0.0, 0.0, 0.0);
        let (mut lowest, mut highest) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut close = level;
        for (i, bar) in window.iter().enumerate() {
            lowest = bar.low.min(lowest);
            highest = bar.high.max(highest);
            close = bar.close;
            if above(bar.low, level) || above(level, bar.high) {
                continue;
            }
            let rejection = bar.close - level;
            n_tests += 1.0;
            recency = 1.0 - (window.len() - 1 - i) as f64 / n_bars;
            if !negligible(rejection, bar.close) {
                rejections += (rejection.abs() / (bar.high - bar.low)).min(1.0);
            }
        }
        let tested = (n_tests / self.options.full_tests).min(1.0);
        let rejection = if n_tests > 0.0 { rejections / n_tests } else { 0.0 };
        let nearness = 1.0 - ((close - level).abs() / (highest - lowest)).min(1.0);
        0.4 * (1.0 - volume_fraction) + 0.15 * tested + 0.15 * rejection + 0.2 * recency + 0.1 * nearness
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::indicators::random_walk::{bar, random_walk};

    /// Finds the node from nothing but the definition.
    fn naive(window: &[Bar]) -> Option<LowVolumeNode> {
        let close = window[window.len() - 1].close;
        let mut ranges: Vec<f64> = window.iter().map(|bar| bar.high - bar.low).collect();
        ranges.sort_by(f64::total_cmp);
        let tick = f64::midpoint(ranges[49], ranges[50]) / 10.0;
        if tick == 0.0 {
            return None;
        }
        let traded = window.iter().any(|bar| bar.volume > 0.0);
        let lowest = window.iter().map(|bar| bar.low).fold(f64::INFINITY, f64::min);
        let highest = window.iter().map(|bar| bar.high).fold(0.0, f64::max);
        let levels: Vec<i64> = ((lowest / tick).floor() as i64..=(highest / tick).floor() as i64).collect();
        let volume = |level: &i64| {
            let (bottom, top) = (*level as f64 * tick, (*level + 1) as f64 * tick);
            let part = |bar: &Bar| {
                let weight = if traded { bar.volume } else { 1.0 };
                if bar.high > bar.low {
                    weight * (bar.high.min(top) - bar.low.max(bottom)).max(0.0) / (bar.high - bar.low)
                } else {
                    f64::from(u8::from((bar.close / tick).floor() as i64 == *level)) * weight
                }
            };
            window.iter().map(part).sum::<f64>()
        };
        let volumes: Vec<f64> = levels.iter().map(volume).collect();
        let poc = volumes.iter().copied().fold(0.0, f64::max);
        let mut runs: Vec<(usize, usize, f64)> = Vec::new();
        for (i, volume) in volumes.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if (run.2 - volume).abs() <= 1e-6 * poc => run.1 = i,
                _ => runs.push((i, i, *volume)),
            }
        }
        let mut nodes: Vec<(f64, f64)> = runs
            .windows(3)
            .filter(|w| w[1].2 < w[0].2 && w[1].2 < w[2].2 && w[1].2 < (0.3 - 1e-6) * poc)
            .map(|w| {
                let middle = (levels[w[1].0] as f64 + levels[w[1].1] as f64) / 2.0;
                ((middle + 0.5) * tick, w[1].2)
            })
            .collect();
        nodes.sort_by(|a, b| (a.0 - close).abs().total_cmp(&(b.0 - close).abs()).then(a.0.total_cmp(&b.0)));
        let (level, v) = *nodes.first()?;
        let tests: Vec<usize> =
            (0..100).filter(|i| window[*i].low <= level && level <= window[*i].high).collect();
        let rejection = |i: &usize| {
            let bar = &window[*i];
            if bar.high > bar.low { ((bar.close - level).abs() / (bar.high - bar.low)).min(1.0) } else { 0.0 }
        };
        let n = tests.len() as f64;
        let strength = 0.4 * (1.0 - v / poc)
            + 0.15 * (n / 5.0).min(1.0)
            + 0.15 * if tests.is_empty() { 0.0 } else { tests.iter().map(rejection).sum::<f64>() / n }
            + 0.2 * tests.last().map_or(0.0, |last| 1.0 - (99 - last) as f64 / 100.0)
            + 0.1 * (1.0 - ((close - level).abs() / (highest - lowest)).min(1.0));
        Some(LowVolumeNode { level, distance: close - level, strength })
    }

    fn check(window: &[Bar]) -> Option<LowVolumeNode> {
        let found = NodeFinder::default().find(window);
        let expected = naive(window);
        match (found, expected) {
            (Some(a), Some(b)) => {
                assert!((a.level / b.level - 1.0).abs() < 1e-9, "{a:?} {b:?}");
                assert!((a.strength - b.strength).abs() < 1e-6, "{a:?} {b:?}");
                assert_eq!(a.distance, window[window.len() - 1].close - a.level);
                assert!((0.0..=1.0).contains(&a.strength));
            }
            (a, b) => assert_eq!(a, b),
        }
        found
    }

    #[test]
    fn the_node_equals_its_definition_on_random_windows() {
        let bars = random_walk(1_500, 21);
        let mut n_found = 0;
        for window in bars.windows(100).step_by(7) {
            n_found += usize::from(check(window).is_some());
        }
        assert!(n_found > 100, "{n_found}");
    }

    /// A window of bars of range 10 (so that a level is 1), each told by its low and its volume.
    fn window(parts: &[(usize, f64, f64)], close: f64) -> Vec<Bar> {
        let mut bars = Vec::new();
        for (n, low, volume) in parts {
            for _ in 0..*n {
                let mut bar = bar(bars.len(), [*low, low + 10.0, *low, low + 5.0]);
                bar.volume = *volume;
                bars.push(bar);
            }
        }
        assert_eq!(bars.len(), 100);
        bars[99].close = close;
        bars
    }

    #[test]
    fn a_node_is_the_middle_of_its_run_of_equal_levels() {
        // Levels 100 … 109 hold 5 each, 110 … 115 nothing, 116 … 125 hold 5 each.
        let bars = window(&[(50, 100.0, 1.0), (50, 116.0, 1.0)], 121.0);
        let node = check(&bars).expect("a node");
        assert_eq!((node.level, node.distance), (113.0, 8.0));
        // No bar touched it: thinness 1 and nearness alone.
        let nearness = 1.0 - 8.0 / 26.0;
        assert!((node.strength - (0.4 + 0.1 * nearness)).abs() < 1e-12);
    }

    #[test]
    fn of_equally_near_nodes_the_lower_is_taken() {
        // Empty runs 110 … 113 (middle 112) and 124 … 127 (middle 126) around a close of 119.
        let bars = window(&[(30, 100.0, 1.0), (30, 128.0, 1.0), (40, 114.0, 1.0)], 119.0);
        assert_eq!(check(&bars).expect("a node").level, 112.0);
        let bars = window(&[(30, 100.0, 1.0), (30, 128.0, 1.0), (40, 114.0, 1.0)], 119.1);
        assert_eq!(check(&bars).expect("a node").level, 126.0);
    }

    #[test]
    fn a_market_without_volume_weighs_each_bar_one() {
        let none = window(&[(50, 100.0, 0.0), (50, 116.0, 0.0)], 121.0);
        let ones = window(&[(50, 100.0, 1.0), (50, 116.0, 1.0)], 121.0);
        assert_eq!(check(&none), check(&ones));
    }

    #[test]
    fn a_level_of_three_tenths_of_the_highest_is_no_node() {
        // Three bars of volume 1 bridge a gap between levels that hold 10.
        let thin = |bridge: f64| {
            window(&[(48, 100.0, 10.0 / 4.8), (3, 110.0, bridge), (49, 120.0, 10.0 / 4.9)], 125.0)
        };
        assert_eq!(check(&thin(10.0)), None);
        assert_eq!(check(&thin(9.9)).map(|node| node.level), Some(115.0));
    }

    #[test]
    fn the_outermost_runs_are_no_nodes() {
        let bars = window(&[(5, 100.0, 0.1), (90, 110.0, 1.0), (5, 120.0, 0.1)], 125.0);
        assert_eq!(check(&bars), None);
    }

    #[test]
    fn a_median_bar_without_range_gives_no_node() {
        let mut bars = random_walk(100, 2);
        for bar in &mut bars[..60] {
            (bar.high, bar.low) = (bar.close, bar.close);
        }
        assert_eq!(check(&bars), None);
    }

    #[test]
    fn a_bar_without_range_falls_whole_into_its_level_and_tests_it() {
        let mut bars = window(&[(50, 100.0, 1.0), (50, 116.0, 1.0)], 121.0);
        bars[60] = bar(60, [113.5, 113.5, 113.5, 113.5]);
        let node = check(&bars).expect("a node");
        // The levels 114 and 115 are empty, as are 110 … 112; the former are nearer.
        assert_eq!(node.level, 115.0);
        let close = 113.5 + 0.0;
        bars[99].close = close;
        bars[99].low = close;
        check(&bars);
    }
}
