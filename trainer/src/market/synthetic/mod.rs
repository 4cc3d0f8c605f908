//! A synthetic market whose predictable part is known, so that learning can be told from chance. It is the default
//! data.
//!
//! # The process
//!
//! Everything is in logarithms of price and runs on market time: one step is one 5-minute bar, and a closed market
//! stands still. Below every `ε` is a standard normal of its own. Bar `t` has a standard deviation known before it
//! opens,
//!
//! ```text
//! σ_t = level(regime_t) · exp(0.25 cos(2π (h_t − 15) / 24)),     level ∈ {8, 11, 15} basis points
//! ```
//!
//! with `regime` a Markov chain that stays three days on average and `h` the UTC hour of the bar's open. The flow `f`,
//! the hidden surplus of new buyers over new sellers, is a stationary AR(1) with unit variance and a half-life of two
//! hours. Large orders are worked slowly, so what moves the price is the backlog `b`, an exponential mean of the flow:
//!
//! ```text
//! f_t = φ f_{t−1} + √(1 − φ²) ε,     φ = 2^(−1 / flow_half_life_bars)
//! b_t = b_{t−1} + 0.05 (f_t − b_{t−1})
//! ```
//!
//! Both act through a bounded pressure of unit mean square, `g(x) = tanh(2 x / sd(x)) / rms`:
//!
//! ```text
//! ln(open_t / close_{t−1}) = 0.05 σ_t ε     (after a weekend: 6 σ_t ε)        mean 0
//! ln(close_t / open_t)     = μ_t + σ_t ε + jump_t                              mean μ_t
//! μ_t = predictable_fraction · σ_t · g(b_{t−1})                                = `expected_log_return[t]`
//! ```
//!
//! Jumps are rare (one bar in a thousand), symmetric, with a standard deviation of 5 σ. The market is closed from
//! Friday 22:00 to Sunday 22:00 UTC: these bars are missing and the price reopens with a gap.
//!
//! # What is predictable, and where it may be seen
//!
//! Only `μ_t`, which lies wholly between the open and the close of bar `t`: a position decided at the close of
//! `t − 1` is filled at the open of `t` and loses none of it. It is modest: it explains `predictable_fraction²`, 1 to
//! 2 %, of a bar's variance (R²), so a single bar tells next to nothing, and a bar's whole expected move (1.2 basis
//! points at a fraction of 0.11) is smaller than the cost of turning a position around (4). It pays because the backlog persists: half
//! of it is left after nearly four hours.
//!
//! The flow shows itself in *where* a bar closes within its range. The path inside a bar is five one-minute steps
//! with a Brownian bridge between; its excursions above and below the body are then bent by `exp(∓0.8 g(f_t))`:
//! while buyers prevail, dips are bought (long lower shadows) and rallies are not sold into. So the mean of
//! `clv = (2 close − high − low) / (high − low)` follows the flow, and regime feature 6 (`sentiment`, an exponential
//! mean of clv, weighted by volume, with the backlog's own rate) is a noisy estimate of the backlog. Volume rises a
//! little with `|g(f)|`. The shadows change no return: the innovations of flow and of price are independent, so past
//! returns tell of future ones only what the small drift in them tells, and following the last half hour's
//! return does not pay its costs. Flow is symmetric: holding earns nothing in the long run.
//!
//! Measured on 322 days with a fraction of 0.11 (a run's default is 0.15) and default costs, mean of eight seeds, last
//! fifth of the bars (46 trading days), by `tests/calibration.rs`:
//!
//! | positions | log profit | trades a day |
//! |---|---|---|
//! | the oracle's | 1.46 | 2.5 |
//! | sign of the sentiment with hysteresis, tuned on the first 60 % | 1.31 | 4.0 |
//! | sign of the sentiment | 1.21 | 8.6 |
//! | sign of the last half hour's return | −0.61 | 52 |
//! | always long | 0.06 ± 0.11 | 0 |
//! | random | −2.29 | 192 |
//!
//! # What the oracle knows
//!
//! `expected_log_return` of the past *and of the future*: the backlog itself, without the noise through which an
//! agent observes it, and with its turns known ahead. [`oracle`](crate::market::backtest::oracle::oracle) is
//! therefore an upper bound in expectation for every causal policy; in one realisation chance can carry a policy
//! above it.
//!
//! It is not a model of any real market: there is no order book, no leverage effect, no link between instruments.

