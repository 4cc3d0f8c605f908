#!/bin/sh
# Puts the built program below a prefix, with the libtorch that it loads, its manual pages and its completions.
#
#   trainer/install.sh PREFIX         with what .libtorch has: its CUDA libraries too, where setup.sh fetched them
#   trainer/install.sh PREFIX cpu     with what a machine without a GPU loads, and with the C++ runtime
#
#   .libtorch/torch/lib     ──> PREFIX/lib/plimsoll/torch/lib     the run path of the program (build.rs)
#   .libtorch/nvidia/*/lib  ──> PREFIX/lib/plimsoll/nvidia/*/lib  the run paths of libtorch itself
set -eu
prefix=${1:?install.sh PREFIX [cpu]}
kind=${2:-}
case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
cd "$(dirname "$0")/.."
built=target/release/plimsoll
[ -x $built ] || { echo "install: $built is missing: run \`make build\` first, as the user who has cargo" >&2; exit 1; }
libtorch=$(realpath .libtorch)
home=$prefix/lib/plimsoll

# Every library that the program loads, by the folder in which it really lies.
loaded() {
  ldd $built | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | while read -r library; do
    echo "$(realpath "$(dirname "$library")")/$(basename "$library")"
  done
}
if [ "$kind" != cpu ] && [ -d "$libtorch/nvidia/cudnn" ]; then
  libraries=$(find "$libtorch/torch/lib" "$libtorch/nvidia" -name '*.so*' ! -name 'libtorch_python.so' ! -path '*/libshm*')
else
  libraries=$(loaded | grep "^$libtorch/")
fi
[ "$kind" = cpu ] && runtime=$(loaded | grep -E '/lib(stdc\+\+|gcc_s)\.so') || runtime=

rm -rf "$home"
for library in $libraries; do
  install -D -m 644 "$library" "$home/${library#"$libtorch"/}"
done
for library in $runtime; do
  install -m 644 "$library" "$home/torch/lib/"
done
sed -n "s/^__version__ = '\([0-9.]*\).*/\1/p" "$libtorch/torch/version.py" >"$home/torch/build-version"
install -D -m 755 -s $built "$prefix/bin/plimsoll"

share=$prefix/share
mkdir -p "$share/man/man1" "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
$built --quiet man --out "$share/man/man1"
$built completions bash >"$share/bash-completion/completions/plimsoll"
$built completions zsh >"$share/zsh/site-functions/_plimsoll"
$built completions fish >"$share/fish/vendor_completions.d/plimsoll.fish"
echo "install: plimsoll is in $prefix/bin, its libtorch in $home"
