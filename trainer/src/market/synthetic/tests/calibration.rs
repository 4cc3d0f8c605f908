//! What the synthetic market promises to those who learn on it, measured.

use std::ops::Range;

use super::*;
use crate::market::account::Costs;
use crate::market::backtest::oracle::{expected_profit, oracle};

/// Log profit of positions, decided at the close of each bar of `range` and filled at the next open.
struct Outcome {
    profit: f64,
    n_trades: usize,
    sharpe_per_bar: f64,
}

/// A smallest backtest: one unit of equity, rebalanced each bar, log returns, costs in.
fn realise(bars: &[Bar], range: Range<usize>, mut decide: impl FnMut(usize) -> f64) -> Outcome {
    let costs = Costs::default();
    let cost = costs.fraction();
    let (mut held, mut n_trades) = (0.0_f64, 0);
    let mut gains = Vec::new();
    for t in range.start..range.end.saturating_sub(2) {
        let position = decide(t);
        n_trades += usize::from(position != held);
        let held_return = bars[t + 2].open / bars[t + 1].open - 1.0;
        gains.push((1.0 + position * held_return).ln() + (1.0 - cost * (position - held).abs()).ln());
        held = position;
    }
    let profit: f64 = gains.iter().sum();
    let mean = profit / gains.len() as f64;
    let variance = gains.iter().map(|gain| (gain - mean).powi(2)).sum::<f64>() / gains.len() as f64;
    Outcome { profit, n_trades, sharpe_per_bar: mean / variance.sqrt() }
}

/// Regime feature 6 of every bar.
fn sentiment(bars: &[Bar]) -> Vec<f64> {
    let (mut weighted, mut volume) = (None, 0.0);
    bars.iter()
        .map(|bar| {
            let clv = (2.0 * bar.close - bar.high - bar.low) / (bar.high - bar.low);
            let weighted = match &mut weighted {
                None => {
                    volume = bar.volume;
                    weighted.insert(clv * bar.volume)
                }
                Some(weighted) => {
                    *weighted += 0.05 * (clv * bar.volume - *weighted);
                    volume += 0.05 * (bar.volume - volume);
                    weighted
                }
            };
            *weighted / volume
        })
        .collect()
}

/// Long above `threshold`, short below its negative, else as before.
fn follow(sentiment: &[f64], threshold: f64) -> impl FnMut(usize) -> f64 {
    let mut held = 0.0;
    move |t| {
        if sentiment[t].abs() > threshold {
            held = sentiment[t].signum();
        }
        held
    }
}

fn tuned_threshold(bars: &[Bar], sentiment: &[f64], train: Range<usize>) -> f64 {
    let thresholds = (0..=16).map(|step| f64::from(step) * 0.025);
    thresholds
        .map(|threshold| (realise(bars, train.clone(), follow(sentiment, threshold)).profit, threshold))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(0.0, |(_, threshold)| threshold)
}

/// The slope's t-statistic and R² of the regression of `y` on `x`.
fn regress(x: &[f64], y: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let (mean_x, mean_y) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sxy: f64 = x.iter().zip(y).map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let sxx: f64 = x.iter().map(|x| (x - mean_x).powi(2)).sum();
    let syy: f64 = y.iter().map(|y| (y - mean_y).powi(2)).sum();
    let r_squared = sxy * sxy / (sxx * syy);
    (sxy.signum() * (r_squared * (n - 2.0) / (1.0 - r_squared)).sqrt(), r_squared)
}

/// One market as a test of learning uses it: the threshold is tuned on the first 60 % and evaluated on the last 20
/// %.
struct Trial {
    oracle: Outcome,
    causal: Outcome,
    plain_sign: Outcome,
    momentum: Outcome,
    hold: Outcome,
    random: Outcome,
    oracle_expected: f64,
    causal_expected: f64,
    n_days: f64,
}

fn run_trial(options: &SyntheticOptions) -> Trial {
    let Synthetic { instrument, expected_log_return } = synthesize(options);
    let bars = &instrument.bars;
    let n = bars.len();
    let test = n * 8 / 10..n;
    let seen = sentiment(bars);
    let threshold = tuned_threshold(bars, &seen, 0..n * 6 / 10);
    let costs = Costs::default();
    let best = oracle(&expected_log_return, test.clone(), &costs);
    let mut followed = follow(&seen, threshold);
    let causal: Vec<u8> = test.clone().map(|t| (followed(t) + 1.0) as u8).collect();
    let expect = |actions: &[u8]| expected_profit(&expected_log_return, test.clone(), &costs, actions);
    let mut rng = Pcg64Mcg::seed_from_u64(options.seed);
    Trial {
        oracle: realise(bars, test.clone(), |t| f64::from(best[t - test.start]) - 1.0),
        causal: realise(bars, test.clone(), |t| f64::from(causal[t - test.start]) - 1.0),
        plain_sign: realise(bars, test.clone(), follow(&seen, 0.0)),
        momentum: realise(bars, test.clone(), |t| (bars[t].close - bars[t - 6].close).signum()),
        hold: realise(bars, test.clone(), |_| 1.0),
        random: realise(bars, test.clone(), |_| pick(&mut rng, 3) as f64 - 1.0),
        oracle_expected: expect(&best),
        causal_expected: expect(&causal),
        n_days: test.len() as f64 / 288.0,
    }
}

