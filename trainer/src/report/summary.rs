//! The end of a run: runs the test, writes `summary.json` and `report.html`, and prints a few lines.
//!
//! A value that this program does not measure is `null` in the summary, never 0.

use memsys::ledger::OwnerBytes;
use memsys::system::recommend::Recommendation;
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::atomic_file::write_aside;
use crate::error::{Error, Result};
use crate::format;
use crate::market::dataset::bars_sha256;
use crate::market::price_series::PriceSeries;
use crate::report::conclusion::Conclusion;
use crate::report::test_rows::test_json;
use crate::report::{html, terminal, test_details, test_tables};
use crate::run::checkpoint;
use crate::run::evaluation::{Evaluator, TestResult};
use crate::run::train_loop::RunState;

/// Tests the agent and writes `summary.json` and `report.html`.
///
/// # Errors
/// Where the test or the disk fails.
pub fn conclude(state: &mut RunState, command_line: &str, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let conclusion = Conclusion::of(state)?;
    state.folder.require_in_place()?;
    // Before anyone has seen it: a run that is killed here and resumed at the same step reports the same test.
    checkpoint::note_report(&state.folder.checkpoint(), state.counters.environment_steps)?;
    let summary = summary(state, &conclusion);
    let text = serde_json::to_vec_pretty(&summary).expect("a JSON value is always JSON");
    if let TestResult::Market(test) = &conclusion.test {
        test_tables::write(&state.folder, test)?;
    }
    write_aside(&state.folder.summary(), &text)?;
    let page = html::render(&html::data(state, &conclusion, command_line)?);
    write_aside(&state.folder.report(), page.as_bytes())?;
    for line in terminal::lines(state, &conclusion) {
        say(&line);
    }
    Ok(())
}

fn summary(state: &RunState, conclusion: &Conclusion) -> Value {
    let counters = &state.counters;
    let account = conclusion.account.as_ref();
    let replay = state.learner.replay();
    let n_transitions = replay.len() as u64;
    json!({
        "seed": state.parts.run.seed,
        "environment_steps": counters.environment_steps,
        "learner_steps": counters.learner_steps,
        "wall_seconds": counters.wall_seconds,
        "samples_per_second": conclusion.samples_per_second,
        "samples_per_processor_second": conclusion.samples_per_processor_second,
        "limit_bytes": conclusion.limit_bytes,
        "peak_resident_bytes": conclusion.peak_resident_bytes,
        "peak_counted_bytes": account.map(|account| account.peak_counted_bytes),
        "counted_bytes": account.map(|account| account.counted_bytes),
        "resident_bytes": account.map(|account| account.resident_bytes),
        "untouched_bytes": account.map(|account| account.untouched_bytes),
        "residual_bytes": account.map(|account| account.residual_bytes),
        "denied_allocations": account.map(|account| account.denied_allocations),
        "steps_retried": account.map(|account| account.steps_retried),
        "collections": account.map(|account| account.collections),
        "step_config": account.map(|account| json!({
            "micro_batch": account.step_config.micro_batch, "activations": account.step_config.modes.to_string(),
        })),
        "owners": account.map(|account| {
            let owner = |owner: &OwnerBytes| (owner.path.to_owned(), json!({
                "bytes": owner.bytes, "peak_bytes": owner.peak_bytes,
            }));
            account.owners.iter().map(owner).collect::<Map<_, _>>()
        }),
        "leaks": account.map(|account| account.leaks.len()),
        "alerts": account.map(|account| account.alerts),
        "recommendations": account.map(|account| {
            let one = |one: &Recommendation| json!({ "text": one.text, "setting": one.setting });
            account.recommendations.iter().map(one).collect::<Vec<_>>()
        }),
        "replay": {
            "transitions": n_transitions,
            "bytes_per_transition": if n_transitions > 0 { json!(replay.bytes() as f64 / n_transitions as f64) } else { Value::Null },
        },
        "weights_sha256": conclusion.weights_sha256,
        "last_weights_sha256": conclusion.last_weights_sha256,
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("PLIMSOLL_COMMIT"),
        "time": now(),
        "data": data(state),
        "configuration": configuration(state),
        "test_reported_before": conclusion.reported_before,
        "data_identity": counters.data_identity,
        "best_validation": counters.best,
        "test": test_json(&conclusion.test),
        "test_details": match &conclusion.test {
            TestResult::Market(test) => test_details::json(test),
            TestResult::Episodes(_) => Value::Null,
        },
    })
}

/// The moment, UTC.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format::utc(since.as_millis() as i64, "%Y-%m-%dT%H:%M:%SZ")
}

/// Which bars the run was on: files as they were given, and each instrument with its identity.
fn data(state: &RunState) -> Value {
    let Evaluator::Market(market) = &state.evaluator else { return Value::Null };
    let moment = |millis: i64| format::utc(millis, "%Y-%m-%dT%H:%M:%SZ");
    let instrument = |series: &PriceSeries| {
        let (first, last) = (&series.bars[0], &series.bars[series.bars.len() - 1]);
        json!({
            "name": series.name,
            "five_minute_bars": series.bars.len(),
            "from": moment(first.open_millis),
            "to": moment(last.close_millis),
            "sha256": bars_sha256(&series.bars),
        })
    };
    json!({
        "identity": state.counters.data_identity,
        "files": state.parts.market.sources.iter().map(|one| one.path.display().to_string()).collect::<Vec<_>>(),
        "instruments": market.price_series.iter().map(instrument).collect::<Vec<_>>(),
    })
}

/// The resolved configuration.
fn configuration(state: &RunState) -> Value {
    state.config_toml.parse::<toml::Table>().map_or(Value::Null, |table| json!(table))
}

/// Reads a summary back.
///
/// # Errors
/// Where it is missing or no JSON.
pub fn read(path: &std::path::Path) -> Result<Value> {
    let text = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::File { path: path.to_path_buf(), problem: format!("is no summary: {error}") })
}