use std::f64::consts::TAU;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::market::bar::{Bar, BarSeries, DAY_MILLIS, DECISION_MILLIS, MINUTE_MILLIS};

#[cfg(test)]
#[path = "tests/calibration.rs"]
mod calibration;

/// 2024-01-01T00:00:00Z, a Monday: the open of the first bar.
pub const START_MILLIS: i64 = 1_704_067_200_000;

const FIRST_PRICE: f64 = 100.0;
const WEEK_MILLIS: i64 = 7 * DAY_MILLIS;
/// Friday 22:00 and Sunday 22:00, from Monday 00:00: the market is closed between them.
const CLOSED_FROM_MILLIS: i64 = 5 * DAY_MILLIS - 120 * MINUTE_MILLIS;
const CLOSED_UNTIL_MILLIS: i64 = 7 * DAY_MILLIS - 120 * MINUTE_MILLIS;

/// Standard deviation of a bar's log return in each volatility regime.
const REGIME_SIGMA: [f64; 3] = [8e-4, 11e-4, 15e-4];
/// Mean volume of a bar in each volatility regime, at the mean time of day.
const REGIME_VOLUME: [f64; 3] = [700.0, 1000.0, 1600.0];
const REGIME_STAY_BARS: f64 = 3.0 * 288.0;

const BUSIEST_HOUR: f64 = 15.0;
const INTRADAY_SIGMA_LOG_AMPLITUDE: f64 = 0.25;
const INTRADAY_VOLUME_LOG_AMPLITUDE: f64 = 0.7;

/// Standard deviations of price gaps between bars, in those of the bar that follows.
const TICK_GAP_SIGMAS: f64 = 0.05;
const WEEKEND_GAP_SIGMAS: f64 = 6.0;

const JUMP_PROBABILITY: f64 = 1e-3;
const JUMP_SIGMAS: f64 = 5.0;

/// Steps of the path inside a bar: minutes.
const N_STEPS: usize = 5;

/// The share of the flow that enters the backlog in a bar: that of the `sentiment` feature, which makes it a natural
/// estimate of the backlog.
const BACKLOG_RATE: f64 = 0.05;
const PRESSURE_STEEPNESS: f64 = 2.0;
/// Root mean square of `tanh(2 x)` for a standard normal `x` (by quadrature; a test recomputes it).
const PRESSURE_RMS: f64 = 0.797_032_768_621_762_3;
/// How far pressure bends a bar's shadows: the upper by `exp(−this · g)`, the lower by `exp(+this · g)`.
const SHADOW_BEND: f64 = 0.8;
/// How far pressure of either sign raises volume, in logarithms.
const VOLUME_BEND: f64 = 0.15;
const VOLUME_NOISE: f64 = 0.4;

/// What kind of synthetic market to make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SyntheticOptions {
    /// Calendar days from 2024-01-01 on; five of seven trade, at 288 bars each. The default, 46 weeks, is 66,240 bars.
    pub days: u32,
    /// Seed of the generator. The same options give the same bars to the bit on machines of one kind (`exp`, `ln`,
    /// `cos` and `tanh` are the platform's).
    pub seed: u64,
    /// Standard deviation of the predictable part of a bar's return, in those of the bar (the root of R²); 0 to
    /// about 0.3. 0: nothing can be predicted, while shadows and volume still follow the (then idle) flow.
    pub predictable_fraction: f64,
    /// Bars after which half of the flow is forgotten; above 0. The default 24 (two hours) leaves half of the backlog
    /// after nearly four hours (45 bars).
    pub flow_half_life_bars: f64,
}

impl Default for SyntheticOptions {
    fn default() -> Self {
        Self { days: 322, seed: 0, predictable_fraction: 0.11, flow_half_life_bars: 24.0 }
    }
}

