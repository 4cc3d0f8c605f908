//! Promises of the rows as a whole.

use super::*;
use crate::market::bar::{DECISION_MILLIS, MINUTE_MILLIS, STRUCTURE_MILLIS};
use crate::market::indicators::random_walk::{random_walk, scaled};
use crate::market::resample::resample;

/// A walk with a session gap of a night in every 200 bars, and a market without volume for its first `n_silent`.
fn market(n: usize, n_silent: usize, seed: u64) -> Vec<Bar> {
    let mut bars = random_walk(n, seed);
    for (i, bar) in bars.iter_mut().enumerate() {
        let shift = (i / 200) as i64 * 103 * DECISION_MILLIS;
        bar.open_millis += shift;
        bar.close_millis += shift;
        if i < n_silent {
            bar.volume = 0.0;
        }
    }
    bars
}

fn features(five: &[Bar]) -> Features {
    compute(five, &resample(five, STRUCTURE_MILLIS))
}

fn structure_rows(thirty: &[Bar]) -> Vec<[f32; 8]> {
    let mut structure = StructureRows::default();
    rows_of(thirty, |bars| structure.push(bars))
}

/// The bits of every cell, so that NaN equals NaN.
fn bits<const W: usize>(view: &View<W>, n_rows: usize) -> Vec<[u32; W]> {
    view.rows[..n_rows].iter().map(|row| row.map(f32::to_bits)).collect()
}

fn assert_bounded<const W: usize>(name: &str, view: &View<W>) {
    for (t, row) in view.rows.iter().enumerate() {
        for (cell, value) in row.iter().enumerate() {
            assert!(value.is_nan() || (-1.0..=1.0).contains(value), "{name} {t} {cell}: {value}");
        }
    }
}

fn assert_near<const W: usize>(name: &str, a: &View<W>, b: &View<W>) {
    assert_eq!(a.first_defined, b.first_defined);
    for (t, (row, other)) in a.rows.iter().zip(&b.rows).enumerate() {
        for (cell, (x, y)) in row.iter().zip(other).enumerate() {
            let same = x.is_nan() && y.is_nan() || (x - y).abs() <= 1e-6;
            assert!(same, "{name} row {t} cell {cell}: {x}, {y}");
        }
    }
}

#[test]
fn every_number_lies_within_one() {
    for (n_silent, seed) in [(0, 1), (900, 2), (4_000, 3)] {
        let features = features(&market(4_000, n_silent, seed));
        assert_bounded("structure", &features.structure);
        assert_bounded("tactical", &features.tactical);
        assert_bounded("regime", &features.regime);
        assert_bounded("lvn", &features.lvn);
    }
}

#[test]
fn a_shorter_history_gives_the_same_bits() {
    let bars = market(3_000, 0, 7);
    let whole = features(&bars);
    for n in [1, 61, 100, 777, 1_500, 2_203, 2_999] {
        let part = features(&bars[..n]);
        let n_wide = part.structure.rows.len();
        assert_eq!(bits(&part.structure, n_wide), bits(&whole.structure, n_wide), "{n}");
        assert_eq!(bits(&part.tactical, n), bits(&whole.tactical, n), "{n}");
        assert_eq!(bits(&part.regime, n), bits(&whole.regime, n), "{n}");
        assert_eq!(bits(&part.lvn, n), bits(&whole.lvn, n), "{n}");
        assert_eq!(part.structure_row, whole.structure_row[..n], "{n}");
    }
}

#[test]
fn prices_and_volumes_times_three_change_no_row() {
    for seed in 0..3 {
        let bars = market(3_000, 0, seed);
        let before = features(&bars);
        for (price, volume) in [(3.0, 1.0), (1.0, 3.0), (3.0, 3.0), (1.0 / 3.0, 7.0)] {
            let after = features(&scaled(&bars, price, volume));
            assert_near("structure", &before.structure, &after.structure);
            assert_near("tactical", &before.tactical, &after.tactical);
            assert_near("regime", &before.regime, &after.regime);
            assert_near("lvn", &before.lvn, &after.lvn);
        }
    }
}

/// On a grid of prices, numbers that are equal on paper abound: closes, edges, levels, bodies.
#[test]
fn prices_on_a_coarse_grid_times_three_change_no_row() {
    for seed in 0..6 {
        let mut bars = market(3_000, 0, seed);
        for bar in &mut bars {
            let snap = |price: f64| (price * 10.0).round() / 10.0;
            (bar.open, bar.high) = (snap(bar.open), snap(bar.high));
            (bar.low, bar.close) = (snap(bar.low), snap(bar.close));
            bar.volume = bar.volume.round();
        }
        let before = features(&bars);
        for (price, volume) in [(3.0, 3.0), (0.7, 1.0)] {
            let after = features(&scaled(&bars, price, volume));
            assert_near("structure", &before.structure, &after.structure);
            assert_near("tactical", &before.tactical, &after.tactical);
            assert_near("lvn", &before.lvn, &after.lvn);
        }
    }
}

