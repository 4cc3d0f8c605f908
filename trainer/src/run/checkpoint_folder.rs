//! The folders of checkpoints: which one is whole, and how a new one takes the place of the last.
//!
//! ```text
//! save      write checkpoint.part, sync ─> checkpoint becomes checkpoint.old ─> .part becomes checkpoint, sync ─> remove .old
//! resume    the newest of the three that is whole becomes checkpoint, and the others go
//! ```
//!
//! At every instant one of the three is whole, also where a process is killed in one save after another: `.old` goes only
//! when a whole one that the disk holds is in place.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::console::say_always;
use crate::error::{Error, Result};
use crate::run::counters::{self, Counters, load_counters};
use crate::run::summed_file::map_checked;

/// The newest whole checkpoint of a run, or `None` if there is none. A single one is not compared with its sums here: whoever
/// reads a file of it does that.
///
/// # Errors
/// [`Error::File`] with what is wrong, if there are some and none of them is whole.
pub fn find(folder: &Path) -> Result<Option<PathBuf>> {
    Ok(choose(folder)?.map(|choice| choice.path))
}

/// The same, of a run in `run` that has to have one.
///
/// # Errors
/// As [`find`]; [`Error::File`] if there is none.
pub fn require(folder: &Path, run: &Path) -> Result<PathBuf> {
    find(folder)?.ok_or_else(|| {
        let problem = "there is no checkpoint in it yet: train it first, with --resume".to_owned();
        Error::File { path: run.to_owned(), problem }
    })
}

/// Puts the newest whole checkpoint in place, removes what interrupted saves left, and returns the checkpoint. The caller
/// holds the run's lock.
///
/// # Errors
/// As [`find`]; [`Error::Io`] if a folder cannot be renamed.
pub fn settle(folder: &Path) -> Result<Option<PathBuf>> {
    let (part, old) = (beside(folder, "part"), beside(folder, "old"));
    let Some(Choice { path, in_place }) = choose(folder)? else {
        remove(&part)?;
        return Ok(None);
    };
    if path != folder {
        match in_place {
            InPlace::Nothing => {}
            InPlace::Whole => {
                remove(&old)?;
                rename(folder, &old)?;
            }
            InPlace::Damaged(error) => {
                let damaged = beside(folder, "damaged");
                say_always(&format!("{error}; an older checkpoint is whole, and the run goes on from there"));
                remove(&damaged)?;
                rename(folder, &damaged)?;
            }
        }
        rename(&path, folder)?;
        sync_parent(folder)?;
    }
    remove(&part)?;
    remove(&old)?;
    Ok(Some(folder.to_owned()))
}

/// Makes the empty folder that the next checkpoint is written to.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn begin(folder: &Path) -> Result<PathBuf> {
    let part = beside(folder, "part");
    remove(&part)?;
    // Not `create_dir_all`: a run whose folder was removed must not create it again.
    fs::create_dir(&part).map_err(Error::io(&part))?;
    Ok(part)
}

/// Removes what a save that failed has written, unless it is whole.
pub(super) fn give_up(folder: &Path) {
    let part = beside(folder, "part");
    if !part.join(counters::FILE).is_file() || check_whole(&part).is_err() {
        // The first error is the one to report, and the next save removes a leftover.
        let _ = fs::remove_dir_all(part);
    }
}

/// Puts the checkpoint in `part`, all of whose files are written and synced, in the place of the last one.
///
/// # Errors
/// [`Error::Io`]. The last checkpoint is then whole in one of the folders.
pub(super) fn put_in_place(part: &Path, folder: &Path) -> Result<()> {
    sync(part)?;
    let old = beside(folder, "old");
    if folder.exists() {
        // Here `folder` is whole and on the disk, so `.old` is a leftover.
        remove(&old)?;
        rename(folder, &old)?;
    }
    rename(part, folder)?;
    sync_parent(folder)?;
    // The new checkpoint is in place, whatever becomes of the old one; the next save removes it.
    let _ = fs::remove_dir_all(&old);
    Ok(())
}

/// Compares every file of a checkpoint with its length and CRC-32.
///
/// # Errors
/// [`Error::File`] with the first file that is missing or differs.
pub fn check_whole(folder: &Path) -> Result<Counters> {
    let counters = load_counters(folder)?;
    for (name, sum) in &counters.files {
        map_checked(&folder.join(name), sum)?;
    }
    Ok(counters)
}

/// A checkpoint that was chosen, and what stands in its place.
struct Choice {
    path: PathBuf,
    in_place: InPlace,
}

enum InPlace {
    Nothing,
    Whole,
    Damaged(Error),
}

