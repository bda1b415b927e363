"""Feature maps at the residual sums of any net.

The submodules of a block decide: `norm1`, `attn`, `norm2` and `mlp` make a transformer block with two residual sums,
perhaps followed by a `peg`; `conv1` and `conv2`, or `attn` alone, make a block with one. A `VideoNet` without such
blocks is observed between its `blocks`. Between blocks, a change of grid or width is a pool, and any other change is a
position encoding.

Letters: B clips, L tokens, C channels, T H W grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mvit_video.models.net import VideoNet
from mvit_video.nn import untuned
from mvit_video.types import ConfigError

Kind = Literal["embed", "msa", "mlp", "conv", "block", "peg", "pool"]
Grid = tuple[int, ...]

_TRANSFORMER = ("norm1", "attn", "norm2", "mlp")
_BESIDE_THE_BRANCH = ("relu", "act", "downsample", "shortcut", "drop", "proj_skip")


class Feature(NamedTuple):
    """The residual stream at one place.

    Attributes:
        name: path of the block, and `.input`, `.attn`, `.mlp` or `.peg` for the place in it.
        kind: the last addition: stem, attention, MLP, convolution, block of unknown structure, position encoding, or
            change of grid or width.
    """

    name: str
    kind: Kind
    map: Float[Tensor, "B C T H W"]


class Branch(NamedTuple):
    """A residual branch: the output of `module` is added to the stream."""

    name: str
    kind: Kind
    module: nn.Module


def iter_features(model: nn.Module, clip: Float[Tensor, "B 3 T H W"]) -> Iterator[Feature]:
    """Yield the residual stream of a net from its stem to its last block, in the order of computation.

    The net runs in eval mode without gradients. Class tokens have no place on a grid and are dropped. Image nets that
    take frames as a batch give maps of clips too. Attention that changes grid or width is a `pool`.

    Raises:
        ConfigError: the net has no blocks of a known structure, or its tokens have an unknown grid.
    """
    blocks = find_blocks(model)
    stream = _Stream(num_clips=len(clip))
    with ExitStack() as stack, torch.no_grad():
        stack.enter_context(evaluating(model))
        stack.enter_context(untuned(model))
        for name, block in blocks:
            watch = stream.watch_transformer if is_transformer(block) else stream.watch_unit
            for handle in watch(name, block):
                stack.callback(handle.remove)
        inside = {module for _, block in blocks for module in block.modules()}
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)) and module not in inside:
                stack.callback(module.register_forward_hook(stream.note_grid).remove)
        model(clip)
    yield from stream.features


def find_blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return path and module of each residual block, in the order of the net.

    Raises:
        ConfigError: there is none.
    """
    blocks: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules():
        in_another = any(name.startswith(f"{path}.") for path, _ in blocks)
        if not in_another and (is_transformer(module) or _is_unit(module)):
            blocks.append((name, module))
    if not blocks and isinstance(model, VideoNet):
        blocks = [(f"blocks.{name}", block) for name, block in model.blocks.named_children()]
    if not blocks:
        raise ConfigError(
            f"{type(model).__name__} has no known residual blocks (norm1, attn, norm2, mlp; or conv1, conv2; or attn)"
        )
    return blocks


def branches(model: nn.Module) -> list[Branch]:
    """Return the residual branches of a net, in its order; blocks of unknown structure have none."""
    found: list[Branch] = []
    for name, block in find_blocks(model):
        if is_transformer(block):
            found.append(Branch(f"{name}.attn", "msa", block.get_submodule("attn")))
            found.append(Branch(f"{name}.mlp", "mlp", block.get_submodule("mlp")))
        elif _is_unit(block):
            inner = [module for child, module in block.named_children() if not child.startswith(_BESIDE_THE_BRANCH)]
            found.append(Branch(name, _unit_kind(block), inner[-1]))
    return found


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set a net to eval mode, and restore the mode of each module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def is_transformer(module: nn.Module) -> bool:
    """Return whether a module is a block of attention and MLP, each after its norm."""
    return all(isinstance(getattr(module, name, None), nn.Module) for name in _TRANSFORMER)


def _is_unit(module: nn.Module) -> bool:
    children = dict(module.named_children())
    return {"conv1", "conv2"} <= children.keys() or "attn" in children


def _unit_kind(block: nn.Module) -> Kind:
    if not _is_unit(block):
        return "block"
    return "msa" if hasattr(block, "attn") else "conv"


