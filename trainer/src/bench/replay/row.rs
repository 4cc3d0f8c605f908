//! The rows, their goals, and their peers.

use crate::bench::replay::measured::{Bench, Measured};
use crate::bench::replay::{frames, sampling, under_limit, writing};
use crate::error::Result;

/// The goal of a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// A peer's row of the same work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// Its name in the peers' script.
    pub(super) row: &'static str,
    pub(super) capacity: usize,
    /// Whether the peer keeps its rows in a file.
    pub(super) is_mapped: bool,
}

/// A row of the table.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) capacity: usize,
    pub(super) goal: Goal,
    pub(super) unit: &'static str,
    pub(super) measure: fn(&Bench, usize) -> Result<Measured>,
    pub(super) peer: Option<Peer>,
}

impl Goal {
    /// Whether `value` reaches it.
    pub(super) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(goal) => value >= goal,
            Self::AtMost(goal) => value <= goal,
        }
    }

    /// How many times as good `ours` is as `theirs`.
    pub(super) fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::AtLeast(_) => ours / theirs,
            Self::AtMost(_) => theirs / ours,
        }
    }
}

const TRANSITIONS: &str = "transitions/s";
const SMALL: usize = 100_000;
const LARGE: usize = 1_000_000;

const fn peer(row: &'static str, capacity: usize) -> Option<Peer> {
    Some(Peer { row, capacity, is_mapped: false })
}

/// All rows.
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "hot_1e5",
        what: "hot, batch 256",
        capacity: SMALL,
        goal: Goal::AtLeast(700e3),
        unit: TRANSITIONS,
        measure: sampling::hot_256,
        peer: peer("sample_256", SMALL),
    },
    Row {
        name: "hot_1e6",
        what: "hot, batch 256",
        capacity: LARGE,
        goal: Goal::AtLeast(550e3),
        unit: TRANSITIONS,
        measure: sampling::hot_256,
        peer: peer("sample_256", LARGE),
    },
    Row {
        name: "hot_threads_1e6",
        what: "hot, batch 256, several threads",
        capacity: LARGE,
        goal: Goal::AtLeast(1e6),
        unit: TRANSITIONS,
        measure: sampling::hot_threads,
        peer: None,
    },
    Row {
        name: "hot_32_1e6",
        what: "hot, batch 32",
        capacity: LARGE,
        goal: Goal::AtLeast(600e3),
        unit: TRANSITIONS,
        measure: sampling::hot_32,
        peer: peer("sample_32", LARGE),
    },
    Row {
        name: "compressed_1e6",
        what: "all chunks compressed, batch 256",
        capacity: LARGE,
        goal: Goal::AtLeast(300e3),
        unit: TRANSITIONS,
        measure: sampling::compressed,
        peer: None,
    },
    Row {
        name: "vectors_compressed_1e5",
        what: "plain vectors that share nothing, compressed",
        capacity: SMALL,
        goal: Goal::AtLeast(80e3),
        unit: TRANSITIONS,
        measure: sampling::vectors,
        peer: None,
    },
    Row {
        name: "mapped_warm_1e6",
        what: "mapped, page cache warm",
        capacity: LARGE,
        goal: Goal::AtLeast(400e3),
        unit: TRANSITIONS,
        measure: sampling::mapped_warm,
        peer: Some(Peer { row: "sample_256", capacity: LARGE, is_mapped: true }),
    },
    Row {
        name: "mapped_cold_1e6",
        what: "mapped, page cache cold, at once",
        capacity: LARGE,
        goal: Goal::AtLeast(10e3),
        unit: TRANSITIONS,
        measure: sampling::mapped_cold,
        peer: None,
    },
    Row {
        name: "mapped_cold_prefetch_1e6",
        what: "mapped, page cache cold, prefetch",
        capacity: LARGE,
        goal: Goal::AtLeast(30e3),
        unit: TRANSITIONS,
        measure: sampling::mapped_cold_prefetch,
        peer: None,
    },
    Row {
        name: "insert_1_1e6",
        what: "insert, one at a time",
        capacity: LARGE,
        goal: Goal::AtLeast(3e6),
        unit: TRANSITIONS,
        measure: writing::insert_1,
        peer: peer("insert_1", LARGE),
    },
    Row {
        name: "insert_256_1e6",
        what: "insert, 256 at a time",
        capacity: LARGE,
        goal: Goal::AtLeast(5e6),
        unit: TRANSITIONS,
        measure: writing::insert_256,
        peer: peer("insert_256", LARGE),
    },
    Row {
        name: "bytes_hot_1e6",
        what: "bytes, hot, all included",
        capacity: LARGE,
        goal: Goal::AtMost(96.0),
        unit: "bytes/transition",
        measure: writing::bytes_hot,
        peer: peer("bytes", LARGE),
    },
    Row {
        name: "bytes_compressed_1e6",
        what: "bytes, compressed, all included",
        capacity: LARGE,
        goal: Goal::AtMost(56.0),
        unit: "bytes/transition",
        measure: writing::bytes_compressed,
        peer: peer("bytes", LARGE),
    },
    Row {
        name: "frames_bytes_1e5",
        what: "frames 84×84, stack of 4: bytes, all included",
        capacity: SMALL,
        goal: Goal::AtMost(250.0),
        unit: "bytes/transition",
        measure: frames::bytes,
        peer: None,
    },
    Row {
        name: "frames_1e5",
        what: "frames 84×84, stack of 4: batch 256, compressed",
        capacity: SMALL,
        goal: Goal::AtLeast(60e3),
        unit: TRANSITIONS,
        measure: frames::samples,
        peer: None,
    },
    Row {
        name: "checkpoint_1e6",
        what: "checkpoint after 10,000 new transitions",
        capacity: LARGE,
        goal: Goal::AtMost(0.1),
        unit: "s",
        measure: writing::checkpoint,
        peer: peer("checkpoint", SMALL),
    },
    Row {
        name: "line_2e7",
        what: "in a memory limit of 512 MiB, of hot without one",
        capacity: 20_000_000,
        goal: Goal::AtLeast(1.0 / 3.0),
        unit: "of hot",
        measure: under_limit::against_hot,
        peer: None,
    },
    Row {
        name: "latency_1e5",
        what: "latency of a batch of 256, 99th / median",
        capacity: SMALL,
        goal: Goal::AtMost(2.0),
        unit: "p99/median",
        measure: sampling::latency,
        peer: peer("latency", SMALL),
    },
];
