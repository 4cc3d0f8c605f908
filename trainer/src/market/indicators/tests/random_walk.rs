//! Seeded bars for tests: a walk on no grid, with tails, wicks, gaps and bars without volume or range.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::market::bar::{Bar, DECISION_MILLIS};

/// `n` five-minute bars from midnight UTC on.
pub(crate) fn random_walk(n: usize, seed: u64) -> Vec<Bar> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut price = 100.0f64;
    (0..n as i64)
        .map(|i| {
            let scale = if rng.random_bool(0.05) { 0.02 } else { 0.002 };
            let open = price * (1.0 + 0.0005 * rng.random_range(-1.0..1.0));
            let close = open * (1.0 + scale * rng.random_range(-1.0..1.0));
            let high = open.max(close) * (1.0 + 0.001 * rng.random_range(0.0..1.0));
            let low = open.min(close) * (1.0 - 0.001 * rng.random_range(0.0..1.0));
            let volume = if rng.random_bool(0.03) { 0.0 } else { rng.random_range(0.1..50.0) };
            price = close;
            let flat = rng.random_bool(0.02);
            Bar {
                open_millis: i * DECISION_MILLIS,
                close_millis: (i + 1) * DECISION_MILLIS,
                open: if flat { close } else { open },
                high: if flat { close } else { high },
                low: if flat { close } else { low },
                close,
                volume,
            }
        })
        .collect()
}

/// A bar of `open, high, low, close` and volume 1, the `i`-th of its day.
pub(crate) fn bar(i: usize, [open, high, low, close]: [f64; 4]) -> Bar {
    let open_millis = i as i64 * DECISION_MILLIS;
    Bar { open_millis, close_millis: open_millis + DECISION_MILLIS, open, high, low, close, volume: 1.0 }
}

/// The same bars with prices times `price` and volumes times `volume`.
pub(crate) fn scaled(bars: &[Bar], price: f64, volume: f64) -> Vec<Bar> {
    bars.iter()
        .map(|bar| Bar {
            open: bar.open * price,
            high: bar.high * price,
            low: bar.low * price,
            close: bar.close * price,
            volume: bar.volume * volume,
            ..*bar
        })
        .collect()
}
