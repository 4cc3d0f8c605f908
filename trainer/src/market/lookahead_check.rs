//! Proof, on the bars of the user, that no feature row looks ahead.
//!
//! ```text
//! imported bars  |||||||||||||||||||||||||||||||   -> features of all of them ─┐
//!                |||||||||||||||||                 -> features of these alone ─┴─ the rows that are visible at the
//!                                 ^ a random time                                 time: equal bit for bit?
//! ```
//!
//! The times are those from which rows say that they are visible. At each, the rows are made again from the bars that
//! have closed by then: what closes later is not there to look at, so that a row that changes has seen it, and a row
//! that is missing was visible before its bar closed. The cut is made in the imported bars, so that resampling is
//! under test with the rest. Compared are the newest visible row of each view, the ATR, and which structure row is
//! paired with the newest five-minute bar; older rows are the newest at other times.
//!
//! The times are taken in order, and what was made for one goes on to the next: together they cost one pass over the
//! bars, and none is made from a bar that closes after it.
//!
//! A feature of bars that never end (a filter run forward and back, a scale fitted to the file) fails at every time;
//! one that peeks into an unfinished half hour at five times of six. A thousand times find what happens in one bar of
//! a thousand with probability 63 %. Not tested: what stands in the bars themselves, such as stamps shifted by the
//! one who wrote the file.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::market::bar::{Bar, DECISION_MILLIS, STRUCTURE_MILLIS};
use crate::market::features::{
    self, Features, LVN_NAMES, LVN_WIDTH, LvnRows, REGIME_NAMES, REGIME_WIDTH, RegimeRows, STRUCTURE_NAMES,
    STRUCTURE_WIDTH, StructureRows, TACTICAL_NAMES, TACTICAL_WIDTH, TacticalRows, View,
};
use crate::market::indicators::atr::{ATR_BARS, AverageTrueRange};
use crate::market::resample::{resample, resample_until};

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

/// The bars of both clocks that imported `bars` fill: five minutes, and half hours. A clock whose width theirs does
/// not divide has none.
#[must_use]
pub fn clocks(bars: &[Bar]) -> (Vec<Bar>, Vec<Bar>) {
    let fills = |width_millis: i64| {
        bars.first().is_some_and(|bar| width_millis % (bar.close_millis - bar.open_millis).max(1) == 0)
    };
    let of = |width_millis| if fills(width_millis) { resample(bars, width_millis) } else { Vec::new() };
    (of(DECISION_MILLIS), of(STRUCTURE_MILLIS))
}

/// Makes the features of `bars` (as imported, in order of time) again at `n_times` random times, from the bars that
/// have closed by each alone, and compares.
///
/// Times are drawn by `seed` among those from which a row is visible, once some row is fully defined (among all, if
/// none ever is). `progress` is told the number of times done.
#[must_use]
pub fn prove(bars: &[Bar], n_times: usize, seed: u64, progress: &mut dyn FnMut(usize)) -> Proof {
    let mut rows = RowMakers::default();
    prove_with(bars, n_times, seed, features::compute, |five, thirty| rows.advance(five, thirty), progress)
}

/// [`prove`] of any features: `all` computes them from all bars; `newest` makes the newest row of each view from the
/// bars of both clocks so far, which only grow from call to call.
fn prove_with(
    bars: &[Bar],
    n_times: usize,
    seed: u64,
    all: impl FnOnce(&[Bar], &[Bar]) -> Features,
    mut newest: impl FnMut(&[Bar], &[Bar]) -> Newest,
    progress: &mut dyn FnMut(usize),
) -> Proof {
    let (five, thirty) = clocks(bars);
    let all = Computed { features: all(&five, &thirty), five_close_millis: closes_of(&five) };
    drop((five, thirty));
    let mut proof = Proof { n_times: 0, n_rows: 0, first_violation: None };
    let (mut five, mut thirty) = (Clock::new(DECISION_MILLIS), Clock::new(STRUCTURE_MILLIS));
    for time_millis in all.random_times(n_times, seed) {
        let n_closed = bars.partition_point(|bar| bar.close_millis <= time_millis);
        if !all.five_close_millis.is_empty() {
            five.advance(&bars[..n_closed], time_millis);
        }
        thirty.advance(&bars[..n_closed], time_millis);
        let newest = newest(&five.bars, &thirty.bars);
        let mut sides = Sides { time_millis, n_rows: 0, violation: None };
        all.compare(&five.bars, &thirty.bars, &newest, &mut sides);
        proof.n_times += 1;
        proof.n_rows += sides.n_rows;
        proof.first_violation = proof.first_violation.take().or(sides.violation);
        progress(proof.n_times);
    }
    proof
}

fn closes_of(bars: &[Bar]) -> Vec<i64> {
    bars.iter().map(|bar| bar.close_millis).collect()
}

/// The bars of one clock that are complete at a time, which moves forward.
struct Clock {
    width_millis: i64,
    bars: Vec<Bar>,
    /// Imported bars that lie in them.
    n_taken: usize,
}

