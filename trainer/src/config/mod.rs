//! The configuration of a run: a TOML file, then `--set section.key=value`, over defaults.
//!
//! ```text
//!   file ─┐
//!   --set ┴─> RawConfig ──> Config ──> commented TOML (`plimsoll config`, a run's config.toml)
//!             as written    typed, in range               │
//!                  └──────────────────────────────────────┘ reads back to an equal Config
//! ```
//!
//! What was written is parsed, not validated: a [`Config`] has a value of the right type and range under every key,
//! or there is none, and the fault names the key, what it was given, what it takes, and the file and line. The table
//! of keys is in `sections`; structs, defaults, known keys and comments all come from it.
//!
//! It opens no file but the configuration's own: whether the data can be read, the device used or the memory had is
//! for those who need them to say. Paths are taken as they stand, relative to the working directory.

use std::path::Path;

use crate::error::{Error, Result};

mod choices;
mod define;
mod near;
mod raw;
mod sections;
mod value;

#[cfg(test)]
mod tests;

pub use choices::{
    ActivationChoice, Algorithm, DeviceChoice, Dropout, EmbedderPreset, EnvironmentKind, OwnRows,
    PrecisionChoice, Prefetch, ReplayTier, StampLabel, TargetUpdate,
};
pub use near::near;
pub use sections::{Account, Agent, Config, Data, Embedders, Memory, Replay, Run, Synthetic};

use raw::{Entry, Origin, RawConfig};
use sections::SECTIONS;
use value::Value;

/// Keys that may change when a run is resumed: how long it goes on, what it writes, and what it runs on. Every other
/// key belongs to what the run is.
const MAY_CHANGE_ON_RESUME: [&str; 7] = [
    "run.environment_steps",
    "run.threads",
    "run.device",
    "run.checkpoint_interval_steps",
    "run.evaluation_interval_steps",
    "run.out",
    "memory.limit",
];

/// The first comment of every printed configuration.
const PREAMBLE: &str = "\
# Every key of the configuration, resolved. Give it back with --config FILE, or any key of it with
# --set section.key=value.
";

impl Config {
    /// The defaults for an environment: the table's, and what differs for it.
    #[must_use]
    pub fn defaults_for(environment: EnvironmentKind) -> Self {
        let mut config = Self::default();
        config.run.environment = environment;
        match environment {
            EnvironmentKind::Market => {}
            EnvironmentKind::Cartpole => {
                config.run.environment_steps = 100_000;
                config.run.n_environments = 1;
                config.agent.n_step = 3;
                config.agent.discount = 0.99;
                config.agent.learning_rate = 1e-3;
                config.agent.target_interval = 500;
                config.agent.batch = 64;
                config.agent.exploration_hold = 1;
                config.agent.epsilon_end = 0.04;
                config.agent.epsilon_fraction = 0.16;
                config.agent.learning_starts = 1_000;
                config.agent.samples_per_insert = 64.0;
                config.agent.reward_scale = 1.0;
                config.agent.hidden = 256;
                config.replay.capacity = 100_000;
                config.replay.priority_exponent = 0.6;
            }
        }
        config
    }

    /// Reads `file`, if there is one, then each of `sets` (`section.key=value`; the last of a key holds), over the
    /// defaults of the environment that they name. Values in `sets` are TOML; what is no TOML is text, so that
    /// `run.environment=cartpole` needs no quotes. Arbitrary text, such as a path, is safe as [`quoted`].
    ///
    /// # Errors
    /// [`Error::File`] where the file cannot be read; [`Error::Line`] for a fault in it; [`Error::Config`] for a
    /// fault in `sets`: a key or section that is not known, a value of another type or out of range, or values that
    /// contradict one another.
    pub fn load(file: Option<&Path>, sets: &[String]) -> Result<Self> {
        let mut raw = RawConfig::default();
        if let Some(path) = file {
            let cannot = |problem: String| Error::File { path: path.to_owned(), problem };
            let bytes = std::fs::read(path)
                .map_err(|fault| cannot(format!("the configuration cannot be read: {fault}")))?;
            let text =
                String::from_utf8(bytes).map_err(|_| cannot("is not UTF-8 text, as TOML is".to_owned()))?;
            raw = RawConfig::from_toml(&text, path)?;
        }
        for set in sets {
            raw.push_set(set)?;
        }
        Self::parse(&raw)
    }

    /// Reads the text of a run's `config.toml`, or of any other such file.
    ///
    /// # Errors
    /// [`Error::Line`], which calls the text `config.toml`, for every fault that [`Config::load`] finds.
    pub fn from_toml_str(text: &str) -> Result<Self> {
        Self::parse(&RawConfig::from_toml(text, Path::new("config.toml"))?)
    }