fn mean(trials: &[Trial], number: impl Fn(&Trial) -> f64) -> f64 {
    trials.iter().map(number).sum::<f64>() / trials.len() as f64
}

#[test]
fn a_simple_causal_policy_attains_most_of_the_oracle() {
    let trials: Vec<Trial> =
        (0..8).map(|seed| run_trial(&SyntheticOptions { seed, ..Default::default() })).collect();
    println!("mean log profit on the test part; trades a day");
    let row = |name: &str, get: fn(&Trial) -> &Outcome| {
        let profit = mean(&trials, |trial| get(trial).profit);
        let trades = mean(&trials, |trial| get(trial).n_trades as f64 / trial.n_days);
        println!(
            "{name:12} {profit:7.3} {trades:6.1} {:.3}",
            mean(&trials, |trial| get(trial).sharpe_per_bar)
        );
    };
    row("oracle", |trial| &trial.oracle);
    row("causal", |trial| &trial.causal);
    row("plain sign", |trial| &trial.plain_sign);
    row("momentum", |trial| &trial.momentum);
    row("hold", |trial| &trial.hold);
    row("random", |trial| &trial.random);

    for trial in &trials {
        assert!(trial.causal.profit > 0.75 * trial.oracle.profit);
        assert!(trial.causal_expected > 0.8 * trial.oracle_expected);
        assert!((trial.causal.n_trades as f64) < 8.0 * trial.n_days);
        assert!(trial.plain_sign.profit > 0.65 * trial.oracle.profit);
    }
    let oracle = mean(&trials, |trial| trial.oracle.profit);
    assert!(mean(&trials, |trial| trial.causal.profit) > 0.85 * oracle);
}

#[test]
fn the_oracle_and_the_causal_policy_stay_far_above_every_baseline() {
    for seed in 8..16 {
        let trial = run_trial(&SyntheticOptions { seed, ..Default::default() });
        assert!(trial.causal_expected <= trial.oracle_expected);
        for baseline in [&trial.momentum, &trial.hold, &trial.random] {
            assert!(baseline.profit < trial.oracle.profit);
            assert!(baseline.profit < 0.7 * trial.causal.profit);
        }
        assert!(trial.momentum.profit < 0.0 && trial.random.profit < 0.0);
    }
}

#[test]
fn no_predictable_part_means_no_expected_return_and_no_profit() {
    let options = |seed| SyntheticOptions { seed, predictable_fraction: 0.0, ..Default::default() };
    let trials: Vec<Trial> = (0..8).map(|seed| run_trial(&options(seed))).collect();
    assert!(synthesize(&options(0)).expected_log_return.iter().all(|expected| expected.to_bits() == 0));
    for trial in &trials {
        assert_eq!(trial.oracle.n_trades, 0);
        assert!(trial.causal_expected < 0.0);
        // Standard errors of a 46-day log profit: the noise of a bar, times the root of their number.
        let z = trial.causal.sharpe_per_bar * (trial.n_days * 288.0).sqrt();
        assert!(z.abs() < 3.0, "{z}");
    }
    let z_mean = mean(&trials, |trial| trial.causal.sharpe_per_bar * (trial.n_days * 288.0).sqrt());
    assert!(z_mean * 8.0_f64.sqrt() < 2.0, "{z_mean}");
}

