"""Position encodings and heads of a plain vision transformer on still digits, a token for every pixel."""

from __future__ import annotations

import argparse
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure

from mvit_video.analysis.drawing import GREY, new_figure, where
from mvit_video.models.architecture import Patch
from mvit_video.models.cpvt import cpvt
from scripts.findings.material import digit_images
from scripts.findings.output import COLOURS, Alive, Rows, Run, save, show, spread, train_all
from scripts.findings.training import Recipe, Split, fit

SIDE, CHANCE = 8, 10
VARIANTS: dict[str, dict[str, Any]] = {
    "none, class token": {"position": "none"},
    "learned, class token": {"position": "joint"},
    "learned, mean": {"position": "joint", "class_token": False},
    "PEG, class token": {"position": "peg"},
    "PEG, mean": {"position": "peg", "class_token": False},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=20)


def run(args: argparse.Namespace) -> None:
    """Train each variant with each seed, print and save the outcome."""
    runs = [Run(variant, seed) for variant in args.variants for seed in args.seeds]
    recipe = Recipe(args.epochs, learning_rate=2e-3, batch_size=32, label_smoothing=0.1)
    table = train_all(_train, (digit_images(SIDE), recipe), runs, args.workers, "digits")
    save(args.out, "digits", table, draw(table, args.variants, args.seeds))
    rows = []
    for variant in args.variants:
        last = where(table, variant=variant, epoch=args.epochs)
        per_seed = ", ".join(f"{value:.1f}" for value in last["top1"])
        rows.append({"position, head": variant, "top1": spread(last["top1"]), "of each seed": per_seed})
    show(f"Digits after {args.epochs} epochs: mean (range) over seeds {args.seeds}", rows)


def draw(table: pa.Table, variants: list[str], seeds: list[int]) -> Figure:
    """Accuracy over epochs, a curve per seed."""
    figure, (axes,) = new_figure(1, 1, width=7.5, height=4.2)
    for variant, colour in zip(variants, COLOURS, strict=False):
        for i, seed in enumerate(seeds):
            found = where(table, variant=variant, seed=seed)
            axes.plot(found["epoch"], found["top1"], color=colour, linewidth=1.4, label=None if i else variant)
    axes.axhline(CHANCE, color=GREY, linestyle="--", linewidth=1, label="chance")
    axes.set_ylim(0, 102)
    axes.set_xlabel("epoch")
    axes.set_ylabel("top1 of validation digits, percent")
    axes.set_title("A curve per seed", fontsize=10)
    axes.legend(fontsize=9, framealpha=0.9)
    return figure


def _train(one: Run, alive: Alive, context: tuple[Split, Recipe]) -> Rows:
    split, recipe = context
    net = cpvt(
        num_classes=10,
        crop_size=SIDE,
        depths=(4,),
        embed_dim=32,
        num_heads=4,
        patch=Patch((1, 1, 1), (1, 1, 1)),
        drop_path_rate=0.0,
        **VARIANTS[one.variant],
    )
    return [epoch._asdict() for epoch in fit(net, split, recipe, one.seed, lambda epoch: alive())]
