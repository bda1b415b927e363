"""Which builder makes a net, and with which arguments: told by the net itself, and kept as metadata of a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, product
from typing import Any

import torch
from torch import nn

from mvit_video.models.alternet import AlterNet, alternet
from mvit_video.models.architecture import UNIT, BlockSpec, Patch, Pooling, block_table
from mvit_video.models.mvit import mvit
from mvit_video.models.mvitv2 import mvitv2
from mvit_video.models.net import VideoNet
from mvit_video.models.pvt import PVT, Pyramid
from mvit_video.models.pvt_variants import pvt, pvt_v2
from mvit_video.nn import LinearSpatialReduction, ReducedAttention
from mvit_video.types import THW, CheckpointError

_BUILDERS: dict[str, Callable[..., VideoNet]] = {
    builder.__name__: builder for builder in (mvit, mvitv2, pvt, pvt_v2, alternet)
}
_GROUPS = {"patch": Patch, "pooling": Pooling, "pyramid": Pyramid}  # arguments that are several values
_VERSION = "1"  # of the metadata


@dataclass(frozen=True)
class Architecture:
    """A builder function and its arguments.

    Attributes:
        builder: `mvit`, `mvitv2`, `pvt`, `pvt_v2` or `alternet`.
        notes: arguments that were assumed because tensors do not show them.
    """

    builder: str
    arguments: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def build(self, **changes: Any) -> VideoNet:
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
        arguments = {key: asdict(value) if key in _GROUPS else value for key, value in self.arguments.items()}
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
            depths = arguments["depths"]
            if not isinstance(depths, tuple) or not all(type(depth) is int and depth > 0 for depth in depths):
                raise ValueError(f"depths {str(depths)[:80]}, expected numbers of blocks")
            for key in _GROUPS.keys() & arguments.keys():
                arguments[key] = _GROUPS[key](**arguments[key])
            if metadata["builder"] not in _BUILDERS:
                raise ValueError(f"there is no builder {metadata['builder']!r}")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(f"its metadata name no model that can be built ({error})") from error
        return cls(metadata["builder"], arguments)


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in values.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value


def describe(net: VideoNet) -> Architecture:
    """The builder and arguments that make a net of this kind.

    Raises:
        CheckpointError: no arguments do, because the net was changed after it was built.
    """
    describe_it = {PVT: _describe_pvt, AlterNet: _describe_alternet}.get(type(net), _describe_mvit)
    architecture = describe_it(net)
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    difference = architecture.first_difference(shapes) if architecture else "its pools follow no rule"
    if architecture is None or difference:
        raise CheckpointError(f"the model is none that a builder makes: {difference}; save model.state_dict() instead")
    return architecture


def _input_and_head(net: VideoNet) -> dict[str, Any]:
    return {
        "num_classes": net.num_classes,
        "num_frames": net.num_frames,
        "crop_size": net.crop_size,
        "dropout": getattr(getattr(net.head, "dropout", None), "p", 0.0),
    }


def _last_rate(net: VideoNet) -> float:
    blocks: list[Any] = list(net.blocks)
    return blocks[-1].drop_path.rate


def joined(kinds: Sequence[str]) -> str | tuple[str, ...]:
    """Kinds of position encoding as a builder takes them."""
    return tuple(kinds) if len(kinds) > 1 else kinds[0] if kinds else "none"


def _describe_pvt(net: PVT) -> Architecture:
    arguments = _input_and_head(net) | {
        "drop_path_rate": _last_rate(net),
        "depths": net.depths,
        "pyramid": net.pyramid,
        "patch": net.patch,
        "position": joined(net.position_kinds),
    }
    if net.convolutional:
        return Architecture("pvt_v2", arguments)
    return Architecture("pvt", arguments | {"class_token": any("class_token" in key for key in net.state_dict())})


def _describe_alternet(net: AlterNet) -> Architecture:
    arguments = _input_and_head(net) | {
        "drop_path_rate": net.drop_path_rate,
        "depths": net.depths,
        "num_pairs": net.num_pairs,
        "block": net.block_kind,
        "stem_stride": net.stem_stride,
    }
    return Architecture("alternet", arguments | ({"window_size": net.window_size} if any(net.num_pairs) else {}))


def _describe_mvit(net: Any) -> Architecture | None:
    blocks: list[Any] = list(net.blocks)
    attentions = [block.attn for block in blocks]
    heads = [attention.num_heads for attention in attentions]
    depths = tuple(len(list(run)) for _, run in groupby(heads))
    seen = [(*_pool(attention.pool_q), *_reduction_of(attention)) for attention in attentions]
    start = depths[0] if len(depths) > 1 else None
    is_reduced = isinstance(attentions[0], ReducedAttention)
    mode_kv = _mode(next(_pools(attentions, "k"), None))
    mode = _mode(next(_pools(attentions, "q"), None)) or mode_kv or "conv"
    pooling = matching_pooling(
        depths,
        lambda spec: (spec.kernel_q, spec.stride_q, spec.kernel_kv, spec.stride_kv if spec.kernel_kv else UNIT),
        seen,
        kernels={kernel for block in seen for kernel in (block[0], None if is_reduced else block[2]) if kernel},
        strides_q=[seen[start][1] if start else THW(1, 2, 2)],
        strides_kv=[seen[0][3] if seen[0][2] else None],
        mode=mode,
        residual=attentions[0].residual_pooling,
        kv_reduction=_kind(attentions) if is_reduced else mode_kv if mode_kv != mode else None,
        norm_eps=_norm_eps(attentions),
    )
    if pooling is None:
        return None
    arguments = _input_and_head(net) | {
        "drop_path_rate": _last_rate(net),
        "depths": depths,
        "embed_dim": net.patch_embed.proj.out_channels,
        "num_heads": heads[0],
        "patch": Patch(net.patch_embed.kernel, net.patch_embed.stride),
        "pooling": pooling,
        "position": joined(net.position_kinds),
        "class_token": net.class_token is not None,
        "head_pool": net.head_pool,
    }
    widens_in_attention = any(block.widens_in_attention for block in blocks)
    if not widens_in_attention and "relative" not in net.position_kinds:
        return Architecture("mvit", arguments)
    return Architecture("mvitv2", arguments | {"expand_in_attention": len(depths) == 1 or widens_in_attention})


def _pools(attentions: Sequence[Any], letter: str) -> Iterator[Any]:
    """Pools of the queries, keys or values, block by block."""
    return (pool for attention in attentions if (pool := getattr(attention, f"pool_{letter}", None)) is not None)


def _norm_eps(attentions: Sequence[Any]) -> float:
    """That of the norms after the pools; the usual one where there are none."""
    norms = (pool.norm for letter in "qkv" for pool in _pools(attentions, letter))
    return next((norm.eps for norm in norms if isinstance(norm, nn.LayerNorm)), Pooling.norm_eps)


def _kind(attentions: Sequence[ReducedAttention]) -> str:
    is_linear = any(isinstance(attention.reduction, LinearSpatialReduction) for attention in attentions)
    return "linear_sra" if is_linear else "sra"


def _reduction_of(attention: Any) -> tuple[THW | None, THW]:
    """Kernel and stride by which keys and values become fewer."""
    if isinstance(attention, ReducedAttention):
        stride = getattr(attention.reduction, "stride", UNIT)
        return (stride if stride != UNIT else None), stride
    return _pool(attention.pool_k)


def _pool(pool: nn.Module | None) -> tuple[THW | None, THW]:
    """Kernel and stride."""
    if pool is None:
        return None, UNIT
    part: Any = next(module for module in pool.modules() if hasattr(module, "stride"))
    kernel = part.kernel_size if hasattr(part, "kernel_size") else part.weight.shape[2:]
    return THW(*kernel), THW(*part.stride)


def _mode(pool: nn.Module | None) -> str | None:
    if pool is None:
        return None
    kinds = {type(module) for module in pool.modules()}
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
