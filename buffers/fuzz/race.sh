#!/bin/sh
# What threads share of a replay (buffers::replay::shared::core) under ThreadSanitizer: ./race.sh [seconds]. It is built
# by itself, without libtorch, whose libraries are not instrumented: Cargo's feature `race` mounts core.rs, stress.rs and
# what they use. Any toolchain takes the flags with RUSTC_BOOTSTRAP=1.
#
# Where the standard library's sources are installed it is built with the sanitizer too, and all is seen as it is. Where
# they are not, two things that happen inside it are not seen, and would be taken for races: a wait for a taken lock, so
# locks are tried again and again instead (`TriedLocks`); and the fence before the last owner of an Arc frees it, so
# reports from there are left out.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
out=../../target/race
host=$(rustc -vV | sed -n 's/^host: //p')
if [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    std=-Zbuild-std
    abi=
    locks=
    suppressed=
else
    echo "race: the standard library's sources are not installed (rust-src): it is used as it is, and not looked into"
    std=
    abi=-Cunsafe-allow-abi-mismatch=sanitizer
    locks=tried
    mkdir -p "$out"
    echo "race:library/alloc/src/sync.rs" >"$out/suppressed"
    suppressed="suppressions=$out/suppressed"
fi
# shellcheck disable=SC2086
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread $abi" cargo build --release --bin race --features race $std \
    --target "$host" --target-dir "$out" ${CARGO_FLAGS:-}
# shellcheck disable=SC2086
TSAN_OPTIONS="halt_on_error=1 $suppressed" exec "$out/$host/release/race" "$seconds" $locks