/// A synthetic market and the truth about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// The 5-minute bars, named `synthetic`.
    pub instrument: BarSeries,
    /// For each bar the mean of `ln(close / open)` given all that went before, hidden flow included; gaps between
    /// bars have mean 0. It is known at the close of the bar before. Exactly 0 everywhere if `predictable_fraction`
    /// is 0.
    pub expected_log_return: Vec<f64>,
}

/// Makes the market that `options` describe: about 206 bars for a calendar day, none for 0 days.
///
/// Options outside their documented ranges give odd markets, not errors: the configuration refuses them.
#[must_use]
pub fn synthesize(options: &SyntheticOptions) -> Synthetic {
    let mut rng = Pcg64Mcg::seed_from_u64(options.seed);
    let persistence = (-1.0 / options.flow_half_life_bars).exp2();
    let innovation = (1.0 - persistence * persistence).sqrt();
    let backlog_scale = backlog_deviation(persistence).recip();

    let mut flow = normal(&mut rng);
    // The two are jointly normal: drawn so, the first bar is like any other.
    let correlation = backlog_scale * BACKLOG_RATE / (1.0 - (1.0 - BACKLOG_RATE) * persistence);
    let mut backlog =
        (correlation * flow + (1.0 - correlation * correlation).sqrt() * normal(&mut rng)) / backlog_scale;
    let mut regime = pick(&mut rng, REGIME_SIGMA.len());
    // Log prices are relative to the first.
    let mut log_close = 0.0_f64;
    let mut previous_close_millis = START_MILLIS;
    let mut bars = Vec::new();
    let mut expected_log_return = Vec::new();

    let end_millis = START_MILLIS + i64::from(options.days) * DAY_MILLIS;
    for open_millis in (START_MILLIS..end_millis).step_by(DECISION_MILLIS as usize) {
        if is_closed(open_millis) {
            continue;
        }
        // Every bar draws the same numbers whatever the options, so that markets of one seed differ by what was
        // asked to differ and by nothing else.
        let hour_angle = TAU * (hour(open_millis) - BUSIEST_HOUR) / 24.0;
        let sigma = REGIME_SIGMA[regime] * (INTRADAY_SIGMA_LOG_AMPLITUDE * hour_angle.cos()).exp();
        let drift = options.predictable_fraction * sigma * pressure(backlog_scale * backlog) + 0.0;

        let is_first = bars.is_empty();
        let gap_sigmas = match open_millis - previous_close_millis {
            0 => TICK_GAP_SIGMAS,
            _ => WEEKEND_GAP_SIGMAS,
        };
        let gap = gap_sigmas * sigma * normal(&mut rng);
        let log_open = if is_first { log_close } else { log_close + gap };

        let path = walk(&mut rng, drift, sigma);
        flow = persistence * flow + innovation * normal(&mut rng);
        backlog += BACKLOG_RATE * (flow - backlog);
        let prevailing = pressure(flow);
        let body_high = path.end.max(0.0);
        let body_low = path.end.min(0.0);
        let log_high = log_open + body_high + (path.highest - body_high) * (-SHADOW_BEND * prevailing).exp();
        let log_low = log_open + body_low - (body_low - path.lowest) * (SHADOW_BEND * prevailing).exp();
        log_close = log_open + path.end;

        let log_volume = INTRADAY_VOLUME_LOG_AMPLITUDE * hour_angle.cos()
            + VOLUME_BEND * prevailing.abs()
            + VOLUME_NOISE * normal(&mut rng);
        // A wide bar is a busy one; the cap keeps a jump from hiding all other volume.
        let liveliness = 0.6 + 0.5 * (path.end.abs() / sigma).min(4.0);

        let open = FIRST_PRICE * log_open.exp();
        let close = FIRST_PRICE * log_close.exp();
        bars.push(Bar {
            open_millis,
            close_millis: open_millis + DECISION_MILLIS,
            open,
            high: (FIRST_PRICE * log_high.exp()).max(open).max(close),
            low: (FIRST_PRICE * log_low.exp()).min(open).min(close),
            close,
            volume: REGIME_VOLUME[regime] * liveliness * log_volume.exp(),
        });
        expected_log_return.push(drift);
        previous_close_millis = open_millis + DECISION_MILLIS;

        let leaves = rng.random::<f64>() < 1.0 / REGIME_STAY_BARS;
        let other = 1 + pick(&mut rng, REGIME_SIGMA.len() - 1);
        if leaves {
            regime = (regime + other) % REGIME_SIGMA.len();
        }
    }
    Synthetic {
        instrument: BarSeries { name: "synthetic".to_owned(), width_millis: DECISION_MILLIS, bars },
        expected_log_return,
    }
}

