"""Which builder makes a net, and with which arguments: told by the net itself, and kept as metadata of a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, product
from typing import Any

import torch
from torch import nn

from mvit_video.models.architecture import UNIT, BlockSpec, Patch, Pooling, block_table
from mvit_video.models.mvit import MViT, mvit
from mvit_video.models.mvitv2 import mvitv2
from mvit_video.nn import JointPosition, SeparablePosition
from mvit_video.types import THW, CheckpointError

_BUILDERS: dict[str, Callable[..., MViT]] = {"mvit": mvit, "mvitv2": mvitv2}
_VERSION = "1"  # of the metadata


@dataclass(frozen=True)
class Architecture:
    """A builder function and its arguments.

    Attributes:
        builder: `mvit` or `mvitv2`.
        notes: arguments that were assumed because tensors do not show them.
    """

    builder: str
    arguments: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def build(self, **changes: Any) -> MViT:
        """A net with random weights."""
        return _BUILDERS[self.builder](**(self.arguments | changes))

    def first_difference(self, shapes: Mapping[str, Sequence[int]]) -> str | None:
        """The first tensor of a state dict that is not as this architecture has it."""
        with torch.device("meta"):
            own = {key: tuple(value.shape) for key, value in self.build().state_dict().items()}
        for key in sorted(own.keys() | shapes.keys()):
            found = tuple(shapes[key]) if key in shapes else None
            if found != own.get(key):
                return f"{key} would be {own.get(key, 'absent')} but is {found or 'absent'}"
        return None

    def to_metadata(self) -> dict[str, str]:
        """As texts for a file."""
        arguments = self.arguments | {key: asdict(self.arguments[key]) for key in ("patch", "pooling")}
        return {"version": _VERSION, "builder": self.builder, "arguments": json.dumps(arguments)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Architecture:
        """The reverse of `to_metadata`.

        Raises:
            CheckpointError: the texts are not those of `to_metadata`.
        """
        try:
            if metadata["version"] != _VERSION:
                raise ValueError(f"version {metadata['version']}, expected {_VERSION}")
            arguments = json.loads(metadata["arguments"], object_hook=_tuples)
            arguments["depths"] = tuple(arguments["depths"])
            arguments["patch"] = Patch(**arguments["patch"])
            arguments["pooling"] = Pooling(**arguments["pooling"])
            if metadata["builder"] not in _BUILDERS:
                raise ValueError(f"there is no builder {metadata['builder']!r}")
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"its metadata name no model that can be built ({error})") from error
        return cls(metadata["builder"], arguments)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def describe(net: MViT) -> Architecture:
    """The builder and arguments that make a net of this kind.

    Raises:
        CheckpointError: no arguments do, because the net was changed after it was built.
    """
    blocks: list[Any] = list(net.blocks)
    attentions = [block.attn for block in blocks]
    heads = [attention.num_heads for attention in attentions]
    depths = tuple(len(list(run)) for _, run in groupby(heads))
    embed_dim = net.patch_embed.proj.out_channels
    seen = [(*_pool(attention.pool_q), *_pool(attention.pool_k)) for attention in attentions]
    start = depths[0] if len(depths) > 1 else None
    pooling = matching_pooling(
        depths,
        lambda spec: (spec.kernel_q, spec.stride_q, spec.kernel_kv, spec.stride_kv if spec.kernel_kv else UNIT),
        seen,
        kernels={kernel for block in seen for kernel in (block[0], block[2]) if kernel},
        strides_q=[seen[start][1] if start else THW(1, 2, 2)],
        strides_kv=[seen[0][3] if seen[0][2] else None],
        mode=_mode(next((p for a in attentions for p in (a.pool_q, a.pool_k) if p is not None), None)),
        residual=attentions[0].residual_pooling,
    )
    is_v2 = attentions[0].rel_pos is not None
    arguments: dict[str, Any] = {
        "num_classes": net.num_classes,
        "num_frames": net.num_frames,
        "crop_size": net.crop_size,
        "depths": depths,
        "embed_dim": embed_dim,
        "num_heads": heads[0],
        "patch": Patch(net.patch_embed.kernel, net.patch_embed.stride),
        "pooling": pooling,
        "drop_path_rate": blocks[-1].drop_path.rate,
        "dropout": getattr(getattr(net.head, "dropout", None), "p", 0.0),
    }
    if is_v2:
        arguments["expand_in_attention"] = len(depths) == 1 or any(block.widens_in_attention for block in blocks)
        arguments["class_token"] = net.class_token is not None
    else:
        kinds = {SeparablePosition: "separable", JointPosition: "joint"}
        arguments["position"] = kinds.get(type(net.position), "none")
    architecture = Architecture("mvitv2" if is_v2 else "mvit", arguments)
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    difference = architecture.first_difference(shapes) if pooling else "its pools follow no rule"
    if difference:
        raise CheckpointError(f"the model is none that a builder makes: {difference}; save model.state_dict() instead")
    return architecture


def _pool(pool: nn.Module | None) -> tuple[THW | None, THW]:
    """Kernel and stride."""
    if pool is None:
        return None, UNIT
    part: Any = next(module for module in pool.modules() if hasattr(module, "stride"))
    kernel = part.kernel_size if hasattr(part, "kernel_size") else part.weight.shape[2:]
    return THW(*kernel), THW(*part.stride)


def _mode(pool: nn.Module | None) -> str:
    kinds = {type(module) for module in pool.modules()} if pool is not None else set()
    return "max" if nn.MaxPool3d in kinds else "avg" if nn.AvgPool3d in kinds else "conv"


def matching_pooling(
    depths: Sequence[int],
    trace: Callable[[BlockSpec], tuple[Any, ...]],
    seen: Sequence[tuple[Any, ...]],
    *,
    kernels: set[THW],
    strides_q: Sequence[THW],
    strides_kv: Sequence[THW | None],
    **fixed: Any,
) -> Pooling | None:
    """The first pooling among the candidates that leaves the trace `seen` in the blocks; None where none does.

    Args:
        trace: what would be seen of a block.
        kernels: all that occur.
        strides_q: candidates.
        strides_kv: candidates.
        **fixed: other arguments of the pooling.
    """
    for kernel, q, kv, adaptive, at_stride_1, everywhere in product(
        [*(kernels if len(kernels) == 1 else ()), None],
        strides_q,
        strides_kv,
        (True, False),
        (True, False),
        (False, True),
    ):
        pooling = Pooling(
            kernel=kernel,
            stride_q=q,
            stride_kv=kv,
            adaptive_kv_stride=adaptive,
            kv_at_stride_1=at_stride_1,
            q_everywhere=everywhere,
            **fixed,
        )
        if [trace(spec) for spec in block_table(depths, 1, 1, pooling)] == list(seen):
            return pooling
    return None
