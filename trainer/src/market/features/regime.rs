//! The regime view: eight numbers in [-1, 1] that say what kind of market a five-minute bar closed in.
//!
//! | column | number | window | first defined at bar |
//! |---|---|---|---|
//! | 0 | trend: the way made good | 48 steps | 48 |
//! | 1 | volatility: percentile of Parkinson's estimator | 48 bars | 47 + 287 |
//! | 2 | liquidity: percentile of Amihud's illiquidity, turned round | 48 returns | 48 |
//! | 3 | momentum quality: t-statistic of the slope of log price | 48 bars | 47 |
//! | 4 | volume: percentile within the time of day | 20 days | the fifth of a time of day |
//! | 5 | microstructure: Lo–MacKinlay's variance ratio | 288 returns | 288 |
//! | 6 | sentiment: volume-weighted location of the close | exponential | 0 |
//! | 7 | stability: percentile of the change of the law of returns, turned round | 144 returns | 144 + 287 |
//!
//! Percentiles are among the last 2,016 values (a week) that exist, the current included, from 288 (a day) on.
//! Liquidity alone is 0 and not undefined before its 288 values: windows without volume have no illiquidity, and a
//! row that was once defined must not become undefined when trading starts.
//!
//! Every number is a function of the bars up to its own, computed anew from its window.

use crate::market::bar::{Bar, DAY_MILLIS, DECISION_MILLIS};
use crate::market::features::layout::REGIME_WIDTH;
use crate::market::indicators::recent::Recent;
use crate::market::statistics::amihud::{amihud, impact};
use crate::market::statistics::location::{VolumeWeightedLocation, close_location};
use crate::market::statistics::mmd::Mmd;
use crate::market::statistics::parkinson::parkinson;
use crate::market::statistics::percentile::signed_percentile;
use crate::market::statistics::time_of_day::TimeOfDayPercentile;
use crate::market::statistics::trend_test::{efficiency, slope_t_statistic};
use crate::market::statistics::variance_ratio::variance_ratio_z;

/// Bars (or returns, or steps) of trend, volatility, liquidity, momentum quality and the recent part of stability.
const WINDOW: usize = 48;
/// Returns before the recent ones that stability compares them with.
const BEFORE: usize = 96;
/// Returns of the variance ratio, and its horizon.
const VARIANCE_RATIO_RETURNS: usize = 288;
const VARIANCE_RATIO_HORIZON: usize = 6;
/// Values that a percentile is taken among, and how many it needs.
const PERCENTILE_KEPT: usize = 2016;
const PERCENTILE_NEEDED: usize = 288;
/// The same of the percentile within a time of day.
const TIME_OF_DAY_KEPT: usize = 20;
const TIME_OF_DAY_NEEDED: usize = 5;
/// Weight of the newest bar in the exponential means of sentiment.
const SENTIMENT_ALPHA: f64 = 0.05;
/// The t-statistic at which momentum quality is tanh(1).
const MOMENTUM_T_SCALE: f64 = 8.0;

/// The view's rows, one bar after another: eight numbers in `[-1, 1]`, NaN while undefined.
///
/// From the first row without NaN on there is none. The bars are five minutes wide, prices above 0.
#[derive(Debug)]
pub struct RegimeRows {
    closes: Recent,
    log_closes: Recent,
    /// Log returns, which begin with the second bar's.
    returns: Recent,
    /// ln(high / low).
    log_ranges: Recent,
    /// What each return contributes to the illiquidity.
    impacts: Recent,
    volatility: WeeklyPercentile,
    illiquidity: WeeklyPercentile,
    instability: WeeklyPercentile,
    mmd: Mmd,
    volumes: TimeOfDayPercentile,
    sentiment: VolumeWeightedLocation,
}

impl Default for RegimeRows {
    fn default() -> Self {
        let n_slots = (DAY_MILLIS / DECISION_MILLIS) as usize;
        Self {
            closes: Recent::new(WINDOW + 1),
            log_closes: Recent::new(WINDOW),
            returns: Recent::new(VARIANCE_RATIO_RETURNS),
            log_ranges: Recent::new(WINDOW),
            impacts: Recent::new(WINDOW),
            volatility: WeeklyPercentile::default(),
            illiquidity: WeeklyPercentile::default(),
            instability: WeeklyPercentile::default(),
            mmd: Mmd::default(),
            volumes: TimeOfDayPercentile::new(n_slots, TIME_OF_DAY_KEPT, TIME_OF_DAY_NEEDED),
            sentiment: VolumeWeightedLocation::new(SENTIMENT_ALPHA),
        }
    }
}

