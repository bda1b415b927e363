"""Stem: from a clip to tokens."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.nn.grid import grid_to_tokens
from mvit_video.nn.spatial_reduction import Uneven, pad_to_multiple
from mvit_video.types import THW


class CubeEmbedding(nn.Module):
    """Stem that embeds space-time cubes of a clip with one strided 3-D convolution.

    Cubes larger than their stride are padded by half their size; cubes as large as their stride tile the clip.

    Args:
        kernel: size of a cube in frames and pixels.
        uneven: where cubes as large as their stride do not tile the clip: `floor` ignores the rest, `pad` adds zeros.
        norm: normalise the tokens, as PVT does.

    Source: MViT (arXiv:2104.11227) section 3.2, cube1; agrees with torchvision and pytorchvideo
    (tests/models/families/mvit/test_parity.py).
    """

    def __init__(
        self,
        dim: int,
        kernel: THW,
        stride: THW,
        in_channels: int = 3,
        *,
        uneven: Uneven = "floor",
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.tile = THW(*(k if k == s and uneven == "pad" else 1 for k, s in zip(kernel, stride, strict=True)))
        self.padding = THW(*(0 if k == s else k // 2 for k, s in zip(kernel, stride, strict=True)))
        self.proj = nn.Conv3d(in_channels, dim, kernel, stride, self.padding)
        self.norm = nn.LayerNorm(dim) if norm else None

    def thw(self, size: THW) -> THW:
        """Return the token grid of a clip of `size` frames and pixels."""
        axes = zip(size, self.tile, self.padding, self.kernel, self.stride, strict=True)
        return THW(*((n + -n % tile + 2 * p - k) // s + 1 for n, tile, p, k, s in axes))

    def forward(self, clip: Float[Tensor, "batch channels t h w"]) -> tuple[Float[Tensor, "batch cells dim"], THW]:
        tokens, thw = grid_to_tokens(self.proj(pad_to_multiple(clip, self.tile)))
        return (tokens if self.norm is None else self.norm(tokens)), thw