fn choose(folder: &Path) -> Result<Option<Choice>> {
    let [old, part] = ["old", "part"].map(|suffix| beside(folder, suffix));
    // Beside a checkpoint stand at most the leftovers of one save.
    let is_written = |path: &Path| path.join(counters::FILE).is_file();
    let is_alone = !is_written(&old) && !is_written(&part);
    if is_alone && folder.exists() {
        return Ok(Some(Choice { path: folder.to_owned(), in_place: InPlace::Whole }));
    }
    let mut newest: Option<(Counters, PathBuf)> = None;
    let mut in_place = InPlace::Nothing;
    let mut refused = None;
    for path in [old, folder.to_owned(), part] {
        if !path.exists() {
            continue;
        }
        let is_folder = path == folder;
        match check_whole(&path) {
            Ok(counters) => {
                let steps = |of: &Counters| (of.environment_steps, of.learner_steps);
                if is_folder {
                    in_place = InPlace::Whole;
                }
                // Of two with the same steps the later one has more of what was done after them.
                if newest.as_ref().is_none_or(|(newest, _)| steps(newest) <= steps(&counters)) {
                    newest = Some((counters, path));
                }
            }
            Err(error) if is_folder => in_place = InPlace::Damaged(error),
            // The half of a save that was interrupted is no checkpoint yet.
            Err(_) if !is_written(&path) => {}
            Err(error) => refused = Some(error),
        }
    }
    match (newest, in_place, refused) {
        (Some((_, path)), in_place, _) => Ok(Some(Choice { path, in_place })),
        (None, InPlace::Damaged(error), _) | (None, _, Some(error)) => Err(error),
        (None, _, None) => Ok(None),
    }
}

fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io(from))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(folder)(error)),
        _ => Ok(()),
    }
}

fn sync(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(Error::io(folder))
}

fn sync_parent(folder: &Path) -> Result<()> {
    match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync(parent),
        None => sync(Path::new(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Write;

    use crate::run::summed_file::SummedFile;

    /// Writes a checkpoint of one file with so many steps.
    fn write(folder: &Path, environment_steps: u64) {
        fs::create_dir(folder).unwrap();
        let mut file = SummedFile::create(&folder.join("state")).unwrap();
        write!(file, "the state at {environment_steps}").unwrap();
        let files = BTreeMap::from([("state".to_owned(), file.finish().unwrap())]);
        let counters = Counters { environment_steps, files, ..Counters::default() };
        fs::write(folder.join(counters::FILE), counters.to_file()).unwrap();
    }

    fn steps_of(folder: &Path) -> Option<u64> {
        Some(load_counters(&find(folder).unwrap()?).unwrap().environment_steps)
    }

    fn damage(folder: &Path) {
        fs::write(folder.join("state"), "something else").unwrap();
    }

    /// Every mix of an old, a current and a new checkpoint that is absent, damaged or whole.
    #[test]
    fn of_all_that_kills_can_leave_the_newest_whole_one_is_taken_and_stays() {
        let suffixes = ["old", "", "part"];
        for mix in 0..27u32 {
            let kinds = [mix % 3, mix / 3 % 3, mix / 9];
            let parent = tempfile::tempdir().unwrap();
            let folder = parent.path().join("checkpoint");
            let paths = suffixes.map(|suffix| match suffix {
                "" => folder.clone(),
                suffix => beside(&folder, suffix),
            });
            for (n, (kind, path)) in (1..).zip(kinds.iter().zip(&paths)) {
                if *kind > 0 {
                    write(path, n * 100);
                }
                if *kind == 1 {
                    damage(path);
                }
            }
            let wanted = (1..).zip(&kinds).filter(|(_, kind)| **kind == 2).map(|(n, _)| n * 100).max();
            let settled = settle(&folder);
            match wanted {
                Some(wanted) => {
                    assert_eq!(settled.unwrap().as_deref(), Some(&*folder), "{kinds:?}");
                    assert_eq!(check_whole(&folder).unwrap().environment_steps, wanted, "{kinds:?}");
                    assert_eq!(steps_of(&folder), Some(wanted));
                    assert!(!paths[0].exists() && !paths[2].exists(), "{kinds:?}");
                }
                None if kinds == [0, 0, 0] => assert!(settled.unwrap().is_none()),
                // A single damaged one is told of by whoever reads it.
                None if kinds == [0, 1, 0] => drop(check_whole(&settled.unwrap().unwrap()).unwrap_err()),
                None => {
                    settled.unwrap_err();
                    assert!(kinds.iter().zip(&paths).all(|(kind, path)| (*kind > 0) == path.exists()));
                }
            }
        }
    }

    #[test]
    fn a_save_that_is_killed_twice_in_a_row_between_its_renames_loses_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("checkpoint");
        write(&folder, 100);
        for steps in [200, 300] {
            let part = begin(&folder).unwrap();
            fs::remove_dir(&part).unwrap();
            write(&part, steps);
            // The kill falls between the renames, and the new one is lost with it.
            let old = beside(&folder, "old");
            if folder.exists() {
                rename(&folder, &old).unwrap();
            }
            damage(&part);
            assert_eq!(steps_of(&folder), Some(100));
        }
        settle(&folder).unwrap();
        assert_eq!(steps_of(&folder), Some(100));
        let part = begin(&folder).unwrap();
        fs::remove_dir(&part).unwrap();
        write(&part, 400);
        put_in_place(&part, &folder).unwrap();
        assert_eq!(steps_of(&folder), Some(400));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
