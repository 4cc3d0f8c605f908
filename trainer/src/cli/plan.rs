//! `plimsoll plan`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use memsys::{budget, ledger, probe};

use super::settings::SettingsArgs;
use super::train::find_data;
use crate::error::{Error, Result};
use crate::output::{print, say};
use crate::run::files;
use crate::run::memory;
use crate::run::plan::{DataBytes, Plan};
use crate::run::survey::{estimate, survey};
use crate::run::train::{device, threads};

/// How the plan comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// From the widths of the networks and the sizes of the files; nothing is run.
    Static,
    /// The networks go through their steps and the data is loaded; no run is begun.
    Measured,
}

/// What a configuration will cost in bytes, part by part, and what fits the line.
///
/// Status 3 where the line cannot hold the run.
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
    files::expect_folder(args.json.as_deref())?;
    let runtime = memsys::libtorch::open()?;
    let device = device(config.run.device, &runtime)?;
    memsys::libtorch::set_threads_once(threads(config.run.threads))?;
    let limit = memory::limit_bytes(&config)?;
    memory::count()?;
    let dqn = memory::network(&config);
    let plan = match args.mode {
        Mode::Static => Plan::new(&config, &estimate(&config, &dqn)?, DataBytes::estimated(&config)?, limit),
        Mode::Measured => {
            say("running the networks");
            let surveyed = survey(&config, &dqn, device, limit)?;
            // The smallest line is the one below which a run is refused, before anything is loaded.
            let unloaded = Plan::new(&config, &surveyed, DataBytes::estimated(&config)?, limit);
            let plan = Plan::new(&config, &surveyed, loaded(&config)?, limit);
            Plan { smallest_line_bytes: unloaded.smallest_line_bytes, ..plan }
        }
    };
    print(&plan.to_string());
    print(&format!("\n# recommended\n{}", plan.recommended()));
    files::write_json(args.json.as_deref(), &plan.to_json())?;
    if plan.fits() { Ok(()) } else { Err(Error::LineTooLow(Box::new(plan))) }
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
    let market = crate::market::prepare::prepare(config, &say)?;
    let n_bars: u64 =
        (0..market.scenes.n_scenes() as u16).map(|scene| market.scenes.n_base(scene) as u64).sum();
    let loading =
        (ledger::peak_counted_bytes() - before).max(probe::resident_bytes()?.saturating_sub(resident));
    Ok(DataBytes { n_bars, stays: ledger::counted_bytes() - before, loading })
}
