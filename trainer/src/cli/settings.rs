//! The settings that commands share: a file, single keys, and flags for the most common keys.

use std::path::PathBuf;

use clap::Args;
use memsys::limit::MemoryLimit;

use crate::config::{Config, quoted};
use crate::console::say_detail;
use crate::error::{Error, Result};
use crate::memory;

/// The sources of settings. Later ones override earlier ones: defaults, `--config`, `--set`, the other flags.
#[derive(Debug, Clone, Args)]
pub(super) struct SettingsArgs {
    /// A TOML file of settings; `plimsoll config` prints one with every key.
    #[arg(long, value_name = "FILE.toml")]
    pub(super) config: Option<PathBuf>,
    /// Files of bars, each with options of its own after a `?`, as in 'a.csv?label=end&zone=America/New_York'
    /// [data.files; default: the synthetic market]. `plimsoll data FILE` shows what would be read.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(super) data: Vec<PathBuf>,
    /// Sets one key, such as agent.batch=64 or data.label=end. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
    /// The memory limit of the process, such as 2GiB or 60% [memory.limit].
    #[arg(long, value_name = "SIZE|PCT", allow_hyphen_values = true)]
    pub(super) memory: Option<String>,
    /// The most that a run takes from its GPU's memory, such as 20GiB or 90% of what is free [memory.device_limit].
    #[arg(long, value_name = "SIZE|PCT", allow_hyphen_values = true)]
    pub(super) device_memory: Option<String>,
    /// Environment steps of the run [run.environment_steps].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(super) steps: Option<String>,
    /// Threads that compute; 0 uses all cores [run.threads].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(super) threads: Option<String>,
    /// The device of the tensors: auto, cpu or cuda:N [run.device].
    #[arg(long, value_name = "DEVICE")]
    pub(super) device: Option<String>,
}

/// The memory limit of a command that has no other settings of memory.
#[derive(Debug, Clone, Args)]
pub(super) struct MemoryArgs {
    /// The memory limit of the process, such as 1GiB or 60%. What it cannot hold is refused, with a limit that would do.
    #[arg(long, value_name = "SIZE|PCT", allow_hyphen_values = true)]
    memory: Option<String>,
}

impl MemoryArgs {
    /// Holds the process to the memory limit, if one is given.
    ///
    /// # Errors
    /// If it is no limit, is above what the machine allows, or has no room for the program itself.
    pub(super) fn hold(&self) -> Result<()> {
        let Some(written) = &self.memory else { return Ok(()) };
        let limit = MemoryLimit::parse(written)
            .map_err(|problem| Error::Config { key: "--memory".to_owned(), problem })?;
        memory::hold(limit, 0)
    }
}

/// The settings of a command that starts a run.
#[derive(Debug, Clone, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The seed of all randomness in the run [run.seed].
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    seed: Option<String>,
    /// The run's folder [run.out; default: a new one under runs/].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl RunArgs {
    /// Whether files of bars are given on the command line.
    pub(super) fn gives_data(&self) -> bool {
        !self.settings.data.is_empty()
    }

    /// The resolved configuration.
    pub(super) fn load(&self) -> Result<Config> {
        self.load_over(self.settings.config.clone())
    }

    /// The resolved configuration over another file of settings.
    pub(super) fn load_over(&self, file: Option<PathBuf>) -> Result<Config> {
        require_text("--out", self.out.iter())?;
        let mut more: Vec<String> = self.seed.iter().map(|seed| format!("run.seed={seed}")).collect();
        more.extend(self.out.iter().map(|out| format!("run.out={}", quoted(&out.to_string_lossy()))));
        self.settings.load_with(file, more)
    }
}

impl SettingsArgs {
    /// The resolved configuration.
    pub(super) fn load(&self) -> Result<Config> {
        self.load_with(self.config.clone(), Vec::new())
    }

    /// The resolved configuration over `file`. The sets of `more` come last.
    fn load_with(&self, file: Option<PathBuf>, more: Vec<String>) -> Result<Config> {
        require_text("--data", &self.data)?;
        let mut sets = self.set.clone();
        sets.extend(data_sets(&self.data));
        let words = [
            ("memory.limit", &self.memory),
            ("memory.device_limit", &self.device_memory),
            ("run.environment_steps", &self.steps),
            ("run.threads", &self.threads),
            ("run.device", &self.device),
        ];
        for (key, value) in words {
            sets.extend(value.as_ref().map(|value| format!("{key}={value}")));
        }
        sets.extend(more);
        let config = Config::load(file.as_deref(), &sets)?;
        config.changes().iter().for_each(|change| say_detail(change));
        Ok(config)
    }
}

/// Refuses paths that are not UTF-8, which a configuration cannot hold.
///
/// # Errors
/// [`Error::Config`] with the first of them.
pub(super) fn require_text<'a>(flag: &str, paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    match paths.into_iter().find(|path| path.to_str().is_none()) {
        None => Ok(()),
        Some(path) => {
            let problem = format!(
                "`{}` is not UTF-8, and the configuration of a run cannot hold it: rename it, or its folder",
                path.display()
            );
            Err(Error::Config { key: flag.to_owned(), problem })
        }
    }
}

/// The sets that replace the files of a configuration by those of the command line; none where it names none.
pub(super) fn data_sets(files: &[PathBuf]) -> Vec<String> {
    if files.is_empty() {
        return Vec::new();
    }
    let files: Vec<String> = files.iter().map(|path| quoted(&path.to_string_lossy())).collect();
    vec![format!("data.files=[{}]", files.join(", ")), "data.source=[]".to_owned()]
}

/// Print the resolved configuration with its comments.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  plimsoll config --set agent.batch=64 > mine.toml && plimsoll train --config mine.toml"
)]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    pub(super) settings: RunArgs,
}
