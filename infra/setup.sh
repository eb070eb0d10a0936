#!/usr/bin/env bash
# Makes .venv with the locked dependencies; where that is done already, does nothing.
# Sourced by its neighbours, it also puts .venv first on the PATH.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "setup: need Python 3.11 or later, found $("$python" --version 2>&1);" \
    "set PYTHON to a newer one" >&2
  exit 2
fi

wanted=$(cat infra/requirements.lock infra/lock/*.txt pyproject.toml | sha256sum)
if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
  echo "setup: installing the locked dependencies into .venv"
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check -r infra/requirements.lock
  .venv/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
  echo "$wanted" >.venv/installed
fi
export PATH="$PWD/.venv/bin:$PATH"
