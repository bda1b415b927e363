"""A net and a datamodule small enough that a fit takes a second."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningDataModule, Trainer
from torch import Tensor, nn
from torch.utils.data import Dataset

from mvit_video.data import ClipBatch
from mvit_video.data.digits import write_digits
from mvit_video.data.loader import EpochSampler, VideoLoader
from mvit_video.training import AtomicCheckpointIO, Schedule, StepSeed, Task
from mvit_video.types import ClipSpec


class TinyNet(nn.Module):
    def __init__(self, num_classes: int = 3, num_frames: int = 2, crop_size: int = 4, dropout: float = 0.5) -> None:
        super().__init__()
        self.num_classes, self.num_frames, self.crop_size = num_classes, num_frames, crop_size
        self.class_token = nn.Parameter(torch.zeros(1, 1, 8))
        self.embed = nn.Linear(3 * num_frames * crop_size**2, 8)
        self.norm = nn.LayerNorm(8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(self.dropout(self.norm(self.embed(clip.flatten(1)) + self.class_token[0])))


class TinyClips(Dataset):
    """A clip whose mean says its label; its noise depends on (epoch, index) alone, or on the index if `fixed`."""

    def __init__(self, size: int, fixed: bool) -> None:
        self.size, self.fixed = size, fixed

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int, int]:
        epoch, index = key
        noise = np.random.default_rng((0 if self.fixed else epoch, index)).normal(size=(3, 2, 4, 4)).astype(np.float32)
        return torch.from_numpy(noise) + index % 3, index % 3, index


def collate(items: list[tuple[Tensor, int, int]]) -> ClipBatch:
    clips, labels, videos = zip(*items, strict=True)
    view = torch.zeros(len(items), dtype=torch.long)
    return ClipBatch(torch.stack(clips), torch.tensor(labels), torch.tensor(videos), view, [], [])


class TinyData(LightningDataModule):
    def __init__(self, size: int = 12, batch_size: int = 2, **changes: Any) -> None:
        super().__init__()
        self.size, self.batch_size = size, batch_size
        self.clip, self.crop_size = ClipSpec(num_frames=changes.pop("num_frames", 2)), changes.pop("crop_size", 4)
        self.num_classes = changes.pop("num_classes", 3)
        self.class_names = changes.pop("class_names", None)

    def example_of(self, label: int) -> str:
        return "data.train: a.mp4"

    def _loader(self, shuffle: bool) -> VideoLoader:
        sampler = EpochSampler(self.size, shuffle=shuffle, even=False)
        dataset: Any = TinyClips(self.size, fixed=not shuffle)
        return VideoLoader(dataset, batch_size=self.batch_size, sampler=sampler, collate_fn=collate)

    def train_dataloader(self) -> VideoLoader:
        return self._loader(shuffle=True)

    def val_dataloader(self) -> VideoLoader:
        return self._loader(shuffle=False)


@pytest.fixture
def tiny_net() -> Callable[..., nn.Module]:
    return TinyNet


@pytest.fixture
def tiny_data() -> Callable[..., LightningDataModule]:
    return TinyData


@pytest.fixture
def make_task() -> Callable[..., Task]:
    def make(**changes: Any) -> Task:
        torch.manual_seed(0)
        settings = {
            "net": TinyNet(),
            "optimizer": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.05),
            "schedule": Schedule(warmup_epochs=0.5),
            "label_smoothing": 0.1,
        }
        return Task(**(settings | changes))

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    def make(*callbacks: Callback, **changes: Any) -> Trainer:
        settings: dict[str, Any] = {
            "default_root_dir": tmp_path, "accelerator": "cpu", "devices": 1, "max_epochs": 2, "logger": False,
            "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False,
            "num_sanity_val_steps": 0, "use_distributed_sampler": False, "log_every_n_steps": 2,
            "plugins": [AtomicCheckpointIO()],
        }  # fmt: skip
        return Trainer(callbacks=[StepSeed(1), *callbacks], **(settings | changes))

    return make


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits"), num_train=16, num_val=4)


@pytest.fixture
def recipe(digits: Path) -> dict[str, Any]:
    """Config of a small net, trained for 3 epochs of 8 batches with everything random that a recipe has."""
    net = {
        "num_classes": 4, "num_frames": 2, "crop_size": 16, "depths": [1, 1], "embed_dim": 8, "dropout": 0.5,
        "patch": {"kernel": [1, 8, 8], "stride": [1, 8, 8]}, "pooling": {"stride_kv": [1, 1, 1]}, "drop_path_rate": 0.2,
    }  # fmt: skip
    return {
        "seed_everything": 3,
        "checkpoint_every_n_steps": 3,
        "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 3, "log_every_n_steps": 2},
        "model": {
            "net": {"class_path": "mvit_video.models.mvit", "init_args": net},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
            "schedule": {"warmup_epochs": 0.5},
            "mixing": {"mixup_alpha": 0.8},
        },
        "data": {
            "train": str(digits / "train.csv"), "val": str(digits / "val.csv"), "crop_size": 16, "num_workers": 0,
            "clip": {"num_frames": 2, "sampling_rate": 8}, "views": {"num_clips": 1, "short_side": 16},
            "batch_size": 2,
        },
    }  # fmt: skip


@pytest.fixture
def words(recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Command that trains a small net with everything random that a recipe has, in an empty folder."""
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.chdir(tmp_path)
    return ["fit", "-c", "tiny.yaml"]
