"""Rules that make the views of a video, each with one pass over the union of the frames that they need.

Letters: V views, K clips, T frames of a clip, U frames of a buffer, S pixels of a square crop.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.clips.corruptions import corrupt_clip
from mvit_video.data.clips.protocols import PROTOCOLS, Layout, published_short_side
from mvit_video.data.clips.transforms import Augment, Normalize, augment_clip, crop_views, resize_frames
from mvit_video.data.readers import VideoReader
from mvit_video.data.sampling import dense_clips, is_too_short, order_frames, random_clip, segment_frames, timed_clip
from mvit_video.types import ClipSpec, ConfigError, ViewSpec


class MadeViews(NamedTuple):
    """The views of one video.

    Attributes:
        clip: `(V, 3, T, S, S)`.
        seconds: `(V, 2)` float64, when the first and the last frame of each view's clip begin, counted from the first
            frame of the video.
        too_short: whether the video has less than one clip, so that frames of it are repeated.
    """

    clip: Tensor
    seconds: Tensor
    too_short: bool


class Views(Protocol):
    """A rule that makes the views of a video."""

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        ...

    @property
    def crop_size(self) -> int:
        """Pixels of a square crop."""
        ...

    @property
    def short_side(self) -> int:
        """Pixels that the shorter edge of the frames needs."""
        ...

    @property
    def is_training(self) -> bool:
        """Whether clips are trained on: each has only those labels of its video that occur in it."""
        ...

    def __call__(self, reader: VideoReader, rng: np.random.Generator) -> MadeViews:
        """The views of one video; everything random comes from `rng`."""
        ...


class ClipSampler(Protocol):
    """What pytorchvideo's clip samplers have in common: they name the clips of a video by their time, one by one."""

    def __call__(self, last_clip_time: Any, video_duration: Any, annotation: dict[str, Any], /) -> tuple[Any, ...]:
        """Start and end in seconds, two numbers of the clip, and whether it is the last; or lists of each."""
        ...

    def reset(self) -> None:
        """Begin with another video."""
        ...


@dataclass(frozen=True)
class _ClipRule:
    """A rule whose clips are placed by a `ClipSpec`."""

    clip: ClipSpec
    crop_size: int

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        return self.clip.num_frames


@dataclass(frozen=True)
class RandomView(_ClipRule):
    """One clip at a random place: augmented `augment.repeats` times, for training, or its centre, for validation.

    Attributes:
        augment: random changes of each copy; None takes the centre crop as it is.
    """

    augment: Augment | None = field(default_factory=Augment)
    normalize: Normalize = field(default_factory=Normalize)

    @property
    def short_side(self) -> int:
        """Pixels that the shorter edge needs; where the clip is cropped as it is, those that it has before."""
        return published_short_side(self.crop_size, 1) if self.augment is None else self.crop_size

    @property
    def is_training(self) -> bool:
        """Whether clips have only those labels of their video that occur in them."""
        return self.augment is not None

    def __call__(self, reader: VideoReader, rng: np.random.Generator) -> MadeViews:
        """The clip's copies."""
        if self.clip.sampling == "segments":
            clips = segment_frames(reader.num_frames, self.num_frames, rng)[None]
        else:
            clips = random_clip(reader.num_frames, reader.fps, self.clip, rng)[None]
        if self.augment is None:
            shown = crop_views(*_read_union(reader, clips), self.crop_size, self.short_side, 1, self.normalize)
        else:
            shown = _augmented(reader, clips, self.crop_size, self.augment, self.normalize, rng)
        return _made(reader, clips, shown, _is_too_short(reader, self.clip))


@dataclass(frozen=True)
class UniformViews(_ClipRule):
    """For testing: clips spread over the video, each with the same crops; one clip and one crop is the centre.

    Segments make one clip of a video.
    """

    views: ViewSpec = field(default_factory=lambda: ViewSpec(num_clips=1))
    normalize: Normalize = field(default_factory=Normalize)
    is_training: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        views, in_segments = self.views, self.clip.sampling == "segments"
        if in_segments and views.protocol != "slowfast":
            raise ConfigError(
                f"clip.sampling=segments is of views.protocol=slowfast, {views.protocol} has none: set clip.sampling "
                "to rate"
            )
        _ = self._layout  # refuses views that the protocol does not have
        if in_segments and views.num_clips > 1:
            raise ConfigError(
                f"views.num_clips={views.num_clips}, but clip.sampling=segments makes one clip of a video: "
                "set views.num_clips to 1"
            )

    @property
    def short_side(self) -> int:
        """Pixels of the shorter edge before cropping."""
        return self._layout.short_side

    @property
    def _layout(self) -> Layout:
        return PROTOCOLS[self.views.protocol](self.clip, self.crop_size, self.views)

    def __call__(self, reader: VideoReader, rng: np.random.Generator | None = None) -> MadeViews:
        """Return all views; only shuffled frames and corruptions need `rng`."""
        views, layout = self.views, self._layout
        if self.clip.sampling == "segments":
            clips = segment_frames(reader.num_frames, self.num_frames)[None]
        else:
            clips = layout.clips(reader)
        frames, rows = _read_union(reader, clips)
        if (corruption := views.corruption) is not None:
            assert rng is not None, "corruptions draw from rng"
            frames = resize_frames(frames, layout.short_side, views.interpolation)
            frames = torch.cat([corrupt_clip(frames[torch.from_numpy(clip)], corruption, rng) for clip in rows])
            rows = np.arange(len(frames)).reshape(rows.shape)
        rows = order_frames(rows, views.frame_order, rng)
        shown = crop_views(
            frames, rows, self.crop_size, layout.short_side, views.num_crops, self.normalize,
            rounding=layout.rounding, interpolation=views.interpolation,
        )  # fmt: skip
        return _made(reader, clips, shown, _is_too_short(reader, self.clip))