impl RegimeRows {
    /// The row at the close of the last of `bars`, all bars up to and with it. Call it for every bar, in order.
    pub fn push(&mut self, bars: &[Bar]) -> [f32; REGIME_WIDTH] {
        let Some((bar, before)) = bars.split_last() else { return [f32::NAN; REGIME_WIDTH] };
        if let Some(before) = before.last() {
            let log_return = (bar.close / before.close).ln();
            self.returns.push(log_return);
            self.impacts.push(impact(log_return, bar.close, bar.volume));
        }
        self.closes.push(bar.close);
        self.log_closes.push(bar.close.ln());
        self.log_ranges.push((bar.high / bar.low).ln());

        let or_undefined = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let volatility = or_undefined(self.log_ranges.last(WINDOW).map(parkinson));
        let illiquidity = or_undefined(self.impacts.last(WINDOW).map(amihud));
        let pooled = self.returns.last(BEFORE + WINDOW).map(|pooled| pooled.split_at(BEFORE));
        let instability = or_undefined(pooled.map(|(before, recent)| self.mmd.squared(recent, before)));
        // Adding 0 turns −0 into 0.
        let turned = |percentile: f64| -percentile + 0.0;
        let liquidity = self.illiquidity.push(illiquidity).map(turned);
        let is_liquidity_defined = before.len() >= WINDOW;

        let momentum_t = self.log_closes.last(WINDOW).map(slope_t_statistic);
        let variance_ratio = self.returns.last(VARIANCE_RATIO_RETURNS);
        let slot = (bar.open_millis.rem_euclid(DAY_MILLIS) / DECISION_MILLIS) as usize;
        let row = [
            or_undefined(self.closes.last(WINDOW + 1).map(efficiency)),
            or_undefined(self.volatility.push(volatility)),
            or_undefined(liquidity.or(is_liquidity_defined.then_some(0.0))),
            or_undefined(momentum_t.map(|t| (t / MOMENTUM_T_SCALE).tanh())),
            self.volumes.push(slot, bar.volume),
            or_undefined(
                variance_ratio.map(|window| variance_ratio_z(window, VARIANCE_RATIO_HORIZON).tanh()),
            ),
            self.sentiment.push(close_location(bar.high, bar.low, bar.close), bar.volume),
            or_undefined(self.instability.push(instability).map(turned)),
        ];
        row.map(|cell| cell as f32)
    }
}

/// The percentile of a value among the last finite ones.
#[derive(Debug)]
struct WeeklyPercentile {
    finite: Recent,
}

impl Default for WeeklyPercentile {
    fn default() -> Self {
        Self { finite: Recent::new(PERCENTILE_KEPT) }
    }
}

