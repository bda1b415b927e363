"""Inference on a CPU, where memory traffic costs as much as arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

ONE_DNN = torch.backends.mkldnn.is_available()
ROWS_IN_CACHE = 1024  # tokens that a thread takes at a time: of 256 to 8192 the quickest at the widths of MViT-B


def only_values_on_cpu(x: Tensor) -> bool:
    """Whether `x` lies on a CPU and only values are asked for: no gradient, no graph, no watching of the operations."""
    return (
        not is_recording()
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and forward_ad._current_level < 0
        and not torch._C._are_functorch_transforms_active()
        and not is_in_torch_dispatch_mode()
    )


def is_recording() -> bool:
    """Whether the operations become a graph of their own: in `torch.compile` or `torch.jit.trace`.

    Neither sees through an `autograd.Function`.
    """
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def rows_in_cache(x: Tensor) -> tuple[Tensor, ...]:
    """Tokens of all clips, a few at a time; in half precision, where matrix products want more, four times as many."""
    in_half = x.element_size() < 4 or torch.is_autocast_enabled("cpu")
    return x.flatten(0, -2).split((4 if in_half else 1) * ROWS_IN_CACHE * torch.get_num_threads())


class Linear(nn.Linear):
    """`torch.nn.Linear`, by oneDNN where a CPU infers in float32.

    PyTorch's own there goes to MKL, which is 7 % slower on an AMD processor, and takes a pass more to copy the bias
    (benchmarks/model.md).
    """

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight
        plain = type(input) is Tensor and type(weight) is nn.Parameter  # neither quantised nor distributed
        in_float32 = input.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if ONE_DNN and plain and in_float32 and only_values_on_cpu(input):
            return torch.ops.mkldnn._linear_pointwise(input, weight, self.bias, "none", [], "")
        return super().forward(input)
