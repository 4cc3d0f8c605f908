#!/bin/sh
# Draws docs/report.png from the report of a run: its head, key numbers, equity and memory, 1200 pixels wide.
#
#   docs/picture.sh RUN     needs chromium (Debian: apt-get install chromium)
set -eu
run=${1:?picture.sh RUN}
picture=$(cd "$(dirname "$0")" && pwd)/report.png
command -v chromium >/dev/null || { echo "picture: chromium is missing; on Debian: apt-get install chromium" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# What lies between equity and memory is left out, so that one picture holds both. Debian's default font is wide, so the
# labels at the ends of the curves get more room.
style='main{padding-top:20px}.plot.with-ends{grid-template-columns:64px minmax(0,1fr) 236px}section:not([aria-labelledby=equity]):not([aria-labelledby=memory]),section>h3,section>h3~*{display:none!important}'
sed "s#</head>#<style>$style</style></head>#" "$run/report.html" >"$folder/report.html"
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,1290 --user-data-dir="$folder/profile" \
  --screenshot="$picture" "file://$folder/report.html" 2>/dev/null
echo "picture: $picture ($(du -k "$picture" | cut -f 1) KB)"
