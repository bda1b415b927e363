"""Linear reconstruction of tokens from fewer keys and values.

Queries and the residual stream keep every cell, so reduced keys and values lose nothing for good; the reconstruction
measures how much attention still reaches.

Letters: B clips, N heads, K keys, C channels, R tokens of one key, X channels of keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from mvit_video.analysis.attention import Attention, watching
from mvit_video.analysis.batches import Batch, on_device
from mvit_video.analysis.drawing import describe
from mvit_video.pages.figures import BLUE, GREY, ORANGE, new_figure
from mvit_video.types import THW, ConfigError

_RIDGE = 1e-3  # of the mean variance of the inputs


class _Layer(NamedTuple):
    thw: THW
    thw_k: THW
    tokens: list[Tensor]
    reduced: list[Tensor]


def cells_by_key(tokens: Float[Tensor, "B cells C"], thw: THW, thw_k: THW) -> Float[Tensor, "B K R*C"]:
    """Return the tokens in the cell of each key, side by side.

    Args:
        thw: grid of the tokens, a multiple of `thw_k` along every axis.
    """
    (t, h, w), (kt, kh, kw) = thw, thw_k
    split = tokens.unflatten(1, (kt, t // kt, kh, h // kh, kw, w // kw))
    return split.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4).flatten(1, 3)


def explained(inputs: Float[Tensor, "n X"], targets: Float[Tensor, "n Y"], num_fitted: int) -> float:
    """Return the share of variance of the later targets that a ridge regression on the first explains; at most 1."""
    mean_in, mean_out = inputs[:num_fitted].mean(dim=0), targets[:num_fitted].mean(dim=0)
    x, y = inputs - mean_in, targets - mean_out
    fitted, rest = x[:num_fitted], x[num_fitted:]
    covariance = fitted.mT @ fitted / num_fitted
    ridge = _RIDGE * covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(len(covariance), dtype=x.dtype)
    weights = torch.linalg.solve(covariance + ridge, fitted.mT @ y[:num_fitted] / num_fitted)
    error = (rest @ weights - y[num_fitted:]).square().sum()
    return 1 - float(error / (y[num_fitted:] - y[num_fitted:].mean(dim=0)).square().sum())


def reduction(model: nn.Module, batches: Sequence[Batch]) -> pa.Table:
    """Return how well the input tokens of each attention are reconstructed from its keys and values, on other clips.

    Columns: layer, name, ratio (tokens for one key), t, h and w (the same along each axis), explained (share of the
    variance, by keys and values), explained_by_mean (by the mean of the tokens of each key), num_fitted (keys of the
    fit; with few, the shares of layers with many channels are too low). Layers whose keys do not divide the grid are
    skipped; class tokens do not count.

    Raises:
        ConfigError: fewer than two batches; the first half is for the fit.
    """
    fixed = list(on_device(model, batches))
    if len(fixed) < 2:
        raise ConfigError("reduction needs at least 2 batches, one to fit and one to score; use smaller batches")
    layers: dict[str, _Layer] = {}

    def gather(call: Attention) -> None:
        thw, thw_k = call.thw, call.thw_k
        if any(n % k for n, k in zip(thw, thw_k, strict=True)):
            return
        layer = layers.setdefault(call.name, _Layer(thw, thw_k, [], []))
        tokens = call.tokens[:, -thw.volume :].double().cpu()
        layer.tokens.append(cells_by_key(tokens, thw, thw_k))
        layer.reduced.append(call.keys_and_values[:, -thw_k.volume :].double().cpu())

    with watching(model, fixed[0].clip, gather) as forward:
        for clip, _ in fixed:
            forward(clip)
    rows: list[dict[str, object]] = []
    for number, (name, layer) in enumerate(layers.items()):
        half = len(layer.tokens) // 2
        num_fitted = sum(one.shape[0] * one.shape[1] for one in layer.tokens[:half])
        targets = torch.cat([one.flatten(0, 1) for one in layer.tokens])
        inputs = torch.cat([one.flatten(0, 1) for one in layer.reduced])
        steps = [n // k for n, k in zip(layer.thw, layer.thw_k, strict=True)]
        ratio = int(np.prod(steps))
        mean = targets.unflatten(1, (ratio, -1)).mean(dim=1)
        rows.append(
            {"layer": number, "name": name, "ratio": ratio, **dict(zip("thw", steps, strict=True)),
             "explained": explained(inputs, targets, num_fitted),
             "explained_by_mean": explained(mean, targets, num_fitted), "num_fitted": num_fitted}
        )  # fmt: skip
    return pa.Table.from_pylist(rows)


def draw_reduction(table: pa.Table) -> Figure:
    """Draw both shares over the layers, with the ratio of each below."""
    figure, (axes,) = new_figure(1, 1)
    places = table["layer"].to_numpy()
    for key, colour, what in (
        ("explained", BLUE, "from keys and values"),
        ("explained_by_mean", ORANGE, "from the mean of the tokens of each key"),
    ):
        axes.plot(
            places, 100 * table[key].to_numpy(), color=colour, marker="o", markersize=4, label=what, clip_on=False
        )
    axes.axhline(100, color=GREY, linewidth=0.8, linestyle="--")
    labels = ["{layer}\n{t}x{h}x{w}".format(**row) for row in table.to_pylist()]
    axes.set_xticks(places, labels, fontsize=8)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 100)
    title = "Linear reconstruction of the tokens that enter attention"
    x = "attention layer, and tokens (t x h x w) that share one key"
    describe(axes, title, x=x, y="% of the tokens' variance", legend=True)
    return figure
