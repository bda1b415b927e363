"""Data settings of a run, and its loaders."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Literal

import lightning as L
import torch

from mvit_video.data.annotations import VideoTable, how_to_get, load_annotations
from mvit_video.data.dataset import OnError, VideoDataset
from mvit_video.data.loader import EpochSampler, VideoLoader
from mvit_video.data.readers import Backend
from mvit_video.data.sampling import FrameOrder
from mvit_video.data.transforms import RGB, Augment, Normalize
from mvit_video.data.views import RandomView, UniformViews, Views
from mvit_video.types import ClipSpec, ConfigError, ViewSpec

Split = Literal["train", "val", "test"]

_MAX_WORKERS = 8


class VideoDataModule(L.LightningDataModule):
    """Videos with labels for training, validation (one centre clip) and multi-view testing.

    Args:
        train: annotation file (`path label` per line) or folder of class folders.
        val: as `train`.
        test: as `train`; None takes the videos of `val`.
        root: folder that relative paths start from; None is the folder of each annotation file.
        clip: which source frames make a clip.
        crop_size: pixels of the square that the model sees.
        augment: random changes of training clips.
        mean: of each channel, for pixels between 0 and 1.
        std: of each channel, for pixels between 0 and 1.
        views: clip and crop positions at test; validation takes the centre.
        batch_size: videos in a batch of training and validation, on each device.
        test_batch_size: videos in a batch of testing and prediction, each with all its views.
        num_workers: loader processes; None is one per core, at most 8.
        backend: library that decodes; "decord" leaves files that it does not decode exactly to "pyav".
        on_error: "raise" at a video that cannot be read, or "skip" it and list it among the failures.
        frame_order: order of the frames of each clip at test.
        seed: of the order of videos and of every random choice in them; None is that of `seed_everything`, or 0 where
            nothing was seeded.
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        root: str | None = None,
        clip: ClipSpec = ClipSpec(),
        crop_size: int = 224,
        augment: Augment = Augment(),
        mean: RGB = (0.45, 0.45, 0.45),
        std: RGB = (0.225, 0.225, 0.225),
        views: ViewSpec = ViewSpec(),
        batch_size: int = 8,
        test_batch_size: int = 1,
        num_workers: int | None = None,
        backend: Backend = "decord",
        on_error: OnError = "raise",
        frame_order: FrameOrder = "forward",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for key, value, least in [
            ("crop_size", crop_size, 1), ("batch_size", batch_size, 1), ("test_batch_size", test_batch_size, 1),
            ("num_workers", num_workers or 0, 0), ("seed", seed or 0, 0),
        ]:  # fmt: skip
            if value < least:
                raise ConfigError(f"data.{key} must be at least {least}, got {value}")
        normalize = Normalize(mean, std)
        self.clip, self.crop_size, self.views = clip, crop_size, views
        self.batch_size, self.test_batch_size = batch_size, test_batch_size
        self.num_workers = min(_num_cores(), _MAX_WORKERS) if num_workers is None else num_workers
        self.backend: Backend = backend
        self.on_error: OnError = on_error
        # where Lightning keeps it, also for the processes that it starts
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        self.train_view = RandomView(clip, crop_size, augment, normalize)
        self.val_view = UniformViews(clip, crop_size, ViewSpec(num_clips=1), normalize)
        self.test_views = UniformViews(clip, crop_size, views, normalize, frame_order)
        if self.test_views.short_side < crop_size:
            raise ConfigError(f"data.views.short_side={views.short_side} is below data.crop_size={crop_size}")
        # a test set smaller than the number of devices leaves some of them without a video
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.sources: dict[Split, str | None] = {"train": train, "val": val, "test": test or val}
        self.root = root
        self.tables: dict[Split, VideoTable] = {}

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name of each class, after `setup`; None when the annotations give numbers."""
        return next(iter(self.tables.values())).class_names if self.tables else None

    @property
    def num_classes(self) -> int:
        """Number of classes that the annotations speak of, after `setup`."""
        return max(table.num_classes for table in self.tables.values())

    def example_of(self, label: int) -> str:
        """Split and path of the first video with a label, for messages."""
        for split, table in self.tables.items():
            rows = (table.labels == label).nonzero()[0]
            if rows.size:
                return f"data.{split}: {table.path(rows[0])}"
        raise ValueError(f"no video has label {label}")

    def setup(self, stage: str) -> None:
        """Read the annotations that a stage needs and check that they speak of the same classes."""
        fit: list[Split] = ["train"] if self.sources["val"] is None else ["train", "val"]
        needed: dict[str, list[Split]] = {"fit": fit, "validate": ["val"]}
        tables: dict[Split, VideoTable] = {split: self._load(split) for split in needed.get(stage, ["test"])}
        self.tables.update(tables)
        if stage == "fit":
            _check_same_kind(tables)
        elif any(table.class_names is not None for table in tables.values()):
            # a class that is missing shifts the numbers, which shows in the other annotations only
            for split in ("train", "val"):
                source = self.sources[split]
                if split not in tables and source is not None and Path(source).exists():
                    tables[split] = self._load(split)
        _check_same_names(tables)
        if stage == "fit":
            self._check_train(self.tables["train"])
            if self.sources["val"] is None and self.trainer is not None:
                self.trainer.limit_val_batches = 0  # Lightning takes an empty list of loaders for one without a batch

    def train_dataloader(self) -> VideoLoader:
        """Every video once per epoch in random order, one random clip each; an incomplete last batch is left out."""
        return self._loader("train", self.train_view, self.batch_size, train=True)

    def val_dataloader(self) -> VideoLoader:
        """Every video once, its centre clip."""
        return self._loader("val", self.val_view, self.batch_size)

    def test_dataloader(self) -> VideoLoader:
        """Every video once, all its views."""
        return self._loader("test", self.test_views, self.test_batch_size)

    def predict_dataloader(self) -> VideoLoader:
        """Every video once, all its views."""
        return self.test_dataloader()

    def _load(self, split: Split) -> VideoTable:
        source = self.sources[split]
        if source is None:
            raise ConfigError(
                f"data.{split} is not set; give an annotation file or a folder of class folders ({how_to_get()})"
            )
        if not Path(source).exists():
            raise ConfigError(f"data.{split}: there is no {source}; {how_to_get(source)}")
        return load_annotations(source, self.root)

    def _check_train(self, table: VideoTable) -> None:
        unknown = (table.labels < 0).nonzero()[0]
        if unknown.size:
            raise ConfigError(f"data.train: {table.path(unknown[0])} has label -1 (unknown); training needs a class")
        num_processes = self.trainer.world_size if self.trainer is not None else 1
        if len(table) < self.batch_size * num_processes:
            raise ConfigError(
                f"data.batch_size={self.batch_size} on {num_processes} device(s) is more than the {len(table)} "
                "videos of data.train; lower it"
            )

    def _loader(self, split: Split, views: Views, batch_size: int, train: bool = False) -> VideoLoader:
        table = self.tables[split]
        return VideoLoader(
            # the loader raises: see there
            dataset=VideoDataset(table, views, backend=self.backend, on_error="skip", seed=self.seed),
            on_error=self.on_error,
            batch_size=batch_size,
            sampler=EpochSampler(len(table), shuffle=train, even=train, seed=self.seed),
            num_workers=self.num_workers,
            drop_last=train,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_same_kind(tables: dict[Split, VideoTable]) -> None:
    named = [split for split, table in tables.items() if table.class_names is not None]
    numbered = [split for split in tables if split not in named]
    if named and numbered:
        raise ConfigError(f"data.{named[0]} gives class names but data.{numbered[0]} gives class numbers; use one kind")


def _check_same_names(tables: dict[Split, VideoTable]) -> None:
    names = {split: table.class_names for split, table in tables.items() if table.class_names is not None}
    for (first, expected), (split, found) in pairwise(names.items()):
        odd = sorted(set(expected) ^ set(found))
        if odd:
            has, lacks = (first, split) if odd[0] in expected else (split, first)
            raise ConfigError(f"data.{has} has the class {odd[0]!r}, which data.{lacks} lacks; both need all classes")
