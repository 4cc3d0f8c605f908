//! Proof, on the bars of the user, that no feature row looks ahead.
//!
//! ```text
//! imported bars  |||||||||||||||||||||||||||||||   -> features of all of them ─┐
//!                |||||||||||||||||                 -> features of these alone ─┴─ the rows that a decision at the
//!                                 ^ a random time                                 cut would see: equal bit for bit?
//! ```
//!
//! The cut is made in the imported bars, so that resampling is under test with the rest. What was cut off is not
//! there for the second computation to look at: a row that changes has seen it. Compared are, at the close of the
//! last five-minute bar, the newest visible row of each view, the ATR, and which structure row is paired with the
//! bar; older rows are the newest at other times.
//!
//! A feature of bars that never end (a filter run forward and back, a scale fitted to the file) fails at every time;
//! one that peeks into an unfinished half hour at five times of six. A thousand times find what happens in one bar of
//! a thousand with probability 63 %. Not tested: what stands in the bars themselves, such as stamps shifted by the
//! one who wrote the file.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::market::bar::{Bar, DECISION_MILLIS, STRUCTURE_MILLIS};
use crate::market::features::{
    self, Features, LVN_NAMES, REGIME_NAMES, STRUCTURE_NAMES, TACTICAL_NAMES, View,
};
use crate::market::resample::resample;

/// What [`prove`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    /// Times at which the bars were cut off.
    pub n_times: usize,
    /// Rows compared that held at least one defined number; 0 proves nothing.
    pub n_rows: usize,
    /// The difference at the earliest time that has one; `None` if no row looks ahead.
    pub first_violation: Option<Violation>,
}

/// A number that changes with what comes later.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// The view: `structure`, `tactical`, `regime`, `lvn`, or `clock` for what belongs to the bar itself.
    pub view: &'static str,
    /// The column's name; `row` if the row itself exists or is visible only with the later bars.
    pub feature: &'static str,
    /// The time of the decision that sees it, UTC, in milliseconds since 1970.
    pub time_millis: i64,
    /// The value computed from all bars; for `row` the time from which the row is visible, NaN if there is none.
    pub from_all: f64,
    /// The same from the bars up to the time.
    pub from_truncated: f64,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}.{} at {} is {} with the later bars and {} without them",
            self.view,
            self.feature,
            crate::format::utc_minute(self.time_millis),
            self.from_all,
            self.from_truncated
        )
    }
}

/// Computes the features of `bars` (as imported, of 1 or 5 minutes, in order of time) again at `n_times` random
/// times, from the bars up to each alone, and compares.
///
/// Times are drawn by `seed` among those at which some row is fully defined (among all, if none ever is). `progress`
/// is told the number of times done, from the calling thread. The result does not depend on how many threads there
/// are.
pub fn prove(bars: &[Bar], n_times: usize, seed: u64, progress: &mut dyn FnMut(usize)) -> Proof {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let newest = |five: &[Bar], thirty: &[Bar]| {
        features::compute_regime_from(five, thirty, five.len().saturating_sub(1))
    };
    prove_with(bars, n_times, seed, n_threads, features::compute, newest, progress)
}

