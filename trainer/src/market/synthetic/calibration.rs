//! What the synthetic market promises to those who learn on it, measured.

use std::ops::Range;

use super::*;
use crate::market::{
    account::Costs,
    oracle::{expected_profit, oracle},
};

/// Log profit of positions, decided at the close of each bar of `range` and filled at the next open.
struct Outcome {
    profit: f64,
    n_trades: usize,
    sharpe_per_bar: f64,
}

/// A smallest backtest: one unit of equity, rebalanced each bar, log returns, costs in.
fn realise(bars: &[Bar], range: Range<usize>, mut decide: impl FnMut(usize) -> f64) -> Outcome {
    let costs = Costs::default();
    let cost = (costs.commission_bps + costs.half_spread_bps + costs.slippage_bps) * 1e-4;
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

#[test]
#[ignore]
fn table() {
    for fraction in [0.11, 0.0] {
        let mut sums = [0.0; 8];
        for seed in 0..8 {
            let m = synthesize(&SyntheticOptions { seed, predictable_fraction: fraction, ..Default::default() });
            let bars = &m.instrument.bars;
            let n = bars.len();
            let test = n * 8 / 10..n;
            let s = sentiment(bars);
            let h = tuned_threshold(bars, &s, 0..n * 6 / 10);
            let days = (test.len() / 288) as f64;
            let o = oracle(&m.expected_log_return, test.clone(), &Costs::default());
            let oe = expected_profit(&m.expected_log_return, test.clone(), &Costs::default(), &o);
            let or = realise(bars, test.clone(), |t| f64::from(o[t - test.start]) - 1.0);
            let b = realise(bars, test.clone(), follow(&s, h));
            let bact: Vec<u8> = test.clone().map({ let mut f = follow(&s, h); move |t| (f(t) + 1.0) as u8 }).collect();
            let be = expected_profit(&m.expected_log_return, test.clone(), &Costs::default(), &bact);
            let sg = realise(bars, test.clone(), follow(&s, 0.0));
            let mo = realise(bars, test.clone(), |t| (bars[t].close - bars[t - 6].close).signum());
            let bh = realise(bars, test.clone(), |_| 1.0);
            let next: Vec<f64> = (1..=40_000).map(|t| (bars[t].close / bars[t].open).ln()).collect();
            let (t1, r1) = regress(&s[..40_000], &next);
            let (t2, r2) = regress(&m.expected_log_return[1..=40_000], &next);
            let (_, r3) = regress(&s[..40_000], &m.expected_log_return[1..=40_000]);
            let mom: Vec<f64> = (6..40_000).map(|t| (bars[t].close / bars[t-6].close).ln()).collect();
            let (_, r4) = regress(&mom, &m.expected_log_return[7..=40_000]);
            println!("seed {seed} n {n} h {h:.3} oracle exp {oe:.3} real {:.3} ({:.1} trades/d sharpe {:.3}) causal {:.3} exp {be:.3} ({:.1}/d, {:.2}) ratio {:.2}/{:.2} sign {:.3} ({:.1}/d) mom {:.3} hold {:.3} t {t1:.1} R2 {:.4} t_or {t2:.1} R2 {:.4} corr(s,mu) {:.3} corr(mom,mu) {:.3}",
              or.profit, or.n_trades as f64/days, or.sharpe_per_bar, b.profit, b.n_trades as f64/days, b.sharpe_per_bar, b.profit/or.profit, be/oe, sg.profit, sg.n_trades as f64/days, mo.profit, bh.profit, r1, r2, r3.sqrt(), r4.sqrt());
            for (a, v) in sums.iter_mut().zip([oe, or.profit, b.profit, be, sg.profit, mo.profit, bh.profit, t1]) { *a += v / 8.0; }
        }
        println!("fraction {fraction}: mean oe/or/b/be/sg/mo/bh/t {sums:.3?}  ratio real {:.3} exp {:.3} sign {:.3}", sums[2]/sums[1], sums[3]/sums[0], sums[4]/sums[1]);
    }
}
