#!/usr/bin/env bash
# Rewrites requirements.lock from pyproject.toml: the newest versions that fit, for every platform and Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
.venv/bin/uv pip compile pyproject.toml --extra demo --group dev --universal --python-version 3.10 \
  --generate-hashes --no-header --no-annotate --quiet --output-file requirements.lock "$@"
