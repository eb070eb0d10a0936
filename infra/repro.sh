#!/usr/bin/env bash
# From a fresh clone to the report: set up, run all stages that are out of date, print the result.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
dvc repro
convoy summary