#[test]
fn cells_are_defined_from_the_documented_bars_on() {
    let bars = market(4_000, 0, 5);
    let features = features(&bars);
    let first = |rows: &[f64]| rows.iter().position(|cell| cell.is_finite());
    let column =
        |cell: usize| features.structure.rows.iter().map(|row| f64::from(row[cell])).collect::<Vec<_>>();
    let structure: Vec<_> = (0..8).map(|cell| first(&column(cell)).unwrap()).collect();
    assert_eq!(structure, [39, 39, 24, 25, 99, 99, 0, 0]);
    let column =
        |cell: usize| features.tactical.rows.iter().map(|row| f64::from(row[cell])).collect::<Vec<_>>();
    let tactical: Vec<_> = (0..7).map(|cell| first(&column(cell)).unwrap()).collect();
    assert_eq!(tactical, [61, 61, 61, 61, 65, 13, 0]);
    assert_eq!(features.structure.first_defined, 99);
    assert_eq!(features.tactical.first_defined, 65);
    assert_eq!(features.lvn.first_defined, 99);
    assert_eq!(first(&features.atr), Some(13));
}

#[test]
fn a_five_minute_bar_sees_the_newest_half_hour_that_has_closed() {
    let bars = market(1_000, 0, 6);
    let wide = resample(&bars, STRUCTURE_MILLIS);
    let features = compute(&bars, &wide);
    for (t, bar) in bars.iter().enumerate() {
        let newest = wide.iter().rposition(|wide| wide.close_millis <= bar.close_millis);
        assert_eq!(features.structure_row[t], newest.map_or(u32::MAX, |newest| newest as u32), "bar {t}");
    }
    assert!(features.structure.visible_at_millis.iter().all(|at| at % STRUCTURE_MILLIS == 0));
}

#[test]
fn the_first_decision_is_the_first_bar_with_all_windows_full() {
    let bars = market(4_000, 0, 8);
    let features = features(&bars);
    let finite = |row: &[f32]| row.iter().all(|cell| cell.is_finite());
    let is_full = |t: usize| {
        let s = features.structure_row[t] as usize;
        features.structure_row[t] != u32::MAX
            && s >= 47
            && features.structure.rows[s - 47..=s].iter().all(|row| finite(row))
            && t >= 114
            && features.tactical.rows[t - 59..=t].iter().all(|row| finite(row))
            && (0..20).all(|k| finite(&features.regime.rows[t - 6 * k]))
            && finite(&features.lvn.rows[t])
            && features.atr[t].is_finite()
    };
    let first = features.first_decision().unwrap();
    assert_eq!((0..bars.len()).find(|t| is_full(*t)), Some(first));
    assert!((first..bars.len()).all(is_full));
    assert_eq!(self::features(&bars[..first]).first_decision(), None);
    assert_eq!(self::features(&bars[..=first]).first_decision(), Some(first));
    assert_eq!(compute(&[], &[]).first_decision(), None);
}

