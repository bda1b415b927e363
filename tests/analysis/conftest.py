"""Tiny nets in double precision, and batches for them."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mvit_video.analysis.batches import Batch
from mvit_video.models import MViT, Patch, Pooling, mvit, mvitv2

NUM_CLASSES = 3
_SIZES = {
    "num_classes": NUM_CLASSES, "num_frames": 4, "crop_size": 16, "depths": (1, 2), "embed_dim": 8,
    "patch": Patch((1, 4, 4), (1, 4, 4)), "drop_path_rate": 0.3, "dropout": 0.5,
}  # fmt: skip


@pytest.fixture
def tiny_v1() -> MViT:
    """Grids of 4 x 4 x 4 and 4 x 2 x 2; widens in the MLP of the first block."""
    torch.manual_seed(0)
    return lively(mvit(pooling=Pooling(stride_kv=(1, 2, 2)), **_SIZES))


@pytest.fixture
def tiny_v2() -> MViT:
    """Likewise; widens in attention, relative positions."""
    torch.manual_seed(0)
    return lively(mvitv2(pooling=Pooling(stride_kv=(1, 2, 2), q_everywhere=True, residual=True), **_SIZES))


@pytest.fixture
def tiny_cnn() -> nn.Module:
    """A residual net of 3-D convolutions with batch norm."""
    torch.manual_seed(0)
    return TinyCnn().double()


@pytest.fixture
def make_batches() -> Callable[..., list[Batch]]:
    def make(*counts: int, size: tuple[int, int, int] = (4, 16, 16), seed: int = 1) -> list[Batch]:
        generator = torch.Generator().manual_seed(seed)
        batches = []
        for count in counts:
            clip = torch.randn(count, 3, *size, generator=generator, dtype=torch.float64)
            share = torch.rand(count, NUM_CLASSES, generator=generator, dtype=torch.float64)
            batches.append(Batch(clip, share / share.sum(dim=1, keepdim=True)))
        return batches

    return make


def lively(net: MViT) -> MViT:
    """Weights larger than at the start of training, so that every branch does something."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.double()


class TinyUnit(nn.Module):
    def __init__(self, dim: int, dim_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(dim, dim_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(dim_out)
        self.act = nn.Tanh()
        self.conv2 = nn.Conv3d(dim_out, dim_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(dim_out)
        self.shortcut = nn.Identity() if dim == dim_out else nn.Conv3d(dim, dim_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))


class TinyCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 4, 4, 4)
        self.layers = nn.Sequential(TinyUnit(4, 4, 1), TinyUnit(4, 6, 2))
        self.head = nn.Linear(6, NUM_CLASSES)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.stem(clip)).mean(dim=(2, 3, 4)))
