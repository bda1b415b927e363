"""Cost and accuracy of reduced keys and values: all reductions at equal width, on the clips of the demo."""

from __future__ import annotations

import argparse
from pathlib import Path

import pyarrow as pa
from matplotlib.figure import Figure

from experiments.material import CLIP, CLIP_CROP, demo_clips
from experiments.output import COLOURS, Heartbeat, Rows, Run, save, show, spread, train_all
from experiments.training import Recipe, Split, drawn_for_width, fit
from mvit_video.analysis.drawing import describe, where
from mvit_video.data.digits import LABEL_SETS
from mvit_video.models import mvit
from mvit_video.models.architecture import KVReduction, Patch, Pooling
from mvit_video.models.families.mvit.net import MViT
from mvit_video.models.net import multiply_adds
from mvit_video.pages.figures import GREY, new_figure

VARIANTS: dict[str, KVReduction | None] = {
    "none": None,
    "conv": "conv",
    "max": "max",
    "avg": "avg",
    "sra": "sra",
    "linear_sra": "linear_sra",
}
_STRIDE = (1, 4, 4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--data", type=Path, default=Path("data/demo"), help="folder of the videos")
    parser.add_argument("--labels", choices=list(LABEL_SETS), default="pairs", help="which videos")
    parser.add_argument("--clips", type=int, nargs=2, default=[800, 240], metavar=("TRAIN", "VAL"), help="videos")


def run(args: argparse.Namespace) -> None:
    """Train each variant with each seed, print and save the results."""
    runs = [Run(variant, seed) for variant in args.variants for seed in args.seeds]
    context = (demo_clips(args.data, args.labels, *args.clips), Recipe(args.epochs, learning_rate=1e-3))
    table = train_all(_train, context, runs, args.workers, "reduction")
    save(args.out, "reduction", table, draw(table, args.variants, args.seeds, 100 / context[0].val.num_classes))
    rows = []
    for variant in args.variants:
        last = where(table, variant=variant, epoch=args.epochs)
        rows.append(
            {"reduction": variant, "top1": spread(last["top1"]), "loss": spread(last["val_loss"], 3),
             "MMACs": f"{last['mega_multiply_adds'][0]:.1f}", "parameters": f"{last['num_parameters'][0]:,}",
             "CPU s per epoch": spread(last["cpu_seconds"] / args.epochs)}
        )  # fmt: skip
    show(f"Reductions by {_STRIDE} after {args.epochs} epochs: mean (range) over seeds {args.seeds}", rows)


def draw(table: pa.Table, variants: list[str], seeds: list[int], chance: float) -> Figure:
    """Draw the accuracy against CPU time, a curve per seed."""
    figure, (axes,) = new_figure(1, 1, width=7.5, height=4.2)
    for variant, colour in zip(variants, COLOURS, strict=False):
        for i, seed in enumerate(seeds):
            found = where(table, variant=variant, seed=seed)
            axes.plot(found["cpu_seconds"], found["top1"], ".-", color=colour, label=None if i else variant)
    axes.axhline(chance, color=GREY, linestyle="--", linewidth=1)
    axes.set_ylim(0, 100)
    x = "CPU seconds of training (a point per epoch)"
    describe(axes, "A curve per seed (dashed: chance)", x=x, y="top-1 on validation clips, %")
    axes.legend(fontsize=9, title="keys and values", title_fontsize=9)
    return figure


def build(kind: KVReduction | None, num_classes: int) -> MViT:
    """Return the net of all runs, with PEG positions and one reduction of keys and values."""
    pooling = Pooling(kernel=None, stride_kv=_STRIDE if kind else None, kv_reduction=kind)
    net = mvit(
        num_classes=num_classes,
        num_frames=CLIP.num_frames,
        crop_size=CLIP_CROP,
        depths=(2, 2),
        embed_dim=32,
        num_heads=1,
        patch=Patch((1, 4, 4), (1, 4, 4)),
        pooling=pooling,
        position="peg",
        drop_path_rate=0.0,
        dropout=0.0,
    )
    return drawn_for_width(net)


def _train(one: Run, heartbeat: Heartbeat, context: tuple[Split, Recipe]) -> Rows:
    split, recipe = context
    net = build(VARIANTS[one.variant], split.val.num_classes)
    cost = {
        "mega_multiply_adds": multiply_adds(net) / 1e6,
        "num_parameters": sum(parameter.numel() for parameter in net.parameters()),
    }
    return [{**epoch._asdict(), **cost} for epoch in fit(net, split, recipe, one.seed, lambda epoch: heartbeat())]
