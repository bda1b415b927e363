#!/usr/bin/env bash
# Sets up .venv, writes digit videos, trains a small MViT on them, and tests it with their frames in order, shuffled and
# reversed. About three minutes on two cores once .venv exists. Called again it trains again, in a new run folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh

export OMP_NUM_THREADS=1  # two loader processes use the other core
echo "1/3 Writing 1,040 digit videos to data/demo"
.venv/bin/python scripts/make_demo_data.py
echo "2/3 Training for 10 epochs, about two minutes: mvit-video fit -c configs/demo.yaml"
.venv/bin/mvit-video fit -c configs/demo.yaml
for order in forward shuffled reversed; do
  echo "3/3 Testing, order of frames: $order"
  .venv/bin/mvit-video test -c configs/demo.yaml --ckpt_path last --data.views.frame_order "$order"
done
.venv/bin/python scripts/demo_summary.py runs/demo
