#!/usr/bin/env bash
# Makes .venv and installs the locked dependencies and this package in it; returns at once when nothing changed.
# Another interpreter: PYTHON=python3.12 bash scripts/setup.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
  echo "error: Python 3.10 or newer is needed, $python is $("$python" --version 2>&1); set PYTHON to another one" >&2
  exit 1
}
wanted=$(cat requirements.lock pyproject.toml scripts/setup.sh | sha256sum)
[ "$(cat .venv/installed 2>/dev/null)" = "$wanted" ] && exit 0

echo "Setting up .venv (about 6 GB, most of it torch's CUDA libraries; a minute or two the first time)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
# uv installs the same files as pip does, in a fifth of the time, and shares them between checkouts
uv=$(mktemp)
trap 'rm -f "$uv"' EXIT
awk '/^uv==/ { found = 1 } found; found && !/\\$/ { exit }' requirements.lock >"$uv"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$uv"
.venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode --require-hashes --requirements requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-build-isolation --no-deps --editable .
echo "$wanted" >.venv/installed
