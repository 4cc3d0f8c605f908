//! The configuration of a run: a TOML file, then `--set section.key=value`, over defaults.
//!
//! ```text
//!   file ─┐
//!   --set ┴─> RawConfig ──> Config ──> commented TOML (`plimsoll config`, a run's config.toml)
//!             as written    typed, in range               │
//!                  └──────────────────────────────────────┘ reads back to an equal Config
//! ```
//!
//! The text is parsed, not validated: a [`Config`] exists only if every key has a value of the right type and range.
//! Otherwise the error names the key, the given value, the allowed values, and the file and line.
//!
//! Each part of the program defines its own settings, in a struct beside that part ([`memsys::settings::Settings`]).
//! The docs of the struct's fields become the comments. This module names the sections, reads, prints and compares
//! them, and suggests a key for a misspelt one. It opens only the configuration file. Paths are not changed; they are
//! relative to the working directory.

use std::path::Path;

use agents::context::{Algorithm, ObservationKind};
use agents::settings::AgentSettings;
use buffers::replay::ReplaySettings;
use embedders::EmbedderSettings;
use memsys::settings::Section;
use memsys::system::config::MemorySettings;

use crate::error::{Error, Result};
use crate::market::config::{AccountSettings, DataSettings, SyntheticSettings};
use crate::run::config::{EnvironmentKind, RunSettings};
use raw::{Entry, Origin, RawConfig};

mod did_you_mean;
mod explain;
mod raw;

#[cfg(test)]
mod tests;

pub use did_you_mean::near;

/// Keys that may change when a run is resumed: its length, what it writes, what it runs on, where its bars lie, and what
/// changes no bit of the result. Every other key defines the run.
const MAY_CHANGE_ON_RESUME: [&str; 31] = [
    "run.environment_steps",
    "run.threads",
    "run.device",
    "run.checkpoint_interval_steps",
    "run.evaluation_interval_steps",
    "run.out",
    "memory.limit",
    "memory.refuse_every",
    "memory.device_limit",
    // Every mode gives the same bits, and so does every place of a row.
    "memory.activations",
    "memory.spill_threshold",
    "memory.spill_folder",
    "memory.counted",
    "memory.memory_warning_threshold",
    "memory.memory_critical_threshold",
    "memory.monitoring_interval",
    "replay.tier",
    "replay.memory_budget",
    "replay.compress_at",
    "replay.mmap_above",
    "replay.mmap_window",
    "replay.compact_above",
    // The run's record of its bars decides whether these give the same ones.
    "data.files",
    "data.source",
    "data.preset",
    "data.time_format",
    "data.zone",
    "data.label",
    "data.decimal",
    "data.missing",
    "data.instrument",
];

/// The first comment of every printed configuration.
const PREAMBLE: &str = "\
# Every key of the configuration, resolved. Give it back with --config FILE, or any key of it with
# --set section.key=value.
";

/// The resolved configuration: every key has a value of its type and within its range. The default is that of the
/// market.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[run]`.
    pub run: RunSettings,
    /// `[data]`.
    pub data: DataSettings,
    /// `[synthetic]`.
    pub synthetic: SyntheticSettings,
    /// `[account]`.
    pub account: AccountSettings,
    /// `[embedders]`.
    pub embedders: EmbedderSettings,
    /// `[agent]`.
    pub agent: AgentSettings,
    /// `[replay]`.
    pub replay: ReplaySettings,
    /// `[memory]`.
    pub memory: MemorySettings,
}

impl Default for Config {
    fn default() -> Self {
        Self::defaults_for(EnvironmentKind::Market, Algorithm::Dqn)
    }
}

impl Config {
    /// The defaults of an agent in an environment.
    #[must_use]
    pub fn defaults_for(environment: EnvironmentKind, algorithm: Algorithm) -> Self {
        let (run, replay, kind) = match environment {
            EnvironmentKind::Market => {
                (RunSettings::default(), ReplaySettings::default(), ObservationKind::Market)
            }
            EnvironmentKind::Cartpole => {
                let run =
                    RunSettings { environment_steps: 100_000, n_environments: 1, ..RunSettings::default() };
                let replay =
                    ReplaySettings { capacity: 100_000, priority_exponent: 0.6, ..ReplaySettings::default() };
                (run, replay, ObservationKind::Plain)
            }
        };
        Self {
            run: RunSettings { environment, ..run },
            data: DataSettings::default(),
            synthetic: SyntheticSettings::default(),
            account: AccountSettings::default(),
            embedders: EmbedderSettings::default(),
            agent: AgentSettings::defaults(algorithm, kind),
            replay,
            memory: MemorySettings::default(),
        }
    }

