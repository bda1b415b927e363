"""Calibration of a net on single clips."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from mvit_video.analysis.adapter import evaluating
from mvit_video.analysis.batches import Batch, on_device
from mvit_video.analysis.drawing import describe
from mvit_video.analysis.layers import with_summary
from mvit_video.metrics.accuracy import is_scored
from mvit_video.metrics.calibration import brier_score, calibration_error, negative_log_likelihood, reliability
from mvit_video.pages.figures import BLUE, GREY, ORANGE, new_figure

_SURE, _NUM_BINS = 0.9, 10
_SCHEMA = pa.schema(
    {"low": pa.float64(), "high": pa.float64(), "num_videos": pa.int64(), "confidence": pa.float64(),
     "accuracy": pa.float64()}
)  # fmt: skip


def calibration(model: nn.Module, batches: Sequence[Batch]) -> pa.Table:
    """Return the accuracy of predictions of single clips, by their confidence.

    Columns: low, high, num_clips, confidence, accuracy (of a bin of confidence; null without clips). The summary has
    nll, brier, ece (percent, ten bins of equal width), signed_ece (above 0 for an overconfident net), and in percent:
    top1, sure (clips with a confidence above 0.9), top1_of_sure, unsure_of_wrong (mistakes below 0.9).

    Source: arXiv:2202.06709, whose code drops a confidence of exactly 1 from its bin; here it counts
    (tests/analysis/test_reliability.py).
    """
    with evaluating(model), torch.no_grad():
        found = [(model(clip).float().softmax(dim=1).cpu(), target.cpu()) for clip, target in on_device(model, batches)]
    probabilities, label = torch.cat([p for p, _ in found]), torch.cat([target for _, target in found]).argmax(dim=1)
    bins = reliability(probabilities, label, _NUM_BINS)
    confidence = probabilities.double().amax(dim=1)
    right, sure = (probabilities.argmax(dim=1) == label) & is_scored(probabilities), confidence > _SURE
    table = pa.Table.from_pylist([one._asdict() for one in bins], _SCHEMA)
    return with_summary(
        table.rename_columns({"num_videos": "num_clips"}),
        top1=_percent(right),
        nll=float(negative_log_likelihood(probabilities, label)),
        brier=float(brier_score(probabilities, label)),
        ece=calibration_error(bins),
        signed_ece=100 * float((confidence - right.double()).mean()),
        sure=_percent(sure),
        top1_of_sure=_percent(right[sure]),
        unsure_of_wrong=_percent(~sure[~right]),
    )


def draw_calibration(table: pa.Table) -> Figure:
    """Draw the reliability diagram, and the clips of each bin."""
    figure, (left, right) = new_figure(1, 2)
    low, high = table["low"].to_numpy(), table["high"].to_numpy()
    middle, width = (low + high) / 2, high - low
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in ("confidence", "accuracy", "num_clips")}
    left.bar(middle, 100 * columns["accuracy"], 0.9 * width, color=BLUE, label="accuracy of a bin")
    left.plot(columns["confidence"], 100 * columns["accuracy"], "o", color=ORANGE, label="at its mean confidence")
    left.plot([0, 1], [0, 100], "--", color=GREY, linewidth=1, label="calibrated")
    right.bar(middle, 100 * columns["num_clips"] / columns["num_clips"].sum(), 0.9 * width, color=BLUE)
    left.set_ylim(0, 100)
    x = "confidence (probability of the predicted class)"
    describe(left, "Below the dashed line: overconfident", x=x, y="accuracy, %", legend=True)
    describe(right, "Distribution of the confidence", x=x, y="% of the clips")
    for axes in (left, right):
        axes.set_xlim(0, 1)
    return figure


def _percent(holds: Tensor) -> float | None:
    return 100 * float(holds.double().mean()) if len(holds) else None
