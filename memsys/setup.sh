#!/bin/sh
# Puts libtorch 2.11.0 into .libtorch/ from PyPI's own wheel; no Python is needed at run time.
#
# Without an NVIDIA driver only what a CPU needs is fetched (about 600 MB); with one, the wheel's CUDA libraries too.
# What is there already, of the right version, is left alone; what was broken off is done again.
set -eu
cd "$(dirname "$0")/.."
version=2.11.0
cuda_toolkit=13.0.2
folder=.libtorch

# Before anything is fetched: Debian's own cargo is older than the crates need.
least_rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
found_rust=$(rustc --version 2>/dev/null | cut -d ' ' -f 2)
oldest=$(printf '%s\n' "$least_rust" "$found_rust" | sort -V | head -n 1)
if ! command -v cargo >/dev/null || [ "$oldest" != "$least_rust" ]; then
  echo "setup: Rust $least_rust or newer is needed, found: ${found_rust:-none}. Debian's package is too old; take rustup's:" >&2
  echo "setup: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh   (https://rustup.rs says more)" >&2
  exit 1
fi

stated() { sed -n "s/^__version__ = '\([0-9.]*\).*/\1/p" "$1/torch/version.py" 2>/dev/null || true; }

if [ "$(stated $folder)" = "$version" ] && [ -e "$folder/.complete" ]; then
  echo "setup: libtorch $version is in $folder"
  exit 0
fi
for tool in python3 c++; do
  command -v $tool >/dev/null || { echo "setup: $tool is missing; on Debian: apt-get install python3 python3-pip g++" >&2; exit 1; }
done
if ! python3 -m pip --version >/dev/null 2>&1; then
  echo "setup: python3 has no pip; trying apt-get install python3-pip"
  { apt-get update -qq && apt-get install -y -qq python3-pip >/dev/null; } ||
    { echo "setup: install pip for python3 (Debian: apt-get install python3-pip) and run this again" >&2; exit 1; }
fi
pip() { PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip "$@"; }
# Debian's pip refuses to install outside an environment unless told that --target is meant.
allow=$(pip install --help | grep -q -- --break-system-packages && echo --break-system-packages || true)

# Downloads stay in .libtorch.wheels until all is done, so that a broken-off setup goes on where it was.
wheels=.libtorch.wheels
mkdir -p $wheels
if [ -e /dev/nvidiactl ]; then
  echo "setup: fetching libtorch $version with its CUDA libraries (about 3 GB)"
  pip download --progress-bar off -q -d $wheels "torch==$version"
else
  echo "setup: fetching libtorch $version for the CPU (about 550 MB)"
  ls $wheels/torch-$version-*.whl >/dev/null 2>&1 || pip download -q --no-deps -d $wheels "torch==$version"
  pip download -q -d $wheels "cuda-toolkit[cudart,cupti]==$cuda_toolkit"
fi
echo "setup: unpacking into $folder"
rm -rf $folder.part
pip install -q --no-compile --no-deps --no-index $allow --target $folder.part $wheels/*.whl
[ "$(stated $folder.part)" = "$version" ] ||
  { echo "setup: the wheel holds libtorch '$(stated $folder.part)', not $version" >&2; exit 1; }
touch $folder.part/.complete
rm -rf $folder
mv $folder.part $folder
rm -rf $wheels
echo "setup: libtorch $version is in $folder"
