//! Where the close lies in the range of its bar, weighted by volume.

use crate::market::indicators::tolerance::EQUAL_FRACTION;

/// The close's location in its bar: (2 close − high − low) / (high − low), in `[-1, 1]`, −1 at the low; 0 if the
/// range is within 1e-9 of the price.
#[must_use]
pub fn close_location(high: f64, low: f64, close: f64) -> f64 {
    let range = high - low;
    if range <= EQUAL_FRACTION * close {
        return 0.0;
    }
    (((close - low) - (high - close)) / range).clamp(-1.0, 1.0)
}

/// E(location × volume) / E(volume), both exponential means seeded by the first bar, in `[-1, 1]`.
///
/// An exponential mean has no window's edge, so that one must be drawn to say when a window has no volume: at the age
/// from which on all bars together weigh less than 1e-9 (405 bars at α = 0.05), by the rule that numbers within 1e-9
/// are equal. If no bar within that age traded, each bar weighs 1, and the number is E(location). Without the edge
/// the last trade's location would stand for as long as nothing trades, and end when the means underflow.
#[derive(Debug, Clone)]
pub struct VolumeWeightedLocation {
    alpha: f64,
    window_bars: u32,
    /// E(location × volume), E(volume) and E(location); `None` before the first bar.
    means: Option<[f64; 3]>,
    bars_since_volume: u32,
}

impl VolumeWeightedLocation {
    /// Means with the given `alpha` in (0, 1).
    #[must_use]
    pub fn new(alpha: f64) -> Self {
        let window_bars = (EQUAL_FRACTION.ln() / (1.0 - alpha).ln()).ceil() as u32;
        Self { alpha, window_bars, means: None, bars_since_volume: window_bars }
    }

    /// Takes the next bar's location and volume, and gives the number at its close.
    pub fn push(&mut self, location: f64, volume: f64) -> f64 {
        self.bars_since_volume = if volume > 0.0 { 0 } else { self.bars_since_volume.saturating_add(1) };
        let newest = [location * volume, volume, location];
        let means = self.means.get_or_insert(newest);
        for (mean, value) in means.iter_mut().zip(newest) {
            *mean += self.alpha * (value - *mean);
        }
        let [weighted, volume, plain] = *means;
        if self.bars_since_volume >= self.window_bars { plain } else { (weighted / volume).clamp(-1.0, 1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    /// The number from its definition: weights (1 − α)^age, α of the newer ones, none of the first.
    fn naive(bars: &[(f64, f64)], alpha: f64) -> f64 {
        let n = bars.len();
        let weight = |i: usize| (1.0 - alpha).powi((n - 1 - i) as i32) * if i == 0 { 1.0 } else { alpha };
        let traded = bars.iter().rev().take(405).any(|bar| bar.1 > 0.0);
        let (mut above, mut below) = (0.0, 0.0);
        for (i, (location, volume)) in bars.iter().enumerate() {
            let each = if traded { *volume } else { 1.0 };
            above += weight(i) * location * each;
            below += weight(i) * each;
        }
        above / below
    }

    #[test]
    fn a_close_at_the_high_is_one_and_a_bar_without_range_zero() {
        assert_eq!(close_location(12.0, 10.0, 12.0), 1.0);
        assert_eq!(close_location(12.0, 10.0, 10.0), -1.0);
        assert_eq!(close_location(12.0, 10.0, 11.5), 0.5);
        assert_eq!(close_location(12.0, 12.0, 12.0), 0.0);
        assert_eq!(close_location(12.0 + 1e-9, 12.0, 12.0), 0.0);
    }

    #[test]
    fn the_recursion_equals_the_weighted_mean_also_where_nothing_trades() {
        let mut rng = Pcg64Mcg::seed_from_u64(7);
        for traded in [0..2000usize, 0..0, 300..2000, 0..600, 700..701] {
            let bars: Vec<(f64, f64)> = (0..1500)
                .map(|i| {
                    let volume = if traded.contains(&i) { rng.random_range(0.0..1e6) } else { 0.0 };
                    (rng.random_range(-1.0..1.0), volume)
                })
                .collect();
            let mut means = VolumeWeightedLocation::new(0.05);
            for (i, (location, volume)) in bars.iter().enumerate() {
                let (number, expected) = (means.push(*location, *volume), naive(&bars[..=i], 0.05));
                assert!((number - expected).abs() < 1e-12, "{traded:?}, bar {i}: {number}, {expected}");
            }
        }
    }

    #[test]
    fn after_the_longest_silence_the_number_stays_within_bounds() {
        let mut means = VolumeWeightedLocation::new(0.05);
        means.push(1.0, 5.0);
        for _ in 0..30_000 {
            assert!(means.push(-0.5, 0.0).abs() <= 1.0);
        }
        assert_eq!(means.push(0.25, 1e-3), 0.25);
    }
}