@dataclass(frozen=True)
class DenseViews(_ClipRule):
    """For long videos: a clip every `stride_seconds` from the first frame to the last, each with the same crops.

    All views of a video are in memory at once; of hours of video, make rows with a start and an end.
    """

    stride_seconds: float
    num_crops: int = 1
    normalize: Normalize = field(default_factory=Normalize)
    is_training: bool = field(default=False, init=False, repr=False)

    @property
    def short_side(self) -> int:
        """Pixels of the shorter edge before cropping."""
        return published_short_side(self.crop_size, self.num_crops)

    def __call__(self, reader: VideoReader, rng: np.random.Generator | None = None) -> MadeViews:
        """Return all views; nothing about them is random."""
        clips = dense_clips(reader.num_frames, reader.fps, self.clip, self.stride_seconds)
        read = _read_union(reader, clips)
        shown = crop_views(*read, self.crop_size, self.short_side, self.num_crops, self.normalize)
        return _made(reader, clips, shown, is_too_short(reader.num_frames, reader.fps, self.clip))


@dataclass(frozen=True)
class SamplerViews:
    """Clips whose times come from a sampler of `pytorchvideo.data.clip_sampling`, each evenly thinned out to T frames.

    Times count from the first frame, by the time stamps of the frames, so that they hold at a variable rate too.

    Attributes:
        sampler: draws from Python's `random` alone, as pytorchvideo's do; what it draws depends on `rng` alone.
        augment: random changes of each clip, for training; None crops it, for testing.
        num_crops: crops of each clip that is not augmented.
    """

    sampler: ClipSampler
    num_frames: int
    crop_size: int
    augment: Augment | None = None
    num_crops: int = 1
    normalize: Normalize = field(default_factory=Normalize)

    @property
    def short_side(self) -> int:
        """Pixels that the shorter edge needs; where clips are cropped, those that it has before."""
        return published_short_side(self.crop_size, self.num_crops) if self.augment is None else self.crop_size

    @property
    def is_training(self) -> bool:
        """Whether clips have only those labels of their video that occur in them."""
        return self.augment is not None

    def __call__(self, reader: VideoReader, rng: np.random.Generator) -> MadeViews:
        """All views, in the order of the sampler's clips."""
        times = _sampled_times(self.sampler, reader.duration_seconds, rng)
        clips = np.stack([timed_clip(reader.timestamps, start, end, self.num_frames) for start, end in times])
        if self.augment is None:
            read = _read_union(reader, clips)
            shown = crop_views(*read, self.crop_size, self.short_side, self.num_crops, self.normalize)
        else:
            shown = _augmented(reader, clips, self.crop_size, self.augment, self.normalize, rng)
        too_short = any(end - start > reader.duration_seconds for start, end in times)
        return _made(reader, clips, shown, too_short)


def _sampled_times(sampler: ClipSampler, seconds: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Start and end of each clip of a video of so many seconds, in seconds."""
    times: list[tuple[float, float]] = []
    state = random.getstate()
    random.seed(int(rng.integers(2**63)))
    try:
        sampler.reset()  # it may stand in the middle of a video that failed
        last_end, is_last = 0.0, False
        while not is_last:
            start, end, _, _, last = sampler(last_end, seconds, {})
            starts, ends = (start, end) if isinstance(start, list) else ([start], [end])
            times += [(float(one), float(other)) for one, other in zip(starts, ends, strict=True)]
            last_end, is_last = end, last[-1] if isinstance(last, list) else last
    finally:
        random.setstate(state)
    return times


def _is_too_short(reader: VideoReader, clip: ClipSpec) -> bool:
    if clip.sampling == "segments":
        return reader.num_frames < clip.num_frames
    return is_too_short(reader.num_frames, reader.fps, clip)


def _made(reader: VideoReader, clips: NDArray[np.int64], shown: Tensor, too_short: bool) -> MadeViews:
    """Return views with their times; those of one clip stand side by side."""
    begins = reader.timestamps[clips]
    seconds = np.stack([begins.min(axis=1), begins.max(axis=1)], axis=1).repeat(len(shown) // len(clips), axis=0)
    return MadeViews(shown, torch.from_numpy(seconds), too_short)


def _read_union(reader: VideoReader, clips: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.int64]]:
    """Each frame of the clips once, `(U, H, W, 3)`, and the rows of it that make each clip, `(K, T)`."""
    wanted, rows = np.unique(clips, return_inverse=True)
    return reader.get_frames(wanted), rows.reshape(clips.shape)


def _augmented(
    reader: VideoReader,
    clips: NDArray[np.int64],
    crop_size: int,
    augment: Augment,
    normalize: Normalize,
    rng: np.random.Generator,
) -> Tensor:
    """Each clip's augmented copies, side by side."""
    buffer, rows = _read_union(reader, clips)
    views = []
    for clip in rows:
        frames = buffer if np.array_equal(clip, np.arange(len(buffer))) else buffer[torch.from_numpy(clip)]
        views += [augment_clip(frames, crop_size, augment, normalize, rng) for _ in range(augment.repeats)]
    return torch.stack(views) if len(views) > 1 else views[0][None]
