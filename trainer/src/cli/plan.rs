//! `plimsoll plan`.

use std::path::PathBuf;

use crate::atomic_file;
use crate::cli::settings::SettingsArgs;
use crate::cli::train::find_data;
use crate::console::{print, say};
use crate::error::{Error, Result};
use crate::memory;
use crate::resolve::{leave_out_unusable_spill, resolve};
use crate::room_to_run::require_threads;
use clap::{Args, ValueEnum};

/// How the plan is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Estimates from the widths of the networks and the sizes of the files. Nothing is run.
    Static,
    /// Measures the networks in a dry run, as a run does before it loads anything.
    Measured,
}

/// Plan the bytes that a configuration needs, part by part, and what fits the memory limit.
///
/// The exit status is 3 if the memory limit cannot hold the run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  plimsoll plan --memory 512MiB\n  plimsoll plan --mode static --set \
                        embedders.preset=full --set agent.batch=512\n  plimsoll plan --data btc_1m.csv --json plan.json")]
pub(super) struct PlanArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// How to make the plan.
    #[arg(long, value_enum, default_value = "measured")]
    mode: Mode,
    /// Also writes the numbers to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &PlanArgs) -> Result<()> {
    let config = args.settings.load()?;
    if !config.memory.managed {
        let problem = "a run without management has no plan: nothing in it is counted".to_owned();
        return Err(Error::Config { key: "memory.managed".to_owned(), problem });
    }
    find_data(&config)?;
    atomic_file::expect_folder(args.json.as_deref())?;
    let mut parts = resolve(&config, &memsys::libtorch::open()?)?;
    leave_out_unusable_spill(&mut parts.memory, &say)?;
    require_threads(&parts)?;
    memsys::libtorch::set_threads_once(parts.threads)?;
    let limit = parts.memory.limit;
    let plan = match args.mode {
        Mode::Static => memory::plan_statically(limit, &parts)?,
        Mode::Measured => {
            say("running the networks");
            match memory::measure(limit, &parts)? {
                Some(measured) => measured.plan,
                None => memory::plan_statically(limit, &parts)?,
            }
        }
    };
    print(&plan.to_string());
    print(&format!("\n# recommended\n{}", plan.recommended()));
    atomic_file::write_json(args.json.as_deref(), &plan.to_json())?;
    if plan.fits() { Ok(()) } else { Err(plan.too_low_in_short()) }
}
