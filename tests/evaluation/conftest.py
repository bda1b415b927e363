"""A net that knows the answers, and a datamodule of a few generated videos."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from mvit_video.data.dataset import ClipBatch
from mvit_video.data.digits import write_digits
from mvit_video.evaluation import MultiViewEvaluation
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import ClipSpec, ViewSpec


class Oracle(LightningModule):
    """Right with 70 percent, except where `answers` says otherwise."""

    def __init__(self, answers: dict[int, int] | None = None) -> None:
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.net.num_classes = 4
        self.answers = answers or {}

    def test_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
        probabilities = torch.full((len(batch.label), 4), 0.1)
        for i, (video, label) in enumerate(zip(batch.video.tolist(), batch.label.tolist(), strict=True)):
            probabilities[i, self.answers.get(video, label)] = 0.7
        return {"probabilities": probabilities}


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), num_train=4, num_val=8)


@pytest.fixture
def make_data(digits: Path) -> Callable[..., VideoDataModule]:
    def make(**changes: Any) -> VideoDataModule:
        settings: dict[str, Any] = {
            "test": str(digits / "val.csv"), "clip": ClipSpec(2, 8), "crop_size": 32, "num_workers": 0,
            "views": ViewSpec(num_clips=2, num_crops=3), "test_batch_size": 3,
        }  # fmt: skip
        return VideoDataModule(**(settings | changes))

    return make


@pytest.fixture
def run_test(tmp_path: Path) -> Callable[..., Trainer]:
    """Tests the oracle; the files are in the folder `run`."""

    def run(data: VideoDataModule, task: LightningModule | None = None, **settings: Any) -> Trainer:
        trainer = Trainer(
            accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False, default_root_dir=tmp_path,
            **({"callbacks": [MultiViewEvaluation(tmp_path / "run")]} | settings),
        )  # fmt: skip
        trainer.test(task or Oracle(), datamodule=data, verbose=False)
        return trainer

    return run


@pytest.fixture
def oracle() -> Callable[..., Oracle]:
    return Oracle


@pytest.fixture
def broken(digits: Path, tmp_path: Path) -> Path:
    """The digits' annotations with a third row that is no video."""
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    lines = (digits / "val.csv").read_text().splitlines()
    rows = [f"{digits / path},{label}" for path, label in (line.split(",") for line in lines[1:])]
    file = tmp_path / "broken.csv"
    file.write_text("\n".join([lines[0], *rows[:2], f"broken.mp4,{rows[0].split(',')[1]}", *rows[2:]]) + "\n")
    return file
