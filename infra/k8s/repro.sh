#!/usr/bin/env bash
# Runs the workflow in a folder of the shared volume, the first argument, or the command that follows it.
# The first time it copies the project of the image there; later it goes on from what it finds.
set -euo pipefail
folder=$1
shift
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# A copy that was cut off is not taken for a whole one.
if [ ! -e "$folder" ]; then
  rm -rf "$folder.new"
  mkdir -p "$(dirname "$folder")"
  cp -r "$project" "$folder.new"
  mv "$folder.new" "$folder"
fi
cd "$folder"
dvc config --local core.no_scm true # the image has no .git
export RAY_ADDRESS=http://127.0.0.1:8265 # the job server: this runs on the head
[ $# -gt 0 ] || set -- dvc repro
exec "$@"