/// [`prove`] of any features: `all` computes them from all bars; `newest` from fewer, and may leave all rows but each
/// view's newest undefined.
fn prove_with(
    bars: &[Bar],
    n_times: usize,
    seed: u64,
    n_threads: usize,
    all: impl FnOnce(&[Bar], &[Bar]) -> Features,
    newest: impl Fn(&[Bar], &[Bar]) -> Features + Sync,
    progress: &mut dyn FnMut(usize),
) -> Proof {
    let n_times = if bars.is_empty() { 0 } else { n_times };
    let expected = Computed::of(bars, all);
    let lengths = random_lengths(bars, expected.first_defined_millis(), n_times, seed);
    let mut compared: Vec<Option<Comparison>> = vec![None; n_times];
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..n_threads.clamp(1, n_times.max(1)) {
            let (sender, expected, newest, lengths, next) =
                (sender.clone(), &expected, &newest, &lengths, &next);
            scope.spawn(move || {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&length) = lengths.get(i) else { break };
                    let comparison = expected.compare(&Computed::of(&bars[..length], newest));
                    if sender.send((i, comparison)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (n_done, (i, comparison)) in receiver.into_iter().enumerate() {
            compared[i] = Some(comparison);
            progress(n_done + 1);
        }
    });
    let n_rows = compared.iter().flatten().map(|comparison| comparison.n_rows).sum();
    let first_violation = compared.into_iter().flatten().find_map(|comparison| comparison.violation);
    Proof { n_times, n_rows, first_violation }
}

/// `n_times` numbers of bars to keep, in order, each with a last bar that closes at `from_millis` or later.
fn random_lengths(bars: &[Bar], from_millis: Option<i64>, n_times: usize, seed: u64) -> Vec<usize> {
    let first = from_millis.map_or(0, |from| bars.partition_point(|bar| bar.close_millis < from));
    let first = if first < bars.len() { first } else { 0 };
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut lengths: Vec<usize> = (0..n_times).map(|_| rng.random_range(first..bars.len()) + 1).collect();
    lengths.sort_unstable();
    lengths
}

/// The result of one time.
#[derive(Debug, Clone)]
struct Comparison {
    n_rows: usize,
    violation: Option<Violation>,
}

/// Features and the clock that they were computed on.
struct Computed {
    five_close_millis: Vec<i64>,
    features: Features,
}

impl Computed {
    fn of(bars: &[Bar], compute: impl FnOnce(&[Bar], &[Bar]) -> Features) -> Self {
        let five = resample(bars, DECISION_MILLIS);
        let thirty = resample(&five, STRUCTURE_MILLIS);
        let features = compute(&five, &thirty);
        Self { five_close_millis: five.iter().map(|bar| bar.close_millis).collect(), features }
    }

    /// From when on a view's rows are all defined; the earliest of the views.
    fn first_defined_millis(&self) -> Option<i64> {
        let features = &self.features;
        [
            features.structure.visible_at_millis.get(features.structure.first_defined),
            features.tactical.visible_at_millis.get(features.tactical.first_defined),
            features.regime.visible_at_millis.get(features.regime.first_defined),
            features.lvn.visible_at_millis.get(features.lvn.first_defined),
        ]
        .into_iter()
        .flatten()
        .min()
        .copied()
    }

    /// Compares what a decision at the end of `truncated` sees in `self` and in it.
    fn compare(&self, truncated: &Self) -> Comparison {
        let Some(&time_millis) = truncated.five_close_millis.last() else {
            return Comparison { n_rows: 0, violation: None };
        };
        let mut sides = Sides { time_millis, n_rows: 0, violation: None };
        let (all, cut) = (&self.features, &truncated.features);
        sides.view("structure", &STRUCTURE_NAMES, &all.structure, &cut.structure);
        sides.view("tactical", &TACTICAL_NAMES, &all.tactical, &cut.tactical);
        sides.view("regime", &REGIME_NAMES, &all.regime, &cut.regime);
        sides.view("lvn", &LVN_NAMES, &all.lvn, &cut.lvn);

        let last = truncated.five_close_millis.len() - 1;
        let close_of =
            |computed: &Self| computed.five_close_millis.get(last).map_or(f64::NAN, |time| *time as f64);
        let pair_of =
            |features: &Features| features.structure_row.get(last).map_or(f64::NAN, |row| f64::from(*row));
        let atr_of = |features: &Features| features.atr.get(last).copied().unwrap_or(f64::NAN);
        sides.number("clock", "close", close_of(self), close_of(truncated));
        sides.number("clock", "structure_row", pair_of(all), pair_of(cut));
        sides.number("clock", "atr", atr_of(all), atr_of(cut));
        Comparison { n_rows: sides.n_rows, violation: sides.violation }
    }
}

/// The comparison of one time while it is made.
struct Sides {
    time_millis: i64,
    n_rows: usize,
    violation: Option<Violation>,
}

impl Sides {
    /// Compares the newest rows that are visible at the time.
    fn view<const W: usize>(
        &mut self,
        view: &'static str,
        names: &[&'static str; W],
        all: &View<W>,
        truncated: &View<W>,
    ) {
        let newest = |side: &View<W>| side.visible_at_millis.iter().rposition(|at| *at <= self.time_millis);
        let (in_all, in_truncated) = (newest(all), newest(truncated));
        let visible_at =
            |side: &View<W>, at: Option<usize>| at.map_or(f64::NAN, |at| side.visible_at_millis[at] as f64);
        self.number(view, "row", visible_at(all, in_all), visible_at(truncated, in_truncated));
        let (Some(in_all), Some(in_truncated)) = (in_all, in_truncated) else { return };
        let (from_all, from_truncated) = (all.rows[in_all], truncated.rows[in_truncated]);
        for ((name, a), b) in names.iter().zip(from_all).zip(from_truncated) {
            self.number(view, name, f64::from(a), f64::from(b));
        }
        self.n_rows += usize::from(from_all.iter().any(|cell| !cell.is_nan()));
    }

    /// Notes the first difference. All NaN are one: undefined.
    fn number(&mut self, view: &'static str, feature: &'static str, from_all: f64, from_truncated: f64) {
        let are_same =
            from_all.to_bits() == from_truncated.to_bits() || (from_all.is_nan() && from_truncated.is_nan());
        if !are_same && self.violation.is_none() {
            let time_millis = self.time_millis;
            self.violation = Some(Violation { view, feature, time_millis, from_all, from_truncated });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::bar::MINUTE_MILLIS;
    use crate::market::real_bars::real_bars;

    const SEED: u64 = 1234;

    /// One-minute bars with sessions, oldest first.
    fn random_walk(n: usize, seed: u64) -> Vec<Bar> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let (mut price, mut open_millis) = (100.0f64, 0);
        (0..n)
            .map(|_| {
                let open = price;
                price = open * rng.random_range(-1e-3..1e-3f64).exp();
                let (high, low) = (open.max(price) * 1.0002, open.min(price) * 0.9998);
                open_millis +=
                    MINUTE_MILLIS * if rng.random_bool(0.01) { rng.random_range(1..90) } else { 1 };
                let volume = rng.random_range(0.0..9.0);
                Bar {
                    open_millis,
                    close_millis: open_millis + MINUTE_MILLIS,
                    open,
                    high,
                    low,
                    close: price,
                    volume,
                }
            })
            .collect()
    }

    /// Features that hold plain closes: cheap, and causal as they stand.
    fn closes(five: &[Bar], thirty: &[Bar]) -> Features {
        fn view<const W: usize>(bars: &[Bar]) -> View<W> {
            View {
                rows: bars.iter().map(|bar| [bar.close as f32; W]).collect(),
                first_defined: 0,
                visible_at_millis: bars.iter().map(|bar| bar.close_millis).collect(),
            }
        }
        let newest = |bar: &Bar| thirty.iter().rposition(|wide| wide.close_millis <= bar.close_millis);
        Features {
            structure: view(thirty),
            tactical: view(five),
            regime: view(five),
            lvn: view(five),
            atr: five.iter().map(|bar| bar.high - bar.low).collect(),
            structure_row: five.iter().map(|bar| newest(bar).map_or(u32::MAX, |row| row as u32)).collect(),
        }
    }

    fn check(compute: fn(&[Bar], &[Bar]) -> Features) -> Proof {
        let bars = random_walk(1500, 1);
        let [one, three] =
            [1, 3].map(|n_threads| prove_with(&bars, 200, SEED, n_threads, compute, compute, &mut |_| ()));
        // As text, since a value that is undefined on one side is NaN and equals nothing.
        assert_eq!(format!("{one:?}"), format!("{three:?}"), "the result depends on the number of threads");
        one
    }

    fn violation(compute: fn(&[Bar], &[Bar]) -> Features) -> (&'static str, &'static str) {
        let violation = check(compute).first_violation.expect("the leak is found");
        (violation.view, violation.feature)
    }

    #[test]
    fn features_of_closed_bars_pass() {
        let proof = check(closes);
        assert_eq!((proof.n_times, &proof.first_violation), (200, &None));
        assert!(proof.n_rows > 790, "{}", proof.n_rows);
    }

    #[test]
    fn thirty_minute_bars_indexed_by_their_start_are_caught() {
        let found = violation(|five, thirty| {
            let mut features = closes(five, thirty);
            features.structure.visible_at_millis = thirty.iter().map(|bar| bar.open_millis).collect();
            features
        });
        assert_eq!(found, ("structure", "row"));
    }

    #[test]
    fn a_pairing_with_unfinished_structure_rows_is_caught() {
        let found = violation(|five, thirty| {
            let mut features = closes(five, thirty);
            let holder = |bar: &Bar| thirty.iter().rposition(|wide| wide.open_millis <= bar.open_millis);
            features.structure_row =
                five.iter().map(|bar| holder(bar).map_or(u32::MAX, |row| row as u32)).collect();
            features
        });
        assert_eq!(found, ("clock", "structure_row"));
    }

    #[test]
    fn the_next_bar_and_a_scale_fitted_to_all_bars_are_caught() {
        let next_bar = |five: &[Bar], thirty: &[Bar]| {
            let mut features = closes(five, thirty);
            for (row, later) in features.tactical.rows.iter_mut().zip(five.iter().skip(1)) {
                row[5] = later.close as f32;
            }
            features
        };
        assert_eq!(violation(next_bar), ("tactical", TACTICAL_NAMES[5]));
        let fitted = |five: &[Bar], thirty: &[Bar]| {
            let mut features = closes(five, thirty);
            let highest = five.iter().map(|bar| bar.high).fold(0.0, f64::max) as f32;
            features.regime.rows.iter_mut().for_each(|row| row[2] /= highest);
            features
        };
        assert_eq!(violation(fitted), ("regime", REGIME_NAMES[2]));
        let atr = |five: &[Bar], thirty: &[Bar]| {
            let mut features = closes(five, thirty);
            features.atr.rotate_left(1);
            features
        };
        assert_eq!(violation(atr), ("clock", "atr"));
    }

    #[test]
    fn a_violation_names_the_time_and_both_values() {
        let proof = check(|five, thirty| {
            let mut features = closes(five, thirty);
            features.lvn.rows.iter_mut().for_each(|row| row[4] = five.len() as f32);
            features
        });
        let violation = proof.first_violation.expect("the leak is found");
        let n_all = resample(&random_walk(1500, 1), DECISION_MILLIS).len() as f64;
        assert_eq!((violation.view, violation.feature), ("lvn", LVN_NAMES[4]));
        assert_eq!(violation.from_all, n_all);
        assert!(violation.from_truncated < n_all);
        assert_eq!(violation.time_millis % DECISION_MILLIS, 0);
    }

    #[test]
    fn progress_counts_every_time_and_no_bars_prove_nothing() {
        let mut seen = Vec::new();
        let proof =
            prove_with(&random_walk(200, 2), 20, SEED, 2, closes, closes, &mut |n_done| seen.push(n_done));
        assert_eq!(seen, (1..=20).collect::<Vec<_>>());
        assert_eq!(proof.n_times, 20);
        let proof = prove(&[], 20, SEED, &mut |_| ());
        assert_eq!(proof, Proof { n_times: 0, n_rows: 0, first_violation: None });
    }

    #[test]
    fn real_bars_pass() {
        let Some(folder) = real_bars() else { return };
        let text = std::fs::read_to_string(folder.join("btc_perp_1m.csv")).unwrap();
        let bars: Vec<Bar> =
            text.lines().skip(1).take(12_000).enumerate().map(|(i, line)| bar(i, line)).collect();
        let proof = prove(&bars, 12, SEED, &mut |_| ());
        assert_eq!((proof.n_times, &proof.first_violation), (12, &None));
        assert!(proof.n_rows >= 12);
    }

    /// A line of a file without gaps that starts at 23:00.
    fn bar(i: usize, line: &str) -> Bar {
        let numbers: Vec<f64> = line.split(',').skip(1).map(|cell| cell.parse().unwrap()).collect();
        let open_millis = (23 * 60 + i as i64) * MINUTE_MILLIS;
        let [open, high, low, close, volume] = numbers[..] else { panic!("{line}") };
        Bar { open_millis, close_millis: open_millis + MINUTE_MILLIS, open, high, low, close, volume }
    }
}
