"""Frame indices of clips and offsets of crops: pure functions without global random state.

Indices are int64, 0-based, in presentation order. T is the number of frames of a clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from mvit_video.types import ClipSpec, FrameOrder


def clip_span(num_frames: int, sampling_rate: int) -> int:
    """Return the source frames from the first to the last frame of a clip, both included.

    `clip_span(4, 3)` is 10; x marks the frames of the clip:

        source  0  1  2  3  4  5  6  7  8  9 | 10 11
        clip    x        x        x        x
    """
    return (num_frames - 1) * sampling_rate + 1


def random_clip(video_frames: int, fps: float, clip: ClipSpec, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a clip at a random place, with equally likely starts; `(T,)`.

    If the video is too short, the clip starts on the first frame and the last frame is repeated.
    """
    start = rng.integers(0, math.floor(_slack(video_frames, fps, clip)) + 1)
    return _clips_at(np.array([start]), video_frames, fps, clip)[0]


def uniform_clips(video_frames: int, fps: float, clip: ClipSpec, num_clips: int) -> NDArray[np.int64]:
    """Return clips spread over the video; `(num_clips, T)`.

    A single clip is centred; otherwise the first starts on the first frame and the last ends within `num_clips - 1`
    frames of the end.

    Source: SlowFast `get_start_end_idx` with offset sampling, and `temporal_sampling`: a clip of 16x4 takes the
    frames `trunc(linspace(0, 63, 16))` after its start (tests/data/test_sampling.py).
    """
    slack = _slack(video_frames, fps, clip)
    if num_clips == 1:
        starts = np.array([math.floor(slack / 2)])
    else:
        starts = np.arange(num_clips) * math.floor(slack / (num_clips - 1))
    return _clips_at(starts, video_frames, fps, clip)


def resampled_clips(video_frames: int, fps: float, clip: ClipSpec, num_clips: int) -> NDArray[np.int64]:
    """Return clips of consecutive frames of the video resampled to `target_fps / sampling_rate`; `(num_clips, T)`.

    Starts are spread evenly; a single clip is the first. A video that is too short repeats its last frame; torchvision
    ignores such videos.

    Source: torchvision `VideoClips` and `UniformClipSampler`, without the rounding errors of its positions in the data
    set (tests/data/clips/test_protocols.py).
    """
    step = fps * clip.sampling_rate / clip.target_fps
    if float(step).is_integer():
        kept = np.arange(0, video_frames, int(step))
    else:
        places = np.arange(math.floor(video_frames / step), dtype=np.float32) * np.float32(step)
        kept = np.floor(places).astype(np.int64)
    kept = np.minimum(kept, video_frames - 1) if kept.size else np.zeros(1, np.int64)
    last_start = max(len(kept) - clip.num_frames, 0)
    starts = torch.linspace(0, last_start, num_clips).floor().long().numpy()
    return kept[np.minimum(starts[:, None] + np.arange(clip.num_frames), len(kept) - 1)]


def constant_clips(
    timestamps: NDArray[np.float64], duration_seconds: float, clip: ClipSpec, num_clips: int
) -> NDArray[np.int64]:
    """Return clips of `num_frames * sampling_rate / target_fps` seconds, evenly spaced; `(num_clips, T)`.

    The last clip ends before the end of the video.

    Args:
        timestamps: start of each frame in seconds, increasing.

    Source: pytorchvideo 0.1.5 `ConstantClipsPerVideoSampler` (tests/data/clips/test_protocols.py).
    """
    seconds = clip.num_frames * clip.sampling_rate / clip.target_fps
    stride = Fraction(max(duration_seconds - seconds, 0)) / num_clips
    starts = [float(stride * i) for i in range(num_clips)]
    return np.stack([timed_clip(timestamps, start, start + seconds, clip.num_frames) for start in starts])


def dense_clips(video_frames: int, fps: float, clip: ClipSpec, stride_seconds: float) -> NDArray[np.int64]:
    """Return clips that start every `stride_seconds`, and one that ends on the last frame; `(K, T)`.

    Args:
        stride_seconds: time from one start to the next, at least one frame.
    """
    stride = stride_seconds * fps
    if stride < 1:
        raise ValueError(f"stride_seconds={stride_seconds} is shorter than one frame of a video of {fps} fps")
    # rounded up, so that the last clip reaches the last frame
    last_start = math.ceil(_slack(video_frames, fps, clip))
    starts = np.floor(np.arange(math.ceil(last_start / stride)) * stride)
    return _clips_at(np.append(starts, last_start), video_frames, fps, clip)


