//! The folder of a run, and the paths of the files in it.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::market::seen_bars::DataRecord;

/// A run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// Opens the folder at `root`, and creates it if needed. It also writes a test file: a run that cannot save must
    /// not start.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be created or written to.
    pub fn create(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root).map_err(Error::io(root))?;
        let trial = root.join(".writable");
        std::fs::write(&trial, b"").map_err(Error::io(root))?;
        std::fs::remove_file(&trial).map_err(Error::io(&trial))?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// The folder of an earlier run.
    ///
    /// # Errors
    /// [`Error::File`] if the folder holds no run.
    pub fn open(root: &Path) -> Result<Self> {
        let folder = Self { root: root.to_path_buf() };
        if folder.config().is_file() {
            return Ok(folder);
        }
        let problem = "holds no run: there is no config.toml in it".to_owned();
        Err(Error::File { path: root.to_path_buf(), problem })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Which bars the run learns from.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join("data.json")
    }

    /// Reads which bars the run learns from.
    ///
    /// # Errors
    /// [`Error::File`] if the file is missing or damaged.
    pub fn load_data(&self) -> Result<DataRecord> {
        let path = self.data();
        let unreadable = |problem: String| Error::File { path: path.clone(), problem };
        let text = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => unreadable(
                "is missing, and it says which bars the run has learned from: copy it from the original folder of the \
                 run, or start a new run"
                    .to_owned(),
            ),
            _ => Error::Io { path: path.clone(), source: error },
        })?;
        serde_json::from_slice(&text).map_err(|error| unreadable(format!("is damaged: {error}")))
    }

    /// Rows of metrics.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// The newest checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }

    /// The replay's rows, if they are kept in a file.
    #[must_use]
    pub fn replay(&self) -> PathBuf {
        self.root.join("replay.plr")
    }

    /// The market's streams, if they are kept in a file.
    #[must_use]
    pub fn streams(&self) -> PathBuf {
        self.root.join("streams.plr")
    }

    /// The report as HTML.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// The test, bar by bar.
    #[must_use]
    pub fn test_bars(&self) -> PathBuf {
        self.root.join("test.parquet")
    }

    /// The trades of the test.
    #[must_use]
    pub fn trades(&self) -> PathBuf {
        self.root.join("trades.csv")
    }

    /// The summary as JSON.
    #[must_use]
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }
}
