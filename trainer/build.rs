//! Gives the program a run path to the libtorch that `make install` puts beside it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // `.cargo/config.toml` has the run paths of a checkout; those come first.
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/../lib/plimsoll/torch/lib");
}
