"""The whole pipeline learns: sixteen videos by heart."""

import csv
from pathlib import Path

import pytest

from mvit_video.cli import main
from mvit_video.data.digits import write_digits
from tests.fixtures.places import ROOT

CONFIG = ROOT / "configs" / "demo.yaml"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


def test_sixteen_videos_are_learnt_by_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = write_digits(tmp_path, num_train=16, num_val=4) / "train.csv"
    monkeypatch.chdir(tmp_path)
    settings = {
        "data.train": videos, "data.val": videos, "data.loading.batch_size": 8, "data.loading.num_workers": 0,
        "data.augment.scale": "[1,1]", "data.augment.aspect": "[1,1]", "trainer.max_epochs": 30,
        "trainer.check_val_every_n_epoch": 30, "trainer.enable_checkpointing": "false",
        "model.schedule.warmup_epochs": 3,
        "data.val_views": '{"num_clips": 1, "short_side": 32}',  # whole frames, as in training
    }  # fmt: skip
    assert main(["fit", "-c", str(CONFIG), *(f"--{key}={value}" for key, value in settings.items())]) == 0
    with (tmp_path / "runs" / "demo" / "version_0" / "metrics.csv").open() as file:
        scores = [float(row["val/top1"]) for row in csv.DictReader(file) if row["val/top1"]]
    assert scores[-1] == 100
