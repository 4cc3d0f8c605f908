//! `plimsoll bench memory`: a managed run against an unmanaged one, and what a lower memory limit costs.
//!
//! All runs have the same program, seed and work, each in its own process with its own peak. A turn makes all runs
//! one after the other, and ratios are taken within a turn, since a shared machine slows all runs of a turn alike.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value, json};

use crate::bench::{median, scratch_folder};
use crate::config::Config;
use crate::console::{print, say};
use crate::error::{Error, Result};
use crate::report::summary;
use crate::{atomic_file, format};

/// Settings of the measured run over the defaults: random actions until the replay holds its transitions, then
/// learner steps of the full networks. The market is short, so that few learner steps sample its positions as often
/// as a whole target interval samples those of a longer one: target embeddings kept by position are then used as in
/// a long run.
const WORK: [&str; 5] = [
    "embedders.preset=full",
    "synthetic.days=14",
    "run.checkpoint_interval_steps=100000000",
    "run.evaluation_interval_steps=100000000",
    "agent.samples_per_insert=4",
];

/// A managed run against an unmanaged one, and what a lower memory limit costs.
///
/// Unmanaged is `--set memory.managed=false`: the replay copies whole observations (which have no position under
/// which an embedding could be kept), the step runs the batch at once, attention is the plain product, activations
/// are kept, and nothing is refused.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  plimsoll bench memory --json memory.json\n  plimsoll bench memory --limits 50,30 \
                        --transitions 20000 --turns 3"
)]
pub struct BenchMemoryArgs {
    /// Memory limits, in percent of the unmanaged peak.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "100,75,50,40,30,20",
        value_name = "PCT,…",
        allow_hyphen_values = true
    )]
    limits: Vec<f64>,
    /// Transitions that the replay holds when learning begins.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    transitions: u64,
    /// Learner steps of a run.
    #[arg(long, value_name = "N", default_value_t = 32)]
    learner_steps: u64,
    /// Turns; the median of their ratios is printed.
    #[arg(long, value_name = "N", default_value_t = 1)]
    turns: usize,
    /// Threads that compute.
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Sets one key over the measured run's, such as agent.batch=256.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Also writes the numbers there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What a run held and did.
#[derive(Debug, Clone, Copy)]
struct Held {
    peak_bytes: u64,
    samples_per_second: f64,
    samples_per_processor_second: f64,
}

/// A memory limit, and what came of it over the turns.
#[derive(Debug)]
struct Row {
    name: String,
    limit_bytes: Option<u64>,
    peak_bytes: u64,
    step_config: String,
    ratios: Vec<f64>,
    processor_ratios: Vec<f64>,
}

/// Runs the bench.
///
/// # Errors
/// Where `--limits` is out of range, or a run fails.
pub fn run(args: &BenchMemoryArgs) -> Result<()> {
    if let Some(limit) = args.limits.iter().find(|limit| !(f64::MIN_POSITIVE..=100.0).contains(*limit)) {
        let problem =
            format!("{limit} is no memory limit: percent of the unmanaged peak, above 0 and at most 100");
        return Err(Error::Config { key: "--limits".to_owned(), problem });
    }
    atomic_file::expect_folder(args.json.as_deref())?;
    let folder = scratch_folder(&std::env::temp_dir())?;
    let report = measure(args, folder.path())?;
    folder.close().map_err(Error::io(std::env::temp_dir()))?;
    print(&table(args, &report));
    atomic_file::write_json(args.json.as_deref(), &report)
}

