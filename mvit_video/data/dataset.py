"""Videos as items: one open and one decode per video, whatever the number of its views.

Letters: N views in a batch, V views of one video, T frames of a clip, S pixels of a square crop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mvit_video.data.annotations import VideoTable
from mvit_video.data.readers import Backend, VideoReader, open_video
from mvit_video.data.sampling import FrameOrder, order_frames, random_clip, uniform_clips
from mvit_video.data.transforms import Augment, Normalize, augment_clip, crop_views
from mvit_video.types import ClipSpec, VideoDecodeError, ViewSpec

OnError = Literal["raise", "skip"]


class Failure(NamedTuple):
    """A video that could not be read."""

    video: int
    reason: str


class ClipBatch(NamedTuple):
    """What loaders yield; views of one video stand side by side.

    Attributes:
        clip: `(N, 3, T, S, S)` float32, normalised; N is 0 when no video of the batch could be read.
        label: `(N,)` int64 class of each view's video; -1 where unknown.
        video: `(N,)` int64 row of the annotation table.
        view: `(N,)` int64, `clip position * num_crops + crop position`.
        failures: videos of the batch that could not be read.
    """

    clip: Tensor
    label: Tensor
    video: Tensor
    view: Tensor
    failures: list[Failure]


class VideoItem(NamedTuple):
    """The views of one video, `(V, 3, T, S, S)`; none, and a failure, when it could not be read."""

    clip: Tensor
    label: int
    video: int
    failure: Failure | None


class Views(Protocol):
    """A rule that makes the views of a video."""

    @property
    def clip(self) -> ClipSpec:
        """Which source frames make a clip."""
        ...

    @property
    def crop_size(self) -> int:
        """Pixels of a square crop."""
        ...

    def __call__(self, reader: VideoReader, rng: np.random.Generator) -> Tensor:
        """The views of one video, `(V, 3, T, S, S)`; everything random comes from `rng`."""
        ...


@dataclass(frozen=True)
class RandomView:
    """For training: one clip at a random place, augmented `augment.repeats` times."""

    clip: ClipSpec
    crop_size: int
    augment: Augment = field(default_factory=Augment)
    normalize: Normalize = field(default_factory=Normalize)

    def __call__(self, reader: VideoReader, rng: np.random.Generator) -> Tensor:
        """The clip's augmented copies."""
        frames = reader.get_frames(random_clip(reader.num_frames, reader.fps, self.clip, rng))
        copies = [
            augment_clip(frames, self.crop_size, self.augment, self.normalize, rng) for _ in range(self.augment.repeats)
        ]
        return torch.stack(copies) if len(copies) > 1 else copies[0][None]


@dataclass(frozen=True)
class UniformViews:
    """For testing: clips spread over the video, each with the same crops; one clip and one crop is the centre."""

    clip: ClipSpec
    crop_size: int
    views: ViewSpec = field(default_factory=lambda: ViewSpec(num_clips=1))
    normalize: Normalize = field(default_factory=Normalize)
    frame_order: FrameOrder = "forward"

    @property
    def short_side(self) -> int:
        """Pixels of the shorter edge before cropping."""
        if self.views.short_side is not None:
            return self.views.short_side
        return self.crop_size * 8 // 7 if self.views.num_crops == 1 else self.crop_size

    def __call__(self, reader: VideoReader, rng: np.random.Generator) -> Tensor:
        """All views, from one pass over the union of their frames."""
        clips = uniform_clips(reader.num_frames, reader.fps, self.clip, self.views.num_clips)
        clips = order_frames(clips, self.frame_order, rng)
        wanted, rows = np.unique(clips, return_inverse=True)
        frames = reader.get_frames(wanted)
        rows = rows.reshape(clips.shape)
        return crop_views(frames, rows, self.crop_size, self.short_side, self.views.num_crops, self.normalize)


class VideoDataset(Dataset[VideoItem]):
    """Videos of a table; `dataset[epoch, row]` opens one and makes its views.

    An item depends on the seed, the epoch and the row alone, so it is the same in every worker and in every order.

    Args:
        views: rule that makes the views of a video, such as `RandomView` or `UniformViews`.
        on_error: "raise" a `VideoDecodeError` at a video that cannot be read, or "skip" it and list it as a failure.
    """

    def __init__(
        self,
        table: VideoTable,
        views: Views,
        *,
        backend: Backend = "decord",
        on_error: OnError = "raise",
        seed: int = 0,
    ) -> None:
        self.table = table
        self.views = views
        self.backend: Backend = backend
        self.on_error: OnError = on_error
        self.seed = seed

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: tuple[int, int] | int) -> VideoItem:
        """The views of the video in a row; a row alone means epoch 0.

        Raises:
            VideoDecodeError: the video cannot be read and failures are to raise.
        """
        epoch, row = key if isinstance(key, tuple) else (0, key)
        if not 0 <= row < len(self.table):
            raise IndexError(f"row {row} is out of range, the table has {len(self.table)} videos")
        label = int(self.table.labels[row])
        rng = np.random.default_rng([self.seed, epoch, row])
        try:
            with open_video(self.table.locate(row), self.backend) as reader:
                return VideoItem(self.views(reader, rng), label, row, None)
        except VideoDecodeError as error:
            if self.on_error == "raise":
                raise
            no_clip = torch.empty((0, 3, self.views.clip.num_frames, self.views.crop_size, self.views.crop_size))
            return VideoItem(no_clip, label, row, Failure(row, error.reason))


def collate(items: list[VideoItem]) -> ClipBatch:
    """Videos to one batch of views."""
    counts = torch.tensor([len(item.clip) for item in items])
    return ClipBatch(
        clip=torch.cat([item.clip for item in items]),
        label=torch.tensor([item.label for item in items]).repeat_interleave(counts),
        video=torch.tensor([item.video for item in items]).repeat_interleave(counts),
        view=torch.cat([torch.arange(int(count)) for count in counts]),
        failures=[item.failure for item in items if item.failure is not None],
    )
