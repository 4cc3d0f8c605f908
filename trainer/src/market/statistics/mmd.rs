//! How different are two samples?
//!
//! The cost of a regime row is here: 144 returns have 10,296 pairs, each with a distance for the median and a kernel
//! value for the sums. Neither is computed pair by pair:
//!
//! - The median comes from sorted values by counting, without a list of all distances.
//! - With values u, v counted in medians from the middle, the kernel is e^(−u²/2) e^(−v²/2) Σ_p (uv)^p / p!, so that
//!   the sum over all pairs is Σ_p (Σ_u e^(−u²/2) u^p)² / p!: a sum over points (the expansion of Greengard and
//!   Strain's fast Gauss transform, about one centre). Within 6 medians of the middle 96 terms leave less than 1e-15
//!   of a pair; the few points farther out are taken pair by pair.
//!
//! Both are functions of the samples alone: sums run in a fixed order, whatever was computed before.

use crate::market::indicators::tolerance::EQUAL_FRACTION;

/// Medians from the middle up to which a point is near: taken by the expansion and not pair by pair.
const NEAR_MEDIANS: f64 = 6.0;
/// Terms of the expansion.
const N_TERMS: usize = 96;
/// Powers are summed over this many points at once, in a fixed order.
const N_LANES: usize = 8;
/// A bracket of the median with no more distances than this is small enough to look at one by one.
const N_BRACKET: usize = 128;
/// Probes after which the bracket is taken as it is: what is left then are equal distances.
const N_PROBES: usize = 40;
/// How far from the guess the first probes lie: a window's median is mostly that near to its neighbour's.
const GUESS_MARGIN: f64 = 0.01;

/// The unbiased squared maximum mean discrepancy between two samples under a Gaussian kernel, and its buffers.
///
/// k(a, b) = exp(−(a − b)² / 2m²), m the median distance over all pairs of both samples together. With x and y of n
/// and l values: Σ_{i≠j} k(x_i, x_j) / n(n − 1) + Σ_{i≠j} k(y_i, y_j) / l(l − 1) − 2 Σ k(x_i, y_j) / n l. Between
/// −2 and 2, about 0 for samples of one law, below 0 as often as above.
///
/// A. Gretton et al., *A Kernel Two-Sample Test*, JMLR 13 (2012), equation 3 and section 8 (the median).
#[derive(Debug, Default)]
pub struct Mmd {
    sorted: Vec<f64>,
    bracket: Vec<f64>,
    /// The last median, where to look for the next first. It changes no result.
    guess: f64,
    x: Sample,
    y: Sample,
}

impl Mmd {
    /// The statistic of samples `x` and `y`, of at least two values each; 0 if the median distance is at most 1e-9.
    pub fn squared(&mut self, x: &[f64], y: &[f64]) -> f64 {
        self.sorted.clear();
        self.sorted.extend_from_slice(x);
        self.sorted.extend_from_slice(y);
        self.sorted.sort_unstable_by(f64::total_cmp);
        let median = median_distance(&self.sorted, self.guess, &mut self.bracket);
        self.guess = median;
        if median <= EQUAL_FRACTION {
            return 0.0;
        }
        let middle = self.sorted[self.sorted.len() / 2];
        self.x.take(x, middle, median);
        self.y.take(y, middle, median);
        let (n, l) = (x.len() as f64, y.len() as f64);
        // A sum over ordered pairs, in which each value also meets itself, with kernel 1.
        (self.x.kernels(&self.x) - n) / (n * (n - 1.0)) + (self.y.kernels(&self.y) - l) / (l * (l - 1.0))
            - 2.0 * self.x.kernels(&self.y) / (n * l)
    }
}

/// A sample, in medians from the middle of both samples.
#[derive(Debug)]
struct Sample {
    near: Vec<f64>,
    far: Vec<f64>,
    /// Σ e^(−u²/2) u^p over the near points, for each power p.
    moments: [f64; N_TERMS],
}

impl Default for Sample {
    fn default() -> Self {
        Self { near: Vec::new(), far: Vec::new(), moments: [0.0; N_TERMS] }
    }
}

impl Sample {
    fn take(&mut self, values: &[f64], middle: f64, median: f64) {
        self.near.clear();
        self.far.clear();
        for value in values {
            let u = (value - middle) / median;
            if u.abs() <= NEAR_MEDIANS { self.near.push(u) } else { self.far.push(u) }
        }
        let mut lanes = [[0.0; N_LANES]; N_TERMS];
        for points in self.near.chunks(N_LANES) {
            // Lanes without a point stay at 0.
            let (mut u, mut terms) = ([0.0; N_LANES], [0.0; N_LANES]);
            for (lane, point) in points.iter().enumerate() {
                (u[lane], terms[lane]) = (*point, (-0.5 * point * point).exp());
            }
            for sums in &mut lanes {
                for ((sum, term), u) in sums.iter_mut().zip(&mut terms).zip(&u) {
                    *sum += *term;
                    *term *= u;
                }
            }
        }
        for (moment, sums) in self.moments.iter_mut().zip(&lanes) {
            *moment = sums.iter().sum();
        }
    }