fn measure(args: &BenchMemoryArgs, folder: &Path) -> Result<Value> {
    let sets = [WORK.map(str::to_owned).as_slice(), &args.set].concat();
    let embedders = Config::load(None, &sets)?.embedders.preset.word();
    let mut rows: Vec<Row> = Vec::new();
    let mut unmanaged_rates = Vec::new();
    let mut unmanaged_peak = 0;
    for turn in 0..args.turns.max(1) {
        say(&format!("turn {} of {}: unmanaged", turn + 1, args.turns.max(1)));
        let (usual, _) = child(args, folder, &["memory.managed=false".to_owned()])?
            .ok_or_else(|| refused("the unmanaged run was refused, which nothing in it does"))?;
        unmanaged_rates.push(usual.samples_per_second);
        if turn == 0 {
            unmanaged_peak = usual.peak_bytes;
            rows = limits(args, folder, unmanaged_peak)?;
        }
        for row in &mut rows {
            say(&format!("turn {} of {}: {}", turn + 1, args.turns.max(1), row.name));
            let sets: Vec<String> =
                row.limit_bytes.map(|bytes| format!("memory.limit={bytes}")).into_iter().collect();
            let Some((held, step_config)) = child(args, folder, &sets)? else {
                "refused (status 3)".clone_into(&mut row.step_config);
                continue;
            };
            row.peak_bytes = row.peak_bytes.max(held.peak_bytes);
            row.step_config = step_config;
            row.ratios.push(held.samples_per_second / usual.samples_per_second);
            row.processor_ratios.push(held.samples_per_processor_second / usual.samples_per_processor_second);
        }
    }
    let row = |row: &mut Row| {
        json!({
            "name": row.name,
            "limit_bytes": row.limit_bytes,
            "peak_bytes": (row.peak_bytes > 0).then_some(row.peak_bytes),
            "step_config": row.step_config,
            "peak_ratio": (row.peak_bytes > 0).then(|| row.peak_bytes as f64 / unmanaged_peak as f64),
            "throughput_ratio": (!row.ratios.is_empty()).then(|| median(&mut row.ratios)),
            "processor_throughput_ratio": (!row.ratios.is_empty()).then(|| median(&mut row.processor_ratios)),
        })
    };
    Ok(json!({
        "threads": args.threads,
        "turns": args.turns.max(1),
        "transitions": args.transitions,
        "learner_steps": args.learner_steps,
        "embedders": embedders,
        "unmanaged": { "peak_bytes": unmanaged_peak, "samples_per_second": median(&mut unmanaged_rates) },
        "managed": rows.iter_mut().map(row).collect::<Vec<_>>(),
    }))
}

/// The memory limits to measure: none, those of `--limits`, and the smallest of the plan.
fn limits(args: &BenchMemoryArgs, folder: &Path, unmanaged_peak: u64) -> Result<Vec<Row>> {
    let row = |name: String, limit_bytes| Row {
        name,
        limit_bytes,
        peak_bytes: 0,
        step_config: String::new(),
        ratios: Vec::new(),
        processor_ratios: Vec::new(),
    };
    let mut rows = vec![row("limit far away".to_owned(), None)];
    for percent in &args.limits {
        let bytes = (unmanaged_peak as f64 * percent / 100.0) as u64;
        rows.push(row(format!("limit at {percent} %"), Some(bytes)));
    }
    let plan = folder.join("plan.json");
    let mut command = program()?;
    command.arg("plan").arg("--json").arg(&plan).args(settings(args));
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let smallest = summary::read(&plan)?["smallest_limit_bytes"].as_u64();
    let smallest = smallest.ok_or_else(|| refused("the plan names no smallest memory limit"))?;
    let percent = 100.0 * smallest as f64 / unmanaged_peak as f64;
    rows.push(row(format!("smallest memory limit, {percent:.0} %"), Some(smallest)));
    Ok(rows)
}

fn settings(args: &BenchMemoryArgs) -> Vec<String> {
    let batch = 128;
    let mut sets: Vec<String> = WORK.map(str::to_owned).to_vec();
    sets.push(format!("agent.learning_starts={}", args.transitions));
    // Four samples an insert: 32 inserted transitions make a batch of 128 due.
    sets.push(format!("run.environment_steps={}", args.transitions + args.learner_steps * batch / 4));
    sets.push(format!("run.threads={}", args.threads));
    sets.extend(args.set.iter().cloned());
    sets.into_iter().flat_map(|set| ["--set".to_owned(), set]).collect()
}

