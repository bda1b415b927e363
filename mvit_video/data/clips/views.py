"""Rules that make the views of a video; each decodes the frames that its views share once.

Letters: V views, K clips, T frames of a clip, U frames of a buffer, S pixels of a square crop.
"""

from __future__ import annotations

import inspect
import random
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

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
        seconds: `(V, 2)` float64, start of the first and of the last frame of each view, since the first frame of the
            video.
        too_short: whether the video is shorter than one clip, so that frames are repeated.
    """

    clip: Tensor
    seconds: Tensor
    too_short: bool


class Views(Protocol):
    """Rule that makes the views of a video; everything random comes from `rng`.

    Attributes:
        num_frames: frames of a clip.
        crop_size: pixels of a square crop.
        short_side: pixels that the short side of the frames needs.
        is_training: whether clips are trained on: each has only the labels that occur in it.
    """

    @property
    def num_frames(self) -> int: ...

    @property
    def crop_size(self) -> int: ...

    @property
    def short_side(self) -> int: ...

    @property
    def is_training(self) -> bool: ...

    def __call__(self, reader: VideoReader, rng: np.random.Generator) -> MadeViews: ...


class ClipSampler(Protocol):
    """Interface of pytorchvideo's clip samplers.

    A call returns start and end in seconds, two numbers of the clip, and whether it is the last; or lists of each.
    """

    def __call__(self, last_clip_time: Any, video_duration: Any, annotation: dict[str, Any], /) -> tuple[Any, ...]: ...

    def reset(self) -> None: ...


@dataclass(frozen=True)
class _ClipRule:
    """Rule whose clips follow a `ClipSpec`."""

    clip: ClipSpec
    crop_size: int

    @property
    def num_frames(self) -> int:
        """Frames of a clip."""
        return self.clip.num_frames


class _AugmentingRule:
    """Rule that augments clips for training, or crops them."""

    augment: Augment | None
    crop_size: int
    normalize: Normalize
    num_crops = 1

    @property
    def short_side(self) -> int:
        """Pixels that the short side needs, or has before cropping without augmentation."""
        return published_short_side(self.crop_size, self.num_crops) if self.augment is None else self.crop_size

    @property
    def is_training(self) -> bool:
        """Whether clips have only the labels that occur in them."""
        return self.augment is not None

    def _make(
        self, reader: VideoReader, clips: NDArray[np.int64], too_short: bool, rng: np.random.Generator
    ) -> MadeViews:
        if self.augment is None:
            read = _read_union(reader, clips)
            shown = crop_views(*read, self.crop_size, self.short_side, self.num_crops, self.normalize)
        else:
            shown = _augmented(reader, clips, self.crop_size, self.augment, self.normalize, rng)
        return _made(reader, clips, shown, too_short)


@dataclass(frozen=True)
class RandomView(_ClipRule, _AugmentingRule):
    """One clip at a random place, or the clips of a sampler: augmented for training, or cropped for validation.

    Attributes:
        augment: random changes of each copy of a clip; None takes the centre crop of one clip.
    """

    augment: Augment | None = field(default_factory=Augment)
    normalize: Normalize = field(default_factory=Normalize)

    def __post_init__(self) -> None:
        _ = self._sampler  # refuses one that cannot be made

    @cached_property
    def _sampler(self) -> ClipSampler | None:
        return None if self.augment is None else _make_sampler(self.clip)

    @property
    def clips_per_video(self) -> int | None:
        """Clips of one video; None if their number depends on its duration."""
        repeats = 1 if self.augment is None else self.augment.repeats
        if self._sampler is None:
            return repeats
        counts = {len(_sampled_times(self._sampler, time, np.random.default_rng(0))) for time in (10.0, 1000.0)}
        return counts.pop() * repeats if len(counts) == 1 else None

    def __call__(self, reader: VideoReader, rng: np.random.Generator) -> MadeViews:
        """Return the copies of each clip."""
        too_short = _is_too_short(reader, self.clip)
        if self._sampler is not None:
            clips, too_short = _sampled_clips(self._sampler, reader, self.num_frames, rng)
        elif self.clip.sampling == "segments":
            clips = segment_frames(reader.num_frames, self.num_frames, rng)[None]
        else:
            clips = random_clip(reader.num_frames, reader.fps, self.clip, rng)[None]
        return self._make(reader, clips, too_short, rng)


@dataclass(frozen=True)
class UniformViews(_ClipRule):
    """Views for testing: clips spread over the video, each with the same crops; "segments" makes one clip."""

    views: ViewSpec = field(default_factory=lambda: ViewSpec(num_clips=1))
    normalize: Normalize = field(default_factory=Normalize)
    is_training: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        views, in_segments = self.views, self.clip.sampling == "segments"
        if in_segments and views.protocol != "slowfast":
            raise ConfigError(
                f"clip.sampling=segments works with views.protocol=slowfast, not with {views.protocol}: set "
                "clip.sampling to rate"
            )
        _ = self._layout  # refuses views that the protocol does not have
        if in_segments and views.num_clips > 1:
            raise ConfigError(
                f"views.num_clips={views.num_clips}, but clip.sampling=segments makes one clip of a video: "
                "set views.num_clips to 1"
            )

    @property
    def short_side(self) -> int:
        """Pixels of the short side before cropping."""
        return self._layout.short_side

    @property
    def _layout(self) -> Layout:
        return PROTOCOLS[self.views.protocol](self.clip, self.crop_size, self.views)

    def __call__(self, reader: VideoReader, rng: np.random.Generator | None = None) -> MadeViews:
        """Return all views; only shuffling and corruptions need `rng`."""
        views, layout = self.views, self._layout
        if self.clip.sampling == "segments":
            clips = segment_frames(reader.num_frames, self.num_frames)[None]
        else:
            clips = layout.clips(reader)
        frames, rows = _read_union(reader, clips)
        if (corruption := views.corruption) is not None:
            assert rng is not None, "corruptions need rng"
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
    """Views for long videos: a clip every `stride_seconds`, each with the same crops.

    All views of a video are in memory at once; split hours of video into rows with a start and an end.
    """

    stride_seconds: float
    num_crops: int = 1
    normalize: Normalize = field(default_factory=Normalize)
    is_training: bool = field(default=False, init=False, repr=False)

    @property
    def short_side(self) -> int:
        """Pixels of the short side before cropping."""
        return published_short_side(self.crop_size, self.num_crops)

    def __call__(self, reader: VideoReader, rng: np.random.Generator | None = None) -> MadeViews:
        """Return all views; `rng` is not used."""
        clips = dense_clips(reader.num_frames, reader.fps, self.clip, self.stride_seconds)
        read = _read_union(reader, clips)
        shown = crop_views(*read, self.crop_size, self.short_side, self.num_crops, self.normalize)
        return _made(reader, clips, shown, is_too_short(reader.num_frames, reader.fps, self.clip))


@dataclass(frozen=True)
class SamplerViews(_AugmentingRule):
    """Views at the times of a sampler of `pytorchvideo.data.clip_sampling`; T frames are spaced evenly in each clip.

    Times count from the first frame and refer to time stamps, so they are right at a variable rate.

    Attributes:
        sampler: may draw from Python's `random`, which is seeded from `rng` meanwhile.
        augment: random changes of each clip, for training; None crops it, for testing.
        num_crops: crops of each clip without augmentation.
    """

    sampler: ClipSampler
    num_frames: int
    crop_size: int
    augment: Augment | None = None
    num_crops: int = 1
    normalize: Normalize = field(default_factory=Normalize)

    def __call__(self, reader: VideoReader, rng: np.random.Generator) -> MadeViews:
        """Return all views in the order of the sampler's clips."""
        clips, too_short = _sampled_clips(self.sampler, reader, self.num_frames, rng)
        return self._make(reader, clips, too_short, rng)


