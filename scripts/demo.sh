#!/usr/bin/env bash
# Sets up .venv, writes the embedded videos, trains a small MViT on them, and tests it with their frames in order,
# shuffled and reversed. About three minutes on two cores once .venv is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh

export OMP_NUM_THREADS=1  # two loader processes keep the other core busy
echo "Writing the videos"
.venv/bin/python scripts/make_demo_data.py
echo "Training"
.venv/bin/lightning fit -c configs/demo.yaml
for order in forward shuffled reversed; do
  echo "Testing, frames $order"
  .venv/bin/lightning test -c configs/demo.yaml --ckpt_path last --data.views.frame_order "$order"
done
.venv/bin/python scripts/demo_summary.py runs/demo
