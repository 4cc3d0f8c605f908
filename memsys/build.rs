//! Compiles the C++ shim against the libtorch that `LIBTORCH` names (set in `.cargo/config.toml`).

use std::path::Path;

const SOURCES: [&str; 9] = [
    "activations",
    "allocator",
    "devices",
    "gradients",
    "numbers",
    "parameters",
    "precision",
    "recompute",
    "spill",
];

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=csrc");
    let libtorch = std::env::var("LIBTORCH").unwrap_or_default();
    let include = Path::new(&libtorch).join("include");
    assert!(
        include.join("ATen/ATen.h").exists(),
        "no libtorch at `{libtorch}`: run `make setup` once (or set LIBTORCH to a libtorch 2.11.0)"
    );
    // libtorch's headers take most of the time of each file, so all are compiled as one. Of `cc`'s debug information only
    // line tables are wanted, as of the Rust code.
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    let unit = Path::new(&out).join("csrc.cpp");
    let includes: String = SOURCES.iter().map(|name| format!("#include \"csrc/{name}.cpp\"\n")).collect();
    std::fs::write(&unit, includes).expect("a build script may write to OUT_DIR");
    cc::Build::new()
        .cpp(true)
        .debug(false)
        .flag("-g1")
        .include(env!("CARGO_MANIFEST_DIR"))
        .std("c++17")
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .warnings(false)
        .file(&unit)
        .compile("memsys_libtorch");
}
