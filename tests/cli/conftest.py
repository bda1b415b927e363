"""A net small enough that a run takes a second, and a way to run verbs on it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mvit_video.cli import main
from mvit_video.data.digits import write_digits

Run = Callable[..., int]


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), num_train=16, num_val=8)


@pytest.fixture
def run(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a verb on `tiny.yaml` in an empty folder."""
    net = {
        "num_classes": 4, "num_frames": 2, "crop_size": 16, "depths": [1, 1], "embed_dim": 8,
        "patch": {"kernel": [1, 8, 8], "stride": [1, 8, 8]}, "pooling": {"stride_kv": [1, 1, 1]}, "dropout": 0.5,
    }  # fmt: skip
    config = {
        "seed_everything": 3,
        "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 2, "log_every_n_steps": 2},
        "model": {
            "net": {"class_path": "mvit_video.models.mvit", "init_args": net},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
            "schedule": {"warmup_epochs": 0.5},
            "label_smoothing": 0.1,
        },
        "data": {
            "train": str(digits / "train.csv"), "val": str(digits / "val.csv"), "crop_size": 16, "num_workers": 0,
            "clip": {"num_frames": 2, "sampling_rate": 8}, "views": {"num_clips": 2, "short_side": 16},
            "batch_size": 4,
        },
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)

    def run(verb: str, *words: str) -> int:
        return main([verb, "-c", "tiny.yaml", *words])

    return run
