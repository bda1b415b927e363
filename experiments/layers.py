"""Effect of attention and convolution on feature maps and on the loss: small nets on still digits.

A vision transformer of six blocks, with a class token or with the mean of its tokens, and a ResNet of nine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from torch import nn

from experiments.compact import CompactNet
from experiments.curvature import EARLY_EPOCH, fit_and_measure
from experiments.material import digit_images
from experiments.output import COLOURS, Heartbeat, Rows, Run, save, show, spread, train_all
from experiments.training import Recipe, Split, drawn_for_width
from mvit_video.analysis import (
    Batch,
    NoiseSettings,
    cka,
    fourier,
    lesion,
    noise,
    variance,
)  # fmt: skip
from mvit_video.analysis.drawing import SHADES, layers_of, where
from mvit_video.analysis.layers import summary_of
from mvit_video.models.architecture import Patch
from mvit_video.models.families.mvit.variants import cpvt
from mvit_video.pages.figures import new_figure

SIDE = 16


def _vit(*, class_token: bool) -> nn.Module:
    net = cpvt(
        num_classes=10, crop_size=SIDE, depths=(6,), embed_dim=48, num_heads=3, patch=Patch((1, 2, 2), (1, 2, 2)),
        position="joint", class_token=class_token, drop_path_rate=0.0,
    )  # fmt: skip
    return drawn_for_width(net)


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "ViT, class token": lambda: _vit(class_token=True),
    "ViT, mean": lambda: _vit(class_token=False),
    "ResNet": CompactNet,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--hessian-batches", type=int, default=8, help="of 16 training examples")
    parser.add_argument("--analysed", type=int, default=240, help="validation digits for the feature maps")


def run(args: argparse.Namespace) -> None:
    """Train and study each net with each seed, print and save the results."""
    runs = [Run(variant, seed) for variant in args.variants for seed in args.seeds]
    recipe = Recipe(args.epochs, learning_rate=2e-3, batch_size=32, label_smoothing=0.1)
    context = (digit_images(SIDE), recipe, args.hessian_batches, args.analysed)
    table = train_all(_study, context, runs, args.workers, "layers")
    save(args.out, "layers", table, draw(table, args.variants))
    quantities = list(dict.fromkeys(table["quantity"].to_pylist()))
    rows = []
    for quantity in [name for name in quantities if name not in ("fourier at", "variance at")]:
        cells = {name: spread(where(table, variant=name, quantity=quantity)["value"], 3) for name in args.variants}
        rows.append({"quantity": quantity, **cells})
    show(f"Layers after {args.epochs} epochs: mean (range) over seeds {args.seeds}", rows)


def draw(table: pa.Table, variants: list[str]) -> Figure:
    """Draw highest frequency and variance over the layers, a curve per seed, shaded by the kind of layer."""
    figure, axes = new_figure(2, len(variants), width=4.2 * len(variants))
    names = {"fourier at": "log amplitude of the top frequency, relative to 0", "variance at": "variance over cells"}
    for row, (quantity, label) in enumerate(names.items()):
        for column, variant in enumerate(variants):
            place, found = axes[row * len(variants) + column], where(table, variant=variant, quantity=quantity)
            for seed, colour in zip(np.unique(found["seed"]), COLOURS[1:], strict=False):
                mine = found["seed"] == seed
                place.plot(found["layer"][mine], found["value"][mine], ".-", color=colour, label=f"seed {seed}")
            for layer, kind in zip(found["layer"], found["kind"], strict=True):
                if layer:
                    place.axvspan(layer - 1, layer, color=SHADES[kind][0], zorder=0, linewidth=0)
            place.set_title(variant, fontsize=10)
            place.set_xlabel("layer (0: stem; grey: attention, blue: change of grid)", fontsize=9)
            place.set_ylabel(label, fontsize=9)
            place.legend(fontsize=8)
    return figure


def _study(one: Run, heartbeat: Heartbeat, context: tuple[Split, Recipe, int, int]) -> Rows:
    split, recipe, num_batches, num_analysed = context
    net = VARIANTS[one.variant]()
    epochs = {EARLY_EPOCH, recipe.num_epochs}
    measured = fit_and_measure(net, split, recipe, one.seed, heartbeat, num_batches, epochs)
    rows: Rows = [_row(*row) for row in measured]
    some = split.val._replace(clip=split.val.clip[:num_analysed], label=split.val.label[:num_analysed])
    for study in (_frequencies, _variances, _stages, _lesions, _noise):
        rows += study(net, some.batches())
        heartbeat()
    return rows


def _row(quantity: str, value: float | np.floating[Any], layer: int = -1, kind: str = "") -> dict[str, Any]:
    return {"quantity": quantity, "layer": layer, "kind": kind, "value": float(value)}


def _frequencies(net: nn.Module, batches: list[Batch]) -> Rows:
    found = where(fourier(net, batches), direction="diagonal")
    last = {layer: i for i, layer in enumerate(found["sample"])}  # the highest frequency comes last
    ends = [(found["kind"][i], found["delta"][i]) for i in last.values()]
    return [*_changes("highest frequency", ends), *(_row("fourier at", v, i, k) for i, (k, v) in enumerate(ends))]


def _variances(net: nn.Module, batches: list[Batch]) -> Rows:
    table = variance(net, batches)
    ends = list(zip(table["kind"].to_pylist(), table["space"].to_pylist(), strict=True))
    rows = [*_changes("variance", ends), *(_row("variance at", v, i, k) for i, (k, v) in enumerate(ends))]
    runs = [run for run in layers_of(table).runs if len(run) > 1]
    if len(runs) > 1:
        peaks = [int(np.argmax([ends[i][1] for i in run])) == len(run) - 1 for run in runs]
        rows.append(_row("share of stages whose variance peaks at their end", np.mean(peaks)))
    return rows


def _changes(what: str, ends: list[tuple[str, float]]) -> Iterator[dict[str, Any]]:
    """Yield the mean change by a layer of each kind, and the share of layers that lower the value."""
    changes: dict[str, list[float]] = {}
    for (_, before), (kind, after) in pairwise(ends):
        changes.setdefault(kind, []).append(after - before)
    for kind in sorted(changes.keys() & {"msa", "mlp", "conv"}):
        yield _row(f"{what}: mean change by {kind}", np.mean(changes[kind]))
        yield _row(f"{what}: share of {kind} layers that lower it", np.mean(np.array(changes[kind]) < 0))
        yield _row(f"{what}: change by the first {kind}", changes[kind][0])


def _stages(net: nn.Module, batches: list[Batch]) -> Rows:
    """Return the CKA within thirds of the net minus that between thirds; the thirds of the ResNet are its stages."""
    table = cka(net, batches)
    first, second, value = (table[name].to_numpy() for name in ("first", "second", "cka"))
    third = np.arange(first.max()) * 3 // first.max()
    pairs = (first > second) & (second > 0)  # without the stem
    same = third[first[pairs] - 1] == third[second[pairs] - 1]
    return [_row("CKA within thirds − between", value[pairs][same].mean() - value[pairs][~same].mean())]


def _lesions(net: nn.Module, batches: list[Batch]) -> Rows:
    rest = lesion(net, batches).to_pylist()[1:]
    rows = []
    for kind in sorted({row["kind"] for row in rest}):
        losses = [row["loss_change"] for row in rest if row["kind"] == kind]
        size = -(-len(losses) // 3)
        for place, part in {"first": losses[:size], "last": losses[-size:]}.items():
            rows.append(_row(f"loss without a {kind} of the {place} third", np.mean(part)))
        if kind == "conv":
            for place, name in enumerate(("first", "middle", "last")):
                rows.append(_row(f"loss without the {name} conv block of a stage", np.mean(losses[place::3])))
    return rows


def _noise(net: nn.Module, batches: list[Batch]) -> Rows:
    table = noise(net, batches, NoiseSettings(num_bands=5, rms=0.5))
    clean = summary_of(table)["top1"]
    space = where(table, axis="space")
    return [
        _row(f"top1 lost to noise around {centre:.1f}π", clean - top1)
        for centre, top1 in zip(space["centre"], space["top1"], strict=True)
    ]