#[test]
fn the_predictable_part_is_modest_and_shows_in_the_sentiment_alone() {
    let n = 40_000;
    for seed in 0..4 {
        let Synthetic { instrument, expected_log_return } =
            synthesize(&SyntheticOptions { seed, ..Default::default() });
        let bars = &instrument.bars;
        let realised: Vec<f64> = bars[1..=n].iter().map(|bar| (bar.close / bar.open).ln()).collect();
        let expected = &expected_log_return[1..=n];
        let seen = sentiment(bars);
        let (t_seen, r_squared_seen) = regress(&seen[..n], &realised);
        let (_, r_squared_true) = regress(expected, &realised);
        let (_, seen_of_true) = regress(&seen[..n], expected);
        let half_hour: Vec<f64> = (6..n).map(|t| (bars[t].close / bars[t - 6].close).ln()).collect();
        let (_, momentum_of_true) = regress(&half_hour, &expected[6..]);
        let (_, momentum_next) = regress(&half_hour, &realised[6..]);
        println!(
            "seed {seed}: next return on sentiment t {t_seen:.1} R² {r_squared_seen:.4}, on the truth R² \
             {r_squared_true:.4}, on the last half hour R² {momentum_next:.5}; correlation with the truth: sentiment \
             {:.3}, last half hour {:.3}",
            seen_of_true.sqrt(),
            momentum_of_true.sqrt()
        );
        assert!(t_seen > 15.0);
        assert!((0.005..0.015).contains(&r_squared_true), "{r_squared_true}");
        assert!(seen_of_true > 0.65 && momentum_of_true < 0.1 && momentum_next < 0.003);
    }
}

#[test]
fn same_seed_same_bars_and_another_seed_others() {
    let make = |seed| synthesize(&SyntheticOptions { days: 20, seed, ..Default::default() });
    assert_eq!(make(3), make(3));
    assert_ne!(make(3), make(4));
}

#[test]
fn a_market_without_drift_differs_from_its_twin_by_the_drift_alone() {
    let make = |predictable_fraction| {
        synthesize(&SyntheticOptions { days: 20, seed: 5, predictable_fraction, ..Default::default() })
    };
    let (with, without) = (make(0.11), make(0.0));
    for ((a, b), expected) in
        with.instrument.bars.iter().zip(&without.instrument.bars).zip(&with.expected_log_return)
    {
        let difference = (a.close / a.open).ln() - (b.close / b.open).ln();
        assert!((difference - expected).abs() < 1e-12);
    }
}

#[test]
fn bars_are_valid() {
    let market = synthesize(&SyntheticOptions::default());
    let bars = &market.instrument.bars;
    assert_eq!(bars.len(), 66_240);
    assert_eq!(bars.len(), market.expected_log_return.len());
    assert_eq!((bars[0].open_millis, bars[0].open), (START_MILLIS, FIRST_PRICE));
    for bar in bars {
        assert_eq!(bar.close_millis - bar.open_millis, DECISION_MILLIS);
        assert!(0.0 < bar.low && bar.low <= bar.open.min(bar.close));
        assert!(bar.high.is_finite() && bar.high >= bar.open.max(bar.close) && bar.high > bar.low);
        assert!(bar.volume > 0.0 && bar.volume.is_finite());
    }
    let n_weekends = bars.windows(2).filter(|pair| pair[1].open_millis > pair[0].close_millis).count();
    assert_eq!(n_weekends, 46);
    assert!(bars.windows(2).all(|pair| pair[1].open_millis >= pair[0].close_millis));
}

#[test]
fn odd_options_give_odd_markets_and_no_panic() {
    let make = |days, predictable_fraction, flow_half_life_bars| {
        synthesize(&SyntheticOptions { days, seed: 1, predictable_fraction, flow_half_life_bars })
    };
    assert!(make(0, 0.1, 24.0).instrument.bars.is_empty());
    assert_eq!(make(1, 0.3, 1e-3).instrument.bars.len(), 288);
    assert_eq!(make(1, 0.3, 1e9).instrument.bars.len(), 288);
}

#[test]
fn pressure_has_unit_mean_square() {
    let step = 1e-3;
    let mean_square: f64 = (-10_000..=10_000)
        .map(|i| f64::from(i) * step)
        .map(|x| pressure(x).powi(2) * (-x * x / 2.0).exp() / TAU.sqrt() * step)
        .sum();
    assert!((mean_square - 1.0).abs() < 1e-9, "{mean_square}");
}

#[test]
fn the_backlog_has_the_variance_it_is_scaled_by() {
    let persistence = (-1.0_f64 / 24.0).exp2();
    let mut rng = Pcg64Mcg::seed_from_u64(7);
    let (mut flow, mut backlog, mut squares, n) = (0.0, 0.0, 0.0, 400_000);
    for _ in 0..n {
        flow = persistence * flow + (1.0 - persistence * persistence).sqrt() * normal(&mut rng);
        backlog += BACKLOG_RATE * (flow - backlog);
        squares += backlog * backlog;
    }
    assert!((squares / f64::from(n) / backlog_deviation(persistence).powi(2) - 1.0).abs() < 0.05);
}