    /// Σ exp(−(u − v)² / 2) over all u of this sample and all v of the other.
    fn kernels(&self, other: &Self) -> f64 {
        let (mut near_near, mut inverse_factorial) = (0.0, 1.0);
        for (power, (a, b)) in self.moments.iter().zip(&other.moments).enumerate() {
            near_near += a * b * inverse_factorial;
            inverse_factorial /= power as f64 + 1.0;
        }
        let across = |a: &[f64], b: &[f64]| -> f64 {
            a.iter().flat_map(|u| b.iter().map(move |v| (-0.5 * (u - v) * (u - v)).exp())).sum()
        };
        near_near
            + across(&self.far, &other.near)
            + across(&self.near, &other.far)
            + across(&self.far, &other.far)
    }
}

/// The median distance over all pairs of `sorted` values (the mean of the two middle ones where they are even in
/// number); 0 for fewer than two values. `bracket` is a buffer.
///
/// Narrows a bracket of the answer by counting the pairs at or under a probe, first on both sides of `guess`, then by
/// halving; then selects among the few distances that the bracket still holds. The result is that of selecting
/// among all, whatever the guess: that decides only how long it takes.
fn median_distance(sorted: &[f64], guess: f64, bracket: &mut Vec<f64>) -> f64 {
    let n_pairs = sorted.len() * sorted.len().saturating_sub(1) / 2;
    let (Some(first), Some(last)) = (sorted.first(), sorted.last()) else { return 0.0 };
    let (mut low, mut high) = (first - last, last - first);
    if n_pairs == 0 || high <= 0.0 {
        return 0.0;
    }
    let (lower_rank, upper_rank) = ((n_pairs - 1) / 2, n_pairs / 2);
    // Always: at most `lower_rank` distances are ≤ low, and more than `upper_rank` are ≤ high.
    let (mut n_under_low, mut n_under_high) = (0, n_pairs);
    for step in 0..N_PROBES {
        if n_under_high - n_under_low <= N_BRACKET {
            break;
        }
        let probe = match step {
            0 => guess * (1.0 - GUESS_MARGIN),
            1 => guess * (1.0 + GUESS_MARGIN),
            _ => 0.5 * (low + high),
        };
        if probe <= low || probe >= high {
            continue;
        }
        let n_under = count_pairs(sorted, probe);
        if n_under <= lower_rank {
            (low, n_under_low) = (probe, n_under);
        } else if n_under > upper_rank {
            (high, n_under_high) = (probe, n_under);
        } else {
            // The probe parts the two middle distances.
            break;
        }
    }
    bracket.clear();
    let mut begin = 0;
    for (i, value) in sorted.iter().enumerate() {
        begin = begin.max(i + 1);
        while begin < sorted.len() && sorted[begin] - value <= low {
            begin += 1;
        }
        bracket.extend(
            sorted[begin..].iter().map(|other| other - value).take_while(|distance| *distance <= high),
        );
    }
    let (under, &mut upper, _) = bracket.select_nth_unstable_by(upper_rank - n_under_low, f64::total_cmp);
    if lower_rank == upper_rank {
        return upper;
    }
    0.5 * (under.iter().copied().fold(f64::NEG_INFINITY, f64::max) + upper)
}

/// How many pairs of `sorted` values are at most `distance` apart.
fn count_pairs(sorted: &[f64], distance: f64) -> usize {
    let (mut n_pairs, mut end) = (0, 0);
    for (i, value) in sorted.iter().enumerate() {
        end = end.max(i + 1);
        while end < sorted.len() && sorted[end] - value <= distance {
            end += 1;
        }
        n_pairs += end - i - 1;
    }
    n_pairs
}