/// A bar's path, as log price less that of the open.
struct Path {
    end: f64,
    highest: f64,
    lowest: f64,
}

/// Walks one bar: Gaussian minutes, a jump at the start of one of them at times, and between two minutes the extremes
/// of the Brownian bridge, each drawn by itself. The highest point of a bridge from `a` to `b` with variance `v` is
/// `(a + b + √((b − a)² − 2 v ln U)) / 2`, `U` uniform in (0, 1]; the lowest mirrors it.
fn walk(rng: &mut Pcg64Mcg, drift: f64, sigma: f64) -> Path {
    let jumps = rng.random::<f64>() < JUMP_PROBABILITY;
    let jump = JUMP_SIGMAS * sigma * normal(rng);
    let jump_step = pick(rng, N_STEPS);

    let variance = sigma * sigma / N_STEPS as f64;
    let mut path = Path { end: 0.0, highest: 0.0, lowest: 0.0 };
    for step in 0..N_STEPS {
        let start = if jumps && step == jump_step { path.end + jump } else { path.end };
        let end = start + drift / N_STEPS as f64 + variance.sqrt() * normal(rng);
        let reach_up = ((end - start).powi(2) - 2.0 * variance * uniform(rng).ln()).sqrt();
        let reach_down = ((end - start).powi(2) - 2.0 * variance * uniform(rng).ln()).sqrt();
        path.highest = path.highest.max((start + end + reach_up) / 2.0);
        path.lowest = path.lowest.min((start + end - reach_down) / 2.0);
        path.end = end;
    }
    path
}

/// The standard deviation of the exponential mean of an AR(1) of unit variance.
fn backlog_deviation(persistence: f64) -> f64 {
    let kept = 1.0 - BACKLOG_RATE;
    (BACKLOG_RATE * (1.0 + kept * persistence) / ((1.0 + kept) * (1.0 - kept * persistence))).sqrt()
}

/// What the market feels of a standard normal flow or backlog: bounded by ±1.26, odd, mean square 1.
fn pressure(standard: f64) -> f64 {
    (PRESSURE_STEEPNESS * standard).tanh() / PRESSURE_RMS
}

fn is_closed(open_millis: i64) -> bool {
    (CLOSED_FROM_MILLIS..CLOSED_UNTIL_MILLIS).contains(&(open_millis - START_MILLIS).rem_euclid(WEEK_MILLIS))
}

/// The fractional UTC hour, in [0, 24).
fn hour(millis: i64) -> f64 {
    millis.rem_euclid(DAY_MILLIS) as f64 / (60 * MINUTE_MILLIS) as f64
}

/// Uniform in (0, 1]: its logarithm is finite.
fn uniform(rng: &mut Pcg64Mcg) -> f64 {
    1.0 - rng.random::<f64>()
}

/// Standard normal, by Box and Muller: two uniforms each time, so that every bar draws equally many.
fn normal(rng: &mut Pcg64Mcg) -> f64 {
    let radius = (-2.0 * uniform(rng).ln()).sqrt();
    radius * (TAU * rng.random::<f64>()).cos()
}

/// Uniform in `0..n`.
fn pick(rng: &mut Pcg64Mcg, n: usize) -> usize {
    ((rng.random::<f64>() * n as f64) as usize).min(n - 1)
}