def _make_sampler(clip: ClipSpec) -> ClipSampler | None:
    """Return the clip sampler that `clip.sampling` names, None for the samplers of this package.

    Raises:
        ConfigError: the class cannot be imported, does not take the arguments, or is not a clip sampler.
    """
    if not isinstance(clip.sampling, dict):
        return None
    path, arguments = clip.sampling["class_path"], clip.sampling.get("init_args") or {}
    module, _, name = path.rpartition(".")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pytorchvideo's strings are older than this Python
            made = getattr(import_module(module), name)
        if "clip_duration" in inspect.signature(made).parameters:
            arguments = {"clip_duration": clip.num_frames * clip.sampling_rate / clip.target_fps, **arguments}
        sampler = made(**arguments)
    except (ImportError, AttributeError, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"clip.sampling: {path} cannot be made ({str(error) or type(error).__name__})") from error
    if not callable(sampler) or not hasattr(sampler, "reset"):
        raise ConfigError(f"clip.sampling: {path} is not a clip sampler such as those of pytorchvideo")
    return cast("ClipSampler", sampler)


def _sampled_clips(
    sampler: ClipSampler, reader: VideoReader, num_frames: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], bool]:
    """Return the frames of the sampler's clips, `(K, T)`, and whether the video is shorter than one of them."""
    times = _sampled_times(sampler, reader.duration_seconds, rng)
    clips = np.stack([timed_clip(reader.timestamps, start, end, num_frames) for start, end in times])
    return clips, any(end - start > reader.duration_seconds for start, end in times)


def _sampled_times(sampler: ClipSampler, seconds: float, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Return start and end of each clip in seconds."""
    times: list[tuple[float, float]] = []
    state = random.getstate()
    random.seed(int(rng.integers(2**63)))
    try:
        sampler.reset()  # an earlier video may have failed halfway
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
    """Return views with their times; the views of one clip are adjacent."""
    begins = reader.timestamps[clips]
    seconds = np.stack([begins.min(axis=1), begins.max(axis=1)], axis=1).repeat(len(shown) // len(clips), axis=0)
    return MadeViews(shown, torch.from_numpy(seconds), too_short)


def _read_union(reader: VideoReader, clips: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.int64]]:
    """Return each frame of the clips once, `(U, H, W, 3)`, and the rows of it that make each clip, `(K, T)`."""
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
    """Return the augmented copies of each clip, adjacent."""
    buffer, rows = _read_union(reader, clips)
    views = []
    for clip in rows:
        frames = buffer if np.array_equal(clip, np.arange(len(buffer))) else buffer[torch.from_numpy(clip)]
        views += [augment_clip(frames, crop_size, augment, normalize, rng) for _ in range(augment.repeats)]
    return torch.stack(views) if len(views) > 1 else views[0][None]
