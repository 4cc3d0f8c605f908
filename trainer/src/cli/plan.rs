//! `plimsoll plan`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use memsys::ledger;
use memsys::ledger::budget;
use memsys::os::probe;

use crate::atomic_file;
use crate::cli::settings::SettingsArgs;
use crate::cli::train::find_data;
use crate::console::{print, say};
use crate::error::{Error, Result};
use crate::memory::limit;
use crate::memory::plan::{DataBytes, Plan};
use crate::memory::profile::{estimate, profile};
use crate::run::build::{device, threads};

/// How the plan comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// From the widths of the networks and the sizes of the files; nothing is run.
    Static,
    /// The networks go through their steps and the data is loaded; no run is begun.
    Measured,
}

/// What a configuration will cost in bytes, part by part, and what fits the memory limit.
///
/// Status 3 where the memory limit cannot hold the run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  plimsoll plan --memory 512MiB\n  plimsoll plan --mode static --set \
                        embedders.preset=full --set agent.batch=512\n  plimsoll plan --data btc_1m.csv --json plan.json")]
pub(super) struct PlanArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// How the plan comes about.
    #[arg(long, value_enum, default_value = "measured")]
    mode: Mode,
    /// Also writes the numbers there.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Plans as told.
pub(super) fn run(args: &PlanArgs) -> Result<()> {
    let config = args.settings.load()?;
    if !config.memory.managed {
        let problem = "a run without management has no plan: nothing in it is counted".to_owned();
        return Err(Error::Config { key: "memory.managed".to_owned(), problem });
    }
    find_data(&config)?;
    atomic_file::expect_folder(args.json.as_deref())?;
    let runtime = memsys::libtorch::open()?;
    let device = device(config.run.device, &runtime)?;
    tch::set_num_threads(threads(config.run.threads));
    let limit = limit::limit_bytes(&config)?;
    limit::count()?;
    let dqn = limit::network(&config);
    let plan = match args.mode {
        Mode::Static => Plan::new(&config, &estimate(&config, &dqn)?, DataBytes::estimated(&config)?, limit),
        Mode::Measured => {
            say("running the networks");
            let profiled = profile(&config, &dqn, device, limit)?;
            // The smallest memory limit is the one below which a run is refused, before anything is loaded.
            let unloaded = Plan::new(&config, &profiled, DataBytes::estimated(&config)?, limit);
            let plan = Plan::new(&config, &profiled, loaded(&config)?, limit);
            Plan { smallest_limit_bytes: unloaded.smallest_limit_bytes, ..plan }
        }
    };
    print(&plan.to_string());
    print(&format!("\n# recommended\n{}", plan.recommended()));
    atomic_file::write_json(args.json.as_deref(), &plan.to_json())?;
    if plan.fits() { Ok(()) } else { Err(Error::LimitTooLow(Box::new(plan))) }
}

/// What the data holds, by loading it.
fn loaded(config: &crate::config::Config) -> Result<DataBytes> {
    if config.run.environment != crate::config::EnvironmentKind::Market {
        return DataBytes::estimated(config);
    }
    budget::begin_anew();
    let before = ledger::counted_bytes();
    let resident = probe::resident_bytes()?;
    ledger::restart_peak();
    let market = crate::market::dataset::prepare(config, &say)?;
    let n_bars: u64 = (0..market.dataset.n_instruments() as u16)
        .map(|instrument| market.dataset.n_steps(instrument) as u64)
        .sum();
    let loading =
        (ledger::peak_counted_bytes() - before).max(probe::resident_bytes()?.saturating_sub(resident));
    Ok(DataBytes { n_bars, stays: ledger::counted_bytes() - before, loading })
}