    /// The sections with their names, in printed order.
    fn sections(&self) -> [(&'static str, &dyn Section); 8] {
        [
            ("run", &self.run),
            ("data", &self.data),
            ("synthetic", &self.synthetic),
            ("account", &self.account),
            ("embedders", &self.embedders),
            ("agent", &self.agent),
            ("replay", &self.replay),
            ("memory", &self.memory),
        ]
    }

    fn section_mut(&mut self, name: &str) -> Option<&mut dyn Section> {
        Some(match name {
            "run" => &mut self.run,
            "data" => &mut self.data,
            "synthetic" => &mut self.synthetic,
            "account" => &mut self.account,
            "embedders" => &mut self.embedders,
            "agent" => &mut self.agent,
            "replay" => &mut self.replay,
            "memory" => &mut self.memory,
            _ => return None,
        })
    }

    /// Every key as `section.key` with its value, in printed order.
    #[must_use]
    pub fn values(&self) -> Vec<(String, toml::Value)> {
        let of_section = |(name, section): (&str, &dyn Section)| {
            let table = section.table();
            let keys = section.keys();
            keys.into_iter()
                .map(move |(key, _)| (format!("{name}.{key}"), table[key].clone()))
                .collect::<Vec<_>>()
        };
        self.sections().into_iter().flat_map(of_section).collect()
    }

    /// Reads `file`, if there is one, and then each of `sets` (`section.key=value`; the last one for a key wins), over
    /// the defaults of the environment that they name. Values in `sets` are TOML. A value that is not TOML is text, so
    /// `run.environment=cartpole` needs no quotes. Quote arbitrary text, such as a path, with [`quoted`].
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read; [`Error::Line`] for a fault in it; [`Error::Config`] for a
    /// fault in `sets`: an unknown key or section, a value of another type or out of range, or values that contradict
    /// each other.
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

    /// The configuration as TOML. A comment above every key states its meaning, unit and range.
    /// [`Config::from_toml_str`] reads the text back to an equal configuration.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = PREAMBLE.to_owned();
        for (name, section) in self.sections() {
            text.push('\n');
            push_comment(&mut text, section.about());
            text.push_str(&format!("[{name}]\n"));
            let (table, ranges) = (section.table(), section.checked().ranges);
            for (key, about) in section.keys() {
                text.push('\n');
                push_comment(&mut text, about);
                if let Some(range) = ranges.iter().find(|range| range.key == key) {
                    text.push_str(&format!("# Range: {}.\n", range.takes));
                }
                text.push_str(&format!("{key} = {}\n", table[key]));
            }
        }
        text
    }