@dataclass
class _Stream:
    """Collection of features while a net runs.

    Attributes:
        grids: of convolutions outside of blocks, and of blocks, the latest last.
    """

    num_clips: int
    features: list[Feature] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)

    def note_grid(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """Keep the grid of a convolution outside of blocks, for blocks that get no grid as an argument."""
        self.grids.append(tuple(output.shape[2:]))

    def watch_transformer(self, name: str, block: nn.Module) -> list[Any]:
        """Return hooks that add the stream before and after each branch, and after a `peg`."""
        kept: dict[str, Tensor] = {}
        grids: list[Grid] = []

        def keep(where: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            return lambda module, args: kept.update({where: args[0].detach().clone()})

        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            inside = _whole_numbers((args[1:], kwargs))
            grids[:] = [inside, _whole_numbers(output) or inside]

        def finish(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            out = _tensor_of(output).detach().clone()
            outside = _whole_numbers((args[1:], kwargs))
            grid_in, grid_out = (one or outside for one in grids)
            self.enter(name, self._to_map(name, kept["norm1"], grid_in))
            before = self.features[-1].map
            after = self._to_map(name, kept["norm2"], grid_out)
            self.features.append(Feature(f"{name}.attn", "msa" if after.shape == before.shape else "pool", after))
            made = kept.get("peg", out)
            self.features.append(Feature(f"{name}.mlp", "mlp", self._to_map(name, made, grid_out)))
            if "peg" in kept:
                self.features.append(Feature(f"{name}.peg", "peg", self._to_map(name, out, grid_out)))
            kept.clear()

        hooks = [
            child.register_forward_pre_hook(keep(where))
            for where, child in block.named_children()
            if where in ("norm1", "norm2", "peg")
        ]
        hooks.append(block.get_submodule("attn").register_forward_hook(note, with_kwargs=True))
        return [*hooks, block.register_forward_hook(finish, with_kwargs=True)]

    def watch_unit(self, name: str, block: nn.Module) -> list[Any]:
        """Return hooks that add the input and the output of a block."""
        entering: list[Tensor] = []

        def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
            entering.append(args[0].detach().clone())  # before a block that works in place

        def finish(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            given = _whole_numbers(args[1:])
            self.enter(name, self._unit_map(name, entering.pop(), given))
            out = self._unit_map(name, _tensor_of(output).detach().clone(), _whole_numbers(output) or given)
            kind = _unit_kind(block) if out.shape == self.features[-1].map.shape else "pool"
            self.features.append(Feature(name, kind, out))

        return [block.register_forward_pre_hook(keep), block.register_forward_hook(finish)]

    def enter(self, name: str, entering: Tensor) -> None:
        """Add the input of a block where it differs from the output of the block before."""
        if not self.features:
            self.features.append(Feature("embed", "embed", entering))
        elif entering.shape != self.features[-1].map.shape:
            self.features.append(Feature(f"{name}.input", "pool", entering))
        elif not torch.equal(entering, self.features[-1].map):
            self.features.append(Feature(f"{name}.input", "peg", entering))

    def _unit_map(self, name: str, x: Tensor, given: Grid) -> Tensor:
        """Return a map from tokens, or from a map with channels first."""
        return self._to_map(name, x, given) if x.ndim == 3 else self._frames_to_clips(x)

    def _to_map(self, name: str, x: Tensor, given: Grid) -> Tensor:
        """Return a map from tokens `(n, L, C)`, or from a map with channels last."""
        if x.ndim > 3:
            return self._frames_to_clips(x.movedim(-1, 1))
        grid = self._grid_of(name, x.shape[1], given)
        patches = x[:, x.shape[1] - _volume(grid) :]
        return self._frames_to_clips(patches.mT.unflatten(-1, grid))

    def _grid_of(self, name: str, num_tokens: int, given: Grid) -> Grid:
        for grid in [given] if given else reversed(self.grids):
            if 0 <= num_tokens - _volume(grid) <= max(1, num_tokens // 8):  # class and register tokens stand before
                self.grids.append(grid)
                return grid
        raise ConfigError(f"{name}: the grid of its {num_tokens} tokens is unknown; pass (T, H, W) to the block")

    def _frames_to_clips(self, x: Float[Tensor, "n C *grid"]) -> Float[Tensor, "B C T H W"]:
        if x.ndim == 4:
            x = x[:, :, None]
        if len(x) == self.num_clips:
            return x
        if x.shape[2] > 1 or len(x) % self.num_clips:
            raise ConfigError(f"maps of {tuple(x.shape)} do not come from {self.num_clips} clips")
        return x.unflatten(0, (self.num_clips, -1)).squeeze(3).movedim(1, 2)


def _tensor_of(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


def _whole_numbers(values: Any) -> Grid:
    """Return the grid among arguments or results: two or three integers, alone or as one tuple."""
    found = tuple(value for value in tree_leaves(values) if type(value) is int)
    return found if len(found) in (2, 3) else ()


def _volume(grid: Grid) -> int:
    return math.prod(grid)
