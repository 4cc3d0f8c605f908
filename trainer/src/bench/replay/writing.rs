//! Rows of writing: inserting, the bytes held, checkpoints.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;

use buffers::replay::{Replay, Tier};
use memsys::ledger;
use serde_json::json;

use crate::bench::median;
use crate::bench::replay::measured::{Bench, Measured};
use crate::bench::replay::work::{Play, Write, write_each, write_many};
use crate::error::{Error, Result};

/// Transitions that are played at once and then written under the clock.
const PLAYED: usize = 1 << 18;
/// Transitions of a block.
const BLOCK: usize = 256;
/// New transitions between two checkpoints.
const NEW: usize = 10_000;

fn n_transitions(writes: &[Write]) -> usize {
    writes.iter().filter(|write| matches!(write, Write::Transition(_))).count()
}

/// Transitions per second of inserting one at a time, with the local row of each.
pub(super) fn inserts_per_second(bench: &Bench, replay: &mut Replay, play: &mut Play) -> Result<f64> {
    let mut rates = Vec::new();
    for repeat in 0..=bench.repeats {
        let writes = play.record(PLAYED);
        let began = Instant::now();
        write_each(replay, &writes)?;
        if repeat > 0 {
            rates.push(n_transitions(&writes) as f64 / began.elapsed().as_secs_f64());
        }
    }
    Ok(median(&mut rates))
}

pub(super) fn insert_1(bench: &Bench, capacity: usize) -> Result<Measured> {
    let (mut filled, mut play) = bench.work.filled(capacity, Tier::Hot)?;
    let rate = inserts_per_second(bench, &mut filled.replay, &mut play)?;
    let note = "into a full replay, the account's row written with each".to_owned();
    Ok(Measured { note, ..Measured::plain(rate) })
}

pub(super) fn insert_256(bench: &Bench, capacity: usize) -> Result<Measured> {
    let (mut filled, mut play) = bench.work.filled(capacity, Tier::Hot)?;
    let mut rates = Vec::new();
    for repeat in 0..=bench.repeats {
        let blocks: Vec<Vec<Write>> = (0..PLAYED / BLOCK).map(|_| play.record(BLOCK)).collect();
        let n: usize = blocks.iter().map(|block| n_transitions(block)).sum();
        let began = Instant::now();
        blocks.iter().try_for_each(|block| write_many(&mut filled.replay, block))?;
        if repeat > 0 {
            rates.push(n as f64 / began.elapsed().as_secs_f64());
        }
    }
    let note = "into a full replay, the account's row written with each".to_owned();
    Ok(Measured { note, ..Measured::plain(median(&mut rates)) })
}

pub(super) fn bytes_hot(bench: &Bench, capacity: usize) -> Result<Measured> {
    bytes(bench, capacity, Tier::Hot)
}

pub(super) fn bytes_compressed(bench: &Bench, capacity: usize) -> Result<Measured> {
    bytes(bench, capacity, Tier::Compressed)
}

/// Bytes as the replay counts them, and as the heap's counter has grown.
fn bytes(bench: &Bench, capacity: usize, tier: Tier) -> Result<Measured> {
    let before = ledger::counted_bytes();
    let (filled, play) = bench.work.filled(capacity, tier)?;
    drop(play);
    let grown = (ledger::counted_bytes() - before) as f64 - (filled.td_errors.len() * 4) as f64;
    let n = filled.replay.len() as f64;
    let [local, streams] =
        [filled.replay.local_bytes(), filled.dataset.bytes()].map(|bytes| bytes as f64 / n);
    let value = filled.bytes() as f64 / n;
    let rest = value - local - streams;
    let counted = grown / n;
    let note = format!(
        "transitions and tree {rest:.1}, local rows {local:.1}, shared streams {streams:.1}; the heap's counter says {counted:.1}"
    );
    let details = json!({ "ring_and_tree": rest, "own_rows": local, "streams": streams, "counted": counted });
    Ok(Measured { value, note, details })
}

/// From the replay in memory to a file on the disk.
pub(super) fn checkpoint(bench: &Bench, capacity: usize) -> Result<Measured> {
    let (mut filled, mut play) = bench.work.filled(capacity, Tier::Mapped)?;
    let path = bench.folder.join("checkpoint");
    let mut seconds = Vec::new();
    for repeat in 0..=bench.repeats {
        write_many(&mut filled.replay, &play.record(NEW))?;
        filled.replay.enforce_budget()?;
        let began = Instant::now();
        filled.replay.commit()?;
        save(&filled.replay, &path)?;
        if repeat > 0 {
            seconds.push(began.elapsed().as_secs_f64());
        }
    }
    let length = std::fs::metadata(&path).map_err(Error::io(&path))?.len();
    let note = format!("{} written and synced", crate::format::bytes(length));
    Ok(Measured { value: median(&mut seconds), note, details: json!({ "bytes": length }) })
}

fn save(replay: &Replay, path: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create(path).map_err(Error::io(path))?);
    postcard::to_io(replay, &mut file)
        .map_err(|error| Error::File { path: path.to_path_buf(), problem: error.to_string() })?;
    file.flush().and_then(|()| file.get_ref().sync_all()).map_err(Error::io(path))
}