fn program() -> Result<Command> {
    let path = std::env::current_exe().map_err(Error::io("/proc/self/exe"))?;
    Ok(Command::new(path))
}

/// A run in a process of its own; `None` where it was refused.
fn child(args: &BenchMemoryArgs, folder: &Path, sets: &[String]) -> Result<Option<(Held, String)>> {
    let out = folder.join("run");
    if out.exists() {
        std::fs::remove_dir_all(&out).map_err(Error::io(&out))?;
    }
    let mut command = program()?;
    command.arg("train").arg("--out").arg(&out).args(settings(args));
    sets.iter().for_each(|set| {
        command.arg("--set").arg(set);
    });
    let output = command.stdin(Stdio::null()).output().map_err(Error::io("plimsoll"))?;
    match output.status.code() {
        Some(0) => {}
        Some(3) => return Ok(None),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or("it said nothing");
            return Err(refused(&format!("a run ended with {}: {last}", output.status)));
        }
    }
    let found = summary::read(&out.join("summary.json"))?;
    let held = Held {
        peak_bytes: found["peak_resident_bytes"].as_u64().unwrap_or(0),
        samples_per_second: found["samples_per_second"].as_f64().unwrap_or(f64::NAN),
        samples_per_processor_second: found["samples_per_processor_second"].as_f64().unwrap_or(f64::NAN),
    };
    let step_config = &found["step_config"];
    let step_config = match (step_config["micro_batch"].as_u64(), step_config["activations"].as_str()) {
        (Some(micro_batch), Some(activations)) => format!("{micro_batch}, {activations}"),
        _ => String::new(),
    };
    Ok(Some((held, step_config)))
}

fn refused(problem: &str) -> Error {
    Error::File { path: PathBuf::from("plimsoll train"), problem: problem.to_owned() }
}

fn table(args: &BenchMemoryArgs, report: &Value) -> String {
    let bytes = |value: &Value| value.as_u64().map_or_else(|| format::UNKNOWN.to_owned(), format::bytes);
    let ratio = |value: &Value| {
        value.as_f64().map_or_else(|| format::UNKNOWN.to_owned(), |ratio| format!("{ratio:.2}"))
    };
    let times = |value: &Value| {
        value.as_f64().map_or_else(|| format::UNKNOWN.to_owned(), |ratio| format!("{ratio:.2} x"))
    };
    let mut text = format!(
        "{} thread(s), {} turn(s), {} transitions in the replay, {} learner steps of 128, {} embedders\n\
         {:<28} {:>10} {:>10} {:>8} {:>10} {:>14}  micro-batch, activations\n",
        args.threads,
        args.turns.max(1),
        format::count(args.transitions),
        args.learner_steps,
        report["embedders"].as_str().unwrap_or(""),
        "",
        "limit",
        "peak",
        "of usual",
        "samples/s",
        "/processor s",
    );
    let usual = &report["unmanaged"];
    let rate = usual["samples_per_second"].as_f64().unwrap_or(f64::NAN);
    text.push_str(&format!(
        "{:<28} {:>10} {:>10} {:>8} {rate:>10.1}\n",
        "unmanaged",
        "",
        bytes(&usual["peak_bytes"]),
        "1.00",
    ));
    for row in report["managed"].as_array().into_iter().flatten() {
        text.push_str(&format!(
            "{:<28} {:>10} {:>10} {:>8} {:>10} {:>14}  {}\n",
            row["name"].as_str().unwrap_or(""),
            bytes(&row["limit_bytes"]),
            bytes(&row["peak_bytes"]),
            ratio(&row["peak_ratio"]),
            times(&row["throughput_ratio"]),
            times(&row["processor_throughput_ratio"]),
            row["step_config"].as_str().unwrap_or("")
        ));
    }
    text
}
