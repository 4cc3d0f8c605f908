#!/bin/sh
# Threads under ThreadSanitizer that share a replay (buffers::replay::shared), or the memory limit (memsys::ledger):
# ./race.sh [seconds [race | race_ledger]]. It uses the crates without libtorch, whose libraries are not instrumented.
# Any toolchain takes the flags with RUSTC_BOOTSTRAP=1.
#
# If the sources of the standard library are installed, it is built with the sanitizer too. If not, the sanitizer does
# not see two things inside it and would report them as races: waits for a taken lock, so that `--cfg tried_locks`
# tries locks again and again instead; and the fence before the last owner of an Arc frees it, so that reports from
# there are suppressed.
set -eu
cd "$(dirname "$0")"
seconds=${1:-60}
race=${2:-race}
out=../../target/race
host=$(rustc -vV | sed -n 's/^host: //p')
if [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]; then
    std=-Zbuild-std
    flags=
    suppressed=
else
    echo "race: the sources of the standard library (rust-src) are not installed: the sanitizer does not look into it"
    std=
    flags="-Cunsafe-allow-abi-mismatch=sanitizer --cfg tried_locks"
    mkdir -p "$out"
    echo "race:library/alloc/src/sync.rs" >"$out/suppressed"
    suppressed="suppressions=$out/suppressed"
fi
# shellcheck disable=SC2086
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=thread $flags" cargo build --release --bin "$race" $std \
    --target "$host" --target-dir "$out" ${CARGO_FLAGS:-}
TSAN_OPTIONS="halt_on_error=1 $suppressed" exec "$out/$host/release/$race" "$seconds"
