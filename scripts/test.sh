#!/usr/bin/env bash
# Sets up .venv, then runs the linters, the type checker and the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh

export OMP_NUM_THREADS=1
.venv/bin/ruff format --check --quiet .
.venv/bin/ruff check --quiet .
.venv/bin/pyright --warnings
.venv/bin/lint-imports
.venv/bin/python -m pytest "$@"
