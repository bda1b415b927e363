"""Position encodings and heads of a plain vision transformer on still digits, with a token per pixel."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import cast

import pyarrow as pa
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from experiments.material import PAPER, digit_images
from experiments.output import COLOURS, Heartbeat, Rows, Run, save, show, spread, train_all
from experiments.training import Examples, Recipe, Split, drawn_for_width, fit
from mvit_video.analysis.batches import score
from mvit_video.analysis.drawing import describe, where
from mvit_video.models.architecture import Patch
from mvit_video.models.families.mvit.net import MViT
from mvit_video.models.families.mvit.variants import cpvt
from mvit_video.models.position import Position
from mvit_video.nn import PositionEncodingGenerator
from mvit_video.nn.block import MultiscaleBlock
from mvit_video.pages.figures import GREY, new_figure
from mvit_video.types import THW

SIDE, CANVAS, CHANCE = 8, 12, 10
_DIM = 32


class _AfterPEG(nn.Module):
    """A block with a PEG before it: place -1 of CPVT."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.peg = PositionEncodingGenerator(_DIM, THW(1, 3, 3))
        self.block = block

    def forward(self, x: Tensor, thw: THW) -> tuple[Tensor, THW]:
        return self.block(self.peg(x, thw), thw)


def _vit(position: Position, *, class_token: bool = True) -> MViT:
    net = cpvt(
        num_classes=10, crop_size=SIDE, depths=(4,), embed_dim=_DIM, num_heads=4, patch=Patch((1, 1, 1), (1, 1, 1)),
        position=position, class_token=class_token, drop_path_rate=0.0,
    )  # fmt: skip
    return drawn_for_width(net)


def _peg_first() -> MViT:
    net = _vit("none")
    net.blocks[0] = _AfterPEG(net.blocks[0])
    return net


def _peg_without_border() -> MViT:
    net = _vit("peg")
    cast(MultiscaleBlock, net.blocks[0]).peg = PositionEncodingGenerator(_DIM, THW(1, 3, 3), borders="circular")
    return net


def _peg_frozen() -> MViT:
    net = _vit("peg")
    net.blocks[0].get_submodule("peg").requires_grad_(False)
    return net


VARIANTS: dict[str, Callable[[], MViT]] = {
    "none": lambda: _vit("none"),
    "learned": lambda: _vit("joint"),
    "learned, mean": lambda: _vit("joint", class_token=False),
    "PEG": lambda: _vit("peg"),
    "PEG, mean": lambda: _vit("peg", class_token=False),
    "PEG after every block": lambda: _vit("peg_first_five"),
    "PEG after every block, mean": lambda: _vit("peg_first_five", class_token=False),
    "PEG before block 0": _peg_first,
    "PEG, circular borders": _peg_without_border,
    "PEG as drawn, not trained": _peg_frozen,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=20)


def run(args: argparse.Namespace) -> None:
    """Train each variant with each seed, print and save the results."""
    runs = [Run(variant, seed) for variant in args.variants for seed in args.seeds]
    recipe = Recipe(args.epochs, learning_rate=2e-3, batch_size=32, label_smoothing=0.1)
    table = train_all(_train, (digit_images(SIDE), recipe), runs, args.workers, "digits")
    save(args.out, "digits", table, draw(table, args.variants, args.seeds))
    rows = []
    for variant in args.variants:
        last = where(table, variant=variant, epoch=args.epochs)
        per_seed = ", ".join(f"{value:.1f}" for value in last["top1"])
        cells = {name: spread(last[name]) for name in ("top1", "on a larger canvas", "enlarged")}
        rows.append({"position": variant, **cells, "top1 of each seed": per_seed})
    title = f"Digits of {SIDE}x{SIDE} after {args.epochs} epochs, and the same nets at {CANVAS}x{CANVAS}"
    show(f"{title}: mean (range) over seeds {args.seeds}", rows)


def draw(table: pa.Table, variants: list[str], seeds: list[int]) -> Figure:
    """Draw the accuracy over epochs, a curve per seed, and that of the trained nets on larger images."""
    figure, (left, right) = new_figure(1, 2, width=13, height=5)
    last = int(max(table["epoch"].to_numpy()))
    for place, variant in enumerate(variants):
        colour, style = COLOURS[place % len(COLOURS)], "-" if place < len(COLOURS) else ":"
        for i, seed in enumerate(seeds):
            found = where(table, variant=variant, seed=seed)
            left.plot(found["epoch"], found["top1"], style, color=colour, linewidth=1.4, label=None if i else variant)
        final = where(table, variant=variant, epoch=last)
        for offset, (name, marker) in enumerate({"top1": "o", "on a larger canvas": "s", "enlarged": "^"}.items()):
            x = [place + 0.22 * (offset - 1)] * len(seeds)
            label = None if place else {"top1": f"{SIDE}x{SIDE}"}.get(name, f"{CANVAS}x{CANVAS}, {name}")
            right.plot(x, final[name], marker, color=colour, markersize=5, alpha=0.8, label=label)
    for axes in (left, right):
        axes.axhline(CHANCE, color=GREY, linestyle="--", linewidth=1)
        axes.set_ylim(0, 100)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_xticks(range(len(variants)), variants, fontsize=8, rotation=30, ha="right")
    y = "top-1 on validation digits, %"
    describe(left, "A curve per seed (dashed: chance)", x="epoch", y=y, legend=True)
    describe(right, "The trained nets on larger images", x="", y=y, legend=True)
    return figure


def _train(one: Run, heartbeat: Heartbeat, context: tuple[Split, Recipe]) -> Rows:
    split, recipe = context
    net = VARIANTS[one.variant]()
    epochs = fit(net, split, recipe, one.seed, lambda epoch: heartbeat())
    larger = {"on a larger canvas": _on_canvas(split.val), "enlarged": digit_images(CANVAS).val}
    found = {name: score(net, examples.batches()).top1 for name, examples in larger.items()}
    unknown = dict.fromkeys(found, float("nan"))
    return [{**epoch._asdict(), **(found if epoch is epochs[-1] else unknown)} for epoch in epochs]


def _on_canvas(examples: Examples) -> Examples:
    """Return the digits in their size on a larger canvas."""
    room = CANVAS - examples.clip.shape[-1]
    clip = F.pad(examples.clip, [room // 2, room - room // 2] * 2, value=PAPER)
    return examples._replace(clip=clip, crop_size=CANVAS)