#[cfg(test)]
pub(in crate::market) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    /// 288 returns that numpy can make too: a linear congruential generator under a slow sine.
    pub(in crate::market) fn fixture() -> Vec<f64> {
        let mut state: u64 = 12_345;
        (0..288)
            .map(|i| {
                state = (state * 1_103_515_245 + 12_345) % (1 << 31);
                let uniform = state as f64 / (1u64 << 31) as f64 - 0.5;
                0.001 * uniform * (1.0 + 0.5 * (f64::from(i) / 9.0).sin()) + 0.0001
            })
            .collect()
    }

    /// The formulas, pair by pair, with the standard library's exponential.
    fn naive(x: &[f64], y: &[f64]) -> f64 {
        let pooled: Vec<f64> = x.iter().chain(y).copied().collect();
        let mut distances = Vec::new();
        for (i, a) in pooled.iter().enumerate() {
            distances.extend(pooled[..i].iter().map(|b| (a - b).abs()));
        }
        distances.sort_by(f64::total_cmp);
        let n = distances.len();
        let median = 0.5 * (distances[(n - 1) / 2] + distances[n / 2]);
        if median <= 1e-9 {
            return 0.0;
        }
        let mean = |a: &[f64], b: &[f64], is_same: bool| {
            let (mut sum, mut count) = (0.0, 0.0);
            for (i, a) in a.iter().enumerate() {
                for (j, b) in b.iter().enumerate().filter(|(j, _)| !is_same || *j != i) {
                    let _ = j;
                    sum += (-(a - b).powi(2) / (2.0 * median * median)).exp();
                    count += 1.0;
                }
            }
            sum / count
        };
        mean(x, x, true) + mean(y, y, true) - 2.0 * mean(x, y, false)
    }

    #[test]
    fn the_statistic_equals_numpys_transcription() {
        let returns = fixture();
        let wide: Vec<f64> = returns[96..144].iter().map(|value| 3.0 * value + 0.001).collect();
        let mut mmd = Mmd::default();
        assert!((mmd.squared(&returns[96..144], &returns[..96]) - -0.007_195_551_771_235_875).abs() < 1e-12);
        assert!((mmd.squared(&wide, &returns[..96]) - 0.589_047_766_953_396_7).abs() < 1e-12);
        assert!((mmd.squared(&returns[7..20], &returns[..6]) - -0.009_149_918_949_732_161).abs() < 1e-12);
    }

    #[test]
    fn the_statistic_equals_the_sum_over_pairs_also_with_ties_and_far_outliers() {
        let mut mmd = Mmd::default();
        for seed in 0..200 {
            let mut rng = Pcg64Mcg::seed_from_u64(seed);
            let step = [0.0, 1e-4, 5e-4, 1e-3][seed as usize % 4];
            let pooled: Vec<f64> = (0..144)
                .map(|_| {
                    let value: f64 = rng.random_range(-1e-3..1e-3);
                    let value = if step > 0.0 { (value / step).round() * step } else { value };
                    // Up to 10, 100 or 1,000 medians away: on both sides of what is near.
                    let reach = [0.01, 0.1, 1.0][seed as usize % 3];
                    if rng.random_bool(0.05) { value + rng.random_range(-reach..reach) } else { value }
                })
                .collect();
            let (before, recent) = pooled.split_at(96);
            let (value, expected) = (mmd.squared(recent, before), naive(recent, before));
            assert!((value - expected).abs() < 1e-12, "seed {seed}: {value}, {expected}");
        }
    }

    #[test]
    fn samples_without_spread_do_not_differ() {
        assert_eq!(Mmd::default().squared(&[0.0; 48], &[0.0; 96]), 0.0);
        assert_eq!(Mmd::default().squared(&[1e-10, 2e-10, 0.0], &[0.0, 3e-10]), 0.0);
    }

    #[test]
    fn a_value_does_not_depend_on_what_was_computed_before() {
        let returns = fixture();
        let mut used = Mmd::default();
        for start in 0..100 {
            let (before, recent) = returns[start..start + 144].split_at(96);
            let fresh = Mmd::default().squared(recent, before);
            assert_eq!(used.squared(recent, before).to_bits(), fresh.to_bits());
        }
    }

    proptest! {
        #[test]
        fn the_median_is_that_of_all_distances(
            values in prop::collection::vec(prop_oneof![
                (-5i32..5).prop_map(f64::from), -1.0..1.0f64, (-9i32..9).prop_map(|power| 10f64.powi(power)),
            ], 2..160),
        ) {
            let mut sorted = values;
            sorted.sort_by(f64::total_cmp);
            let mut distances: Vec<f64> = Vec::new();
            for i in 0..sorted.len() {
                distances.extend((i + 1..sorted.len()).map(|j| sorted[j] - sorted[i]));
            }
            distances.sort_by(f64::total_cmp);
            let n = distances.len();
            let expected =
                if n % 2 == 1 { distances[n / 2] } else { 0.5 * (distances[n / 2 - 1] + distances[n / 2]) };
            for guess in [0.0, expected, 0.995 * expected, 3.0 * expected] {
                prop_assert_eq!(median_distance(&sorted, guess, &mut Vec::new()), expected);
            }
        }
    }
}
