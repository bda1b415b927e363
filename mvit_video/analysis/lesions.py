"""What each residual branch is worth: the net without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from mvit_video.analysis.adapter import Branch, branches
from mvit_video.analysis.batches import Batch, score
from mvit_video.analysis.drawing import BLUE, GREY, new_figure


@contextmanager
def without(branch: Branch) -> Iterator[None]:
    """The net with a branch that adds nothing; its skip stays, pooled or projected as it is."""

    def silence(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, Tensor):
            return torch.zeros_like(output)
        return (torch.zeros_like(output[0]), *output[1:])

    handle = branch.module.register_forward_hook(silence)
    try:
        yield
    finally:
        handle.remove()


def lesion(model: nn.Module, batches: Sequence[Batch]) -> pa.Table:
    """Loss and accuracy of a net without one branch, for each branch; the first row is the whole net.

    Columns: branch (number, -1 for the whole net), name, kind, loss, top1, loss_change, top1_change.
    """
    whole = score(model, batches)
    rows: list[dict[str, object]] = [
        {"branch": -1, "name": "", "kind": "", **whole._asdict(), "loss_change": 0.0, "top1_change": 0.0}
    ]
    for i, branch in enumerate(branches(model)):
        with without(branch):
            left = score(model, batches)
        rows.append(
            {"branch": i, "name": branch.name, "kind": branch.kind, **left._asdict(),
             "loss_change": left.loss - whole.loss, "top1_change": left.top1 - whole.top1}
        )  # fmt: skip
    return pa.Table.from_pylist(rows)


def draw_lesion(table: pa.Table) -> Figure:
    """Accuracy without each branch, and what that does to the loss."""
    whole, *rows = table.to_pylist()
    names = [row["name"].removeprefix("blocks.") for row in rows]
    colours = [{"msa": GREY, "mlp": "#ffffff", "conv": "#ffffff"}[row["kind"]] for row in rows]
    figure, panels = new_figure(1, 2, width=max(11.0, 0.5 * len(rows)))
    for axes, key, label in ((panels[0], "top1", "top1, percent"), (panels[1], "loss", "mean negative log-likelihood")):
        axes.bar(range(len(rows)), [row[key] for row in rows], color=colours, edgecolor=BLUE, linewidth=0.8)
        axes.axhline(whole[key], color=BLUE, linestyle="--", linewidth=1)
        axes.text(len(rows) - 0.4, whole[key], "whole net", color=BLUE, fontsize=8, va="bottom", ha="right")
        axes.set_xticks(range(len(rows)), names, rotation=90, fontsize=8)
        axes.set_ylabel(label)
        axes.set_xlabel("branch that is left out (grey: attention, white: MLP or convolution)")
    return figure
