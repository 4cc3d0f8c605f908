//! The shape of the workspace: which crate knows which, where `unsafe` may stand, how long a file may be.

use std::path::{Path, PathBuf};

/// The crates that a crate may know.
const MAY_KNOW: [(&str, &[&str]); 6] = [
    ("memsys", &[]),
    ("buffers", &["memsys"]),
    ("embedders", &["memsys"]),
    ("agents", &["memsys", "buffers", "embedders"]),
    ("trainer", &["memsys", "buffers", "embedders", "agents"]),
    ("tests", &["memsys", "buffers", "embedders", "agents", "trainer"]),
];

fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files(&entry, endings, found);
        } else if endings.iter().any(|ending| entry.extension().is_some_and(|it| it == *ending)) {
            found.push(entry);
        }
    }
}

fn sources(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (name, _) in MAY_KNOW {
        files(&tests::root().join(name), endings, &mut found);
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

#[test]
fn a_crate_knows_only_those_below_it() {
    for (name, may_know) in MAY_KNOW {
        let manifest = std::fs::read_to_string(tests::root().join(name).join("Cargo.toml")).unwrap();
        let knows = |other: &str| {
            manifest
                .lines()
                .any(|line| line.starts_with(&format!("{other}.")) || line.starts_with(&format!("{other} ")))
        };
        for (other, _) in MAY_KNOW {
            assert!(!knows(other) || may_know.contains(&other), "{name} knows {other}");
        }
    }
}

#[test]
fn unsafe_and_cpp_stand_in_memsys_alone() {
    let room = tests::root().join("memsys");
    for path in sources(&["rs", "cpp", "h"]) {
        let is_cpp = path.extension().is_some_and(|it| it != "rs");
        let text = std::fs::read_to_string(&path).unwrap();
        let word = ["unsafe", "fn"].join(" ");
        let block = ["unsafe", "{"].join(" ");
        let is_unsafe = text.contains(&word) || text.contains(&block);
        let is_allowed = path.starts_with(room.join("src/libtorch")) || path.starts_with(room.join("csrc"));
        assert!(!(is_cpp || is_unsafe) || is_allowed, "{}", path.display());
    }
}

#[test]
fn no_file_holds_two_ideas() {
    for path in sources(&["rs", "cpp", "h"]) {
        let n_lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(n_lines <= 600, "{} has {n_lines} lines", path.display());
    }
}
