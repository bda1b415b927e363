"""What a manifest says as a whole, on the terminal and on the page."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mvit_video.curation.scanning import Summary, print_summary, summarise, write_page
from mvit_video.curation.scanning.summary import Duplicates, _find_duplicates, histogram

NUM_CLASSES, NUM_VIDEOS, NUM_BAD = 400, 6000, 2500
NAMES = ("<b>bold & brash</b>", *(f"class {i}" for i in range(1, NUM_CLASSES)))


@pytest.fixture(scope="module")
def manifest() -> pa.Table:
    """Videos of 400 classes, of which one has none; some are damaged, and two pairs are equal."""
    labels = np.arange(NUM_VIDEOS) % (NUM_CLASSES - 1) + 1
    is_bad = np.arange(NUM_VIDEOS) < NUM_BAD
    hashes = [None] * NUM_VIDEOS
    hashes[3000], hashes[3000 + NUM_CLASSES - 1], hashes[4000], hashes[4001] = "one", "one", "two", "two"
    return pa.table(
        {
            "path": [f"<i>{i}</i>.mp4" for i in range(NUM_VIDEOS)],
            "label": labels,
            "status": np.where(is_bad, "failed", "ok"),
            "kind": pa.array(np.where(is_bad, "missing", "damaged"), mask=~is_bad & (np.arange(NUM_VIDEOS) != 5999)),
            "reason": np.where(is_bad, "no such file", ""),
            "duration_seconds": np.linspace(2, 10, NUM_VIDEOS),
            "fps": np.full(NUM_VIDEOS, 30.0),
            "width": np.full(NUM_VIDEOS, 340),
            "height": np.full(NUM_VIDEOS, 256),
            "codec": np.full(NUM_VIDEOS, "h264"),
            "container": np.full(NUM_VIDEOS, "mov"),
            "backend": np.where(np.arange(NUM_VIDEOS) % 2, "decord", "pyav"),
            "backend_reason": [f"decord counts {i} frames, PyAV {i + 1}" for i in range(NUM_VIDEOS)],
            "size": np.full(NUM_VIDEOS, 10**6),
            "sha256": hashes,
        }
    )


@pytest.fixture(scope="module")
def summary(manifest: pa.Table) -> Summary:
    return summarise(manifest, NAMES)


def test_counts(summary: Summary) -> None:
    assert (summary.num_rows, summary.num_usable, summary.num_failed) == (NUM_VIDEOS, 3500, NUM_BAD)
    assert [row[:3] for row in summary.kinds] == [("missing", NUM_BAD, 0), ("damaged", 0, 1)]
    assert [(row.backend, row.num_videos) for row in summary.backends] == [("pyav", 1750), ("decord", 1750)]
    assert summary.backends[0].reason == "decord counts N frames, PyAV N"
    assert summary.sizes == [("340 x 256", 3500)]
    assert summary.num_bytes == 3500 * 10**6


def test_classes_are_counted_with_those_that_have_no_video(summary: Summary) -> None:
    assert len(summary.classes) == NUM_CLASSES
    assert summary.classes[-1] == (NAMES[0], 0)
    assert sum(number for _, number in summary.classes) == 3500
    counts = [number for _, number in summary.classes]
    assert counts == sorted(counts, reverse=True)


def test_duplicates_with_contradictory_labels_come_first(summary: Summary) -> None:
    assert [group.is_contradictory for group in summary.duplicates] == [True, False]
    assert summary.duplicates[0].paths == ["<i>4000</i>.mp4", "<i>4001</i>.mp4"]


def test_one_path_with_two_labels_is_contradictory() -> None:
    paths = ["a.mp4", "b.mp4", "./a.mp4", "c.mp4", "c.mp4", "c.mp4"]
    spans = {"start": [None, None, None, 0.0, 5.0, 5.0], "end": [None, None, None, 5.0, 9.0, 9.0]}
    rows = pa.table({"path": paths, "label": [0, 1, 1, 0, 1, 1], "sha256": pa.nulls(6, pa.string()), **spans})
    assert _find_duplicates(rows, ("run", "hop")) == [
        Duplicates(["a.mp4", "a.mp4"], ["run", "hop"]),
        Duplicates(["c.mp4", "c.mp4"], ["hop", "hop"]),
    ]
    rows = pa.table({"path": ["a.mp4", "b.mp4", "b.mp4"], "label": [0, 0, 1], "sha256": ["x"] * 3, "start": [0, 0, 3]})
    assert _find_duplicates(rows, ("run", "hop")) == [Duplicates(["a.mp4", "b.mp4", "b.mp4"], ["run", "run", "hop"])]


def test_a_path_from_the_root_and_the_absolute_one_are_one_file() -> None:
    paths = ["a.mp4", "/videos/a.mp4", "/elsewhere/a.mp4"]
    rows = pa.table({"path": paths, "label": [0, 1, 1], "sha256": pa.nulls(3, pa.string())})
    rows = rows.replace_schema_metadata({"root": "/videos"})
    assert _find_duplicates(rows, ("run", "hop")) == [Duplicates(["a.mp4", "a.mp4"], ["run", "hop"])]


def test_several_labels_in_another_order_are_the_same_labels() -> None:
    rows = pa.table({"path": ["a.mp4"] * 2, "label": [[0, 1], [1, 0]], "sha256": pa.nulls(2, pa.string())})
    assert _find_duplicates(rows, ("run", "hop")) == [Duplicates(["a.mp4"] * 2, ["run, hop"] * 2)]


def test_the_page_needs_no_network_and_takes_names_as_text(
    manifest: pa.Table, summary: Summary, tmp_path: Path
) -> None:
    write_page(manifest, summary, tmp_path / "report.html", title="<u>data</u>", unlabelled_because="")
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", page)
    assert "<i>" not in page
    assert "<u>" not in page
    assert "<b>bold" not in page
    assert "&lt;i&gt;0&lt;/i&gt;.mp4" in page
    assert page.count("<td>&lt;b&gt;bold &amp; brash&lt;/b&gt;</td>") == 1
    assert "The first 2,000 of 2,501; failures.csv lists all." in page
    assert len(re.findall(r'<td class="path">', page)) == 2000
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_the_terminal_shows_the_same(summary: Summary, tmp_path: Path) -> None:
    with (tmp_path / "shown").open("w") as file:
        print_summary(summary, Console(file=file, width=160), "")
    shown = (tmp_path / "shown").read_text()
    for text in (
        "2,500",
        "1 of them without a usable video",
        "400 classes; videos in each: median 9",
        "decord counts N frames",
    ):
        assert text in shown


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=200), st.integers(2, 40))
def test_a_histogram_counts_every_value(values: list[float], num_bins: int) -> None:
    bins = histogram(np.array(values), num_bins)
    assert len(bins) <= num_bins
    assert sum(number for *_, number in bins) == len(values)
    lows = [low for _, low, _, _ in bins]
    assert lows == sorted(lows)
