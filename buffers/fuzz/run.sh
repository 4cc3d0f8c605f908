#!/bin/sh
# Fuzzes the reader of replay files: ./run.sh [seconds]. With cargo-fuzz where it is installed, otherwise with its
# flags by hand, which any toolchain takes with RUSTC_BOOTSTRAP=1. What is found stays under target/fuzz.
set -eu
cd "$(dirname "$0")"
seconds=${1:-600}
out=../../target/fuzz
mkdir -p "$out/corpus" "$out/artifacts"
host=$(rustc -vV | sed -n 's/^host: //p')
options="-max_total_time=$seconds -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=256 -max_len=8192 -print_final_stats=1"
if cargo fuzz --version >/dev/null 2>&1; then
    export RUSTC_BOOTSTRAP=1
    # shellcheck disable=SC2086
    exec cargo fuzz run --fuzz-dir . --target-dir "$out" read_file "$out/corpus" seeds/read_file -- \
        -artifact_prefix="$out/artifacts/" $options
fi
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-sanitizer-coverage-stack-depth \
-Cdebug-assertions -Ccodegen-units=1 -Zsanitizer=address --cfg fuzzing" \
    cargo build --release --bin read_file --target "$host" --target-dir "$out" ${CARGO_FLAGS:-}
# shellcheck disable=SC2086
exec "$out/$host/release/read_file" "$out/corpus" seeds/read_file -artifact_prefix="$out/artifacts/" $options