impl WeeklyPercentile {
    /// Takes the next value, and gives 2 × its percentile − 1 where it is finite and enough such values exist.
    fn push(&mut self, value: f64) -> Option<f64> {
        if !value.is_finite() {
            return None;
        }
        self.finite.push(value);
        let kept = self.finite.kept();
        (kept.len() >= PERCENTILE_NEEDED).then(|| signed_percentile(kept, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    /// A random walk of five-minute bars that trade around the clock, on a tick of 0.25.
    fn random_walk(n: usize, seed: u64) -> Vec<Bar> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut price: f64 = 20_000.0;
        (0..n)
            .map(|i| {
                let open = price;
                let drift = 6.0 * (i as f64 / 300.0).sin();
                price = ((open + rng.random_range(-30.0..30.0) + drift) * 4.0).round() / 4.0;
                let high = open.max(price) + f64::from(rng.random_range(0..20u32)) / 4.0;
                let low = open.min(price) - f64::from(rng.random_range(0..20u32)) / 4.0;
                let open_millis = i as i64 * DECISION_MILLIS;
                let volume = f64::from(rng.random_range(0..50u32));
                Bar {
                    open_millis,
                    close_millis: open_millis + DECISION_MILLIS,
                    open,
                    high,
                    low,
                    close: price,
                    volume,
                }
            })
            .collect()
    }

    /// The same with sessions of 200 bars a day, and stretches where nothing trades or moves.
    fn broken_walk(n: usize, seed: u64) -> Vec<Bar> {
        let mut bars = random_walk(n, seed);
        for i in 0..n {
            let open_millis = (i / 200) as i64 * DAY_MILLIS + (60 + i as i64 % 200) * DECISION_MILLIS;
            let flat = bars[i - i % 400].close;
            let bar = &mut bars[i];
            (bar.open_millis, bar.close_millis) = (open_millis, open_millis + DECISION_MILLIS);
            if (500..1100).contains(&i) || i % 97 < 5 {
                bar.volume = 0.0;
            }
            if i % 400 < 180 && i > 800 {
                (bar.open, bar.high, bar.low, bar.close) = (flat, flat, flat, flat);
            }
        }
        bars
    }

    fn rows(bars: &[Bar]) -> Vec<[f32; 8]> {
        let mut rows = RegimeRows::default();
        (1..=bars.len()).map(|end| rows.push(&bars[..end])).collect()
    }

    fn first_defined(rows: &[[f32; 8]]) -> usize {
        rows.iter().position(|row| row.iter().all(|cell| !cell.is_nan())).unwrap_or(rows.len())
    }

    fn are_same(a: &[f32; 8], b: &[f32; 8]) -> bool {
        a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
    }

    /// 2 × percentile − 1 of the last value among the last finite ones.
    fn naive_percentile(values: &[f64]) -> Option<f64> {
        let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let current = *values.last().filter(|value| value.is_finite())?;
        let kept = &finite[finite.len().saturating_sub(2016)..];
        if kept.len() < 288 {
            return None;
        }
        let is_equal = |value: f64| (value - current).abs() <= 1e-9 * value.abs().max(current.abs());
        let n_equal = kept.iter().filter(|value| is_equal(**value)).count() as f64;
        let n_less = kept.iter().filter(|value| **value < current && !is_equal(**value)).count() as f64;
        Some(2.0 * (n_less + n_equal / 2.0) / kept.len() as f64 - 1.0)
    }

    /// REFERENCE.md's eight lines for the last bar of `bars`, without those of the exponential mean and the variance
    /// ratio, which have tests beside them; NaN where undefined.
    fn naive_row(bars: &[Bar]) -> [f64; 8] {
        let (t, p) = (bars.len() - 1, |i: usize| bars[i].close);
        let r = |i: usize| (p(i) / p(i - 1)).ln();
        let mut row = [f64::NAN; 8];
        if t >= 48 {
            let way: f64 = (t - 47..=t).map(|i| (p(i) - p(i - 1)).abs()).sum();
            row[0] = if way == 0.0 { 0.0 } else { (p(t) - p(t - 48)) / way };
        }
        let parkinson: Vec<f64> = (47..=t)
            .map(|t| {
                let sum: f64 = (t - 47..=t).map(|i| (bars[i].high / bars[i].low).ln().powi(2)).sum();
                (sum / 48.0 / (4.0 * 2f64.ln())).sqrt()
            })
            .collect();
        row[1] = naive_percentile(&parkinson).unwrap_or(f64::NAN);
        let amihud: Vec<f64> = (48..=t)
            .map(|t| {
                let traded: Vec<usize> = (t - 47..=t).filter(|i| bars[*i].volume > 0.0).collect();
                let sum: f64 = traded.iter().map(|i| r(*i).abs() / (p(*i) * bars[*i].volume)).sum();
                sum / traded.len() as f64
            })
            .collect();
        row[2] = if t >= 48 { -naive_percentile(&amihud).unwrap_or(0.0) } else { f64::NAN };
        let day = |bar: &Bar| bar.open_millis.rem_euclid(86_400_000);
        let seen = |t: usize| -> Vec<f64> {
            bars[..=t].iter().filter(|bar| day(bar) == day(&bars[t])).map(|bar| bar.volume).collect()
        };
        if (0..=t).any(|i| seen(i).len() >= 5) {
            let all = seen(t);
            let kept = &all[all.len().saturating_sub(20)..];
            let n_less = kept.iter().filter(|volume| **volume < bars[t].volume).count() as f64;
            let n_equal = kept.iter().filter(|volume| **volume == bars[t].volume).count() as f64;
            row[4] =
                if kept.len() < 5 { 0.0 } else { 2.0 * (n_less + n_equal / 2.0) / kept.len() as f64 - 1.0 };
        }
        row
    }

    #[test]
    fn rows_equal_the_definitions_computed_bar_by_bar() {
        for bars in [random_walk(2600, 1), broken_walk(2600, 2)] {
            let rows = rows(&bars);
            for t in (0..bars.len()).filter(|t| *t < 60 || t % 131 == 0 || *t > 2595) {
                let expected = naive_row(&bars[..=t]);
                for column in [0, 1, 2, 4] {
                    let (value, expected) = (f64::from(rows[t][column]), expected[column]);
                    let is_near = (value - expected).abs() < 1e-6 || (value.is_nan() && expected.is_nan());
                    assert!(is_near, "bar {t}, column {column}: {value}, {expected}");
                }
            }
        }
    }

    #[test]
    fn each_column_starts_with_its_first_full_window() {
        let bars = random_walk(1300, 3);
        let rows = rows(&bars);
        for (column, start) in [48, 334, 48, 47, 1152, 288, 0, 431].into_iter().enumerate() {
            let first = rows.iter().position(|row| !row[column].is_nan());
            assert_eq!(first, Some(start), "column {column}");
        }
        assert_eq!(first_defined(&rows), 1152);
    }

    #[test]
    fn once_defined_a_row_stays_defined_and_within_bounds() {
        let mut silent = random_walk(2000, 4);
        silent.iter_mut().for_each(|bar| bar.volume = 0.0);
        let mut late = silent.clone();
        late.iter_mut().skip(1700).for_each(|bar| bar.volume = 3.0);
        let mut flat = random_walk(2000, 5);
        flat.iter_mut().for_each(|bar| (bar.open, bar.high, bar.low, bar.close) = (9.0, 9.0, 9.0, 9.0));
        let mut lost = random_walk(2000, 8);
        lost.iter_mut().skip(1200).for_each(|bar| bar.volume = 0.0);
        for (name, bars) in [
            ("silent", silent),
            ("late", late),
            ("flat", flat),
            ("lost", lost),
            ("broken", broken_walk(4000, 6)),
        ] {
            let rows = rows(&bars);
            let start = first_defined(&rows);
            assert!(start < 1400, "{name}: {start}");
            for (t, row) in rows.iter().enumerate().skip(start) {
                assert!(row.iter().all(|cell| (-1.0..=1.0).contains(cell)), "{name}, bar {t}: {row:?}");
            }
        }
    }

    #[test]
    fn a_market_without_volume_or_movement_gives_zeros() {
        let mut bars = random_walk(1500, 7);
        bars.iter_mut().for_each(|bar| bar.volume = 0.0);
        let silent = rows(&bars);
        assert_eq!((silent[1400][2], silent[1400][4]), (0.0, 0.0));
        let mut mean = None;
        for bar in &bars[..=1400] {
            let location = close_location(bar.high, bar.low, bar.close);
            let before = mean.unwrap_or(location);
            mean = Some(before + 0.05 * (location - before));
        }
        assert_eq!(Some(silent[1400][6]), mean.map(|mean| mean as f32));

        bars.iter_mut().for_each(|bar| (bar.open, bar.high, bar.low, bar.close) = (9.0, 9.0, 9.0, 9.0));
        assert_eq!(rows(&bars)[1400], [0.0; 8]);
    }

    #[test]
    fn thrice_the_price_and_thrice_the_volume_change_nothing() {
        for bars in [random_walk(2600, 9), broken_walk(2600, 10)] {
            let scaled: Vec<Bar> = bars
                .iter()
                .map(|bar| Bar {
                    open: 3.0 * bar.open,
                    high: 3.0 * bar.high,
                    low: 3.0 * bar.low,
                    close: 3.0 * bar.close,
                    volume: 3.0 * bar.volume,
                    ..*bar
                })
                .collect();
            for (t, (row, other)) in rows(&bars).iter().zip(rows(&scaled)).enumerate() {
                for (a, b) in row.iter().zip(other) {
                    assert!(
                        (a - b).abs() <= 1e-6 || (a.is_nan() && b.is_nan()),
                        "bar {t}: {row:?}, {other:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn rows_of_fewer_bars_are_the_same_bits() {
        let bars = broken_walk(3000, 11);
        let all = rows(&bars);
        for n in [0, 1, 2, 47, 49, 145, 300, 432, 1150, 1999, 2450, 2999] {
            let cut = rows(&bars[..n]);
            assert_eq!(cut.len(), n);
            assert!(all.iter().zip(&cut).all(|(a, b)| are_same(a, b)), "{n} bars");
        }
    }
}
