"""AlterNet's rule for replacing convolutions of a ResNet by attention, on few digits."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.compact import CompactNet
from experiments.material import digit_images
from experiments.output import COLOURS, Heartbeat, Rows, Run, save, show, spread, train_all
from experiments.training import Examples, Recipe, Split, fit
from mvit_video.analysis.batches import score
from mvit_video.analysis.drawing import describe
from mvit_video.pages.figures import new_figure

SIDE, DEPTHS, _NAME = 16, (2, 2, 2), "AlterNet"
NumPairs = tuple[int, ...]


class Step(NamedTuple):
    """A net of the search.

    Attributes:
        num_pairs: pairs of convolution and attention at the end of each stage, see `AlterNet`.
        is_kept: whether the search continued from it.
    """

    num_pairs: NumPairs
    score: float
    is_kept: bool


def build_up(score: Callable[[NumPairs], float], depths: Sequence[int]) -> list[Step]:
    """Search for the places of attention, greedily.

    Start with convolutions only. From the last stage on, replace the last convolution of the next pair of blocks by
    attention; where that does not help, or no pair is left, move to the stage before.

    Args:
        score: trains and scores the net with these pairs; higher is better.
        depths: blocks in each stage.

    Returns: the nets in the order of the search; the last kept one is the result.

    Source: How Do Vision Transformers Work? (arXiv:2202.06709) section 5.
    """
    pairs = [0] * len(depths)
    best = score(tuple(pairs))
    steps = [Step(tuple(pairs), best, is_kept=True)]
    for stage in reversed(range(len(depths))):
        while 2 * (pairs[stage] + 1) <= depths[stage]:
            tried = (*pairs[:stage], pairs[stage] + 1, *pairs[stage + 1 :])
            found = score(tried)
            steps.append(Step(tried, found, is_kept=found > best))
            if found <= best:
                break
            pairs[stage], best = tried[stage], found
    return steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--train", type=int, default=300, help="training digits; with all 1200 there is little to gain")


def run(args: argparse.Namespace) -> None:
    """Search with each seed, print and save the result on held-out digits."""
    context = (digit_images(SIDE), Recipe(args.epochs, 2e-3, label_smoothing=0.1), args.train)
    table = train_all(_search, context, [Run(_NAME, seed) for seed in args.seeds], args.workers, "alternating")
    save(args.out, "alternating", table, draw(table, args.seeds))
    rows = table.to_pylist()
    shown = [
        {"seed": str(row["seed"]), "pairs": row["num_pairs"], "top1 of the search": f"{row['search_top1']:.1f}",
         "top1 held out": f"{row['held_out_top1']:.1f}", "kept": "yes" if row["is_kept"] else "no",
         "parameters": f"{row['num_parameters']:,}"}
        for row in rows
    ]  # fmt: skip
    show(f"Nets of the search, {args.train} training digits, {args.epochs} epochs", shown)
    gains = []
    for seed in args.seeds:
        kept = [row["held_out_top1"] for row in rows if row["seed"] == seed and row["is_kept"]]
        gains.append(kept[-1] - kept[0])
    show("Last kept net minus the ResNet, held out", [{"": "top1", "mean (range)": spread(np.array(gains))}])


def draw(table: pa.Table, seeds: list[int]) -> Figure:
    """Draw the nets of each search and their accuracy on held-out digits."""
    figure, (axes,) = new_figure(1, 1, width=7.5, height=4.2)
    for i, (seed, colour) in enumerate(zip(seeds, COLOURS[1:], strict=False)):
        mine = [row for row in table.to_pylist() if row["seed"] == seed]
        steps, top1 = [row["step"] for row in mine], [row["held_out_top1"] for row in mine]
        axes.plot(steps, top1, ".-", color=colour, label=f"seed {seed}")
        for row in mine:
            text, at = row["num_pairs"] + ("" if row["is_kept"] else " ✗"), (row["step"], row["held_out_top1"])
            axes.annotate(text, at, (4, 5 + 9 * i), textcoords="offset points", color=colour, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.1)
    describe(axes, x="net (pairs of each stage; ✗: not kept)", y="top-1 on held-out digits, %", legend=True)
    return figure


def _search(one: Run, heartbeat: Heartbeat, context: tuple[Split, Recipe, int]) -> Rows:
    split, recipe, num_train = context
    half = len(split.val.clip) // 2
    few = Split(_part(split.train, slice(num_train)), _part(split.val, slice(half)))
    held_out = _part(split.val, slice(half, None)).batches()
    others: dict[NumPairs, tuple[float, int]] = {}

    def train(num_pairs: NumPairs) -> float:
        torch.manual_seed(one.seed)
        net = CompactNet(depths=DEPTHS, num_pairs=num_pairs)
        epochs = fit(net, few, recipe, one.seed, lambda epoch: heartbeat())
        others[num_pairs] = score(net, held_out).top1, sum(parameter.numel() for parameter in net.parameters())
        return epochs[-1].top1

    rows: Rows = []
    for i, step in enumerate(build_up(train, DEPTHS)):
        held_out_top1, num_parameters = others[step.num_pairs]
        rows.append(
            {
                "step": i,
                "num_pairs": "-".join(map(str, step.num_pairs)),
                "search_top1": step.score,
                "held_out_top1": held_out_top1,
                "is_kept": step.is_kept,
                "num_parameters": num_parameters,
            }
        )
    return rows


def _part(examples: Examples, rows: slice) -> Examples:
    return examples._replace(clip=examples.clip[rows], label=examples.label[rows])
