//! `metrics.jsonl`: the measurements of a run, one JSON object per line.
//!
//! Rows are appended and never changed. A run that is killed leaves at most one torn last line, which every reader
//! here ignores. A resumed run first drops the rows after its checkpoint, because it measures them again: its file
//! then has the rows of the uninterrupted run, apart from clocks and bytes. The checkpoint holds the sum of the rows
//! before it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic_file::write_aside;
use crate::error::{Error, Result};
use crate::run::summed_file::FileSum;

/// What a row of metrics was measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The agent that explores and learns.
    #[default]
    Train,
    /// The greedy agent on the validation part.
    Validation,
}

/// One row. What was not measured is absent from the file; a value that is not finite is written as `null` and read
/// back as `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// What it was measured on.
    pub kind: Kind,
    /// Environment steps taken so far, over all environments.
    pub environment_steps: u64,
    /// Learner steps taken so far.
    pub learner_steps: u64,
    /// Seconds since the run began, the parts before a resume included.
    pub wall_seconds: f64,
    /// Mean reward per step since the last row, where rewards have no unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_reward: Option<f64>,
    /// The same in a market: basis points of equity per bar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_reward_bps: Option<f64>,
    /// Mean return of the episodes that ended since the last row, where rewards have no unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub episode_return: Option<f64>,
    /// The same in a market: basis points of the equity at the episode's start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub episode_return_bps: Option<f64>,
    /// Mean loss of the learner steps since the last row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Mean absolute TD error since the last row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub td_error: Option<f64>,
    /// Norm of the gradient before it is clipped, mean since the last row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
    /// Probability of a random action, in [0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Log return of the greedy agent over the validation part, costs paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_log_return: Option<f64>,
    /// Samples of the learner per second, since the last row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples_per_second: Option<f64>,
    /// Environment steps per second, since the last row; absent before learning begins, when a step is acting alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_steps_per_second: Option<f64>,
    /// Transitions in the replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_transitions: Option<u64>,
    /// Resident set of the process, in bytes.
    pub resident_bytes: u64,
    /// Bytes that the ledger counts, where it is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counted_bytes: Option<u64>,
}

/// Appends rows to a `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
    hasher: crc32fast::Hasher,
    n_bytes: u64,
}

impl MetricsWriter {
    /// Starts an empty file, in the place of an older one.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::io(path))?;
        Ok(Self { path: path.to_path_buf(), file, hasher: crc32fast::Hasher::new(), n_bytes: 0 })
    }

    /// Continues the file of a run that resumes from a checkpoint at `environment_steps`, which holds the sum of the rows
    /// that it had `saved`: drops what follows them. The other rows stay byte for byte. Where the file does not begin
    /// with these rows, `say` is told so, and what it has up to the checkpoint stays. A missing file is an empty one.
    ///
    /// # Errors
    /// [`Error::Line`] where a whole line is not a row; [`Error::Io`] where the file cannot be read or replaced.
    pub fn resume(
        path: &Path,
        environment_steps: u64,
        saved: Option<&FileSum>,
        say: impl Fn(&str),
    ) -> Result<Self> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(path)(error)),
        };
        let is_saved = |sum: &&FileSum| {
            let rows = usize::try_from(sum.n_bytes).ok().and_then(|n_bytes| text.get(..n_bytes));
            rows.is_some_and(|rows| crc32fast::hash(rows) == sum.crc32)
        };
        let kept = match saved {
            Some(sum) if is_saved(&sum) => text[..sum.n_bytes as usize].to_vec(),
            saved => {
                if saved.is_some() {
                    let what =
                        if text.is_empty() { "is missing or empty" } else { "is not what the run wrote" };
                    say(&format!(
                        "{}: the file {what}: the run goes on, and of its rows before this those are left that are here",
                        path.display()
                    ));
                }
                rows_until(path, &text, environment_steps)?
            }
        };
        if kept != text || text.is_empty() {
            write_aside(path, &kept)?;
        }
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path))?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&kept);
        Ok(Self { path: path.to_path_buf(), file, hasher, n_bytes: kept.len() as u64 })
    }

    /// The sum of the rows that were written so far, for a checkpoint.
    pub fn sum(&self) -> FileSum {
        FileSum { n_bytes: self.n_bytes, crc32: self.hasher.clone().finalize() }
    }

    /// Appends one row. It is in the file when this returns, though not yet forced to the disk.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be written.
    pub fn write(&mut self, metrics: &Metrics) -> Result<()> {
        let mut line = serde_json::to_vec(metrics).expect("a struct of numbers is always JSON");
        line.push(b'\n');
        // One call for the whole line, so that a kill tears at most the last one.
        self.file.write_all(&line).map_err(Error::io(&self.path))?;
        self.hasher.update(&line);
        self.n_bytes += line.len() as u64;
        Ok(())
    }

    /// Forces the rows to the disk: call it where a checkpoint is written.
    ///
    /// # Errors
    /// [`Error::Io`] where the disk refuses.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path))
    }
}

/// Reads all rows of a file, oldest first; a torn last line is ignored.
///
/// # Errors
/// [`Error::Line`] where a whole line is not a row; [`Error::Io`] where the file cannot be read.
pub fn read_all(path: &Path) -> Result<Vec<Metrics>> {
    let text = fs::read(path).map_err(Error::io(path))?;
    whole_lines(&text).map(|(line, bytes)| parse(path, line, bytes)).collect()
}

