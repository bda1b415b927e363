"""Figures of the page of a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from mvit_video.evaluation.report.run_files import RunFiles
from mvit_video.evaluation.robustness.figure import clip_counts, draw_studies
from mvit_video.pages.figures import BLUE, GREY, MARKERS, SERIES, inline_svg, new_figure

_LEAST_SPAN = 5.0  # percent, so that a tenth does not look like much


class Section(NamedTuple):
    """A section of the page with one figure."""

    id: str
    heading: str
    text: str
    figure: Markup


def draw_sections(run: RunFiles) -> list[Section]:
    """Return the calibration and the accuracy against views, as far as the test recorded them."""
    found, sections = run.metrics or {}, []
    bins = [one for one in found.get("reliability") or [] if one.get("num_videos")]
    if bins:
        text = "Accuracy of predictions by their probability. Below the dashed line the model is overconfident."
        sections.append(Section("reliability", "Calibration (reliability diagram)", text, _draw_reliability(bins)))
    points = found.get("by_views") or []
    metric = "mAP" if points and "mAP" in points[0] else "top1"
    points = [point for point in points if point.get(metric) is not None]
    if len(points) > 1:
        text = "Accuracy that fewer views of the same test give. Each view costs one pass through the net."
        sections.append(Section("views", "Accuracy against views", text, _draw_views(points, metric)))
    return sections


def draw_robustness_rows(run: RunFiles, num_classes: int) -> list[Markup]:
    """Return a figure of each known study in `robustness.parquet`."""
    rows = [row for row in run.robustness or [] if row["value"] is not None]
    drawn = {"views": [row for row in rows if row["study"] == "views" and clip_counts(row)]}
    drawn |= {study: [row for row in rows if row["study"] == study] for study in ("frame_order", "corruptions")}
    return [inline_svg(draw_studies(some, run.gigaflops, num_classes)) for some in drawn.values() if some]


def _draw_reliability(bins: Sequence[dict[str, Any]]) -> Markup:
    figure, (axes, below) = new_figure(2, 1, width=5.2, height=2.1, ratios=(5, 2))
    middle = [(one["low"] + one["high"]) / 2 for one in bins]
    width = [0.9 * (one["high"] - one["low"]) for one in bins]
    accuracy = [100 * one["accuracy"] for one in bins]
    axes.bar(middle, accuracy, width, color=BLUE, alpha=0.35)
    axes.plot(
        [one["confidence"] for one in bins],
        accuracy,
        "o-",
        color=BLUE,
        label="at their mean probability",
        clip_on=False,
    )
    axes.plot([0, 1], [0, 100], "--", color=GREY, linewidth=1, label="calibrated")
    axes.set(ylim=(0, 100), ylabel="accuracy, %")
    axes.legend(frameon=False, fontsize=9)
    below.bar(middle, [one["num_videos"] for one in bins], width, color=BLUE)
    below.set(ylabel="videos", xlabel="probability of the prediction")
    below.locator_params(axis="y", integer=True, nbins=4)
    for one in (axes, below):
        one.set_xlim(0, 1)
        one.grid()
    return inline_svg(figure)


def _draw_views(points: list[dict[str, Any]], metric: str) -> Markup:
    figure, (axes,) = new_figure(width=5.2, height=4.2)
    values = [point[metric] for point in points]
    for i, num_crops in enumerate(sorted({point["num_crops"] for point in points})):
        some = [point for point in points if point["num_crops"] == num_crops]
        axes.plot(
            [point["num_views"] for point in some], [point[metric] for point in some], color=SERIES[i % len(SERIES)],
            marker=MARKERS[i % len(MARKERS)], label="centre crop" if num_crops == 1 else f"{num_crops} crops",
            clip_on=False,
        )  # fmt: skip
    middle, room = (min(values) + max(values)) / 2, max(_LEAST_SPAN / 2, 0.6 * (max(values) - min(values)))
    axes.set_ylim(max(0.0, middle - room), min(100.0, middle + room))
    axes.set_xlim(0, 1.05 * max(point["num_views"] for point in points))
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="views of each video", ylabel=f"{metric}, %")
    axes.grid()
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return inline_svg(figure)
