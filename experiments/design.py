"""Window of attention, patches, heads, stages and size of vision transformers on still digits."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from experiments.curvature import EARLY_EPOCH, fit_and_measure
from experiments.material import digit_images
from experiments.output import COLOURS, Heartbeat, Rows, Run, save, show, spread, train_all
from experiments.training import Recipe, Split, drawn_for_width
from mvit_video.analysis.attention_reach import window_mask
from mvit_video.analysis.drawing import where
from mvit_video.models.architecture import Patch
from mvit_video.models.families.mvit.variants import cpvt
from mvit_video.pages.figures import new_figure
from mvit_video.types import THW

SIDE, _PATCH, _HEADS = 16, 2, 3


class _Windowed(nn.Module):
    """A net without class token whose attention is limited to a square window, in training too."""

    def __init__(self, net: nn.Module, window: int) -> None:
        super().__init__()
        thw = THW(1, SIDE // _PATCH, SIDE // _PATCH)
        self.net, self._mode = net, _Masked(window_mask(thw, thw, (None, window, window)))

    def forward(self, clip: Tensor) -> Tensor:
        with self._mode:
            return self.net(clip)


class _Masked(TorchFunctionMode):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self._mask = mask

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return func(*args, **kwargs, **({"attn_mask": self._mask} if func is F.scaled_dot_product_attention else {}))


def _vit(
    patch: int = _PATCH, num_heads: int = _HEADS, embed_dim: int = 48, depths: tuple[int, ...] = (6,)
) -> nn.Module:
    net = cpvt(
        num_classes=10, crop_size=SIDE, depths=depths, embed_dim=embed_dim, num_heads=num_heads,
        patch=Patch((1, patch, patch), (1, patch, patch)), position="joint", class_token=False, drop_path_rate=0.0,
    )  # fmt: skip
    return drawn_for_width(net)


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "patches of 2, global, 3 heads": _vit,  # 48 channels
    "window of 3x3": lambda: _Windowed(_vit(), 3),
    "window of 5x5": lambda: _Windowed(_vit(), 5),
    "patches of 4": lambda: _vit(patch=4),
    "patches of 1": lambda: _vit(patch=1),
    "1 head": lambda: _vit(num_heads=1),
    "6 heads": lambda: _vit(num_heads=6),
    "two stages of 32 and 64 channels": lambda: _vit(num_heads=2, embed_dim=32, depths=(3, 3)),
    "96 channels, 6 heads": lambda: _vit(num_heads=6, embed_dim=96),
}
_SHOWN = ("top1", "training loss", f"epoch {EARLY_EPOCH}: share of negative eigenvalues",
          f"epoch {EARLY_EPOCH}: mean positive eigenvalue")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--hessian-batches", type=int, default=8, help="of 16 training examples")


def run(args: argparse.Namespace) -> None:
    """Train each variant with each seed, print and save the results."""
    runs = [Run(variant, seed) for variant in args.variants for seed in args.seeds]
    recipe = Recipe(args.epochs, learning_rate=2e-3, batch_size=32, label_smoothing=0.1)
    table = train_all(_train, (digit_images(SIDE), recipe, args.hessian_batches), runs, args.workers, "design")
    save(args.out, "design", table, draw(table, args.variants))
    rows = []
    for variant in args.variants:
        cells = {name: spread(where(table, variant=variant, quantity=name)["value"], 2) for name in _SHOWN}
        rows.append({"net": variant, **cells})
    show(f"Still digits after {args.epochs} epochs: mean (range) over seeds {args.seeds}", rows)


def draw(table: pa.Table, variants: list[str]) -> Figure:
    """Draw each quantity of the table, a point per seed."""
    figure, axes = new_figure(1, len(_SHOWN), width=14, height=3.8)
    for place, quantity in zip(axes, _SHOWN, strict=True):
        for row, variant in enumerate(variants):
            values = where(table, variant=variant, quantity=quantity)["value"]
            place.plot(values, [row] * len(values), "o", color=COLOURS[1], alpha=0.8)
        place.set_yticks(range(len(variants)), variants if place is axes[0] else [], fontsize=9)
        place.invert_yaxis()
        place.grid(axis="x", alpha=0.3)
        place.set_xlabel("top-1, %" if quantity == "top1" else quantity)
    return figure


def _train(one: Run, heartbeat: Heartbeat, context: tuple[Split, Recipe, int]) -> Rows:
    split, recipe, num_batches = context
    net = VARIANTS[one.variant]()
    return [
        row._asdict() for row in fit_and_measure(net, split, recipe, one.seed, heartbeat, num_batches, {EARLY_EPOCH})
    ]
