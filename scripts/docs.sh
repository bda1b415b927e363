#!/usr/bin/env bash
# Builds the documentation in site/ (open site/index.html). A broken link or anchor, a page that no menu lists, or a public
# name without a docstring fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh

export NO_MKDOCS_2_WARNING=1  # an announcement of mkdocs-material, not a fault
.venv/bin/python -m mkdocs build --strict "$@"
