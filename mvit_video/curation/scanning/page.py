"""A summary as one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from mvit_video.curation.scanning.manifest import wrong_rows
from mvit_video.curation.scanning.summary import Summary, histogram
from mvit_video.jobs import atomic_write

# a browser is to open the page of any data set; the files beside it list everything
_ROWS_SHOWN = 2000
_GROUPS_SHOWN = 200
_NAMED_CLASSES = 40
_BARS_SHOWN = 12
_NUM_BINS = 40
_COLOUR, _MUTED = "#2f6f9f", "#c5ced6"


def write_page(manifest: pa.Table, summary: Summary, path: Path, *, title: str, unlabelled_because: str) -> None:
    """Write the page of a manifest."""
    wrong = wrong_rows(manifest)
    environment = Environment(loader=PackageLoader("mvit_video.curation.scanning", "."), autoescape=True)
    environment.filters["thousands"] = lambda number: f"{number:,}"
    page = environment.get_template("report.html.j2").render(
        title=title,
        summary=summary,
        cards=_cards(summary),
        unlabelled_because=unlabelled_because,
        wrong=list(zip(*(column[:_ROWS_SHOWN] for column in wrong.values()), strict=True)),
        num_wrong=len(wrong["path"]),
        duplicates=[list(zip(group.paths, group.labels, strict=True)) for group in summary.duplicates[:_GROUPS_SHOWN]],
        num_contradictory=sum(group.is_contradictory for group in summary.duplicates),
        distributions=_distributions(summary),
        balance=_class_balance(summary.classes),
        plotly=Markup(get_plotlyjs()),
    )
    with atomic_write(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _cards(summary: Summary) -> list[tuple[str, str, str]]:
    """Headline figures: value, what it counts, and the class that colours it."""
    seconds, megabytes = summary.durations_seconds.sum(), summary.num_bytes / 1e6
    num_flawed = sum(kind.num_usable for kind in summary.kinds)
    cards = [
        (f"{summary.num_usable:,}", "can be used", ""),
        (f"{summary.num_failed:,}", "left out", "bad" if summary.num_failed else ""),
        (f"{num_flawed:,}", "kept with a flaw", "odd" if num_flawed else ""),
        (f"{len(summary.classes):,}", "classes", ""),
        (f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min", "of video", ""),
        (f"{megabytes / 1000:,.1f} GB" if megabytes >= 1000 else f"{megabytes:.1f} MB", "on disk", ""),
        (f"{len(summary.duplicates):,}", "duplicated files", "odd" if summary.duplicates else ""),
    ]
    return cards if summary.classes else [card for card in cards if card[1] != "classes"]


def _distributions(summary: Summary) -> list[tuple[str, Markup]]:
    if not summary.num_usable:
        return []
    return [
        ("Duration, seconds", _histogram(summary.durations_seconds)),
        ("Frames per second", _histogram(summary.fps)),
        ("Size, pixels", _bars(summary.sizes)),
        ("Codec", _bars(summary.codecs)),
        ("Container", _bars(summary.containers)),
    ]


def _histogram(values: NDArray[np.float64]) -> Markup:
    bins = histogram(values, _NUM_BINS)
    if len(bins) <= _BARS_SHOWN:
        return _bars([(name, number) for name, _, _, number in bins])
    names, lows, highs, counts = (np.array(column) for column in zip(*bins, strict=True))
    bars = go.Bar(x=(lows + highs) / 2, y=counts, width=(highs - lows) * 0.92, customdata=names, marker_color=_COLOUR)
    if (lows == highs).any():  # distinct values
        bars.update(width=0.9 * np.diff(lows).min())
    bars.hovertemplate = "%{customdata}<br>%{y:,} videos<extra></extra>"
    return _draw(go.Figure(bars), height=240)


def _bars(rows: Sequence[tuple[str, int]]) -> Markup:
    """Horizontal bars with their counts, in the order given from the top."""
    shown, rest = list(rows[:_BARS_SHOWN]), sum(number for _, number in rows[_BARS_SHOWN:])
    colours = [_COLOUR] * len(shown)
    if rest:
        shown.append((f"{len(rows) - _BARS_SHOWN} others", rest))
        colours.append(_MUTED)
    return _named_bars(shown, colours)


def _named_bars(rows: Sequence[tuple[str, int]], colours: Sequence[str]) -> Markup:
    names, counts = zip(*rows, strict=True)
    bars = go.Bar(x=counts, y=names, orientation="h", marker_color=list(colours), text=[f"{n:,}" for n in counts])
    bars.update(textposition="outside", cliponaxis=False, hovertemplate="%{y}<br>%{x:,} videos<extra></extra>")
    figure = go.Figure(bars)
    figure.update_yaxes(autorange="reversed", type="category", ticksuffix="  ")
    figure.update_xaxes(visible=False, range=[0, max(counts) * 1.18])
    return _draw(figure, height=32 + 26 * len(rows))


def _class_balance(classes: Sequence[tuple[str, int]]) -> Markup | None:
    """Bars with names for a few classes; for many, their counts in falling order, named when pointed at."""
    if not classes:
        return None
    names, counts = zip(*classes, strict=True)
    if len(classes) <= _NAMED_CLASSES:
        return _named_bars(classes, [_COLOUR] * len(classes))
    ranks = np.arange(1, len(classes) + 1)
    bars = go.Bar(x=ranks, y=counts, customdata=names, marker_color=_COLOUR, marker_line_width=0)
    bars.hovertemplate = "%{customdata}<br>%{y:,} videos, rank %{x}<extra></extra>"
    figure = go.Figure(bars, layout={"bargap": 0.15 if len(classes) <= 120 else 0})
    median = float(np.median(counts))
    figure.add_hline(median, line={"color": "#b4562c", "width": 1.5, "dash": "dot"})
    label = {"xref": "paper", "x": 1, "xanchor": "right", "yanchor": "bottom", "showarrow": False}
    figure.add_annotation(y=median, text=f"median {median:,.0f}", font={"color": "#b4562c"}, **label)
    figure.update_xaxes(title="classes, the largest first", range=[0.4, len(classes) + 0.6])
    figure.update_yaxes(title="usable videos")
    return _draw(figure, height=320)


def _draw(figure: go.Figure, height: int) -> Markup:
    figure.update_layout(
        template="simple_white", height=height, margin={"l": 8, "r": 16, "t": 8, "b": 8}, showlegend=False,
        font={"family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif", "size": 13},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", hoverlabel={"bgcolor": "white"},
    )  # fmt: skip
    figure.update_xaxes(automargin=True, linecolor="#c9d0d6", tickcolor="#c9d0d6")
    figure.update_yaxes(automargin=True, linecolor="#c9d0d6", tickcolor="#c9d0d6", separatethousands=True)
    config = {"displayModeBar": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=config))
