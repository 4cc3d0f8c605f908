//! The settings that commands share: a file, single keys, and flags for the most common keys.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, quoted};
use crate::console::say_detail;
use crate::error::Result;

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
    /// The resolved configuration.
    pub(super) fn load(&self) -> Result<Config> {
        self.load_over(self.settings.config.clone())
    }

    /// The resolved configuration over another file of settings.
    pub(super) fn load_over(&self, file: Option<PathBuf>) -> Result<Config> {
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
