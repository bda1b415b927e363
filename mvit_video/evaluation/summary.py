"""Summary of a test: the table that is printed."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from mvit_video.metrics.names import shown_metrics


def print_summary(found: dict[str, Any], console: Console) -> None:
    """Print what was tested, how, and the metrics.

    Args:
        found: `Evaluation.record`.
    """
    table = Table(title="Multi-view test", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in _rows(found).items():
        table.add_row(name, value)
    console.print(table)


def _rows(found: dict[str, Any]) -> dict[str, str]:
    """Return the rows of the table."""
    videos, setting = found["videos"], found["setting"]
    in_table = videos["expected"] - videos["missing"]
    rows = {"videos": f"{videos['scored']} of {in_table}", "videos failed": str(videos["failed"])}
    for key, name in (
        ("missing", "videos missing"), ("left_out", "left out by a limit"), ("without_label", "without label"),
        ("damaged", "videos damaged"), ("too_short", "videos too short for a clip"),
        ("repeated_views", "views repeated, counted once"),
    ):  # fmt: skip
        if videos[key]:
            rows[name] = str(videos[key])
    rows["views"] = f"{setting['views']}, {setting['protocol']}, {setting['ensemble']}"
    rows["frame order"] = setting["frame_order"]
    if setting["corruption"] != "none":
        rows["corruption"] = setting["corruption"]
    bounds = found.get("intervals", {})
    for name, value in shown_metrics(found["metrics"], len(found["classes"])).items():
        text = "unknown" if value is None else f"{value:.{4 if name in ('nll', 'brier') else 2}f}"
        if name in bounds:
            text += f"  ({bounds['level']:.0%}: {bounds[name]['low']:.2f} to {bounds[name]['high']:.2f})"
        rows[name.replace("_", "-")] = text
    if worse := found.get("if_failed_are_wrong"):
        rows["top1 if failed are wrong"] = f"{worse['top1']:.2f}"
    if scaled := found.get("temperature"):
        values = ", ".join(f"{name} {value:.4g}" for name, value in scaled["metrics"].items())
        rows[f"at temperature {scaled['value']:.3f}"] = values
    return rows
