"""How far attention looks, head by head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from mvit_video.analysis.attention import Attention, centres, watching
from mvit_video.analysis.batches import Batch, on_device
from mvit_video.analysis.drawing import BLUE, GREY, ORANGE, new_figure, where


def distance(model: nn.Module, batches: Sequence[Batch]) -> pa.Table:
    """How far each head looks: the mean distance of the keys, weighted by attention, from the query.

    Columns: layer, name, head, space (in heights of the frame), time (in lengths of the clip), and both for attention
    that is the same everywhere: space_uniform, time_uniform. Class tokens are left out.
    """
    sums: dict[str, Tensor] = {}
    uniform: dict[str, tuple[float, float]] = {}

    def measure(call: Attention) -> None:
        apart = (centres(call.thw_q)[:, None] - centres(call.thw_k)[None]).abs()
        space = torch.hypot(apart[..., 1], apart[..., 2] * call.thw_q.w / call.thw_q.h)
        far = torch.stack([space, apart[..., 0]])
        weights = call.patch_weights
        total = torch.einsum("bnqk,aqk->na", weights, far.to(weights)).double().cpu() / call.thw_q.volume
        sums[call.name] = sums.get(call.name, 0) + torch.cat([total, torch.full((len(total), 1), len(weights))], dim=1)
        uniform[call.name] = (float(far[0].mean()), float(far[1].mean()))

    fixed = list(on_device(model, batches))
    with watching(model, fixed[0].clip, measure) as forward:
        for clip, _ in fixed:
            forward(clip)
    rows: list[dict[str, object]] = []
    for layer, (name, total) in enumerate(sums.items()):
        for head, (space, time) in enumerate((total[:, :2] / total[:, 2:]).tolist()):
            row = {"layer": layer, "name": name, "head": head, "space": space, "time": time}
            rows.append({**row, "space_uniform": uniform[name][0], "time_uniform": uniform[name][1]})
    return pa.Table.from_pylist(rows)


def draw_distance(table: pa.Table) -> Figure:
    """Distance in space and in time over the layers: a dot per head, a line for their mean."""
    figure, panels = new_figure(1, 2)
    layers = np.unique(table["layer"].to_numpy())
    for axes, key, colour, unit in (
        (panels[0], "space", BLUE, "heights of the frame"),
        (panels[1], "time", ORANGE, "lengths of the clip"),
    ):
        axes.plot(table["layer"].to_numpy(), table[key].to_numpy(), "o", color=colour, alpha=0.45, markersize=5)
        means = [where(table, layer=i)[key].mean() for i in layers]
        alike = [where(table, layer=i)[f"{key}_uniform"][0] for i in layers]
        axes.plot(layers, means, color=colour, label="mean of the heads (dots)")
        axes.plot(layers, alike, color=GREY, linestyle="--", label="if every cell got the same attention")
        axes.set_ylim(0, 1.1 * max(table[key].to_numpy().max(), *alike))
        axes.set_xticks(layers)
        axes.set_xlabel("attention layer")
        axes.set_ylabel(f"distance in {key}, {unit}")
        axes.legend(fontsize=9, framealpha=0.9)
    return figure
