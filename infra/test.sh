#!/usr/bin/env bash
# Sets up and runs the tests; arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
pytest "$@"
