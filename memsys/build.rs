//! Compiles the C++ shim against the libtorch that `LIBTORCH` names (set in `.cargo/config.toml`). Without the feature
//! `libtorch` there is nothing to compile.

use std::path::Path;

const SOURCES: [&str; 10] = [
    "activations",
    "allocator",
    "devices",
    "gradients",
    "numbers",
    "parameters",
    "precision",
    "recompute",
    "spill",
    "threads",
];

fn main() {
    if std::env::var_os("CARGO_FEATURE_LIBTORCH").is_none() {
        return;
    }
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=csrc");
    let libtorch = std::env::var("LIBTORCH").unwrap_or_default();
    let include = Path::new(&libtorch).join("include");
    assert!(
        include.join("ATen/ATen.h").exists(),
        "no libtorch at `{libtorch}`: run `make setup` once (or set LIBTORCH to a libtorch 2.11.0)"
    );
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .warnings(false)
        .files(SOURCES.map(|name| format!("csrc/{name}.cpp")))
        .compile("memsys_libtorch");
}