impl Clock {
    fn new(width_millis: i64) -> Self {
        Self { width_millis, bars: Vec::new(), n_taken: 0 }
    }

    /// Takes what is complete at `time_millis`, when `closed` are the imported bars that have closed.
    fn advance(&mut self, closed: &[Bar], time_millis: i64) {
        self.bars.extend(resample_until(&closed[self.n_taken..], self.width_millis, time_millis));
        let complete_until = self.bars.last().map_or(i64::MIN, |bar| bar.close_millis);
        self.n_taken = closed.partition_point(|bar| bar.open_millis < complete_until);
    }
}

/// The newest row of each view; of a view without a bar no row.
struct Newest {
    structure: Option<[f32; STRUCTURE_WIDTH]>,
    tactical: Option<[f32; TACTICAL_WIDTH]>,
    regime: Option<[f32; REGIME_WIDTH]>,
    lvn: Option<[f32; LVN_WIDTH]>,
    atr: f64,
}

/// What makes the rows, one bar after another.
struct RowMakers {
    structure: StructureRows,
    tactical: TacticalRows,
    regime: RegimeRows,
    lvn: LvnRows,
    atr: AverageTrueRange,
    n_five: usize,
    n_thirty: usize,
    newest: Newest,
}

impl Default for RowMakers {
    fn default() -> Self {
        Self {
            structure: StructureRows::default(),
            tactical: TacticalRows::default(),
            regime: RegimeRows::default(),
            lvn: LvnRows::default(),
            atr: AverageTrueRange::new(ATR_BARS),
            n_five: 0,
            n_thirty: 0,
            newest: Newest { structure: None, tactical: None, regime: None, lvn: None, atr: f64::NAN },
        }
    }
}

impl RowMakers {
    /// Makes the rows of the bars that were not there at the last call, and gives the newest.
    fn advance(&mut self, five: &[Bar], thirty: &[Bar]) -> Newest {
        for end in self.n_thirty + 1..=thirty.len() {
            self.newest.structure = Some(self.structure.push(&thirty[..end]));
        }
        for end in self.n_five + 1..=five.len() {
            let bars = &five[..end];
            self.newest.tactical = Some(self.tactical.push(bars));
            self.newest.regime = Some(self.regime.push(bars));
            self.newest.lvn = Some(self.lvn.push(bars));
            self.newest.atr = self.atr.push(&five[end - 1]);
        }
        (self.n_five, self.n_thirty) = (five.len(), thirty.len());
        Newest { ..self.newest }
    }
}

/// Features of all bars and the clock that they were computed on.
struct Computed {
    five_close_millis: Vec<i64>,
    features: Features,
}

impl Computed {
    /// `n_times` random times at which a row becomes visible, in order.
    fn random_times(&self, n_times: usize, seed: u64) -> Vec<i64> {
        let features = &self.features;
        let views = [
            (&features.structure.visible_at_millis, features.structure.first_defined),
            (&features.tactical.visible_at_millis, features.tactical.first_defined),
            (&features.regime.visible_at_millis, features.regime.first_defined),
            (&features.lvn.visible_at_millis, features.lvn.first_defined),
        ];
        let first_defined = views.iter().filter_map(|(visible_at, first)| visible_at.get(*first)).min();
        let mut candidates: Vec<i64> =
            views.iter().flat_map(|(visible_at, _)| visible_at.iter().copied()).collect();
        candidates.retain(|at| first_defined.is_none_or(|first| at >= first));
        candidates.sort_unstable();
        candidates.dedup();
        if candidates.is_empty() {
            return Vec::new();
        }
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut times: Vec<i64> =
            (0..n_times).map(|_| candidates[rng.random_range(0..candidates.len())]).collect();
        times.sort_unstable();
        times
    }

    /// Compares what is visible at the time in these features, and in the `newest` rows of the bars so far.
    fn compare(&self, five: &[Bar], thirty: &[Bar], newest: &Newest, sides: &mut Sides) {
        let all = &self.features;
        sides.view("structure", &STRUCTURE_NAMES, &all.structure, thirty, newest.structure);
        sides.view("tactical", &TACTICAL_NAMES, &all.tactical, five, newest.tactical);
        sides.view("regime", &REGIME_NAMES, &all.regime, five, newest.regime);
        sides.view("lvn", &LVN_NAMES, &all.lvn, five, newest.lvn);

        let at = self.five_close_millis.partition_point(|close| *close <= sides.time_millis).checked_sub(1);
        let or_none = |number: Option<f64>| number.unwrap_or(f64::NAN);
        let close = at.map(|at| self.five_close_millis[at] as f64);
        let pair = at.and_then(|at| all.structure_row.get(at)).map(|row| f64::from(*row));
        let atr = at.and_then(|at| all.atr.get(at)).copied();
        let last = five.last();
        let pair_of = |bar: &Bar| {
            let n_closed = thirty.partition_point(|wide| wide.close_millis <= bar.close_millis);
            f64::from(n_closed.checked_sub(1).map_or(u32::MAX, |row| row as u32))
        };
        sides.number("clock", "close", or_none(close), or_none(last.map(|bar| bar.close_millis as f64)));
        sides.number("clock", "structure_row", or_none(pair), or_none(last.map(pair_of)));
        sides.number("clock", "atr", or_none(atr), newest.atr);
    }
}