    /// Every key whose value differs from the environment's default, with both values, in printed order.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let algorithm = self.agent.algorithm();
        let defaults = Self::defaults_for(self.run.environment, algorithm).values();
        let pairs = self.values().into_iter().zip(defaults);
        pairs
            .filter(|((_, mine), (_, default))| mine != default)
            .map(|((key, mine), (_, default))| format!("{key} = {mine} (default {default})"))
            .collect()
    }

    /// The first key in which `other` defines another run than this one, so that it may not resume it. `None` if they
    /// differ at most in the run's length, in what it writes, in what it runs on, in where its bars lie, and in what changes
    /// no bit. More threads or another device may round sums differently, and schedules follow the new length, so the
    /// resumed run may not be equal to the bit.
    #[must_use]
    pub fn differs_on_resume(&self, other: &Self) -> Option<String> {
        let pairs = self.values().into_iter().zip(other.values());
        pairs
            .filter(|((_, mine), (_, theirs))| mine != theirs)
            .map(|((key, _), _)| key)
            .find(|key| !MAY_CHANGE_ON_RESUME.contains(&key.as_str()))
    }

    fn parse(raw: &RawConfig) -> Result<Self> {
        let mut config = Self::default();
        for (heading, origin) in &raw.headings {
            config.require_section(heading, origin)?;
        }
        // The defaults depend on these two keys, so they are read first.
        for entry in &raw.entries {
            if [("run", "environment"), ("agent", "algorithm")].contains(&(&*entry.section, &*entry.key)) {
                config.assign(entry)?;
            }
        }
        config = Self::defaults_for(config.run.environment, config.agent.algorithm());
        for entry in &raw.entries {
            config.require_key(entry)?;
            config.assign(entry)?;
        }
        config.require_agreement(raw)?;
        Ok(config)
    }

    /// Sets a key to the written value. If that is refused, the error states what the key takes.
    fn assign(&mut self, entry: &Entry) -> Result<()> {
        let Entry { section: name, key, written, origin } = entry;
        let Some(section) = self.section_mut(name) else { return Ok(()) };
        let takes = |section: &dyn Section| {
            section
                .checked()
                .ranges
                .into_iter()
                .find(|range| range.key == key)
                .map(|range| (range.takes, range.holds))
        };
        let refuse = |problem: String, takes: Option<String>| {
            let takes = takes.map_or_else(String::new, |takes| format!(": it takes {takes}"));
            origin.error(&format!("{name}.{key}"), &format!("{problem}{takes}"))
        };
        if let Err(said) = section.set(key, written.value.clone()) {
            // Text needs no quotes on the command line, so any value can be meant as text.
            let as_text = toml::Value::String(written.text.clone());
            if !written.is_loose || section.set(key, as_text).is_err() {
                let problem = explain::explain(&said, written);
                return Err(refuse(problem, takes(section).map(|(takes, _)| takes)));
            }
        }
        match takes(section) {
            Some((takes, false)) => Err(refuse(explain::out_of_range(written), Some(takes))),
            _ => Ok(()),
        }
    }

    /// Checks the rules that bind two keys. The error names the place where one of the two was written.
    fn require_agreement(&self, raw: &RawConfig) -> Result<()> {
        let refuse = |keys: [(&str, &str); 2], problem: &str| {
            let written = keys.iter().find_map(|&(section, key)| raw.last(section, key));
            let (section, key) = written.map_or(keys[0], |entry| (&entry.section, &entry.key));
            let origin = written.map_or(&Origin::CommandLine, |entry| &entry.origin);
            Err(origin.error(&format!("{section}.{key}"), problem))
        };
        for (name, section) in self.sections() {
            if let Some(conflict) = section.checked().conflicts.first() {
                return refuse(conflict.keys.map(|key| (name, key)), &conflict.problem);
            }
        }
        let (starts, capacity) = (self.agent.pace().learning_starts, self.replay.capacity);
        if starts > capacity {
            return refuse(
                [("agent", "learning_starts"), ("replay", "capacity")],
                &format!(
                    "agent.learning_starts {starts} is above replay.capacity {capacity}: the replay never holds as \
                     many transitions, and nothing would be learned"
                ),
            );
        }
        Ok(())
    }

    fn require_section(&self, name: &str, origin: &Origin) -> Result<()> {
        let known = self.sections().map(|(name, _)| name);
        if known.contains(&name) {
            return Ok(());
        }
        let hint = match near(name, &known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the sections are {}", known.join(", ")),
        };
        Err(origin.error(name, &format!("is not a section; {hint}")))
    }

    fn require_key(&self, entry: &Entry) -> Result<()> {
        let Entry { section, key, origin, .. } = entry;
        let keys_of =
            |section: &dyn Section| section.keys().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let sections = self.sections().map(|(name, section)| (name, keys_of(section)));
        let elsewhere = sections.iter().find(|(_, keys)| keys.contains(&key.as_str())).map(|(name, _)| *name);
        if section.is_empty() {
            let problem = match elsewhere {
                _ if sections.iter().any(|(name, _)| name == key) => {
                    format!("is a section, not a key: write [{key}] and its keys below it")
                }
                Some(home) => format!("stands under no section; write it under [{home}]"),
                None => "stands under no section, and is a key of none".to_owned(),
            };
            return Err(origin.error(key, &problem));
        }
        self.require_section(section, origin)?;
        let keys = sections.iter().find(|(name, _)| name == section).map_or(&[][..], |(_, keys)| keys);
        if keys.contains(&key.as_str()) {
            return Ok(());
        }
        let hint = match (elsewhere, near(key, keys)) {
            (Some(home), _) => format!("did you mean `{home}.{key}`?"),
            (None, Some(meant)) => format!("did you mean `{section}.{meant}`?"),
            (None, None) => format!("the keys of [{section}] are {}", keys.join(", ")),
        };
        Err(origin.error(&format!("{section}.{key}"), &format!("is not a known key; {hint}")))
    }
}

/// `text` as a TOML string, for a value of `--set` that must be text even if it looks like a number.
#[must_use]
pub fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn push_comment(text: &mut String, about: &str) {
    for line in about.lines() {
        text.push_str(format!("# {}", line.trim()).trim_end());
        text.push('\n');
    }
}
