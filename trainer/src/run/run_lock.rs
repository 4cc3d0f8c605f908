//! The lock on a run's folder, which one process at a time holds.
//!
//! The lock is the kernel's (`flock`) on the file `run.lock`, so it ends with its process, however that ends. The file says
//! who holds it, for the process that comes second. What it says counts only while it is locked.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::console::say_always;
use crate::error::{Error, Result};
use crate::format;

/// The name of the lock's file.
pub(super) const NAME: &str = "run.lock";

/// A lock on a folder, held until it is dropped.
#[derive(Debug)]
pub(super) struct RunLock {
    folder: PathBuf,
    file: File,
}

impl RunLock {
    /// Locks a folder.
    ///
    /// # Errors
    /// [`Error::File`] if another process holds the lock: it says who; [`Error::Io`] if the folder cannot be written to.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&path).map_err(Error::io(folder))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(folder, &path)),
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                say_always(&format!(
                    "{}: this file system knows no locks: let no second process use this folder",
                    folder.display()
                ))
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(path)(error)),
        }
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let since = format::utc(millis, "%Y-%m-%d %H:%M:%S UTC");
        let text = format!("process {} on {} since {since}\n", std::process::id(), host());
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(Error::io(&path))?;
        let lock = Self { folder: folder.to_owned(), file };
        // Another process may have removed the folder that it had made between the opening and the lock.
        lock.require_folder()?;
        Ok(lock)
    }

    /// Refuses to go on where the folder is not there any more, or another one is in its place.
    ///
    /// # Errors
    /// [`Error::File`] with what happened and the way out.
    pub(super) fn require_folder(&self) -> Result<()> {
        let ours = self.file.metadata().map_err(Error::io(&self.folder))?;
        let there = std::fs::metadata(self.folder.join(NAME));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok(());
        }
        let problem =
            "another program moved or removed the run's folder, or its run.lock, while the run went on: put \
                       the folder back, and go on from its last checkpoint with --resume"
                .to_owned();
        Err(Error::File { path: self.folder.clone(), problem })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Closing the file is not enough, because a child process that is just being started still has it open. If unlocking
        // fails, closing releases the lock, perhaps a little later.
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

fn in_use(folder: &Path, path: &Path) -> Error {
    let said = std::fs::read_to_string(path).unwrap_or_default();
    // The process may hold the lock and have said nothing yet.
    let holder = Some(said.trim()).filter(|said| !said.is_empty()).unwrap_or("another process");
    let problem = format!(
        "is in use by {holder}: one process at a time may write a run, so wait for its end or stop it"
    );
    Error::File { path: folder.to_owned(), problem }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Some(name.trim()).filter(|name| !name.is_empty()).unwrap_or("this machine").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let lock = RunLock::take(folder.path()).unwrap();
        let said = RunLock::take(folder.path()).unwrap_err().to_string();
        let holder = format!("is in use by process {} on {} since 2", std::process::id(), host());
        assert!(said.contains(&holder) && said.contains(" UTC: "), "{said}");
        drop(lock);
        RunLock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_is_moved_away_is_missed_also_where_another_one_takes_its_place() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("run");
        std::fs::create_dir(&folder).unwrap();
        let lock = RunLock::take(&folder).unwrap();
        lock.require_folder().unwrap();
        std::fs::rename(&folder, parent.path().join("moved")).unwrap();
        let said = lock.require_folder().unwrap_err().to_string();
        assert!(said.contains("moved or removed the run's folder"), "{said}");
        std::fs::create_dir(&folder).unwrap();
        let _other = RunLock::take(&folder).unwrap();
        lock.require_folder().unwrap_err();
    }
}
