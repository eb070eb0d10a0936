#!/usr/bin/env bash
# Sets up and runs the tests in two processes; arguments go to pytest, such as -n 0 for one.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
pytest -n 2 --no-loadscope-reorder "$@"
