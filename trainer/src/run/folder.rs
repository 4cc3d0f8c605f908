//! The folder of a run, and the paths of the files in it.
//!
//! A folder is made anew or refused, and one process at a time writes to it. The run's random name stands in `config.toml`
//! and in every checkpoint, so that files of two runs are never taken for those of one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memsys::os::random_u64;

use crate::atomic_file::write_aside;
use crate::error::{Error, Result};
use crate::market::seen_bars::DataRecord;
use crate::run::run_lock::{self, RunLock};
use crate::seal;

/// What a run that did not begin may leave in its folder.
const BEGINNINGS: [&str; 5] = [run_lock::NAME, "data.json", "metrics.jsonl", "replay.plr", "streams.plr"];
/// The beginning of the names of TensorBoard's files.
const EVENTS: &str = "events.out.tfevents";

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
    /// The run's random name.
    run: u64,
    /// Held by the process that writes to the folder.
    lock: Option<Arc<RunLock>>,
    /// The folders that were made for the run, outermost first.
    made: Vec<PathBuf>,
}

impl RunFolder {
    /// The folder of a new run at `root`, locked. It is made, or it exists and holds no run.
    ///
    /// # Errors
    /// [`Error::File`] if it holds a run or another process uses it; [`Error::Io`] if it cannot be made or written to: a run
    /// that cannot save must not start.
    pub fn create(root: &Path) -> Result<Self> {
        let mut made = Vec::new();
        if let Some(parent) = root.parent() {
            make_all(parent, &mut made)?;
        }
        match fs::create_dir(root) {
            Ok(()) => made.push(root.to_owned()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && root.is_dir() => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let problem = "is a file, and a run needs a folder: give another --out".to_owned();
                return Err(Error::File { path: root.to_path_buf(), problem });
            }
            Err(error) => return Err(Error::io(root)(error)),
        }
        Self::begin(root, made)
    }

    /// As [`RunFolder::create`], at the first of `root`, `root-2`, `root-3`, … that does not exist.
    ///
    /// # Errors
    /// As [`RunFolder::create`].
    pub fn create_numbered(root: &Path) -> Result<Self> {
        let mut made = Vec::new();
        if let Some(parent) = root.parent() {
            make_all(parent, &mut made)?;
        }
        let mut numbered = root.to_owned();
        for number in 2.. {
            match fs::create_dir(&numbered) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let mut name = root.as_os_str().to_owned();
                    name.push(format!("-{number}"));
                    numbered = name.into();
                }
                Err(error) => return Err(Error::io(numbered)(error)),
            }
        }
        made.push(numbered.clone());
        Self::begin(&numbered, made)
    }

    fn begin(root: &Path, made: Vec<PathBuf>) -> Result<Self> {
        let require_empty = || {
            let files = ["config.toml", "checkpoint", "checkpoint.old"];
            if files.iter().all(|file| !root.join(file).exists()) {
                return Ok(());
            }
            let problem = "holds a run already: go on with it by --resume, or give another --out".to_owned();
            Err(Error::File { path: root.to_path_buf(), problem })
        };
        require_empty()?;
        let lock = RunLock::take(root)?;
        // The run of another process may have begun and ended since.
        require_empty()?;
        let run = random_u64().map_err(Error::io(root))?;
        Ok(Self { root: root.to_owned(), run, lock: Some(Arc::new(lock)), made })
    }

    /// The folder of an earlier run, for reading.
    ///
    /// # Errors
    /// [`Error::File`] if the folder holds no run, or its `config.toml` is not what the run wrote.
    pub fn open(root: &Path) -> Result<Self> {
        let mut folder = Self { root: root.to_owned(), run: 0, lock: None, made: Vec::new() };
        folder.run = folder.read_name()?;
        Ok(folder)
    }

    /// The folder of an earlier run, locked, for going on with it.
    ///
    /// # Errors
    /// As [`RunFolder::open`]; [`Error::File`] if another process uses it.
    pub fn resume(root: &Path) -> Result<Self> {
        let mut folder = Self::open(root)?;
        folder.lock = Some(Arc::new(RunLock::take(root)?));
        Ok(folder)
    }

    fn read_name(&self) -> Result<u64> {
        let (path, saved) = (self.config(), self.checkpoint().join("config.toml"));
        let put_back = match saved.is_file() {
            true => format!("put it back with: cp {} {}", saved.display(), path.display()),
            false => "put back the file that the run wrote, or start a new run".to_owned(),
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
                let problem = match saved.is_file() {
                    true => format!("holds no config.toml any more: {put_back}"),
                    false => "holds no run: there is no config.toml in it".to_owned(),
                };
                return Err(Error::File { path: self.root.clone(), problem });
            }
            Err(error) => return Err(Error::io(path)(error)),
        };
        seal::run_of_toml(&text).ok_or_else(|| {
            let problem = format!("is not what the run wrote: {put_back}; changes are given by --set");
            Error::File { path, problem }
        })
    }

    /// Writes the resolved configuration, and with it makes the folder that of a run.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_config(&self, config_toml: &str) -> Result<()> {
        write_aside(&self.config(), &self.sealed_config(config_toml))
    }

    /// The configuration as the folder and its checkpoints hold it.
    #[must_use]
    pub fn sealed_config(&self, config_toml: &str) -> Vec<u8> {
        seal::to_toml(config_toml, self.run)
    }

    /// The run's name, which its checkpoints hold too.
    #[must_use]
    pub fn run_name(&self) -> String {
        format!("{:016x}", self.run)
    }

    /// Refuses to go on where another program moved or removed the folder.
    ///
    /// # Errors
    /// [`Error::File`] with the way out.
    pub fn require_in_place(&self) -> Result<()> {
        self.lock.as_ref().map_or(Ok(()), |lock| lock.require_folder())
    }

    /// Removes what a run that did not begin has made: its beginnings, and the folders that were made for it, if nothing else
    /// is in them. A folder that holds a run stays as it is.
    pub fn abandon(self) {
        if self.config().exists() || self.lock.is_none() {
            return;
        }
        let names = fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let is_ours = |name: &str| BEGINNINGS.contains(&name) || name.starts_with(EVENTS);
        // What cannot be removed stays: the error that ended the run is the one to tell.
        for name in names.filter(|name| name.to_str().is_some_and(is_ours)) {
            let _ = fs::remove_file(self.root.join(name));
        }
        for made in self.made.iter().rev() {
            let _ = fs::remove_dir(made);
        }
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

    /// Writes which bars the run learns from.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_data(&self, record: &DataRecord) -> Result<()> {
        write_aside(&self.data(), &seal::to_json(record))
    }

    /// Reads which bars the run learns from.
    ///
    /// # Errors
    /// [`Error::File`] if the file is missing or damaged.
    pub fn load_data(&self) -> Result<DataRecord> {
        let path = self.data();
        let way_out = "it says which bars the run has learned from: copy it from the original folder of the run, or \
                       start a new run";
        let unreadable =
            |what: &str| Error::File { path: path.clone(), problem: format!("{what}, and {way_out}") };
        let text = fs::read(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => unreadable("is missing"),
            _ => Error::Io { path: path.clone(), source: error },
        })?;
        if !seal::is_whole_json(&text) {
            return Err(unreadable("is not what the run wrote"));
        }
        serde_json::from_slice(&text).map_err(|error| unreadable(&format!("is damaged ({error})")))
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

