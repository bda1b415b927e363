"""Reach of attention: the mean distance of each head, and the accuracy with attention limited to a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool
from matplotlib.figure import Figure
from torch import Tensor, nn

from mvit_video.analysis.attention import Attention, centres, watching
from mvit_video.analysis.batches import Batch, on_device, score, score_logits
from mvit_video.analysis.drawing import describe, score_panels, where
from mvit_video.analysis.layers import summary_of, with_summary
from mvit_video.pages.figures import BLUE, GREY, ORANGE, new_figure
from mvit_video.types import THW, ConfigError

_AXES = ("time", "space", "both")


@dataclass(frozen=True)
class LocalitySettings:
    """Windows to test.

    Attributes:
        windows: sizes in cells of the queries of each layer; odd ones have a cell in their middle.
    """

    windows: tuple[int, ...] = (1, 3, 5, 7)

    def __post_init__(self) -> None:
        if not self.windows or min(self.windows) < 1:
            raise ConfigError(f"locality.windows must be at least 1, got {list(self.windows)}")


def window_mask(thw_q: THW, thw_k: THW, window: tuple[int | None, int | None, int | None]) -> Bool[Tensor, "Q K"]:
    """Return the keys that each query may attend to: keys whose cells overlap a window around it.

    Args:
        window: size along time, height and width in cells of the queries; None is no limit. The key cell that holds the
            query is always inside.
    """
    allowed = torch.ones(thw_q.volume, thw_k.volume, dtype=torch.bool)
    at_q, at_k = centres(thw_q), centres(thw_k)
    for axis, size in enumerate(window):
        if size is not None:
            reach = size / (2 * thw_q[axis]) + 1 / (2 * thw_k[axis])
            distance = (at_q[:, None, axis] - at_k[None, :, axis]).abs()
            allowed &= distance < reach - 1e-9  # cells that only touch the window are outside
    return allowed


def locality(model: nn.Module, batches: Sequence[Batch], settings: LocalitySettings = LocalitySettings()) -> pa.Table:
    """Return loss and accuracy of a trained net when every layer attends only within a window.

    Class tokens attend everywhere, and everything attends to them. Windows that exclude nothing are skipped.

    Columns: axis (of the window: time, space, or both), window (cells), loss, top1, share (of pairs of query and key
    that remain, mean over layers). The summary has loss and top1 without a window.

    Source: arXiv:2202.06709 section 3 trains nets with local attention; here attention is limited after training.
    """
    fixed = list(on_device(model, batches))
    rows: list[dict[str, object]] = []
    for axis in _AXES:
        for size in settings.windows:
            window = (None if axis == "space" else size, *(2 * [None if axis == "time" else size]))
            shares: list[float] = []

            def restrict(
                call: Attention, window: tuple[int | None, ...] = window, shares: list[float] = shares
            ) -> Tensor:
                inside = window_mask(call.thw_q, call.thw_k, (window[0], window[1], window[2]))
                allowed = torch.ones(call.query.shape[2], call.key.shape[2], dtype=torch.bool)
                allowed[-call.thw_q.volume :, -call.thw_k.volume :] = inside
                shares.append(float(inside.float().mean()))
                return allowed.to(fixed[0].clip.device)

            with watching(model, fixed[0].clip, restrict) as forward:
                found = score_logits(forward, fixed)
            share = float(np.mean(shares))
            rows.append({"axis": axis, "window": size, **found._asdict(), "share": share})
            if share == 1:
                break
    return with_summary(pa.Table.from_pylist(rows), **score(model, fixed)._asdict())


def draw_locality(table: pa.Table) -> Figure:
    """Draw accuracy and loss against the size of the window."""
    full = summary_of(table)
    figure, panels = score_panels("window of every layer, cells")
    for key, axes in panels.items():
        for axis, colour in zip(_AXES, (ORANGE, BLUE, GREY), strict=True):
            rows = where(table, axis=axis)
            what = {"time": "time", "space": "height and width", "both": "time, height and width"}[axis]
            axes.plot(
                rows["window"], rows[key], color=colour, marker="o", markersize=4, label=f"window in {what}",
                clip_on=False,
            )  # fmt: skip
        axes.axhline(full[key], color="black", linestyle="--", linewidth=1, label="no window")
        axes.set_xticks(np.unique(table["window"].to_numpy()))
    panels["top1"].set_title("Low: the net needs attention beyond the window", fontsize=10)
    panels["loss"].legend(fontsize=9, framealpha=0.9)
    return figure


def distance(model: nn.Module, batches: Sequence[Batch]) -> pa.Table:
    """Return the mean attention distance of each head: of keys from their query, weighted by attention.

    Columns: layer, name, head, space (frame heights), time (clip lengths), and both for uniform attention:
    space_uniform, time_uniform. Class tokens do not count.
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
    """Draw the distances in space and in time over the layers: a dot per head, a line for their mean."""
    figure, panels = new_figure(1, 2)
    layers = np.unique(table["layer"].to_numpy())
    for axes, key, colour, unit in (
        (panels[0], "space", BLUE, "frame heights"),
        (panels[1], "time", ORANGE, "clip lengths"),
    ):
        axes.plot(table["layer"].to_numpy(), table[key].to_numpy(), "o", color=colour, alpha=0.45, markersize=5)
        means = [where(table, layer=i)[key].mean() for i in layers]
        alike = [where(table, layer=i)[f"{key}_uniform"][0] for i in layers]
        axes.plot(layers, means, color=colour, label="mean of the heads (dots)")
        axes.plot(layers, alike, color=GREY, linestyle="--", label="uniform attention")
        axes.set_ylim(0, 1.1 * max(table[key].to_numpy().max(), *alike))
        axes.set_xticks(layers)
        describe(axes, x="attention layer", y=f"mean distance in {key}, {unit}", legend=True)
    return figure
