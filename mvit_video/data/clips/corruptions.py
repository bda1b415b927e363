"""Corruptions of test clips in five severities, to measure robustness.

A clip is corrupted at the size before cropping, so that a severity means the same for every video.
Letters: T frames of a clip, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import av
import numpy as np
import torch
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from torch import Tensor
from torch.nn.functional import pad

from mvit_video.data.readers.stream import x264_options
from mvit_video.types import Corruption, CorruptionKind

NOISE_STD = (0.08, 0.12, 0.18, 0.26, 0.38)  # of pixels between 0 and 1
PHOTONS = (60, 25, 12, 5, 3)  # in a white pixel
BLUR_SIGMA = (1, 2, 3, 4, 6)  # pixels
DROPPED = (0.125, 0.25, 0.4, 0.6, 0.8)  # share of the frames after the first
CRF = (23, 30, 37, 44, 51)  # of x264


def corrupt_clip(frames: Tensor, corruption: Corruption, rng: np.random.Generator) -> Tensor:
    """Return the corrupted clip, `(T, H, W, 3)` bytes; random only by `rng`.

    Source: parameters of noise and blur from ImageNet-C (arXiv:1903.12261), others our own.
    """
    return _DAMAGE[corruption.kind](frames, corruption.severity - 1, rng)


def _gaussian_noise(frames: Tensor, level: int, rng: np.random.Generator) -> Tensor:
    noise = _generator(rng)
    std = 255 * NOISE_STD[level]
    return torch.stack([_bytes(frame + std * torch.randn(frame.shape, generator=noise)) for frame in frames])


def _shot_noise(frames: Tensor, level: int, rng: np.random.Generator) -> Tensor:
    noise = _generator(rng)
    photons = PHOTONS[level] / 255
    return torch.stack([_bytes(torch.poisson(frame * photons, generator=noise) / photons) for frame in frames])


def _blur(frames: Tensor, level: int, rng: np.random.Generator) -> Tensor:
    from torchvision.transforms.v2.functional import gaussian_blur  # slow to import

    sigma = float(BLUR_SIGMA[level])
    reach = 2 * round(4 * sigma) + 1
    image = frames.permute(0, 3, 1, 2)
    height, width = image.shape[2:]
    # one axis at a time is quicker; a kernel must not exceed what the edges reflect
    image = gaussian_blur(image, [min(reach, 2 * width - 1), 1], [sigma, sigma])
    image = gaussian_blur(image, [1, min(reach, 2 * height - 1)], [sigma, sigma])
    return image.permute(0, 2, 3, 1).contiguous()


def _frame_drop(frames: Tensor, level: int, rng: np.random.Generator) -> Tensor:
    behind = len(frames) - 1
    shown = np.arange(len(frames))
    shown[1 + rng.permutation(behind)[: round(behind * DROPPED[level])]] = 0
    return frames[torch.from_numpy(np.maximum.accumulate(shown))]


def _compression(frames: Tensor, level: int, rng: np.random.Generator) -> Tensor:
    height, width = frames.shape[1:3]
    # chroma has half the size: repeat an odd edge
    even = pad(frames.permute(0, 3, 1, 2).float(), (0, width % 2, 0, height % 2), mode="replicate")
    images = even.byte().permute(0, 2, 3, 1).contiguous().numpy()
    encoder = VideoCodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height = images.shape[2], images.shape[1]
    encoder.pix_fmt, encoder.framerate = "yuv420p", Fraction(30)
    encoder.options = x264_options("medium", CRF[level])
    packets = []
    for i, image in enumerate(images):
        frame = VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = i
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    assert len(decoded) == len(frames), f"{len(frames)} frames were encoded and {len(decoded)} decoded"
    shown = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])
    return torch.from_numpy(shown)[:, :height, :width]


_DAMAGE: dict[CorruptionKind, Callable[[Tensor, int, np.random.Generator], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "blur": _blur,
    "frame_drop": _frame_drop,
    "compression": _compression,
}


def _generator(rng: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(2**62)))


def _bytes(pixels: Tensor) -> Tensor:
    return pixels.round_().clamp_(0, 255).byte()
