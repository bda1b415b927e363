"""Lesion study: the net without one residual branch."""

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
from mvit_video.analysis.drawing import score_panels
from mvit_video.pages.figures import BLUE, GREY, LINE


@contextmanager
def without(branch: Branch) -> Iterator[None]:
    """Make a branch add nothing; its skip connection stays."""

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
    """Return loss and accuracy of a net without each of its branches; the first row is the complete net.

    Columns: branch (number, -1 for the complete net), name, kind, loss, top1, loss_change, top1_change.
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
    """Draw accuracy and loss without each branch."""
    complete, *rows = table.to_pylist()
    names = [row["name"].removeprefix("blocks.") for row in rows]
    colours = [GREY if row["kind"] == "msa" else LINE for row in rows]
    x = "removed branch (dark: attention, light: MLP or convolution)"
    figure, panels = score_panels(x, width=max(11.0, 0.5 * len(rows)))
    for key, axes in panels.items():
        axes.bar(range(len(rows)), [row[key] for row in rows], color=colours, edgecolor=BLUE, linewidth=0.8)
        axes.axhline(complete[key], color=BLUE, linestyle="--", linewidth=1, label="complete net")
        axes.set_xticks(range(len(rows)), names, rotation=90, fontsize=8)
    panels["loss"].legend(fontsize=9, framealpha=0.9)
    return figure