/// Makes a folder and those above it, and notes which it made.
fn make_all(folder: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_all(parent, made)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => made.push(folder.to_owned()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io(folder)(error)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_automatic_name_that_is_taken_gets_a_counter() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("runs/market-1");
        let all: Vec<RunFolder> = (0..3).map(|_| RunFolder::create_numbered(&root).unwrap()).collect();
        let names = all.iter().map(|folder| folder.root().file_name().unwrap().to_str().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), ["market-1", "market-1-2", "market-1-3"]);
        assert_ne!(all[0].run_name(), all[1].run_name());
    }

    #[test]
    fn a_folder_of_a_run_is_refused_and_one_that_is_in_use_too() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("run");
        let folder = RunFolder::create(&root).unwrap();
        let said = RunFolder::create(&root).unwrap_err().to_string();
        assert!(said.contains("is in use by process"), "{said}");
        folder.write_config("[run]\n").unwrap();
        let said = RunFolder::resume(&root).unwrap_err().to_string();
        assert!(said.contains("is in use by process"), "{said}");
        drop(folder);
        let said = RunFolder::create(&root).unwrap_err().to_string();
        assert!(said.contains("holds a run already"), "{said}");
        RunFolder::resume(&root).unwrap();
    }

    #[test]
    fn a_run_that_does_not_begin_leaves_nothing_that_it_made() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("runs/deep/run");
        let folder = RunFolder::create(&root).unwrap();
        fs::write(folder.streams(), "rows").unwrap();
        folder.abandon();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        // A folder of the user's stays, with what the user put there.
        let root = parent.path().join("mine");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("notes.txt"), "mine").unwrap();
        RunFolder::create(&root).unwrap().abandon();
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
        // A run stays.
        let folder = RunFolder::create(&root).unwrap();
        folder.write_config("[run]\n").unwrap();
        folder.abandon();
        assert!(root.join("config.toml").exists());
    }

    #[test]
    fn a_configuration_that_was_changed_is_refused_with_the_way_to_put_it_back() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("run");
        let folder = RunFolder::create(&root).unwrap();
        folder.write_config("[run]\nseed = 1\n").unwrap();
        let sealed = fs::read_to_string(folder.config()).unwrap();
        fs::write(folder.config(), sealed.replace("seed = 1", "seed = 2")).unwrap();
        let said = RunFolder::open(&root).unwrap_err().to_string();
        assert!(said.contains("is not what the run wrote") && said.contains("start a new run"), "{said}");
        fs::create_dir(folder.checkpoint()).unwrap();
        fs::write(folder.checkpoint().join("config.toml"), &sealed).unwrap();
        let said = RunFolder::open(&root).unwrap_err().to_string();
        let way_out = format!("cp {0}/checkpoint/config.toml {0}/config.toml", root.display());
        assert!(said.contains(&way_out), "{said}");
        fs::remove_file(folder.config()).unwrap();
        let said = RunFolder::open(&root).unwrap_err().to_string();
        assert!(said.contains(&way_out), "{said}");
        fs::copy(folder.checkpoint().join("config.toml"), folder.config()).unwrap();
        assert_eq!(RunFolder::open(&root).unwrap().run_name(), folder.run_name());
    }
}