def segment_frames(video_frames: int, num_frames: int, rng: np.random.Generator | None = None) -> NDArray[np.int64]:
    """Return one frame from each of `num_frames` equal segments of the video; `(num_frames,)`.

    Args:
        rng: draws the frame of each segment; None takes the middle frames.

    Source: SlowFast's loader of Something-Something v2, whose segments share the frames at their bounds.
    """
    bounds = np.round((video_frames - 1) / num_frames * np.arange(num_frames + 1)).astype(np.int64)
    start, end = bounds[:-1], bounds[1:]
    return (start + end) // 2 if rng is None else rng.integers(start, end, endpoint=True)


def frames_within(timestamps: NDArray[np.float64], start_seconds: float, end_seconds: float) -> tuple[int, int]:
    """Return the range `[first, stop)` of the frames that start in `[start_seconds, end_seconds)`.

    Args:
        timestamps: start of each frame in seconds, increasing.
    """
    # conversions between units round; frames are further apart than this
    bounds = np.array([start_seconds, end_seconds], dtype=np.float64) - 1e-9
    first, stop = np.searchsorted(timestamps, bounds)
    return int(first), max(int(first), int(stop))


def timed_clip(
    timestamps: NDArray[np.float64], start_seconds: float, end_seconds: float, num_frames: int
) -> NDArray[np.int64]:
    """Return evenly spaced frames of a time span; `(num_frames,)`.

    If no frame starts in the span, the frame shown at that time is repeated.

    Args:
        timestamps: start of each frame in seconds, increasing.

    Source: pytorchvideo `EncodedVideo.get_clip` and `uniform_temporal_subsample`, in single precision as there
    (tests/data/test_sampling.py).
    """
    first, stop = frames_within(timestamps, start_seconds, end_seconds)
    if first == stop:
        first, stop = max(first - 1, 0), max(first, 1)
    return first + torch.linspace(0, stop - first - 1, num_frames).long().numpy()


def spatial_crops(
    height: int, width: int, size: int, num_crops: int, rounding: Callable[[float], int] = math.ceil
) -> NDArray[np.int64]:
    """Return the offsets `(top, left)` of square crops in pixels; `(num_crops, 2)`.

    One crop is the centre; three lie along the long side: left, centre, right or top, centre, bottom.

    Args:
        rounding: rounds the offset of the centre; torchvision uses `round`, others `math.ceil`.

    Source: SlowFast and pytorchvideo `uniform_crop`, torchvision `center_crop`.
    """
    if size > min(height, width):
        raise ValueError(f"a crop of {size} pixels does not fit into {height}x{width}; enlarge the short side")
    if num_crops not in (1, 3):
        raise ValueError(f"num_crops must be 1 or 3, got {num_crops}")
    crops = np.empty((num_crops, 2), dtype=np.int64)
    crops[:] = rounding((height - size) / 2), rounding((width - size) / 2)
    if num_crops == 3:
        axis, length = (0, height) if height > width else (1, width)
        crops[0, axis], crops[2, axis] = 0, length - size
    return crops


def is_too_short(video_frames: int, fps: float, clip: ClipSpec) -> bool:
    """Return whether a video is shorter than a clip, so that its last frame is repeated."""
    return video_frames < math.floor(_clip_length(fps, clip))


def order_frames(
    indices: NDArray[np.int64], order: FrameOrder, rng: np.random.Generator | None = None
) -> NDArray[np.int64]:
    """Return the frames in another order along the last axis, to measure how a model uses time.

    Args:
        order: "forward", "reversed", "shuffled", or "frozen", which repeats the middle frame (the later of two).
        rng: draws one order per clip for "shuffled".
    """
    if order == "forward":
        return indices
    if order == "reversed":
        return indices[..., ::-1].copy()
    if order == "shuffled":
        assert rng is not None, "shuffled frames need rng"
        return rng.permuted(indices, axis=-1)
    if order == "frozen":
        middle = indices.shape[-1] // 2
        return indices[..., middle : middle + 1].repeat(indices.shape[-1], axis=-1)
    raise ValueError(f"frame order must be one of {', '.join(get_args(FrameOrder))}, got {order!r}")


def _clip_length(fps: float, clip: ClipSpec) -> float:
    """Return the length of a clip in source frames, `num_frames * sampling_rate` at the target rate."""
    return max(1.0, clip.num_frames * clip.sampling_rate * fps / clip.target_fps)


def _slack(video_frames: int, fps: float, clip: ClipSpec) -> float:
    """Return by how many frames a clip can move inside the video."""
    return max(video_frames - _clip_length(fps, clip), 0.0)


def _clips_at(starts: NDArray[np.number], video_frames: int, fps: float, clip: ClipSpec) -> NDArray[np.int64]:
    offsets = np.linspace(0, _clip_length(fps, clip) - 1, clip.num_frames).astype(np.int64)
    indices = starts.astype(np.int64)[:, None] + offsets
    return np.minimum(indices, video_frames - 1)
