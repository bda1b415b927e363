"""Similarity of layers: centred kernel alignment (CKA) in mini-batches.

Letters: B clips, S layers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from mvit_video.analysis.adapter import iter_features
from mvit_video.analysis.batches import Batch, on_device
from mvit_video.analysis.drawing import describe
from mvit_video.pages.figures import new_figure
from mvit_video.types import ConfigError

_LEAST_CLIPS = 4  # the unbiased estimate divides by B - 3


def unbiased_hsic(first: Float[Tensor, "*S B B"], second: Float[Tensor, "*S B B"]) -> Float[Tensor, "*S"]:
    """Return the unbiased Hilbert-Schmidt independence criterion of Gram matrices.

    Raises:
        ConfigError: fewer than four clips.

    Source: Song et al., Feature Selection via Dependence Maximization (JMLR 2012), eq. 5.
    """
    size = first.shape[-1]
    if size < _LEAST_CLIPS:
        raise ConfigError(f"cka needs batches of at least {_LEAST_CLIPS} clips, got one of {size}")
    off_diagonal = 1 - torch.eye(size, dtype=first.dtype, device=first.device)
    first, second = first * off_diagonal, second * off_diagonal
    rows, columns = first.sum(dim=-1), second.sum(dim=-1)
    matched = (first * second).sum(dim=(-2, -1))
    sums = rows.sum(dim=-1) * columns.sum(dim=-1) / ((size - 1) * (size - 2))
    crossed = 2 * (rows * columns).sum(dim=-1) / (size - 2)
    return (matched + sums - crossed) / (size * (size - 3))


class MiniBatchCka:
    """CKA of every pair of layers, from independent batches.

    Source: Nguyen et al. (arXiv:2010.15327) eq. 3: the criterion is averaged over batches before the ratio is taken.
    """

    def __init__(self) -> None:
        self._sums: Tensor | float = 0.0

    def add(self, features: Iterable[Float[Tensor, "B ..."]]) -> None:
        """Add a batch: a tensor with a row per clip for each layer."""
        grams = []
        for one in features:
            rows = one.flatten(1).double()
            grams.append(rows @ rows.mT)
        stacked = torch.stack(grams)
        self._sums = self._sums + unbiased_hsic(stacked[:, None], stacked[None])

    def result(self) -> Float[Tensor, "S S"]:
        """Return the alignments; NaN where a layer is the same for all clips."""
        assert isinstance(self._sums, Tensor)
        scale = self._sums.diagonal().clamp(min=0).sqrt()
        return self._sums / (scale[:, None] * scale[None])


def cka(model: nn.Module, batches: Iterable[Batch]) -> pa.Table:
    """Return the CKA of every pair of layers of a net; a last batch that is too small is skipped.

    Columns: first and second (numbers of the layers, 0 is the stem), first_name, second_name, first_kind, cka.

    Raises:
        ConfigError: no batch has four clips.
    """
    alignment, layers = MiniBatchCka(), []
    for clip, _ in on_device(model, batches):
        if layers and len(clip) < _LEAST_CLIPS:
            continue
        features = list(iter_features(model, clip))
        alignment.add(feature.map for feature in features)
        layers = [(feature.name, feature.kind) for feature in features]
    values = alignment.result().tolist()
    return pa.Table.from_pylist(
        [
            {"first": i, "second": j, "first_name": layers[i][0], "second_name": layers[j][0],
             "first_kind": layers[i][1], "cka": values[i][j]}
            for i in range(len(layers)) for j in range(len(layers))
        ]
    )  # fmt: skip


def draw_cka(table: pa.Table) -> Figure:
    """Draw all pairs as a map, the stem at the lower left."""
    names = [row["second_name"] for row in table.slice(0, max(table["second"].to_numpy()) + 1).to_pylist()]
    values = table["cka"].to_numpy().reshape(len(names), len(names))
    side = min(max(5.0, 0.32 * len(names) + 2.5), 14.0)
    figure, (axes,) = new_figure(1, 1, width=side + 1.2, height=side)
    image = axes.imshow(values, origin="lower", vmin=min(0.0, float(np.nanmin(values))), vmax=1, cmap="magma")
    step = max(1, len(names) // 30)
    ticks = range(0, len(names), step)
    shown = [names[i].removeprefix("blocks.") for i in ticks]
    axes.set_xticks(ticks, shown, rotation=90, fontsize=8)
    axes.set_yticks(ticks, shown, fontsize=8)
    describe(axes, "Bright squares on the diagonal: similar layers", x="layer", y="layer")
    figure.colorbar(image, ax=axes, shrink=0.8).set_label("CKA (1: equal up to rotation and scale, 0: unrelated)")
    return figure
