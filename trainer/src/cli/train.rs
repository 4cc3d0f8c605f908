//! `plimsoll train`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::settings::{RunArgs, require_text};
use crate::config::Config;
use crate::console::{say, say_always};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::market::import::Source;
use crate::resolve::sources;
use crate::run::config::EnvironmentKind;
use crate::run::folder::RunFolder;
use crate::run::train_loop::Ended;
use crate::signals::{self, Request};
use crate::train::{TrainRequest, train};

/// Train an agent on market bars (or CartPole) and report out-of-sample results.
///
/// Writes a folder: config.toml (resolved), metrics.jsonl, TensorBoard events, checkpoint/, report.html and
/// summary.json. Interrupt it (Ctrl-C) and continue with --resume: the result equals that of an uninterrupted run.
///
/// Any number of SIGINT (Ctrl-C), SIGTERM, SIGUSR1, SIGXCPU and SIGHUP make it save and stop within seconds, with exit
/// status 130. A second SIGINT more than a second after the first ends it at once, without saving.
///
/// The exit status is 3 if the memory limit cannot hold the run. Refused before it began it leaves nothing; refused later it
/// is saved first, and the message says how to go on.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plimsoll train\n  plimsoll train --data btc_1m.csv --set data.label=end --steps \
                        5000 --out runs/btc\n  plimsoll train --set run.environment=cartpole --seed 3\n  plimsoll \
                        train --resume runs/btc"
)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    settings: RunArgs,
    /// Continues the run in this folder.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "out"])]
    resume: Option<PathBuf>,
    /// Local workers; more than one is not built yet.
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
}

/// Runs the command.
pub(super) fn run(args: &TrainArgs) -> Result<Ended> {
    // First, so that a signal during the loading of libtorch or data also counts: there is nothing to save yet.
    stop_on_signals();
    if args.workers != 1 {
        let problem = format!("{} workers were asked for; this version trains with 1", args.workers);
        return Err(Error::Config { key: "--workers".to_owned(), problem });
    }
    require_text("--resume", &args.resume)?;
    let mut config = match &args.resume {
        None => args.settings.load()?,
        Some(folder) => {
            let saved_path = RunFolder::open(folder)?.config();
            let saved = Config::load(Some(&saved_path), &[])?;
            let mut config = args.settings.load_over(Some(saved_path))?;
            if let Some(key) = saved.differs_on_resume(&config) {
                let problem = "may not change when a run is resumed; start a new run for that".to_owned();
                return Err(Error::Config { key, problem });
            }
            config.run.out = Some(folder.clone());
            config
        }
    };
    find_data(&config).map_err(|error| match error {
        Error::File { path, problem } if args.resume.is_some() && !args.settings.gives_data() => {
            Error::File {
                path,
                problem: format!("{problem} If the bars were moved, give them with --data FILE..."),
            }
        }
        error => error,
    })?;
    // The paths are absolute, so that a run can be resumed from any working directory.
    let of_tables = config.data.source.iter_mut().flat_map(|table| &mut table.files);
    for file in config.data.files.iter_mut().chain(of_tables) {
        let mut source = Source::from_text(file)
            .map_err(|problem| Error::Config { key: file.display().to_string(), problem })?;
        source.path = std::path::absolute(&source.path).map_err(Error::io(&*file))?;
        *file = source.to_text();
        // The working folder may have a name that is not.
        require_text("--data", [&*file])?;
    }
    let request = TrainRequest {
        config,
        resume: args.resume.clone(),
        command_line: std::env::args_os()
            .map(|word| word.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
            .join(" "),
        runtime: memsys::libtorch::open()?,
    };
    train(request, &say)
}

/// Checks that the files of bars exist, before libtorch is loaded, a network is built or a folder is created.
///
/// # Errors
/// [`Error::File`] for the first file that does not exist.
pub(super) fn find_data(config: &Config) -> Result<()> {
    let is_market = config.run.environment == EnvironmentKind::Market;
    for Source { path, .. } in sources(&config.data)?.into_iter().filter(|_| is_market) {
        if let Err(error) = std::fs::metadata(&path) {
            let problem = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file: is the path right?".to_owned(),
                _ => error.to_string(),
            };
            return Err(Error::File { path, problem });
        }
    }
    Ok(())
}

/// The first signal asks the process to stop. A later second Ctrl-C ends it at once.
fn stop_on_signals() {
    let act = |request| match request {
        Request::Stop => {
            interrupt::ask();
            say("asked to stop: saving (Ctrl-C again after a second ends the run at once, without a save)");
        }
        Request::StopAgain => {}
        Request::EndAtOnce => {
            say_always("plimsoll: ended at once, without a save");
            signal_hook::low_level::exit(130);
        }
    };
    if signals::catch().and_then(|caught| caught.act(act)).is_err() {
        say_always("plimsoll: signals cannot be caught here; a kill loses at most one checkpoint interval");
    }
}