    /// The configuration as TOML: every key, with what it means, its unit and its range above it.
    /// [`Config::from_toml_str`] reads it back to an equal configuration.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = PREAMBLE.to_owned();
        let rows = self.rows();
        for section in SECTIONS {
            text.push('\n');
            push_comment(&mut text, section.about);
            text.push_str(&format!("[{}]\n", section.name));
            for row in rows.iter().filter(|row| row.section == section.name) {
                text.push('\n');
                push_comment(&mut text, row.about);
                if let Some(takes) = &row.takes {
                    text.push_str(&format!("# Range: {takes}.\n"));
                }
                text.push_str(&format!("{} = {}\n", row.key, row.value));
            }
        }
        text
    }

    /// Every key whose value is not the default of this environment, with both values, in the order of the table.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let defaults = Self::defaults_for(self.run.environment).rows();
        let pairs = self.rows().into_iter().zip(defaults);
        pairs
            .filter(|(mine, default)| mine.value != default.value)
            .map(|(mine, default)| {
                format!("{}.{} = {} (default {})", mine.section, mine.key, mine.value, default.value)
            })
            .collect()
    }

    /// The first key by which `other` is not the same run as this one, and may not resume it; `None` where they
    /// differ in nothing, or only in how long the run goes on, what it writes, and what it runs on (more threads or
    /// another device may round sums otherwise, and what follows the run's length follows the new one: the run goes
    /// on, though not to the same bits).
    #[must_use]
    pub fn differs_on_resume(&self, other: &Self) -> Option<String> {
        let pairs = self.rows().into_iter().zip(other.rows());
        pairs
            .filter(|(mine, theirs)| mine.value != theirs.value)
            .map(|(mine, _)| format!("{}.{}", mine.section, mine.key))
            .find(|key| !MAY_CHANGE_ON_RESUME.contains(&key.as_str()))
    }

    fn parse(raw: &RawConfig) -> Result<Self> {
        for (heading, origin) in &raw.headings {
            require_section(heading, origin)?;
        }
        let environment = match raw.last("run", "environment") {
            Some(entry) => EnvironmentKind::parse(&entry.written)
                .map_err(|problem| entry.origin.error("run.environment", &problem))?,
            None => EnvironmentKind::Market,
        };
        let mut config = Self::defaults_for(environment);
        for entry in &raw.entries {
            require_key(entry)?;
            let Entry { section, key, written, origin } = entry;
            let refuse = |problem: String| origin.error(&format!("{section}.{key}"), &problem);
            config.assign(section, key, written).map_err(refuse)?;
        }
        config.require_consistency(raw)?;
        Ok(config)
    }

    /// The rules that bind two keys. A fault is told where the one or the other was written.
    fn require_consistency(&self, raw: &RawConfig) -> Result<()> {
        let (data, agent, replay) = (&self.data, &self.agent, &self.replay);
        let refuse = |keys: [(&str, &str); 2], problem: String| {
            let written = keys.iter().find_map(|&(section, key)| raw.last(section, key));
            let (section, key) = written.map_or(keys[0], |entry| (&entry.section, &entry.key));
            let origin = written.map_or(&Origin::CommandLine, |entry| &entry.origin);
            Err(origin.error(&format!("{section}.{key}"), &problem))
        };
        // Shares such as 0.7 and 0.3 may add up to just below 1.
        if data.train_fraction + data.validation_fraction > 1.0 - 1e-9 {
            return refuse(
                [("data", "train_fraction"), ("data", "validation_fraction")],
                format!(
                    "train_fraction {} and validation_fraction {} leave nothing to test on: their sum must be below 1",
                    data.train_fraction, data.validation_fraction
                ),
            );
        }
        if agent.epsilon_end > agent.epsilon_start {
            return refuse(
                [("agent", "epsilon_end"), ("agent", "epsilon_start")],
                format!(
                    "epsilon_end {} is above epsilon_start {}: the share of random actions falls",
                    agent.epsilon_end, agent.epsilon_start
                ),
            );
        }
        if agent.learning_starts > replay.capacity {
            return refuse(
                [("agent", "learning_starts"), ("replay", "capacity")],
                format!(
                    "agent.learning_starts {} is above replay.capacity {}: the replay never holds as many \
                     transitions, and nothing would be learned",
                    agent.learning_starts, replay.capacity
                ),
            );
        }
        Ok(())
    }
}

/// `text` as a TOML string, for a value of `--set` that must be text whatever it looks like.
#[must_use]
pub fn quoted(text: &str) -> String {
    text.to_owned().to_toml()
}

fn push_comment(text: &mut String, lines: &[&str]) {
    for line in lines {
        // A doc line brings the space after its slashes with it.
        text.push_str(&format!("#{line}\n"));
    }
}

fn require_section(name: &str, origin: &Origin) -> Result<()> {
    let known: Vec<&str> = SECTIONS.iter().map(|section| section.name).collect();
    if known.contains(&name) {
        return Ok(());
    }
    let way_out = match near(name, &known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the sections are {}", known.join(", ")),
    };
    Err(origin.error(name, &format!("is not a section; {way_out}")))
}

fn require_key(entry: &Entry) -> Result<()> {
    let Entry { section, key, origin, .. } = entry;
    let elsewhere = SECTIONS.iter().find(|section| section.keys.contains(&key.as_str()));
    if section.is_empty() {
        let problem = match elsewhere {
            _ if SECTIONS.iter().any(|section| section.name == key) => {
                format!("is a section, not a key: write [{key}] and its keys below it")
            }
            Some(home) => format!("stands under no section; write it under [{}]", home.name),
            None => "stands under no section, and is a key of none".to_owned(),
        };
        return Err(origin.error(key, &problem));
    }
    require_section(section, origin)?;
    let keys = SECTIONS.iter().find(|known| known.name == section).map_or(&[][..], |known| known.keys);
    if keys.contains(&key.as_str()) {
        return Ok(());
    }
    let way_out = match (elsewhere, near(key, keys)) {
        (Some(home), _) => format!("did you mean `{}.{key}`?", home.name),
        (None, Some(meant)) => format!("did you mean `{section}.{meant}`?"),
        (None, None) => format!("the keys of [{section}] are {}", keys.join(", ")),
    };
    Err(origin.error(&format!("{section}.{key}"), &format!("is not a known key; {way_out}")))
}
