"""The ways to read clips that `bench_decode.py` compares: ours, and those of other projects in their own arithmetic.

A peer maps a path, the clips asked for (one row of frame indices each) and a size (None: as it is) to one tensor a
clip, `(T, H, W, 3)` uint8 or `(3, T, H, W)` float, whatever its users get.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.data.readers import Backend, IndexCache, open_video

Clips = NDArray[np.int64]
Size = tuple[int, int] | None
Read = Callable[[str, Clips, Size], list[Tensor]]


@dataclass(frozen=True)
class Peer:
    """A way to read clips.

    Attributes:
        name: what the tables say.
        read: reads the clips.
        is_ours: whether it is this project's.
    """

    name: str
    read: Read
    is_ours: bool = False


def sorted_union(clips: Clips) -> tuple[list[int], NDArray[np.int64]]:
    """Return each wanted frame once, and the positions of the clips' frames among them."""
    wanted, position = np.unique(clips, return_inverse=True)
    return wanted.tolist(), position.reshape(clips.shape)


def ours(backend: Backend, cache: IndexCache | None) -> Read:
    """Read the union of the clips in one open and one pass, resized while decoding."""

    def read(path: str, clips: Clips, size: Size) -> list[Tensor]:
        wanted, position = sorted_union(clips)
        short_side = None if size is None else min(size)
        with open_video(path, backend, short_side=short_side, index_cache=cache) as reader:
            frames = reader.get_frames(wanted)
        return [frames[torch.from_numpy(rows)] for rows in position]

    return read


def resized(frames: Tensor, size: Size) -> Tensor:
    """Resize `(3, T, H, W)` floats as SlowFast and pytorchvideo do in training: bilinear, no antialiasing."""
    if size is None or size == frames.shape[-2:]:
        return frames
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False)


def pytorchvideo(path: str, clips: Clips, size: Size) -> list[Tensor]:
    """Open `EncodedVideo` for each clip, as `LabeledVideoDataset` does, then apply its two transforms.

    The transforms are written out: `pytorchvideo.transforms` cannot be imported beside a current torchvision.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorchvideo.data.encoded_video import EncodedVideo
    found = []
    for clip in clips:
        video = EncodedVideo.from_path(path, decode_audio=False)
        rate = video._container.streams.video[0].average_rate
        frames = video.get_clip(Fraction(int(clip[0])) / rate, Fraction(int(clip[-1]) + 1) / rate)["video"]
        video.close()
        rows = torch.linspace(0, frames.shape[1] - 1, len(clip)).clamp(0, frames.shape[1] - 1).long()
        found.append(resized(frames.index_select(1, rows), size))
    return found


def slowfast(path: str, clips: Clips, size: Size) -> list[Tensor]:
    """Seek with a margin of 1024 ticks, decode the span and one frame more, all of it to RGB, pick, resize; each view.

    The span is SlowFast's, frames x rate; the frames picked from it are the same as for every peer.
    """
    found = []
    for clip in clips:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "NONE", 1
            ticks = (stream.duration or 0) / stream.frames
            first, last = int(clip[0] * ticks), int((clip[0] + (clip[1] - clip[0]) * len(clip) - 1) * ticks)
            container.seek(max(first - 1024, 0), any_frame=False, backward=True, stream=stream)
            span = {}
            for frame in container.decode(video=0):
                if frame.pts >= first:
                    span[frame.pts] = frame
                if frame.pts > last:
                    break
            images = [span[pts].to_rgb().to_ndarray() for pts in sorted(span)]
        frames = torch.as_tensor(np.stack(images))
        rows = torch.from_numpy(clip - clip[0]).clamp(0, len(frames) - 1)
        found.append(resized(frames[rows].permute(3, 0, 1, 2).float(), size))
    return found


def decord_alone(path: str, clips: Clips, size: Size) -> list[Tensor]:
    """Read one sorted batch with the built-in resize of one reader."""
    import decord

    wanted, position = sorted_union(clips)
    height, width = size or (-1, -1)
    batch = decord.VideoReader(path, num_threads=1, width=width, height=height).get_batch(wanted)
    frames = batch if isinstance(batch, Tensor) else torch.from_numpy(batch.asnumpy())
    return [frames[torch.from_numpy(rows)] for rows in position]


def torchcodec_alone(seek_mode: str) -> Read:
    """Return a reader of one sorted batch with the built-in resize of one decoder."""

    def read(path: str, clips: Clips, size: Size) -> list[Tensor]:
        from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]
        from torchvision.transforms import v2

        wanted, position = sorted_union(clips)
        transforms = None if size is None else [v2.Resize(size)]
        decoder = VideoDecoder(
            path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=seek_mode, transforms=transforms
        )
        frames = decoder.get_frames_at(wanted).data
        return [frames[torch.from_numpy(rows)] for rows in position]

    return read


def peers(cache: IndexCache) -> list[Peer]:
    """Return the readers, ours first; torchcodec only where it can be imported."""
    found = [
        Peer("ours, decord", ours("decord", None), is_ours=True),
        Peer("ours, decord, cache", ours("decord", cache), is_ours=True),
        Peer("ours, pyav", ours("pyav", None), is_ours=True),
        Peer("ours, pyav, cache", ours("pyav", cache), is_ours=True),
        Peer("pytorchvideo", pytorchvideo),
        Peer("SlowFast's way", slowfast),
        Peer("decord", decord_alone),
    ]
    try:
        import torchcodec  # noqa: F401  # pyright: ignore[reportMissingImports]
    except (ImportError, OSError, RuntimeError):
        return found
    found.insert(4, Peer("ours, torchcodec, cache", ours("torchcodec", cache), is_ours=True))
    return [
        *found,
        Peer("torchcodec exact", torchcodec_alone("exact")),
        Peer("torchcodec approx.", torchcodec_alone("approximate")),
    ]
