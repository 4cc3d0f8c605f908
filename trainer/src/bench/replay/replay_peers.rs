//! The same work through replays from PyPI, in turn with ours: `tests/peers/replay_peers.py`, carried in the program.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bench::median;
use crate::bench::replay::row::{Peer, Row};
use crate::console::say_always;
use crate::error::{Error, Result};

const SCRIPT: &str = include_str!("../../../../tests/peers/replay_peers.py");

const SMALL: usize = 100_000;
const LARGE: usize = 1_000_000;

/// What the peers' script is run with.
#[derive(Debug)]
pub(super) struct PeerSettings<'a> {
    /// The Python that has their packages.
    pub(super) python: &'a Path,
    /// No peer holds more transitions than this.
    pub(super) most: usize,
    /// Seconds of a repeat.
    pub(super) seconds: f64,
    /// Where they put their files.
    pub(super) folder: &'a Path,
}

/// A peer at one capacity, in a process of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerRun {
    /// Its name in the script.
    pub(super) name: &'static str,
    pub(super) capacity: usize,
    /// Its rows there, in the order in which they are measured.
    rows: &'static [&'static str],
    is_mapped: bool,
}

const INSERTS_AND_SAMPLES: &[&str] =
    &["insert_256", "insert_1", "bytes", "sample_32", "sample_256", "sample_1024"];
const WITH_CHECKPOINT: &[&str] =
    &["insert_256", "insert_1", "bytes", "sample_32", "sample_256", "sample_1024", "latency", "checkpoint"];

const fn in_memory(name: &'static str, capacity: usize, rows: &'static [&'static str]) -> PeerRun {
    PeerRun { name, capacity, rows, is_mapped: false }
}

const RUNS: &[PeerRun] = &[
    in_memory("cpprb", SMALL, WITH_CHECKPOINT),
    in_memory("cpprb-shared", SMALL, INSERTS_AND_SAMPLES),
    in_memory("torchrl", SMALL, WITH_CHECKPOINT),
    in_memory("sb3", SMALL, WITH_CHECKPOINT),
    in_memory("cpprb", LARGE, INSERTS_AND_SAMPLES),
    in_memory("cpprb-shared", LARGE, INSERTS_AND_SAMPLES),
    in_memory("torchrl", LARGE, INSERTS_AND_SAMPLES),
    PeerRun { is_mapped: true, ..in_memory("torchrl-memmap", LARGE, INSERTS_AND_SAMPLES) },
];

/// One row of one peer.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Line {
    pub(super) peer: String,
    pub(super) row: String,
    pub(super) capacity: usize,
    pub(super) is_mapped: bool,
    pub(super) value: f64,
    pub(super) unit: String,
}

/// The runs whose rows are compared with one of `rows`.
pub(super) fn needed(rows: &[&Row]) -> Vec<PeerRun> {
    let serves = |run: &&PeerRun| rows.iter().filter_map(|row| row.peer).any(|peer| run.serves(&peer));
    RUNS.iter().filter(serves).copied().collect()
}

impl PeerRun {
    fn serves(&self, peer: &Peer) -> bool {
        self.capacity == peer.capacity && self.is_mapped == peer.is_mapped && self.rows.contains(&peer.row)
    }

    /// Runs the script. A peer that is not installed gives no lines and a word to the user. Checkpoints, of which some
    /// take a minute, are taken in the first turn alone.
    pub(super) fn run(&self, turn: usize, with: &PeerSettings<'_>) -> Result<Vec<Line>> {
        let (python, capacity) = (with.python, self.capacity.min(with.most));
        let is_due = |row: &&&str| turn == 0 || **row != "checkpoint";
        let rows: Vec<&str> = self.rows.iter().filter(is_due).copied().collect();
        let started = Command::new(python)
            .args(["-", "--peer", self.name, "--capacity", &capacity.to_string(), "--rows", &rows.join(",")])
            .args(["--repeats", "1", "--seconds", &with.seconds.to_string(), "--folder"])
            .arg(with.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                say_always(&format!("{}: skipped: {}: {error}", self.name, python.display()));
                return Ok(Vec::new());
            }
        };
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(SCRIPT.as_bytes()).map_err(Error::io(python))?;
        }
        let output = child.wait_with_output().map_err(Error::io(python))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let printed: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        let skipped = printed.iter().find_map(|line| line["skipped"].as_str()).map(str::to_owned);
        let failed =
            (!output.status.success()).then(|| said.lines().last().unwrap_or("it failed").to_owned());
        if let Some(reason) = skipped.or(failed) {
            say_always(&format!("{}: skipped: {reason}", self.name));
        }
        Ok(printed.iter().filter_map(|line| self.line(line)).collect())
    }

    fn line(&self, printed: &Value) -> Option<Line> {
        Some(Line {
            peer: printed["peer"].as_str()?.to_owned(),
            row: printed["row"].as_str()?.to_owned(),
            capacity: self.capacity,
            is_mapped: self.is_mapped,
            value: printed["value"].as_f64()?,
            unit: printed["unit"].as_str()?.to_owned(),
        })
    }
}

/// The medians over the turns, in the order of the first.
pub(super) fn medians(lines: &[Line]) -> Vec<Line> {
    let is_same = |a: &Line, b: &Line| (&a.peer, &a.row, a.capacity) == (&b.peer, &b.row, b.capacity);
    let mut medians: Vec<Line> = Vec::new();
    for line in lines {
        if medians.iter().any(|earlier| is_same(earlier, line)) {
            continue;
        }
        let mut values: Vec<f64> =
            lines.iter().filter(|other| is_same(other, line)).map(|line| line.value).collect();
        medians.push(Line { value: median(&mut values), ..line.clone() });
    }
    medians
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::replay::row::ROWS;

    #[test]
    fn every_compared_row_has_a_peer_that_runs_it() {
        for peer in ROWS.iter().filter_map(|row| row.peer) {
            assert!(RUNS.iter().any(|run| run.serves(&peer)), "{} at {}", peer.row, peer.capacity);
        }
    }

    #[test]
    fn medians_are_of_one_peer_row_and_capacity() {
        let line = |peer: &str, value| Line {
            peer: peer.to_owned(),
            row: "insert_1".to_owned(),
            capacity: SMALL,
            is_mapped: false,
            value,
            unit: String::new(),
        };
        let all =
            [line("a", 3.0), line("b", 9.0), line("a", 1.0), line("b", 8.0), line("a", 2.0), line("b", 7.0)];
        let found: Vec<(String, f64)> =
            medians(&all).into_iter().map(|line| (line.peer, line.value)).collect();
        assert_eq!(found, [("a".to_owned(), 2.0), ("b".to_owned(), 8.0)]);
    }
}
