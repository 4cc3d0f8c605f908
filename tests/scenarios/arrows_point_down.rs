//! The shape of the workspace: which crate and which file uses which, where `unsafe` and C++ stand, how long a file is
//! and how it is named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tests::circles::{circles, is_test};
use tests::root;

/// The crates that a crate may use.
const MAY_USE: [(&str, &[&str]); 6] = [
    ("memsys", &[]),
    ("buffers", &["memsys"]),
    ("embedders", &["memsys"]),
    ("agents", &["memsys", "buffers", "embedders"]),
    ("trainer", &["memsys", "buffers", "embedders", "agents"]),
    ("tests", &["memsys", "buffers", "embedders", "agents", "trainer"]),
];
const CPP: [&str; 4] = ["cpp", "cc", "h", "hpp"];
/// Where `unsafe` may stand.
const UNSAFE_ROOMS: [&str; 2] = ["memsys/src/os", "memsys/src/libtorch"];
/// Base names that several files of a crate may have: every algorithm has one of each, and so has every module.
const SHARED_NAMES: [&str; 8] = ["mod", "lib", "main", "config", "network", "loss", "actor", "learner"];
/// Files that have the name of something else on purpose: a subcommand, an environment as `run.environment` names it, or
/// the part of the program whose options the file resolves.
const NAMED_AFTER_OTHERS: [&str; 5] = ["cli/", "bench/train.rs", "bench/memory.rs", "envs/", "resolve/"];

fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files(&entry, endings, found);
        } else if endings.iter().any(|ending| entry.extension().is_some_and(|it| it == *ending)) {
            found.push(entry);
        }
    }
}

/// All files of the crates with one of these endings, by their path within the workspace.
fn sources(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (name, _) in MAY_USE {
        files(&root().join(name), endings, &mut found);
    }
    found.iter().map(|path| path.strip_prefix(root()).unwrap().to_owned()).collect()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The Rust files in `src` of each crate that has one, by their path within it.
fn by_crate() -> Vec<(&'static str, Vec<(String, String)>)> {
    let of = |name| {
        let folder = root().join(name).join("src");
        let mut found = Vec::new();
        files(&folder, &["rs"], &mut found);
        found.sort();
        let within = |path: &Path| path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned();
        (name, found.iter().map(|path| (within(path), text(path))).collect::<Vec<_>>())
    };
    let crates: Vec<_> =
        MAY_USE.iter().filter(|(name, _)| *name != "tests").map(|(name, _)| of(*name)).collect();
    assert!(crates.iter().all(|(_, files)| files.len() > 5), "the sources were not found");
    crates
}

#[test]
fn a_crate_uses_only_those_below_it() {
    for (name, may_use) in MAY_USE {
        let manifest = text(&Path::new(name).join("Cargo.toml"));
        let uses = |other: &str| {
            manifest
                .lines()
                .any(|line| line.starts_with(&format!("{other}.")) || line.starts_with(&format!("{other} ")))
        };
        for (other, _) in MAY_USE {
            assert!(!uses(other) || may_use.contains(&other), "{name} uses {other}");
        }
    }
}

#[test]
fn no_files_of_a_crate_use_each_other_in_a_circle() {
    let found: Vec<String> = by_crate()
        .iter()
        .flat_map(|(name, files)| {
            circles(files).into_iter().map(move |circle| format!("in {name}:\n{circle}"))
        })
        .collect();
    assert!(found.is_empty(), "{} circles between files\n{}", found.len(), found.join("\n"));
}

#[test]
fn unsafe_stands_in_two_rooms_of_memsys_alone() {
    // Put together here, so that this file itself is not found.
    let words = [" fn", " impl", " trait", " extern", " {", "("].map(|after| ["unsafe", after].concat());
    let is_unsafe = |path: &PathBuf| words.iter().any(|word| text(path).contains(word));
    let found: Vec<_> = sources(&["rs"]).into_iter().filter(is_unsafe).collect();
    assert!(found.len() > 5, "the sources were not found");
    for path in found {
        assert!(UNSAFE_ROOMS.iter().any(|room| path.starts_with(room)), "unsafe code in {}", path.display());
    }
}

#[test]
fn cpp_stands_in_csrc_alone() {
    let found = sources(&CPP);
    assert!(found.len() > 5, "the sources were not found");
    for path in found {
        assert!(path.starts_with("memsys/csrc"), "C++ in {}", path.display());
    }
}

#[test]
fn a_base_name_occurs_once_in_a_crate() {
    let is_named_after_another = |path: &str| NAMED_AFTER_OTHERS.iter().any(|start| path.starts_with(start));
    let mut found = Vec::new();
    for (name, files) in by_crate() {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (path, _) in files.iter().filter(|(path, _)| !is_test(path) && !is_named_after_another(path)) {
            let base = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
            let first = seen.insert(base, path).filter(|_| !SHARED_NAMES.contains(&base));
            found.extend(first.map(|first| format!("in {name}: {first} and {path}")));
        }
    }
    assert!(found.is_empty(), "files with the name of another\n{}", found.join("\n"));
}

#[test]
fn no_file_holds_two_ideas() {
    for path in sources(&["rs"]).into_iter().chain(sources(&CPP)) {
        let n_lines = text(&path).lines().count();
        assert!(n_lines <= 600, "{} has {n_lines} lines", path.display());
    }
}
