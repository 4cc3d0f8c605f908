#!/bin/sh
# Removes what install.sh put below a prefix.
set -eu
prefix=${1:?uninstall.sh PREFIX}
rm -rf "$prefix/lib/plimsoll"
rm -f "$prefix/bin/plimsoll" "$prefix/share/man/man1/plimsoll.1" "$prefix/share/man/man1/plimsoll-"*.1 \
  "$prefix/share/bash-completion/completions/plimsoll" "$prefix/share/zsh/site-functions/_plimsoll" \
  "$prefix/share/fish/vendor_completions.d/plimsoll.fish"