/// Rows written out from the reference, on bars of which everything is known.
#[test]
fn tactical_rows_of_a_jump_equal_the_formulas() {
    let quiet = |i: i64| Bar {
        open_millis: i * DECISION_MILLIS,
        close_millis: (i + 1) * DECISION_MILLIS,
        open: 99.5,
        high: 101.0,
        low: 99.0,
        close: 100.5,
        volume: 1.0,
    };
    let mut bars: Vec<Bar> = (0..70).map(quiet).collect();
    bars.push(Bar { open: 100.5, high: 107.0, low: 100.0, close: 106.0, volume: 3.0, ..quiet(70) });
    bars.push(Bar { open: 106.0, high: 108.0, low: 105.0, close: 107.0, volume: 0.0, ..quiet(71) });
    bars.push(Bar { open: 107.0, high: 108.0, low: 106.0, close: 107.0, volume: 1.0, ..quiet(72) });
    bars.push(Bar { open: 107.0, high: 107.0, low: 99.0, close: 100.0, volume: 1.0, ..quiet(73) });
    bars.extend((74..80).map(quiet));
    let features = features(&bars);
    let (rows, atr) = (&features.tactical.rows, &features.atr);
    let a = |x: f64, t: usize| ((x / atr[t]).clamp(-4.0, 4.0) / 4.0) as f32;

    assert_eq!(rows[70][..5], [0.0; 5]);
    assert_eq!(rows[71][..5], [1.0, 0.0, a(105.0 - 107.0, 71), 1.0, 0.0]);
    assert_eq!(rows[72][..5], [1.0, 0.0, a(105.0 - 107.0, 72), (-0.1f64).exp() as f32, 0.0]);
    assert_eq!(rows[71][5], a(107.0 - 100.5, 71));
    let mean = 1.0 + 0.02 * 2.0;
    assert!((f64::from(rows[70][6]) - (3.0f64 / mean).ln().tanh()).abs() < 1e-6);
    assert_eq!(rows[71][6], -1.0);
    // Bar 73 closes below 101: mitigated then, and remembered for five bars.
    let mitigated: Vec<f32> = rows[72..80].iter().map(|row| row[4]).collect();
    assert_eq!(mitigated, [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
    assert_eq!(rows[73][0], 0.0);
}

#[test]
fn without_any_volume_the_volume_ratio_is_zero() {
    let features = features(&market(300, 300, 9));
    assert!(features.tactical.rows.iter().all(|row| row[6] == 0.0));
}

#[test]
fn the_hour_is_that_of_the_close() {
    let wide = |i: i64| Bar {
        open_millis: i * STRUCTURE_MILLIS,
        close_millis: (i + 1) * STRUCTURE_MILLIS,
        ..market(1, 0, 1)[0]
    };
    let rows = structure_rows(&(0..48).map(wide).collect::<Vec<_>>());
    assert!((rows[11][6] - 1.0).abs() < 1e-7, "six o'clock");
    assert!((rows[23][7] + 1.0).abs() < 1e-7, "noon");
    assert!((rows[47][7] - 1.0).abs() < 1e-7, "midnight");
}

#[test]
fn structure_rows_equal_the_formulas_written_out() {
    let wide = resample(&market(3_000, 0, 11), STRUCTURE_MILLIS);
    let rows = structure_rows(&wide);
    let atr = average_true_range(&wide, ATR_BARS);
    let value = |t: usize| {
        let weight = |i: usize| (1.0 + (i * i) as f64 / 1024.0).powi(-8);
        let top: f64 = (0..25).map(|i| weight(i) * wide[t - i].close).sum();
        top / (0..25).map(weight).sum::<f64>()
    };
    let mut finder = crate::market::indicators::low_volume_node::NodeFinder::default();
    let (mut mean, mut variance) = (None, 0.0);
    for t in 25..wide.len() {
        let slope = value(t) / value(t - 1) - 1.0;
        let d = slope - mean.unwrap_or(slope);
        let m = mean.unwrap_or(slope) + 0.05 * d;
        mean = Some(m);
        variance = 0.95 * (variance + 0.05 * d * d);
        let spread = f64::sqrt(variance);
        let z = if spread <= 1e-9 { 0.0 } else { (slope - m) / spread };
        assert!((f64::from(rows[t][3]) - z.clamp(-2.0, 2.0) / 2.0).abs() < 1e-6, "slope {t}");
        let expected = ((value(t) - wide[t].close) / atr[t]).clamp(-4.0, 4.0) / 4.0;
        assert!((f64::from(rows[t][2]) - expected).abs() < 1e-6, "value {t}");
        if t >= 99 {
            let (distance, strength) = finder
                .find(&wide[t - 99..=t])
                .map_or((0.0, 0.0), |node| ((-node.distance.abs() / atr[t]).exp(), node.strength));
            assert!((f64::from(rows[t][4]) - distance).abs() < 1e-6, "distance {t}");
            assert!((f64::from(rows[t][5]) - strength).abs() < 1e-6, "strength {t}");
        }
    }
}

#[test]
fn lvn_rows_equal_the_formulas_written_out() {
    let bars = market(600, 0, 13);
    let features = features(&bars);
    let mut finder = crate::market::indicators::low_volume_node::NodeFinder::default();
    let mut n_nodes = 0;
    for t in 99..bars.len() {
        let expected = finder.find(&bars[t - 99..=t]).map_or([0.0; 5], |node| {
            n_nodes += 1;
            let x = node.distance / features.atr[t];
            let (s, n) = (node.strength, (x.abs() / 5.0).min(1.0));
            [
                s,
                n,
                x.clamp(-4.0, 4.0) / 4.0,
                if bars[t].close > node.level { 1.0 } else { 0.0 },
                s * (1.0 - n),
            ]
        });
        for (cell, value) in expected.iter().enumerate() {
            assert!((f64::from(features.lvn.rows[t][cell]) - value).abs() < 1e-6, "bar {t} cell {cell}");
        }
    }
    assert!(n_nodes > 100);
    assert_eq!(features.lvn.visible_at_millis[0], bars[0].open_millis + 5 * MINUTE_MILLIS);
}
