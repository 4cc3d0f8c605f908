//! The table: what was measured, its goal beside it, and the best peer of the same run.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::bench::median;
use crate::bench::replay::measured::Measured;
use crate::bench::replay::replay_peers::Line;
use crate::bench::replay::row::{Goal, Row};
use crate::format;

/// A row as it is printed and written.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Shown {
    name: &'static str,
    what: &'static str,
    capacity: usize,
    value: f64,
    unit: &'static str,
    goal: f64,
    at_least: bool,
    met: bool,
    note: String,
    details: Value,
    best_peer: Option<Best>,
}

#[derive(Debug, Clone, Serialize)]
struct Best {
    peer: String,
    value: f64,
    capacity: usize,
    /// How many times as good ours is.
    ratio: f64,
}

/// Puts measurements, the medians of their turns, beside goals and peers.
pub(super) fn rows(rows: &[&Row], measured: &[Vec<Measured>], lines: &[Line], most: usize) -> Vec<Shown> {
    let shown = |(row, turns): (&&Row, &Vec<Measured>)| {
        let mut values: Vec<f64> = turns.iter().map(|turn| turn.value).collect();
        let value = median(&mut values);
        // Words and details are those of the turn that the median is of.
        let of = turns.iter().find(|turn| turn.value.total_cmp(&value).is_eq()).unwrap_or(&turns[0]);
        let (goal, at_least) = match row.goal {
            Goal::AtLeast(goal) => (goal, true),
            Goal::AtMost(goal) => (goal, false),
        };
        Shown {
            name: row.name,
            what: row.what,
            capacity: row.capacity.min(most),
            value,
            unit: row.unit,
            goal,
            at_least,
            met: row.goal.is_met(value),
            note: of.note.clone(),
            details: of.details.clone(),
            best_peer: best(row, value, lines),
        }
    };
    rows.iter().zip(measured).map(shown).collect()
}

fn best(row: &Row, value: f64, lines: &[Line]) -> Option<Best> {
    let peer = row.peer?;
    let is_same = |line: &&Line| {
        (&*line.row, line.capacity, line.is_mapped) == (peer.row, peer.capacity, peer.is_mapped)
    };
    // The best peer is the one that leaves us the least ratio.
    let ratio = |line: &Line| row.goal.ratio(value, line.value);
    let best = lines.iter().filter(is_same).min_by(|a, b| ratio(a).total_cmp(&ratio(b)))?;
    Some(Best { peer: best.peer.clone(), value: best.value, capacity: best.capacity, ratio: ratio(best) })
}

/// The table in words.
pub(super) fn text(rows: &[Shown], n_decisions: usize, [before, after]: [f64; 2]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "one thread unless said, medians; 16 environments over streams of {} decisions\nload {before:.2} before, \
         {after:.2} after, of {} processors\n\n{:<52} {:>10} {:>11} {:>13} {:>4}\n",
        format::count(n_decisions as u64),
        std::thread::available_parallelism().map_or(1, usize::from),
        "",
        "capacity",
        "measured",
        "goal",
        "met"
    );
    for row in rows {
        let sign = if row.at_least { "≥" } else { "≤" };
        let _ = writeln!(
            text,
            "{:<52} {:>10} {:>11} {:>13} {:>4}",
            row.what,
            format::count(row.capacity as u64),
            number(row.value),
            format!("{sign} {}", number(row.goal)),
            if row.met { "yes" } else { "no" },
        );
    }
    text.push_str(&best_peers(rows));
    text.push('\n');
    for row in rows.iter().filter(|row| !row.note.is_empty()) {
        let _ = writeln!(text, "{} ({}): {}", row.what, row.unit, row.note);
    }
    text
}

/// The best peer of each row that has one; nothing where none ran.
fn best_peers(rows: &[Shown]) -> String {
    let mut text = String::new();
    for row in rows {
        let Some(best) = &row.best_peer else { continue };
        if text.is_empty() {
            let head = ["capacity", "measured", "best peer", "its capacity", "ratio"];
            let [capacity, measured, peer, its_capacity, ratio] = head;
            let _ = writeln!(
                text,
                "\n{:<52} {capacity:>10} {measured:>11} {peer:>25} {its_capacity:>12} {ratio:>6}",
                ""
            );
        }
        let _ = writeln!(
            text,
            "{:<52} {:>10} {:>11} {:>25} {:>12} {:>6.2}",
            row.what,
            format::count(row.capacity as u64),
            number(row.value),
            format!("{} {}", number(best.value), best.peer),
            format::count(best.capacity as u64),
            best.ratio
        );
    }
    text
}

/// All that the peers gave, in words.
pub(super) fn peers(lines: &[Line]) -> String {
    let mut text = String::new();
    if !lines.is_empty() {
        let _ = writeln!(
            text,
            "\n{:<34} {:>10} {:<12} {:>12}",
            "peers, medians of turns", "capacity", "row", "value"
        );
    }
    for line in lines {
        let capacity = format::count(line.capacity as u64);
        let value = number(line.value);
        let _ = writeln!(text, "{:<34} {capacity:>10} {:<12} {value:>12} {}", line.peer, line.row, line.unit);
    }
    text
}

fn number(value: f64) -> String {
    if value >= 1000.0 { format::count(value.round() as u64) } else { format::number(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::replay::row::ROWS;

    #[test]
    fn the_best_peer_is_the_one_that_comes_nearest() {
        let line = |peer: &str, row: &str, value| Line {
            peer: peer.to_owned(),
            row: row.to_owned(),
            capacity: 1_000_000,
            is_mapped: false,
            value,
            unit: String::new(),
        };
        let lines = [
            line("slow", "sample_256", 100e3),
            line("fast", "sample_256", 200e3),
            line("small", "bytes", 3300.0),
            line("large", "bytes", 6600.0),
        ];
        let row = |name: &str| ROWS.iter().find(|row| row.name == name).unwrap();
        let found = best(row("hot_1e6"), 600e3, &lines).unwrap();
        assert_eq!((&*found.peer, found.ratio), ("fast", 3.0));
        let found = best(row("bytes_hot_1e6"), 66.0, &lines).unwrap();
        assert_eq!((&*found.peer, found.ratio), ("small", 50.0));
        assert!(best(row("hot_1e5"), 600e3, &lines).is_none(), "a peer of another capacity says nothing");
    }
}
