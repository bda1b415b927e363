"""Space-time cube embedding: the stem that turns a clip into tokens."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.grid import grid_to_tokens
from mvit_video.types import THW


class CubeEmbedding(nn.Module):
    """Embed overlapping space-time cubes of a clip by one strided 3-D convolution.

    Cubes larger than their stride are padded by half their size; cubes as large as their stride tile the clip and are
    not padded.

    Args:
        dim: channels of a token.
        kernel: size of a cube in frames and pixels.
        stride: distance from one cube to the next.

    Source: MViT (arXiv:2104.11227) section 3.2, cube1; agrees with torchvision and pytorchvideo
    (tests/models/test_parity.py).
    """

    def __init__(self, dim: int, kernel: THW, stride: THW, in_channels: int = 3) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.padding = THW(*(0 if k == s else k // 2 for k, s in zip(kernel, stride, strict=True)))
        self.proj = nn.Conv3d(in_channels, dim, kernel, stride, self.padding)

    def thw(self, size: THW) -> THW:
        """Grid of tokens that a clip of `size` frames and pixels becomes."""
        axes = zip(size, self.padding, self.kernel, self.stride, strict=True)
        return THW(*((n + 2 * p - k) // s + 1 for n, p, k, s in axes))

    def forward(self, clip: Float[Tensor, "batch channels t h w"]) -> tuple[Float[Tensor, "batch cells dim"], THW]:
        return grid_to_tokens(self.proj(clip))
