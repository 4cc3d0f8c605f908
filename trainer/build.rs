//! Gives the program a run path to the libtorch that `make install` puts beside it, and the commit that it was built from.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // `.cargo/config.toml` has the run paths of a checkout; those come first.
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../lib/plimsoll/torch/lib");
    // Sources without a repository have no commit.
    if let Some(commit) = git(&["rev-parse", "HEAD"]) {
        println!("cargo:rustc-env=PLIMSOLL_COMMIT={commit}");
        // The log of HEAD grows with every commit and every change of branch.
        if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) {
            println!("cargo:rerun-if-changed={log}");
        }
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
