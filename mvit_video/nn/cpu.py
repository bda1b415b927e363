"""Layers tuned for a CPU, where memory traffic costs as much as arithmetic; results are those of the plain layers.

`tune_for_cpu` swaps the classes of a net's layers; parameters, hooks and state-dict keys stay. On another device,
in a compiled or traced graph, and where operations are counted, a tuned layer does what the plain one does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from mvit_video.nn.attention import DotProductAttention
from mvit_video.nn.block import MultiscaleBlock
from mvit_video.nn.depthwise import DepthwiseConv3d, HeadSharedConv3d, same_padding
from mvit_video.nn.gradients import depthwise_conv3d, is_recording
from mvit_video.nn.pyramid import ConvMlp, PyramidBlock
from mvit_video.types import THW

ONE_DNN = torch.backends.mkldnn.is_available()
ROWS_IN_CACHE = 1024  # tokens that a thread takes at a time: of 256 to 8192 the quickest at the widths of MViT-B
QUERIES_IN_CACHE = 512

Net = TypeVar("Net", bound=nn.Module)


def tune_for_cpu(net: Net) -> Net:
    """Give the layers in the blocks of a net (not its head) their tuned classes, and return the net."""
    for module in _layers(net):
        module.__class__ = _TUNED.get(type(module), type(module))
    return net


@contextmanager
def untuned(net: nn.Module) -> Iterator[None]:
    """Give a net its plain layers meanwhile, whose hooks see complete tensors."""
    plain = {tuned: plain for plain, tuned in _TUNED.items()}
    changed = [(module, type(module)) for module in net.modules() if type(module) in plain]
    for module, tuned in changed:
        module.__class__ = plain[tuned]
    try:
        yield
    finally:
        for module, tuned in changed:
            module.__class__ = tuned


def _layers(net: nn.Module) -> Iterator[nn.Module]:
    for block in net.modules():
        if isinstance(block, MultiscaleBlock):
            yield from block.modules()


def _only_values_on_cpu(x: Tensor) -> bool:
    """Say whether `x` is on a CPU and needs no gradient, no graph and no record of operations."""
    return (
        not is_recording()
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
        and not is_in_torch_dispatch_mode()
    )


class _OneDnnLinear(nn.Linear):
    """Linear layer by oneDNN for inference in float32.

    PyTorch uses MKL, which is 7 % slower on an AMD processor and needs one more pass to copy the bias
    (benchmarks/model.md).
    """

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight
        plain = type(input) is Tensor and type(weight) is nn.Parameter  # neither quantised nor distributed
        in_float32 = input.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if ONE_DNN and plain and in_float32 and _only_values_on_cpu(input):
            return torch.ops.mkldnn._linear_pointwise(input, weight, self.bias, "none", [], "")
        return super().forward(input)


class ChunkedAttention(DotProductAttention):
    """Attention of a few queries at a time, whose scores stay in the cache.

    The fused kernel of a CPU is slow in half precision and needs values as wide as keys.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        is_fused_best = k.shape[-1] == v.shape[-1] and q.dtype == torch.float32
        if is_fused_best or not _only_values_on_cpu(q):
            return super().forward(q, k, v)
        k, v = (k * v.shape[-1] ** -0.5).mT.contiguous(), v.contiguous()
        out = q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[-1]).transpose(1, 2)
        for start in range(0, q.shape[2], QUERIES_IN_CACHE):
            queries = slice(start, start + QUERIES_IN_CACHE)
            out[:, :, queries] = (q[:, :, queries] @ k).softmax(dim=-1) @ v
        return out


class _BlockByRows(MultiscaleBlock):
    """Block whose second half takes a few tokens at a time, so that the MLP's hidden values stay in the cache."""

    def second_half(self, x: Tensor, thw: THW) -> Tensor:
        half = super().second_half
        if self.training or isinstance(self.mlp, ConvMlp) or not _only_values_on_cpu(x):
            return half(x, thw)
        return torch.cat([half(rows, thw) for rows in _rows_in_cache(x)]).unflatten(0, x.shape[:2])


class _PyramidBlockByRows(_BlockByRows, PyramidBlock):
    """The same for PVT."""


def _rows_in_cache(x: Tensor) -> tuple[Tensor, ...]:
    """Split the tokens of all clips to fit the cache; in half precision matrix products need four times as many."""
    in_half = x.element_size() < 4 or torch.is_autocast_enabled("cpu")
    return x.flatten(0, -2).split((4 if in_half else 1) * ROWS_IN_CACHE * torch.get_num_threads())


class _TrainableHeadSharedConv3d(HeadSharedConv3d):
    """Convolution with gradients by temporal tap."""

    def forward(self, grid: Tensor) -> Tensor:
        if _wants_gradients(grid, self.weight):
            return depthwise_conv3d(grid, self._kernels(), self.stride, self.padding)
        return super().forward(grid)


class _TrainableDepthwiseConv3d(DepthwiseConv3d):
    """Convolution with gradients by temporal tap; circular borders are left to PyTorch."""

    def forward(self, input: Tensor) -> Tensor:
        if self.padding_mode != "zeros" or self.bias is None or not _wants_gradients(input, self.weight):
            return super().forward(input)
        padding = same_padding(THW(*self.kernel_size))
        return depthwise_conv3d(input, self.weight, THW(1, 1, 1), padding) + self.bias[:, None, None, None]


def _wants_gradients(grid: Tensor, weight: Tensor) -> bool:
    in_training = torch.is_grad_enabled() and (grid.requires_grad or weight.requires_grad)
    return in_training and grid.device.type == "cpu" and not is_recording()


_TUNED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: _OneDnnLinear,
    DotProductAttention: ChunkedAttention,
    MultiscaleBlock: _BlockByRows,
    PyramidBlock: _PyramidBlockByRows,
    HeadSharedConv3d: _TrainableHeadSharedConv3d,
    DepthwiseConv3d: _TrainableDepthwiseConv3d,
}
