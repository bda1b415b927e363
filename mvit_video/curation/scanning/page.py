"""The page of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.curation.scanning.scanner import wrong_rows
from mvit_video.curation.scanning.summary import Summary, histogram
from mvit_video.pages.html import write_html

# a browser must open the page of any data set; the files beside it list everything
_ROWS_SHOWN = 2000
_GROUPS_SHOWN = 200
_NAMED_CLASSES = 40
_CLASSES_SHOWN = 400
_BARS_SHOWN = 12
_NUM_BINS = 40
Rows = Sequence[tuple[str, int]]


def write_page(manifest: pa.Table, summary: Summary, path: Path, *, title: str, unlabelled_because: str) -> None:
    """Write the page of a manifest."""
    wrong = wrong_rows(manifest)
    write_html(
        path,
        "mvit_video.curation.scanning",
        "report.html.j2",
        kind="Scan of",
        title=title,
        summary=summary,
        cards=_cards(summary),
        unlabelled_because=unlabelled_because,
        wrong=list(zip(*(column[:_ROWS_SHOWN] for column in wrong.values()), strict=True)),
        num_wrong=len(wrong["path"]),
        duplicates=[list(zip(group.paths, group.labels, strict=True)) for group in summary.duplicates[:_GROUPS_SHOWN]],
        num_contradictory=sum(group.is_contradictory for group in summary.duplicates),
        distributions=_distributions(summary),
        balance=_every_so_many(summary.classes),
        most_named=_NAMED_CLASSES,
        median=float(np.median([number for _, number in summary.classes])) if summary.classes else None,
    )


def _cards(summary: Summary) -> list[tuple[str, str, str]]:
    """Return the headline figures: value, what it counts, and the class that colours it."""
    seconds, megabytes = summary.durations_seconds.sum(), summary.num_bytes / 1e6
    num_flawed = sum(kind.num_usable for kind in summary.kinds)
    cards = [
        (f"{summary.num_usable:,}", "usable", ""),
        (f"{summary.num_failed:,}", "failed", "bad" if summary.num_failed else ""),
        (f"{num_flawed:,}", "usable with a flaw", "odd" if num_flawed else ""),
        (f"{len(summary.classes):,}", "classes", ""),
        (f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min", "of video", ""),
        (f"{megabytes / 1000:,.1f} GB" if megabytes >= 1000 else f"{megabytes:.1f} MB", "on disk", ""),
        (f"{len(summary.duplicates):,}", "duplicated files", "odd" if summary.duplicates else ""),
    ]
    return cards if summary.classes else [card for card in cards if card[1] != "classes"]


def _distributions(summary: Summary) -> list[tuple[str, Rows, bool]]:
    """Return the title and the rows of each chart, and whether the rows are bins of a histogram."""
    if not summary.num_usable:
        return []
    measured = {"Duration, seconds": summary.durations_seconds, "Frames per second": summary.fps}
    counted = {"Size, pixels": summary.sizes, "Codec": summary.codecs, "Container": summary.containers}
    histograms = [(name, _bins(values)) for name, values in measured.items()]
    return [
        *((name, rows, len(rows) > _BARS_SHOWN) for name, rows in histograms),
        *((name, _first_bars(rows), False) for name, rows in counted.items()),
    ]


def _bins(values: NDArray[np.float64]) -> Rows:
    return [(name, number) for name, _, _, number in histogram(values, _NUM_BINS)]


def _first_bars(rows: Rows) -> Rows:
    rest = rows[_BARS_SHOWN:]
    return [*rows[:_BARS_SHOWN], (f"{len(rest)} others", sum(number for _, number in rest))] if rest else rows


def _every_so_many(classes: Rows) -> Rows:
    """Return classes at equal steps, so that a browser can draw them."""
    places = np.linspace(0, len(classes) - 1, min(len(classes), _CLASSES_SHOWN)).round().astype(int)
    return [classes[i] for i in places.tolist()]