/// The comparison of one time while it is made.
struct Sides {
    time_millis: i64,
    n_rows: usize,
    violation: Option<Violation>,
}

impl Sides {
    /// Compares the newest row that is visible at the time with the `newest` that was made of `bars`.
    fn view<const W: usize>(
        &mut self,
        view: &'static str,
        names: &[&'static str; W],
        all: &View<W>,
        bars: &[Bar],
        newest: Option<[f32; W]>,
    ) {
        let at = all.visible_at_millis.partition_point(|at| *at <= self.time_millis).checked_sub(1);
        let visible_at = at.map_or(f64::NAN, |at| all.visible_at_millis[at] as f64);
        self.number(view, "row", visible_at, bars.last().map_or(f64::NAN, |bar| bar.close_millis as f64));
        let (Some(at), Some(newest)) = (at, newest) else { return };
        let row = all.rows[at];
        for ((name, a), b) in names.iter().zip(row).zip(newest) {
            self.number(view, name, f64::from(a), f64::from(b));
        }
        self.n_rows += usize::from(row.iter().any(|cell| !cell.is_nan()));
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

    /// The newest rows of any features.
    fn newest_of(features: &Features) -> Newest {
        Newest {
            structure: features.structure.rows.last().copied(),
            tactical: features.tactical.rows.last().copied(),
            regime: features.regime.rows.last().copied(),
            lvn: features.lvn.rows.last().copied(),
            atr: features.atr.last().copied().unwrap_or(f64::NAN),
        }
    }

    fn check(compute: fn(&[Bar], &[Bar]) -> Features) -> Proof {
        let bars = random_walk(1500, 1);
        let newest = |five: &[Bar], thirty: &[Bar]| newest_of(&compute(five, thirty));
        prove_with(&bars, 200, SEED, compute, newest, &mut |_| ())
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

    /// Bars of `width` minutes that begin `off` minutes past the marks of their width.
    fn off_the_clock(width: i64, off: i64) -> Vec<Bar> {
        let at = |bar: &Bar, i: i64| {
            let open_millis = (i * width + off) * MINUTE_MILLIS;
            Bar { open_millis, close_millis: open_millis + width * MINUTE_MILLIS, ..*bar }
        };
        random_walk(1500, 3).iter().zip(0..).map(|(bar, i)| at(bar, i)).collect()
    }

    #[test]
    fn bars_off_the_clock_are_visible_at_their_close_and_pass() {
        for (width, off) in [(5, 2), (10, 5), (30, 15)] {
            let bars = off_the_clock(width, off);
            let proof = prove(&bars, 100, SEED, &mut |_| ());
            assert_eq!((proof.n_times, &proof.first_violation), (100, &None), "{width} minutes");
            assert!(proof.n_rows >= 100, "{width} minutes: {}", proof.n_rows);
        }
    }

    /// What a resampling to the clock's marks would say of bars that lie off them.
    #[test]
    fn a_row_that_is_visible_before_its_bar_has_closed_is_caught() {
        let bars = off_the_clock(5, 2);
        let compute = |five: &[Bar], thirty: &[Bar]| {
            let mut features = closes(five, thirty);
            for at in &mut features.tactical.visible_at_millis {
                *at -= at.rem_euclid(DECISION_MILLIS);
            }
            features
        };
        let newest = |five: &[Bar], thirty: &[Bar]| newest_of(&closes(five, thirty));
        let proof = prove_with(&bars, 100, SEED, compute, newest, &mut |_| ());
        let violation = proof.first_violation.expect("the leak is found");
        assert_eq!((violation.view, violation.feature), ("tactical", "row"));
    }

    #[test]
    fn the_rows_made_from_time_to_time_are_those_of_the_bars_up_to_each() {
        let bars = random_walk(9000, 5);
        let newest = |five: &[Bar], thirty: &[Bar]| newest_of(&features::compute(five, thirty));
        let afresh = prove_with(&bars, 12, SEED, features::compute, newest, &mut |_| ());
        assert_eq!(afresh, prove(&bars, 12, SEED, &mut |_| ()));
        assert_eq!(afresh.first_violation, None);
        assert!(afresh.n_rows >= 24, "{}", afresh.n_rows);
    }

    #[test]
    fn progress_counts_every_time_and_no_bars_prove_nothing() {
        let mut seen = Vec::new();
        let proof = prove(&random_walk(200, 2), 20, SEED, &mut |n_done| seen.push(n_done));
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
