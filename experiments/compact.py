"""A small ResNet for still digits, whose stages may end in attention like those of AlterNet."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from mvit_video.models.families.alternet.net import alternation
from mvit_video.nn.residual import BasicBlock, WindowBlock


class CompactNet(nn.Module):
    """Pre-activation residual blocks of convolutions; each stage halves height and width.

    Args:
        widths: channels of each stage.
        depths: blocks of each stage.
        num_pairs: pairs of convolution and attention that each stage ends with, see `AlterNet`.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64),
        depths: Sequence[int] = (3, 3, 3),
        num_pairs: Sequence[int] = (0, 0, 0),
        num_classes: int = 10,
        window_size: int = 4,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.blocks = nn.ModuleList()
        dim = widths[0]
        for stage, width in enumerate(widths):
            for place, is_attention in enumerate(alternation(depths[stage], num_pairs[stage])):
                if is_attention:
                    self.blocks.append(WindowBlock(dim, width, dim, 1, window_size))
                else:
                    self.blocks.append(BasicBlock(dim, width, 2 if stage and not place else 1))
                dim = width
        self.norm = nn.BatchNorm2d(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, clip: Float[Tensor, "B 3 1 H W"]) -> Float[Tensor, "B classes"]:
        x = self.stem(clip.squeeze(2))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).relu().mean(dim=(2, 3)))
