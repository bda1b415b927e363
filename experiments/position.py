"""Position encodings and the order of frames: accuracy on forward, shuffled and reversed clips."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.material import CLIP, CLIP_CROP, demo_clips
from experiments.output import COLOURS, Heartbeat, Rows, Run, save, show, spread, train_all
from experiments.training import Recipe, Split, drawn_for_width, fit, top1_in_order
from mvit_video.analysis.drawing import describe, where
from mvit_video.data.digits import LABEL_SETS
from mvit_video.models import mvit
from mvit_video.models.architecture import Patch, Pooling
from mvit_video.pages.figures import GREY, new_figure

# Pools without extent in time: apart from its position encoding, the net treats frames as a set.
_SPATIAL, _DEMO = Pooling(kernel=None, stride_kv=(1, 1, 1)), Pooling(kernel=(3, 3, 3), stride_kv=(1, 1, 1))
VARIANTS: dict[str, dict[str, Any]] = {
    "none": {"position": "none", "pooling": _SPATIAL},
    "learned": {"position": "separable", "pooling": _SPATIAL},
    "learned jointly": {"position": "joint", "pooling": _SPATIAL},
    "relative": {"position": "relative", "pooling": _SPATIAL},
    "PEG": {"position": "peg", "pooling": _SPATIAL},
    "none, 3x3x3 pools": {"position": "none", "pooling": _DEMO},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--data", type=Path, default=Path("data/demo"), help="folder of the videos")
    parser.add_argument("--labels", choices=list(LABEL_SETS), default="pairs", help="which videos")
    parser.add_argument("--clips", type=int, nargs=2, default=[800, 240], metavar=("TRAIN", "VAL"), help="videos")


def run(args: argparse.Namespace) -> None:
    """Train each variant with each seed, print and save the results."""
    runs = [Run(variant, seed) for variant in args.variants for seed in args.seeds]
    split, recipe = demo_clips(args.data, args.labels, *args.clips), Recipe(args.epochs, args.rate)
    chance = 100 / split.val.num_classes
    table = train_all(_train, (split, recipe), runs, args.workers, "position")
    save(args.out, f"position_{args.labels}", table, draw(table, args.variants, args.seeds, chance))
    rows = []
    for variant in args.variants:
        last = where(table, variant=variant, epoch=args.epochs)
        rows.append(
            {
                "position": variant,
                "parameters": f"{last['num_parameters'][0]:,}",
                **{name: spread(last[name]) for name in ("top1", "shuffled", "reversed")},
                "CPU s per run": f"{last['cpu_seconds'].mean():.0f}",
            }
        )
    title = f"Order of frames in {args.labels}: top1 after {args.epochs} epochs, chance {chance:g}"
    show(f"{title}, mean (range) over seeds {args.seeds}", rows)


def draw(table: pa.Table, variants: list[str], seeds: list[int], chance: float) -> Figure:
    """Draw the accuracy over epochs, a curve per seed, and that of the trained nets with other orders of frames."""
    figure, (left, right) = new_figure(1, 2, height=4.2)
    last = int(max(table["epoch"].to_numpy()))
    colours = dict(zip(VARIANTS, COLOURS, strict=True))
    for place, variant in enumerate(variants):
        for i, seed in enumerate(seeds):
            found = where(table, variant=variant, seed=seed)
            left.plot(
                found["epoch"], found["top1"], color=colours[variant], linewidth=1.4, label=None if i else variant
            )
        final = where(table, variant=variant, epoch=last)
        for offset, (name, marker) in enumerate({"top1": "o", "shuffled": "s", "reversed": "^"}.items()):
            x = np.full(len(seeds), place + 0.22 * (offset - 1))
            label = None if place else {"top1": "forward"}.get(name, name)
            right.plot(x, final[name], marker, color=colours[variant], markersize=6, label=label, clip_on=False)
    for axes in (left, right):
        axes.axhline(chance, color=GREY, linestyle="--", linewidth=1)
        axes.set_ylim(0, 100)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_xticks(range(len(variants)), variants, fontsize=9, rotation=20, ha="right")
    y = "top-1 on validation clips, %"
    describe(left, "Classes by order of frames; a curve per seed (dashed: chance)", x="epoch", y=y)
    left.legend(fontsize=9, framealpha=0.9, title="position encoding", title_fontsize=9)
    describe(right, "The trained nets with another order of frames", x="", y=y, legend=True)
    return figure


def _train(one: Run, heartbeat: Heartbeat, context: tuple[Split, Recipe]) -> Rows:
    split, recipe = context
    net = mvit(
        num_classes=split.val.num_classes,
        num_frames=CLIP.num_frames,
        crop_size=CLIP_CROP,
        depths=(2, 2),
        embed_dim=32,
        num_heads=1,
        patch=Patch((1, 8, 8), (1, 8, 8)),
        drop_path_rate=0.0,
        dropout=0.0,
        **VARIANTS[one.variant],
    )
    drawn_for_width(net)
    epochs = fit(net, split, recipe, one.seed, lambda epoch: heartbeat())
    rest = {order: top1_in_order(net, split.val, order, one.seed).top1 for order in ("shuffled", "reversed")}
    num_parameters = sum(parameter.numel() for parameter in net.parameters())
    unknown = dict.fromkeys(rest, float("nan"))
    return [
        {**epoch._asdict(), "num_parameters": num_parameters, **(rest if epoch is epochs[-1] else unknown)}
        for epoch in epochs
    ]
