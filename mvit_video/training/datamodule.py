"""Data settings of a run, and its loaders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn

from mvit_video.data import VideoTable, find_videos
from mvit_video.data.annotations import may_exist
from mvit_video.data.clips.transforms import Augment, Normalize
from mvit_video.data.clips.views import RandomView, UniformViews, Views
from mvit_video.data.dataset import VideoDataset
from mvit_video.data.loader import EpochSampler, VideoLoader
from mvit_video.data.readers import IndexCache
from mvit_video.data.settings import ClassSpec, InputSpec, LoadingSpec
from mvit_video.data.sources import how_to_get, require_root, require_under_root
from mvit_video.data.splits import (
    ClassOrder,
    Order,
    Split,
    doubts,
    hold_out,
    number_classes,
    require_same_kind,
    split_folders,
    with_lists,
)
from mvit_video.data.table.classes import given_names
from mvit_video.jobs import num_cores
from mvit_video.types import ClipSpec, ConfigError, ViewSpec

_MAX_WORKERS = 8


class VideoDataModule(L.LightningDataModule):
    """Videos with labels for training, validation and multi-view testing.

    Args:
        train: annotations, such as a file with `path label` per line or a folder of class folders.
        val: as `train`.
        test: as `train`; None takes the videos of `val`.
        predict: as `train`, or any folder or list of videos, which need no labels; None takes the videos of `test`.
        root: folder that relative paths start from; None is the folder of each annotation file. Alone, without `train`,
            `val` and `test`, it is a folder of class folders, or holds such folders named `train`, `val` and `test`;
            without `val` a fifth of each class is held out.
        classes: which classes there are.
        clip: which source frames make a clip.
        input: what the model sees of a frame.
        augment: random changes of training clips.
        val_views: clip and crop positions at validation; "random" takes the centre crop of one clip at a random place,
            which changes with the epoch.
        views: clip and crop positions at test, the protocol that places them, and corruptions of the clips.
        loading: how videos are read, and how many at once.
        seed: of the order of videos and of every random choice in them; None takes that of `seed_everything`, or 0.

    Attributes:
        batch_size: videos in a batch of training; that of `loading`, or fewer where there are fewer videos.
    """

    _holds_out = False
    _divided: str | None = None

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        predict: str | None = None,
        root: str | None = None,
        classes: ClassSpec = ClassSpec(),
        clip: ClipSpec = ClipSpec(),
        input: InputSpec = InputSpec(),
        augment: Augment = Augment(),
        val_views: ViewSpec | Literal["random"] = ViewSpec(num_clips=1),
        views: ViewSpec = ViewSpec(),
        loading: LoadingSpec = LoadingSpec(),
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if seed is not None and seed < 0:
            raise ConfigError(f"data.seed must be at least 0, got {seed}")
        self.clip, self.input, self.views, self.loading = clip, input, views, loading
        crop_size, scale = input.crop_size, Normalize(input.mean, input.std)
        self.train_view = RandomView(clip, crop_size, augment, scale)
        self.clips_per_video = self.train_view.clips_per_video
        if val_views == "random":
            self.num_val_views, self.val_views = 1, RandomView(clip, crop_size, None, scale)
        else:
            self.num_val_views, self.val_views = val_views.num_views, UniformViews(clip, crop_size, val_views, scale)
        self.test_views = UniformViews(clip, crop_size, views, scale)
        for key, rule in (("views", self.test_views), ("val_views", self.val_views)):
            if rule.short_side < crop_size:
                raise ConfigError(f"data.{key}.short_side={rule.short_side} is below data.input.crop_size={crop_size}")
        self.batch_size = loading.batch_size
        self.num_workers = min(num_cores(), _MAX_WORKERS) if loading.num_workers is None else loading.num_workers
        # Lightning keeps the seed of `seed_everything` here, also for the processes that it starts
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        # a test set smaller than the number of devices gives some of them no video
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.sources: dict[Split, str | None] = {"train": train, "val": val, "test": test or val}
        self.root, self.class_order = root, ClassOrder(classes.names)
        if root is not None and train is val is test is None:
            self._divide(root)
        self.sources["predict"] = predict or self.sources["test"]
        self.tables: dict[Split, VideoTable] = {}

    @property
    def clips_per_batch(self) -> int | None:
        """Clips in a batch of training, on each device; None if their number depends on the videos."""
        return None if self.clips_per_video is None else self.batch_size * self.clips_per_video

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name of each class, after `setup`; None when the annotations give numbers."""
        return next(iter(self.tables.values())).class_names if self.tables else None

    @property
    def num_classes(self) -> int:
        """Number of classes in the annotations, after `setup`."""
        return max(table.num_classes for table in self.tables.values())

    @property
    def is_multilabel(self) -> bool:
        """Whether videos may have several labels, after `setup`."""
        return any(table.is_multilabel for table in self.tables.values())

    def example_of(self, label: int) -> str:
        """Return split and path of the first video with a label, for messages."""
        for split, table in self.tables.items():
            rows = table.rows_of(label)
            if rows.size:
                return f"data.{split}: {table.path(rows[0])}"
        raise ValueError(f"no video has label {label}")

    def setup(self, stage: str) -> None:
        """Read the annotations of a stage, and number their classes alike.

        Raises:
            ConfigError: annotations are missing, or have different classes.
            AnnotationError: annotations cannot be read.
        """
        fit: list[Split] = ["train"] if self.sources["val"] is None else ["train", "val"]
        needed: dict[str, list[Split]] = {"fit": fit, "validate": ["val"], "predict": ["predict"]}
        tables: dict[Split, VideoTable] = {split: self._load(split) for split in needed.get(stage, ["test"])}
        if stage == "fit":
            require_same_kind(tables)
        self.tables |= self._numbered(self.class_order.lead(tables, self._names_of), tables)
        self.tables = with_lists(self.tables)
        if stage == "fit":
            self._check_train(self.tables["train"])
            if not len(self.tables.get("val", ())) and self.trainer is not None:
                self.trainer.limit_val_batches = 0  # Lightning takes an empty loader for one without batches
            for doubt in doubts(self.tables["train"], self.tables.get("val"), holds_out=self._holds_out):
                rank_zero_warn(doubt)

    def state_dict(self) -> dict[str, Any]:
        """Return the class names, for the checkpoint."""
        return {} if self.class_names is None else {"class_names": list(self.class_names)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give the classes the numbers they have in the checkpoint.

        Raises:
            ConfigError: the annotations have a class that the checkpoint does not have.
        """
        checkpoint = " ".join(["the checkpoint", str(getattr(self.trainer, "ckpt_path", None) or "")]).strip()
        order = self.class_order.follow(tuple(state_dict["class_names"]), checkpoint, self.class_names)
        self.tables = self._numbered(order, self.tables)

    def train_dataloader(self) -> VideoLoader:
        """Return every video once per epoch in random order, one random clip each, without an incomplete last batch."""
        return self._loader("train", self.train_view, self.batch_size, train=True)

    def val_dataloader(self) -> VideoLoader:
        """Return every video once with its views; a batch has as many clips as in training, or one video."""
        return self._loader("val", self.val_views, max(1, self.batch_size // self.num_val_views))

    def test_dataloader(self) -> VideoLoader:
        """Return every video once with all its views."""
        return self._loader("test", self.test_views, self.loading.test_batch_size)

    def _divide(self, root: str) -> None:
        """Take the splits from a folder."""
        self.root, self._divided = None, root
        self.sources.update(split_folders(root))
        self._holds_out = self.sources["train"] == self.sources["val"]

    def _load(self, split: Split) -> VideoTable:
        source = self.sources[split]
        if source is None:
            raise ConfigError(
                f"data.{split} is not set; give annotations, a folder of class folders, or data.root ({how_to_get()})"
            )
        require_root(self.root)
        if not may_exist(source):
            key = "root" if source == self._divided else split
            raise ConfigError(f"data.{key}: there is no {source}; {how_to_get(source, self.root)}")
        names = self.class_order.given
        if isinstance(names, str) and not os.path.exists(names):
            raise ConfigError(f"data.classes.names: there is no file {names}; give one with a name per line, or a list")
        if self._needs_no_labels(split):
            order = Order(None if names is None else given_names(names).names, "")
            return number_classes(order, split, find_videos(source, labels="optional"), needs_labels=False)
        is_optional = split == "predict" and source != self.sources["test"]
        labels = "optional" if is_optional else "required"
        table = find_videos(
            source, self.root, labels=labels, class_names=names, allow_outside=self.loading.allow_outside
        )
        require_under_root(table, f"data.{split}", source, self.root)
        is_divided = self._holds_out and source == self.sources["train"]
        return table.take(hold_out(table)[split != "train"]) if is_divided else table

    def _needs_no_labels(self, split: Split) -> bool:
        """Return whether the split is a folder to predict; one of a test has labels."""
        source = self.sources[split]
        return split == "predict" and source != self.sources["test"] and source is not None and os.path.isdir(source)

    def _names_of(self, split: Split) -> tuple[str, ...] | None:
        source = self.sources[split]
        return self._load(split).class_names if source is not None and may_exist(source) else None

    def _numbered(self, order: Order, tables: Mapping[Split, VideoTable]) -> dict[Split, VideoTable]:
        return {
            split: number_classes(order, split, table, needs_labels=not self._needs_no_labels(split))
            for split, table in tables.items()
        }

    def _check_train(self, table: VideoTable) -> None:
        unknown = (table.labels < 0).nonzero()[0]
        if unknown.size and not table.is_multilabel:
            raise ConfigError(f"data.train: {table.path(unknown[0])} has label -1 (unknown); training needs a class")
        num_processes = self.trainer.world_size if self.trainer is not None else 1
        fitting = len(table) // num_processes
        if fitting < self.batch_size:
            if not fitting:
                raise ConfigError(f"data.train has {len(table)} video(s), fewer than the {num_processes} devices")
            rank_zero_warn(
                f"data.loading.batch_size={self.batch_size} on {num_processes} device(s) is more than the {len(table)} "
                f"videos of data.train: batches have {fitting}"
            )
            self.batch_size = fitting

    def _loader(self, split: Split, views: Views, batch_size: int, train: bool = False) -> VideoLoader:
        table = self.tables[split]
        cache = self.loading.index_cache or table.index_cache
        dataset = VideoDataset(
            table,
            views,
            backend=self.loading.backend,
            short_side=self.input.decode_short_side,
            index_cache=None if cache is None else IndexCache(cache),
            on_error="skip",  # the loader raises
            num_classes=self.num_classes,
            seed=self.seed,
        )
        return VideoLoader(
            dataset,
            on_error=self.loading.on_error,
            batch_size=batch_size,
            sampler=EpochSampler(len(table), shuffle=train, even=train, seed=self.seed),
            num_workers=self.num_workers,
            drop_last=train,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )
