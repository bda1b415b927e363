"""Attention of a net that calls `scaled_dot_product_attention`, observed and changed from outside.

Letters: B clips (or frames), N heads, Q queries, K keys, T H W grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import pairwise, product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mvit_video.analysis.adapter import evaluating, find_blocks, iter_features
from mvit_video.nn import untuned
from mvit_video.types import THW, ConfigError


class NoSuchAttention(ConfigError):
    """The net has no attention that can be studied."""


class Attention(NamedTuple):
    """One call of attention; grids are without class tokens, tensors have them first.

    Attributes:
        name: path of the attention module.
        tokens: `(B, L, C)` input of the module.
        thw: grid of the tokens.
        thw_q: grid of the queries.
        thw_k: grid of the keys.
        bias: added to the scores, or a mask of the scores that count; None for none.
    """

    name: str
    tokens: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    thw: THW
    thw_q: THW
    thw_k: THW
    scale: float
    bias: Tensor | None

    @property
    def scores(self) -> Float[Tensor, "B N Q K"]:
        """Scores before softmax."""
        found = (self.query * self.scale) @ self.key.mT
        if self.bias is None:
            return found
        return found.masked_fill(~self.bias, -math.inf) if self.bias.dtype == torch.bool else found + self.bias

    @property
    def patch_weights(self) -> Float[Tensor, "B N Q K"]:
        """Attention of the patch queries to the patch keys; sums to 1 over the keys."""
        return self.scores[..., -self.thw_q.volume :, -self.thw_k.volume :].softmax(dim=-1)

    @property
    def keys_and_values(self) -> Float[Tensor, "B K X"]:
        """Key and value of every head, side by side."""
        return torch.cat([self.key.transpose(1, 2).flatten(2), self.value.transpose(1, 2).flatten(2)], dim=-1)


Change = Callable[[Attention], Bool[Tensor, "Q K"] | None]


@contextmanager
def watching(model: nn.Module, clip: Tensor, change: Change) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield a function from clips to logits that passes every call of attention to `change` first.

    The net runs in eval mode. `change` returns the keys that each query may attend to, None for all.

    Args:
        clip: a clip of the size that the function will get, which determines the grids.

    Raises:
        NoSuchAttention: the net has no visible attention, or attends within windows.
    """
    grids = _grids(model, clip[:1])
    mode = _Watch(grids, change)

    def forward(clip: Tensor) -> Tensor:
        with torch.no_grad(), mode:
            return model(clip)

    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(untuned(model))
        for name in grids:
            module = model.get_submodule(name)
            stack.callback(module.register_forward_pre_hook(mode.enter(name)).remove)
            stack.callback(module.register_forward_hook(mode.leave).remove)
        yield forward
    if not mode.seen:
        raise NoSuchAttention(
            f"{type(model).__name__}: no attention found: its blocks do not call F.scaled_dot_product_attention"
        )


_ARGUMENTS = ("query", "key", "value", "attn_mask")


class _Watch(TorchFunctionMode):
    def __init__(self, grids: dict[str, tuple[THW, THW]], change: Change) -> None:
        super().__init__()
        self._grids, self._change = grids, change
        self._inside: tuple[str, Tensor] | None = None
        self.seen = False

    def enter(self, name: str) -> Callable[..., None]:
        def remember(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._inside = (name, args[0])

        return remember

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._inside = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or self._inside is None:
            return func(*args, **kwargs)
        self.seen = True
        with torch._C.DisableTorchFunction():
            name, tokens = self._inside
            call = _attention(name, tokens, self._grids[name], dict(zip(_ARGUMENTS, args, strict=False)) | kwargs)
            allowed = self._change(call)
            if allowed is None:
                return func(*args, **kwargs)
            return call.scores.masked_fill(~allowed, -math.inf).softmax(dim=-1) @ call.value


def _attention(name: str, tokens: Tensor, grids: tuple[THW, THW], given: Mapping[str, Any]) -> Attention:
    query, key, value = (given[argument] for argument in _ARGUMENTS[:3])
    thw, thw_q = grids
    if query.shape[2] < thw_q.volume:  # a frame at a time
        thw, thw_q = THW(1, thw.h, thw.w), THW(1, thw_q.h, thw_q.w)
    if query.shape[2] < thw_q.volume:
        raise NoSuchAttention(f"{name}: attends within windows of {query.shape[2]} cells, not over a whole map")
    thw_k = key_grid(thw, key.shape[2], query.shape[2] - thw_q.volume)
    scale = given.get("scale") or query.shape[-1] ** -0.5
    return Attention(name, tokens, query, key, value, thw, thw_q, thw_k, scale, given.get("attn_mask"))


def key_grid(thw: THW, num_keys: int, num_class_tokens: int) -> THW:
    """Return the grid of keys pooled from the grid `thw`: the one whose cells are nearest to a square.

    Time is pooled last, because nets pool space first.

    Raises:
        ConfigError: no grid has so many cells.
    """
    cells = num_keys - num_class_tokens
    sizes = [
        THW(t, h, cells // (t * h))
        for t, h in product(range(1, thw.t + 1), range(1, thw.h + 1))
        if cells % (t * h) == 0 and 1 <= cells // (t * h) <= thw.w
    ]
    if not sizes:
        raise ConfigError(f"{cells} keys cannot be pooled from a grid of {tuple(thw)}")
    return min(sizes, key=lambda one: (abs(math.log(thw.h / one.h) - math.log(thw.w / one.w)), -one.t))


def _grids(model: nn.Module, clip: Tensor) -> dict[str, tuple[THW, THW]]:
    """Return the grids before and after each attention, by the path of its module."""
    features = list(iter_features(model, clip))
    grids: dict[str, tuple[THW, THW]] = {}
    attentions = {f"{name}.attn" for name, block in find_blocks(model) if hasattr(block, "attn")}
    for before, after in pairwise(features):
        name = after.name if after.name in attentions else f"{after.name}.attn"
        if name in attentions:
            grids[name] = THW(*before.map.shape[2:]), THW(*after.map.shape[2:])
    return grids


def centres(thw: THW) -> Float[Tensor, "cells 3"]:
    """Return the centres of the cells of a grid, as shares of the clip's length, height and width."""
    axes = [(torch.arange(size, dtype=torch.float64) + 0.5) / size for size in thw]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
