//! `plimsoll bench replay`: rates of the replay, the bytes it holds, and how both grow.
//!
//! One thread unless a row says otherwise. An observation is gathered together with the one it bootstraps from,
//! both as tensors in reused memory; a sampling rate includes drawing, gathering and updating the priorities.

mod comparison;
mod frames;
mod growth;
mod measured;
mod replay_peers;
mod row;
mod sampling;
mod under_limit;
mod work;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use memsys::limit::MemoryLimit;
use serde_json::{Value, json};

use self::measured::{Bench, Measured};
use self::replay_peers::PeerSettings;
use self::row::{ROWS, Row};
use self::work::Work;
use crate::atomic_file;
use crate::bench::scratch_folder;
use crate::console::{print, say};
use crate::error::{Error, Result};

/// Turns that sides take where there are peers.
const TURNS: usize = 3;

/// Replay: samples/s by tier, inserts/s, bytes per transition, checkpoints, latency, growth.
///
/// Over the synthetic market: 817 numbers and the account per observation, prioritized, sixteen environments,
/// n-step 3.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  plimsoll bench replay --json replay.json\n  plimsoll bench replay --rows hot,insert \
                        --peers --python .peers/bin/python\n  plimsoll bench replay --rows none --growth growth.html\n\nPeers:\n  \
                        tests/peers/replay_peers.py says how to install them."
)]
pub struct BenchReplayArgs {
    /// Rows to measure, by the beginnings of their names (all where none is given, `none` for none).
    #[arg(long, value_delimiter = ',', value_name = "ROW,…")]
    rows: Vec<String>,
    /// Threads that sample in the rows for several; all others use one.
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Repeats of each measurement; the median is printed.
    #[arg(long, value_name = "N", default_value_t = 5)]
    repeats: usize,
    /// Seconds of a repeat.
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    seconds: f64,
    /// No row and no point of the growth holds more transitions than this.
    #[arg(long, value_name = "N", default_value_t = 20_000_000)]
    most: usize,
    /// Takes turns with cpprb, TorchRL and Stable-Baselines3; those that are not installed are skipped with a word.
    #[arg(long)]
    peers: bool,
    /// The Python that has the peers' packages.
    #[arg(long, value_name = "FILE", default_value = ".peers/bin/python")]
    python: PathBuf,
    /// Also measures inserting and sampling from 1e3 to 1e7 transitions, as a plot (.html) or as numbers (.csv).
    #[arg(long, value_name = "FILE")]
    growth: Option<PathBuf>,
    /// Where the mapped rows and the peers put their files, on a disk and not in memory; they are removed.
    #[arg(long, value_name = "DIR", default_value = ".")]
    folder: PathBuf,
    /// Measures a replay of `--most` transitions alone, in this process, held to this memory limit.
    #[arg(long = "memory", value_name = "SIZE", conflicts_with_all = ["rows", "peers", "growth"])]
    limit: Option<String>,
    /// Also writes the numbers there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the bench.
///
/// # Errors
/// Where a row or file is not known, or a measurement fails.
pub fn run(args: &BenchReplayArgs) -> Result<()> {
    atomic_file::expect_folder(args.json.as_deref())?;
    atomic_file::expect_folder(args.growth.as_deref())?;
    memsys::os::tune_malloc();
    memsys::libtorch::open()?;
    memsys::libtorch::count_tensors()?;
    memsys::libtorch::set_threads_once(1)?;
    let rows = chosen(args)?;
    let folder = scratch_folder(&args.folder)?;
    let result = match &args.limit {
        Some(limit) => under_limit(args, limit, folder.path())?,
        None => measure(args, &rows, folder.path())?,
    };
    folder.close().map_err(Error::io(&args.folder))?;
    atomic_file::write_json(args.json.as_deref(), &result)
}

/// The measurement of `--memory`.
fn under_limit(args: &BenchReplayArgs, limit: &str, folder: &Path) -> Result<Value> {
    let wrong = |problem| Error::Config { key: "--memory".to_owned(), problem };
    let limit_bytes =
        MemoryLimit::parse(limit).map_err(wrong)?.limit_bytes(memsys::os::probe::allowed_bytes()?);
    let bench = bench_over(under_limit::work(folder)?, args, folder);
    let measured = under_limit::measure(&bench, args.most, limit_bytes)?;
    print(&format!("{}\n", measured.text()));
    Ok(json!(measured))
}

fn chosen(args: &BenchReplayArgs) -> Result<Vec<&'static Row>> {
    if args.rows.iter().any(|word| word == "none") {
        return Ok(Vec::new());
    }
    for word in &args.rows {
        if !ROWS.iter().any(|row| row.name.starts_with(word)) {
            let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            let problem = format!("no row begins with `{word}`: {}", names.join(", "));
            return Err(Error::Config { key: "--rows".to_owned(), problem });
        }
    }
    let is_chosen =
        |row: &&Row| args.rows.is_empty() || args.rows.iter().any(|word| row.name.starts_with(word));
    Ok(ROWS.iter().filter(is_chosen).collect())
}

fn measure(args: &BenchReplayArgs, rows: &[&Row], folder: &Path) -> Result<Value> {
    let mut bench = bench_over(Work::new(folder)?, args, folder);
    let load_before = load();
    let mut measured: Vec<Vec<Measured>> = rows.iter().map(|_| Vec::new()).collect();
    let mut lines = Vec::new();
    let settings = PeerSettings { python: &args.python, most: args.most, seconds: args.seconds, folder };
    let peers = if args.peers { replay_peers::needed(rows) } else { Vec::new() };
    for turn in 0..if peers.is_empty() { 1 } else { TURNS } {
        if turn > 0 {
            // Rows with a peer are repeated by turns.
            bench.repeats = 1;
        }
        for (row, measured) in rows.iter().zip(&mut measured) {
            if turn > 0 && row.peer.is_none() {
                continue;
            }
            say(&format!("measuring {}", row.what));
            measured.push((row.measure)(&bench, row.capacity.min(args.most))?);
        }
        for peer in &peers {
            say(&format!("turn {} of {TURNS}: {} at {}", turn + 1, peer.name, peer.capacity.min(args.most)));
            lines.extend(peer.run(turn, &settings)?);
        }
    }
    let load_after = load();
    let lines = replay_peers::medians(&lines);
    let rows = comparison::rows(rows, &measured, &lines, args.most);
    print(&comparison::text(&rows, bench.work.n_decisions(), [load_before, load_after]));
    print(&comparison::peers(&lines));
    let mut result = json!({
        "threads_of_several": bench.threads,
        "processors": std::thread::available_parallelism().map_or(1, usize::from),
        "load": [load_before, load_after],
        "repeats": args.repeats,
        "seconds": args.seconds,
        "rows": rows,
        "peers": lines,
    });
    if let Some(path) = &args.growth {
        bench.repeats = args.repeats.max(1);
        let points = growth::measure(&bench, args.most)?;
        print(&growth::text(&points));
        growth::write(&points, path)?;
        result["growth"] = json!(points);
    }
    Ok(result)
}

/// Load average of the last minute: other work on this machine.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

fn bench_over(work: Work, args: &BenchReplayArgs, folder: &Path) -> Bench {
    Bench {
        work: Arc::new(work),
        threads: args.threads.max(1),
        repeats: args.repeats.max(1),
        seconds: args.seconds,
        folder: folder.to_path_buf(),
    }
}
