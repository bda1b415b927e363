"""Frames of the windows of a video, decoded once each, a bounded number at a time.

Letters: W windows, T frames of a clip, U frames of a chunk, K crops, S pixels of a square crop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.clips.transforms import resize_frames
from mvit_video.data.clips.trimming import trim
from mvit_video.data.readers import Backend, VideoReader, open_video
from mvit_video.data.sampling import frames_within, spatial_crops
from mvit_video.features.videos import Video
from mvit_video.features.windows import Windows, WindowSpec, windows_of
from mvit_video.types import Interpolation, VideoDecodeError


@dataclass(frozen=True)
class ReadingRule:
    """Rule by which videos are read.

    Attributes:
        short_side: pixels of the shorter edge before cropping.
        crop_size: pixels of a square crop.
        num_crops: crops of each window.
        backend: library that decodes.
        decode_short_side: pixels of the shorter edge that the decoder delivers; 0 is the frames' own size.
        interpolation: method of resizing to the shorter edge.
        max_bytes: decoded frames in memory at once; of a window with more, only the crops are kept.
    """

    windows: WindowSpec
    short_side: int
    crop_size: int
    num_crops: int
    backend: Backend
    decode_short_side: int
    interpolation: Interpolation = "bilinear"
    max_bytes: int = 2**28


class Chunk(NamedTuple):
    """Consecutive windows of a video and their frames.

    Attributes:
        frames: uint8 `(U, K, 3, S, S)`, each frame once.
        rows: `(W, T)` rows of `frames` that make each clip.
        windows: times of these windows, counted from the start of the whole video.
        fps: frames per second of the video, on average.
        end_seconds: end of what is read of the video.
    """

    frames: NDArray[np.uint8]
    rows: NDArray[np.int64]
    windows: Windows
    fps: float
    end_seconds: float


def read_chunks(
    video: Video, rule: ReadingRule, unreadable: Callable[[Windows, VideoDecodeError], None] | None = None
) -> Iterator[Chunk]:
    """Yield all windows of a video in order; of an undamaged video each frame is decoded once.

    Args:
        unreadable: called with each window that does not decode, and the error; None raises the error.

    Raises:
        VideoDecodeError: the video cannot be read.
    """
    with open_video(video.content(), rule.backend, short_side=rule.decode_short_side or None) as whole:
        if video.span is None:
            yield from _chunks(whole, rule, 0, 0.0, unreadable)
            return
        part = trim(whole, *video.span, video.path)
        first, _ = frames_within(whole.timestamps, *video.span)
        yield from _chunks(part, rule, first, float(whole.timestamps[first]), unreadable)


def _chunks(
    reader: VideoReader,
    rule: ReadingRule,
    first_frame: int,
    begin_seconds: float,
    unreadable: Callable[[Windows, VideoDecodeError], None] | None,
) -> Iterator[Chunk]:
    """Yield the chunks of a reader that begins with frame `first_frame` of a video, at `begin_seconds`."""
    windows = windows_of(rule.windows, reader.timestamps, reader.fps, reader.duration_seconds)
    times = {
        f"{name}_seconds": getattr(windows, f"{name}_seconds") + begin_seconds for name in ("start", "end", "center")
    }
    bounds = {f"{name}_frame": getattr(windows, f"{name}_frame") + first_frame for name in ("start", "end")}
    shown = windows._replace(**times, **bounds)
    end_seconds = begin_seconds + reader.duration_seconds
    wanted = np.unique(windows.frames)
    # the frames of a window are `wanted[low:high]`
    low = np.searchsorted(wanted, windows.frames[:, 0])
    high = np.searchsorted(wanted, windows.frames[:, -1], side="right")
    frame_bytes = 3 * (reader.height * reader.width + rule.num_crops * rule.crop_size**2)
    max_frames = max(rule.max_bytes // frame_bytes, 1)
    start = num_read = 0
    kept = np.empty((0, rule.num_crops, 3, rule.crop_size, rule.crop_size), np.uint8)
    while start < len(high):
        stop = max(int(np.searchsorted(high, num_read + max_frames, side="right")), start + 1)
        kept = kept[max(len(kept) - (num_read - int(low[start])), 0) :]
        bounds = [*range(num_read, int(high[stop - 1]), max_frames), int(high[stop - 1])]
        try:
            new = [crop_frames(reader.get_frames(wanted[first:last]), rule) for first, last in pairwise(bounds)]
        except VideoDecodeError:
            if unreadable is None:
                raise
            lost = shown.part(slice(start, stop))
            for decoded, row, window in _one_by_one(reader, rule, windows.frames[start:stop], lost, unreadable):
                yield Chunk(decoded, row, window, reader.fps, end_seconds)
            start, kept = stop, kept[:0]
            num_read = int(low[stop]) if stop < len(low) else num_read
            continue
        kept = np.concatenate([kept, *new])
        num_read = int(high[stop - 1])
        rows = np.searchsorted(wanted, windows.frames[start:stop]) - (num_read - len(kept))
        yield Chunk(kept, rows, shown.part(slice(start, stop)), reader.fps, end_seconds)
        start = stop


def _one_by_one(
    reader: VideoReader,
    rule: ReadingRule,
    frames: NDArray[np.int64],
    windows: Windows,
    unreadable: Callable[[Windows, VideoDecodeError], None],
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64], Windows]]:
    """Yield frames, rows and times of each window that decodes.

    Args:
        frames: `(W, T)` indices of the frames of each clip.
    """
    for row, of_window in enumerate(frames):
        window = windows.part(slice(row, row + 1))
        wanted, rows = np.unique(of_window, return_inverse=True)
        try:
            decoded = crop_frames(reader.get_frames(wanted), rule)
        except VideoDecodeError as error:
            unreadable(window, error)
            continue
        yield decoded, rows.reshape(1, -1), window


def crop_frames(frames: Tensor, rule: ReadingRule) -> NDArray[np.uint8]:
    """Return frames `(U, H, W, 3)` resized and cropped as `crop_views` does, `(U, K, 3, S, S)`."""
    resized = resize_frames(frames, rule.short_side, rule.interpolation).permute(0, 3, 1, 2)
    size = rule.crop_size
    places = spatial_crops(resized.shape[2], resized.shape[3], size, rule.num_crops).tolist()
    return np.stack([resized[:, :, top : top + size, left : left + size].numpy() for top, left in places], axis=1)
