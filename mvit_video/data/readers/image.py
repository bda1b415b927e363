"""Images as videos of one frame, for nets that classify images."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from mvit_video.data.readers.reader import VideoReader
from mvit_video.data.readers.source import as_source, check_source
from mvit_video.types import VideoDecodeError

_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")


class ImageReader(VideoReader):
    """Image as a video of one frame, in its own size, turned upright.

    Raises:
        VideoDecodeError: the file is missing, damaged, or not an image.
    """

    num_frames = 1
    fps = 1.0
    duration_seconds = 1.0
    backend = "pillow"
    backend_reason = "it is an image"
    container = "image"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        check_source(as_source(path))
        try:
            # Pillow starts other programs for some formats, such as PostScript
            with Image.open(path, formats=_FORMATS) as image:
                self.codec = str(image.format).lower()
                upright = _eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
        # damaged bytes raise almost anything, and a decompression bomb has an error class of its own
        except Exception as error:
            raise VideoDecodeError(path, f"cannot be read as an image ({error or type(error).__name__})") from error
        self._path = path
        self._frame = torch.from_numpy(np.array(upright))
        self.height, self.width = upright.height, upright.width

    @property
    def timestamps(self) -> NDArray[np.float64]:
        return np.zeros(1)

    @property
    def damaged(self) -> bool:
        return False

    def get_frames(self, indices: Sequence[int] | NDArray[np.integer]) -> Tensor:
        outside = next((index for index in indices if index != 0), None)
        if outside is not None:
            raise VideoDecodeError(self._path, f"frame {outside} is out of range, it has 1 frame")
        return self._frame.expand(len(indices), -1, -1, -1)

    def close(self) -> None:
        pass


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale a 16-bit grey image to 8 bits; `convert` would clip every value above 255."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64) // 257).clip(0, 255).astype(np.uint8))
