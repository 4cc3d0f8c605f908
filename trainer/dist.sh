#!/bin/sh
# Makes dist/plimsoll-VERSION-x86_64-linux.tar.gz: the program with all that it loads but glibc, for machines without a
# GPU, a compiler or Python.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=plimsoll-$version-$(uname -m)-linux
folder=dist/$name
rm -rf "$folder"
./trainer/install.sh "$folder" cpu >/dev/null
cp LICENSE ./*.md "$folder/"
install -D -m 644 docs/report.png "$folder/docs/report.png"

licences=$folder/share/doc/plimsoll/licences
mkdir -p "$licences"
for info in .libtorch/*.dist-info; do
  [ -d "$info/licenses" ] && cp -R "$info/licenses" "$licences/$(basename "$info" .dist-info)"
done
for package in libstdc++6 libgcc-s1; do
  [ -e /usr/share/doc/$package/copyright ] && cp -L /usr/share/doc/$package/copyright "$licences/$package"
done

glibc=$(find "$folder/bin" "$folder/lib" -type f -exec objdump -T {} + 2>/dev/null |
  sed -n 's/.*(\?GLIBC_\([0-9.]*\)).*/\1/p' | sort -uV | tail -n 1)
cat >"$folder/INSTALL" <<EOF
Plimsoll $version for Linux on $(uname -m), with glibc $glibc or newer; no compiler, no Python and no GPU.

Run it where it lies:       ./bin/plimsoll train
Put it on everyone's PATH:  cp -R bin lib share /usr/local/
Take it away again:         cd /usr/local && rm -r bin/plimsoll lib/plimsoll share/doc/plimsoll share/man/man1/plimsoll*.1 \\
                              share/bash-completion/completions/plimsoll share/zsh/site-functions/_plimsoll \\
                              share/fish/vendor_completions.d/plimsoll.fish

bin/plimsoll looks for its libraries in ../lib/plimsoll beside it, so keep the two together. A GPU is used by a program
that is built on a machine with one: see README.md.
EOF
tar -C dist --owner=0 --group=0 --sort=name -czf "$folder.tar.gz" "$name"
rm -rf "$folder"
echo "dist: $folder.tar.gz ($(du -h "$folder.tar.gz" | cut -f 1))"