/// The whole rows up to `environment_steps`, byte for byte.
fn rows_until(path: &Path, text: &[u8], environment_steps: u64) -> Result<Vec<u8>> {
    let mut kept = Vec::with_capacity(text.len());
    for (line, bytes) in whole_lines(text) {
        if parse(path, line, bytes)?.environment_steps <= environment_steps {
            kept.extend_from_slice(bytes);
            kept.push(b'\n');
        }
    }
    Ok(kept)
}

/// The lines that end with a line feed, counted from 1.
fn whole_lines(text: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    (1..).zip(text.split_inclusive(|&byte| byte == b'\n').filter_map(|line| line.strip_suffix(b"\n")))
}

fn parse(path: &Path, line: u64, bytes: &[u8]) -> Result<Metrics> {
    serde_json::from_slice(bytes).map_err(|error| Error::Line {
        path: path.to_path_buf(),
        line,
        problem: format!("is not a row of metrics ({error}); delete the line or the file"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(environment_steps: u64) -> Metrics {
        Metrics {
            environment_steps,
            learner_steps: environment_steps / 4,
            wall_seconds: environment_steps as f64 * 0.01,
            loss: Some(0.1 + 0.2),
            resident_bytes: 300 << 20,
            ..Metrics::default()
        }
    }

    fn written(n_rows: u64) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::create(&path).unwrap();
        for step in 1..=n_rows {
            writer.write(&row(step * 100)).unwrap();
        }
        writer.sync().unwrap();
        (folder, path)
    }

    #[test]
    fn rows_come_back_as_they_were_written() {
        let (_folder, path) = written(3);
        assert_eq!(read_all(&path).unwrap(), [row(100), row(200), row(300)]);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.starts_with(r#"{"kind":"train","environment_steps":100,"#), "{text}");
        assert!(!text.contains("epsilon"), "what was not measured is absent: {text}");
    }

    #[test]
    fn a_resumed_file_equals_that_of_the_run_that_never_stopped() {
        let (_folder, whole) = written(5);
        let (_other, path) = written(4);
        let mut torn = fs::read(&path).unwrap();
        torn.extend_from_slice(br#"{"kind":"train","environment_st"#);
        fs::write(&path, torn).unwrap();
        assert_eq!(read_all(&path).unwrap().len(), 4);

        let mut writer = MetricsWriter::resume(&path, 250, None, |said| panic!("{said}")).unwrap();
        for step in 3..=5 {
            writer.write(&row(step * 100)).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), fs::read(&whole).unwrap());
    }

    #[test]
    fn a_resumed_file_keeps_what_the_checkpoint_saw_and_says_where_that_is_not_there() {
        let (_folder, path) = written(3);
        let mut writer = MetricsWriter::resume(&path, 300, None, |said| panic!("{said}")).unwrap();
        let whole = fs::read(&path).unwrap();
        let sum = writer.sum();
        // A row of the checkpoint's own step that was written after it is measured again.
        writer.write(&row(300)).unwrap();
        let again = MetricsWriter::resume(&path, 300, Some(&sum), |said| panic!("{said}")).unwrap();
        assert_eq!((again.sum(), fs::read(&path).unwrap()), (sum, whole.clone()));

        let mut flipped = whole.clone();
        let digit = whole.iter().position(|byte| *byte == b'1').unwrap();
        flipped[digit] = b'2';
        for (text, word, n_rows) in
            [(&flipped[..], "not what the run wrote", 3), (&[], "missing or empty", 0)]
        {
            fs::write(&path, text).unwrap();
            let told = std::cell::RefCell::new(Vec::new());
            let tell = |said: &str| told.borrow_mut().push(said.to_owned());
            let writer = MetricsWriter::resume(&path, 300, Some(&sum), tell).unwrap();
            assert!(told.borrow().len() == 1 && told.borrow()[0].contains(word), "{told:?}");
            assert_eq!(read_all(&path).unwrap().len(), n_rows);
            assert_eq!(writer.sum().crc32, crc32fast::hash(&fs::read(&path).unwrap()));
        }
    }

    #[test]
    fn resuming_without_a_file_starts_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        MetricsWriter::resume(&path, 100, None, |_| {}).unwrap().write(&row(200)).unwrap();
        assert_eq!(read_all(&path).unwrap(), [row(200)]);
    }

    #[test]
    fn a_broken_line_in_the_middle_is_named_and_the_file_kept() {
        let (_folder, path) = written(2);
        let mut text = fs::read_to_string(&path).unwrap();
        text.insert_str(0, "nonsense\n");
        fs::write(&path, &text).unwrap();
        for error in
            [read_all(&path).unwrap_err(), MetricsWriter::resume(&path, 100, None, |_| {}).unwrap_err()]
        {
            assert!(matches!(error, Error::Line { line: 1, .. }), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_value_that_is_not_finite_reads_back_as_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let odd = Metrics { loss: Some(f64::NAN), kind: Kind::Validation, ..row(100) };
        MetricsWriter::create(&path).unwrap().write(&odd).unwrap();
        assert_eq!(read_all(&path).unwrap(), [Metrics { loss: None, ..odd }]);
    }
}
