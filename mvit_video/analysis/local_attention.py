"""What a net loses when its attention may not look far."""

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
from mvit_video.analysis.drawing import BLUE, GREY, ORANGE, new_figure, where
from mvit_video.analysis.layers import summary_of, with_summary
from mvit_video.types import THW, ConfigError

_AXES = ("time", "space", "both")


@dataclass(frozen=True)
class LocalitySettings:
    """Which windows are tried.

    Attributes:
        windows: sizes in cells of the queries of each layer; odd ones have a cell in their middle.
    """

    windows: tuple[int, ...] = (1, 3, 5, 7)

    def __post_init__(self) -> None:
        if not self.windows or min(self.windows) < 1:
            raise ConfigError(f"locality.windows must be at least 1, got {list(self.windows)}")


def window_mask(thw_q: THW, thw_k: THW, window: tuple[int | None, int | None, int | None]) -> Bool[Tensor, "Q K"]:
    """Keys that each query may attend to: those whose cells reach into a window around it.

    Args:
        window: size along time, height and width in cells of the queries; None is without limit. Where keys are coarser
            than queries, the cell that holds the query is always within.
    """
    allowed = torch.ones(thw_q.volume, thw_k.volume, dtype=torch.bool)
    at_q, at_k = centres(thw_q), centres(thw_k)
    for axis, size in enumerate(window):
        if size is not None:
            reach = size / (2 * thw_q[axis]) + 1 / (2 * thw_k[axis])
            distance = (at_q[:, None, axis] - at_k[None, :, axis]).abs()
            allowed &= distance < reach - 1e-9  # cells that only touch the window are not in it
    return allowed


def locality(model: nn.Module, batches: Sequence[Batch], settings: LocalitySettings = LocalitySettings()) -> pa.Table:
    """Loss and accuracy of a net, as it was trained, when every layer attends in a window only.

    Class tokens attend to everything and are attended to by everything. Windows that leave nothing out are not tried.

    Columns: axis (of the window: time, space, or both), window (cells), loss, top1, share (of the pairs of query and
    key that remain, mean over layers). The summary has loss and top1 without a window.

    Source: arXiv:2202.06709 section 3 trains nets with local attention; here a trained one is restricted.
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
    """Accuracy and loss against the size of the window."""
    whole = summary_of(table)
    figure, (left, right) = new_figure(1, 2)
    for axes, key, label in ((left, "top1", "top1, percent"), (right, "loss", "mean negative log-likelihood")):
        for axis, colour in zip(_AXES, (ORANGE, BLUE, GREY), strict=True):
            rows = where(table, axis=axis)
            what = {"time": "in time", "space": "in height and width", "both": "in all three"}[axis]
            axes.plot(rows["window"], rows[key], color=colour, marker="o", markersize=4, label=f"window {what}")
        axes.axhline(whole[key], color="black", linestyle="--", linewidth=1, label="no window")
        axes.set_xticks(np.unique(table["window"].to_numpy()))
        axes.set_xlabel("window of every layer, in its cells")
        axes.set_ylabel(label)
    left.set_ylim(0, 102)
    left.set_title("Low: the net needs attention to cells farther away", fontsize=10)
    right.legend(fontsize=9, framealpha=0.9)
    return figure
