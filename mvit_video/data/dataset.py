"""Videos as items: one open and one decode per video, whatever the number of its views.

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
    """A video that could not be read."""

    video: int
    reason: str


class Decode(NamedTuple):
    """How a video was read.

    Attributes:
        video: row of the annotation table.
        backend: library that decoded.
        reason: why that one.
        damaged: whether it concealed errors; None where the reader does not report it.
        too_short: whether it has less than one clip, so that frames of it are repeated.
    """

    video: int
    backend: str
    reason: str
    damaged: bool | None
    too_short: bool = False


class ClipBatch(NamedTuple):
    """What loaders yield; views of one video stand side by side.

    Attributes:
        clip: `(N, 3, T, S, S)` float32, normalised; N is 0 when no video of the batch could be read.
        label: `(N,)` int64 class of each view's video, -1 where unknown; `(N, num_classes)` float32, 1 at each class,
            when the annotations give several labels per video; a training clip has those that occur in it, where
            the annotations say when.
        video: `(N,)` int64 row of the annotation table.
        view: `(N,)` int64, `clip position * num_crops + crop position`.
        failures: videos of the batch that could not be read.
        decodes: how the others were.
        seconds: `(N, 2)` float64, when the first and the last frame of each view begin, counted from the first frame of
            the video or of its part; None where nobody knows.
    """

    clip: Tensor
    label: Tensor
    video: Tensor
    view: Tensor
    failures: list[Failure]
    decodes: list[Decode]
    seconds: Tensor | None = None


class VideoItem(NamedTuple):
    """The views of one video, `(V, 3, T, S, S)`; none, and a failure, when it could not be read.

    Attributes:
        label: class, or float32 with 1 at each of several, `(num_classes,)` or `(V, num_classes)` where the clips of a
            video have their own.
        decode: how it was read.
        seconds: `(V, 2)` float64, when the first and the last frame of each view begin.
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
    """Videos to one batch of views."""
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
    """Videos of a table; `dataset[epoch, row]` opens one and makes its views.

    A `torch.utils.data.DataLoader` over it yields `ClipBatch`es. An item depends only on the seed, the epoch and the
    row: it is the same in every worker and in every order.

    Args:
        views: rule that makes the views of a video, such as `RandomView` or `UniformViews`.
        short_side: pixels of the shorter edge that larger frames of training videos are decoded to, or more where the
            views need them; those of other videos are decoded to the size that is cropped. None is their own size,
            which images always have.
        index_cache: keeps what a pass over the packets of a video found, for later opens.
        on_error: "raise" a `VideoDecodeError` at a video that cannot be read or augmented, or "skip" it and list it as
            a failure.
        num_classes: width of the labels of a table with several per video; None is the table's own.
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
        """The views of the video in a row; a row alone means epoch 0.

        Raises:
            VideoDecodeError: the video cannot be read or augmented, and failures are to raise.
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
                # the others do not report it: to ask is to decode everything once more
                damaged = reader.damaged if reader.backend == "pyav" else None
                decode = Decode(row, reader.backend, reader.backend_reason, damaged, made.too_short)
                if self.table.label_spans is not None and self.views.is_training:
                    begin = 0.0 if span is None else whole.timestamps[frames_within(whole.timestamps, *span)[0]]
                    label = self._clip_labels(row, made.seconds + begin)
                return VideoItem(made.clip, label, row, None, decode, made.seconds)
        except ConfigError:
            raise  # of every item alike
        except Exception as error:  # whatever reading or augmentation of one item raises, the others are read
            reason = error.reason if isinstance(error, VideoDecodeError) else _describe(error)
            if self.on_error == "raise":
                raise VideoDecodeError(self.table.locate(row), reason) from error
            no_clip = torch.empty((0, 3, self.views.num_frames, self.views.crop_size, self.views.crop_size))
            return VideoItem(no_clip, label, row, Failure(row, reason), None, torch.empty((0, 2)).double())

    def _open(self, source: Path | bytes) -> VideoReader:
        short_side = self.short_side
        if short_side is not None:
            # what is only cropped afterwards must not be resized twice, which blurs it
            short_side = max(short_side, self.views.short_side) if self.views.is_training else self.views.short_side
        return open_for_views(self.views, source, self.backend, short_side, self.index_cache)

    def _label(self, row: int) -> int | Tensor:
        label = self.table.label_of(row)
        return label if isinstance(label, int) else self._one_at(label)

    def _clip_labels(self, row: int, seconds: Tensor) -> Tensor:
        """Return the labels that occur between the first and the last frame of each clip, both included.

        Source: SlowFast's loader of Charades (tests/data/table/test_label_spans.py).
        """
        labels = [self._one_at(self.table.labels_between(row, *times)) for times in seconds.tolist()]
        return labels[0] if (seconds == seconds[0]).all() else torch.stack(labels)

    def _one_at(self, classes: list[int]) -> Tensor:
        return torch.zeros(self.num_classes).index_fill_(0, torch.tensor(classes, dtype=torch.long), 1)


def _describe(error: Exception) -> str:
    """Error in one line, with the place in the code that raised it, since its traceback stays in the loader process."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({Path(place.filename).name} line {place.lineno})"
