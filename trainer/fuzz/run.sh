#!/bin/sh
# Fuzzes the import of bars: ./run.sh TARGET [seconds], TARGET being csv_text or import_file. With cargo-fuzz where it is
# installed, otherwise with its flags by hand, which any toolchain takes with RUSTC_BOOTSTRAP=1. What is found stays
# under target/fuzz.
set -eu
cd "$(dirname "$0")"
target=$1
seconds=${2:-600}
out=../../target/fuzz
mkdir -p "$out/corpus-$target" "$out/artifacts"
host=$(rustc -vV | sed -n 's/^host: //p')
options="-max_total_time=$seconds -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=512 -max_len=8192 -print_final_stats=1"
if cargo fuzz --version >/dev/null 2>&1; then
    export RUSTC_BOOTSTRAP=1
    # shellcheck disable=SC2086
    exec cargo fuzz run --fuzz-dir . --target-dir "$out" "$target" "$out/corpus-$target" "seeds/$target" -- \
        -artifact_prefix="$out/artifacts/" $options
fi
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-sanitizer-coverage-stack-depth \
-Cdebug-assertions -Ccodegen-units=1 -Zsanitizer=address --cfg fuzzing" \
    cargo build --release --bin "$target" --target "$host" --target-dir "$out" ${CARGO_FLAGS:-}
# shellcheck disable=SC2086
exec "$out/$host/release/$target" "$out/corpus-$target" "seeds/$target" -artifact_prefix="$out/artifacts/" $options
