"""Data set of videos: each is opened and decoded once, whatever the number of its views.

Letters: N views in a batch, V views of one video, T frames of a clip, S pixels of a square crop.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from mvit_video.data.clips.trimming import trim
from mvit_video.data.clips.views import Views
from mvit_video.data.readers import Backend, IndexCache, VideoReader, open_video
from mvit_video.data.readers.image import ImageReader
from mvit_video.data.sampling import frames_within
from mvit_video.data.table.files import is_image
from mvit_video.data.table.video_table import VideoTable
from mvit_video.types import ConfigError, VideoDecodeError

OnError = Literal["raise", "skip"]


class Failure(NamedTuple):
    """Video that could not be read."""

    video: int
    reason: str


class Decode(NamedTuple):
    """Record of how a video was read.

    Attributes:
        video: row of the table.
        backend: decoding library.
        reason: why this library decoded.
        damaged: whether errors were concealed; None if the library does not report it.
        too_short: whether the video is shorter than one clip, so that frames are repeated.
    """

    video: int
    backend: str
    reason: str
    damaged: bool | None
    too_short: bool = False


class ClipBatch(NamedTuple):
    """Batch of a loader; views of one video are adjacent.

    Attributes:
        clip: `(N, 3, T, S, S)` float32, normalised; N is 0 if no video of the batch could be read.
        label: `(N,)` int64 class of each view's video, -1 is unknown; for multi-label data `(N, num_classes)` float32,
            1 at each class, in training only at classes that occur in the clip if the annotations have spans.
        video: `(N,)` int64 row of the table.
        view: `(N,)` int64, `clip position * num_crops + crop position`.
        failures: videos of the batch that could not be read.
        decodes: records of the other videos.
        seconds: `(N, 2)` float64, start of the first and of the last frame of each view, since the first frame of the
            video or segment; None if unknown.
    """

    clip: Tensor
    label: Tensor
    video: Tensor
    view: Tensor
    failures: list[Failure]
    decodes: list[Decode]
    seconds: Tensor | None = None


class VideoItem(NamedTuple):
    """Views of one video, `(V, 3, T, S, S)`; V is 0, with a failure, if it could not be read.

    Attributes:
        label: class, or for multi-label data float32 `(num_classes,)`, or `(V, num_classes)` if clips differ.
        decode: record of how the video was read.
        seconds: `(V, 2)` float64, start of the first and of the last frame of each view.
    """

    clip: Tensor
    label: int | Tensor
    video: int
    failure: Failure | None
    decode: Decode | None
    seconds: Tensor


def _label_of_views(item: VideoItem) -> Tensor:
    label = torch.as_tensor(item.label)
    return label if label.ndim == 2 else label.expand(len(item.clip), *label.shape)


def collate(items: list[VideoItem]) -> ClipBatch:
    """Join the views of videos into one batch."""
    counts = torch.tensor([len(item.clip) for item in items])
    return ClipBatch(
        clip=torch.cat([item.clip for item in items]),
        label=torch.cat([_label_of_views(item) for item in items]),
        video=torch.tensor([item.video for item in items]).repeat_interleave(counts),
        view=torch.cat([torch.arange(int(count)) for count in counts]),
        failures=[item.failure for item in items if item.failure is not None],
        decodes=[item.decode for item in items if item.decode is not None],
        seconds=torch.cat([item.seconds for item in items]),
    )


default_collate_fn_map[VideoItem] = lambda items, **_: collate(items)  # a plain `DataLoader` makes batches too


def open_for_views(
    views: Views,
    source: Path | bytes,
    backend: Backend,
    short_side: int | None = None,
    index_cache: IndexCache | None = None,
) -> VideoReader:
    """Open a video, or an image where the views are of one frame."""
    if views.num_frames == 1 and isinstance(source, Path) and is_image(source):
        return ImageReader(source)
    return open_video(source, backend, short_side=short_side, index_cache=index_cache)


class VideoDataset(Dataset[VideoItem]):
    """Data set of the videos of a table; `dataset[epoch, row]` returns the views of a video.

    A `torch.utils.data.DataLoader` of it yields `ClipBatch`es. An item depends only on the seed, the epoch and the row,
    not on workers or order.

    Args:
        views: rule that makes the views of a video, such as `RandomView` or `UniformViews`.
        short_side: short side in pixels to which larger training videos are resized while decoding, or more if the
            views need it; other videos are decoded at the size to crop. None keeps the original size.
        index_cache: cache of packet indices.
        on_error: "raise" a `VideoDecodeError` for a video that cannot be read or augmented, or "skip" it and list it as
            a failure.
        num_classes: width of multi-label labels; None is that of the table.
    """

    def __init__(
        self,
        table: VideoTable,
        views: Views,
        *,
        backend: Backend = "decord",
        short_side: int | None = None,
        index_cache: IndexCache | None = None,
        on_error: OnError = "raise",
        num_classes: int | None = None,
        seed: int = 0,
    ) -> None:
        self.table = table
        self.views = views
        self.backend: Backend = backend
        self.short_side, self.index_cache = short_side, index_cache
        self.on_error: OnError = on_error
        self.num_classes = table.num_classes if num_classes is None else num_classes
        self.seed = seed

    collate = staticmethod(collate)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: tuple[int, int] | int) -> VideoItem:
        """Return the views of the video in a row; epoch 0 if only a row is given.

        Raises:
            VideoDecodeError: the video cannot be read or augmented, and `on_error` is "raise".
        """
        epoch, row = key if isinstance(key, tuple) else (0, key)
        if not 0 <= row < len(self.table):
            raise IndexError(f"row {row} is out of range, the table has {len(self.table)} videos")
        label, span = self._label(row), self.table.span(row)
        rng = np.random.default_rng([self.seed, epoch, row])
        try:
            with self._open(self.table.source(row)) as whole:
                reader = whole if span is None else trim(whole, *span, self.table.locate(row))
                made = self.views(reader, rng)
                # other libraries do not report it: asking would decode all frames again
                damaged = reader.damaged if reader.backend == "pyav" else None
                decode = Decode(row, reader.backend, reader.backend_reason, damaged, made.too_short)
                if self.table.label_spans is not None and self.views.is_training:
                    begin = 0.0 if span is None else whole.timestamps[frames_within(whole.timestamps, *span)[0]]
                    label = self._clip_labels(row, made.seconds + begin)
                return VideoItem(made.clip, label, row, None, decode, made.seconds)
        except ConfigError:
            raise  # it concerns every item
        except Exception as error:  # reading or augmentation may raise anything
            reason = error.reason if isinstance(error, VideoDecodeError) else _describe(error)
            if self.on_error == "raise":
                raise VideoDecodeError(self.table.locate(row), reason) from error
            no_clip = torch.empty((0, 3, self.views.num_frames, self.views.crop_size, self.views.crop_size))
            return VideoItem(no_clip, label, row, Failure(row, reason), None, torch.empty((0, 2)).double())

    def _open(self, source: Path | bytes) -> VideoReader:
        short_side = self.short_side
        if short_side is not None:
            # frames that are only cropped must not be resized twice, which blurs them
            short_side = max(short_side, self.views.short_side) if self.views.is_training else self.views.short_side
        return open_for_views(self.views, source, self.backend, short_side, self.index_cache)

    def _label(self, row: int) -> int | Tensor:
        label = self.table.label_of(row)
        return label if isinstance(label, int) else self._one_at(label)

    def _clip_labels(self, row: int, seconds: Tensor) -> Tensor:
        """Return the labels that occur between the first and the last frame of each clip, inclusive.

        Source: SlowFast's loader of Charades (tests/data/table/test_label_spans.py).
        """
        labels = [self._one_at(self.table.labels_between(row, *times)) for times in seconds.tolist()]
        return labels[0] if (seconds == seconds[0]).all() else torch.stack(labels)

    def _one_at(self, classes: list[int]) -> Tensor:
        return torch.zeros(self.num_classes).index_fill_(0, torch.tensor(classes, dtype=torch.long), 1)


def _describe(error: Exception) -> str:
    """Return an error as one line with its place in the code; the traceback stays in the loader process."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(place.filename).name} line {place.lineno})"
