"""Files of studies: a table and a figure each, and one page of all."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from mvit_video.analysis.layers import summary_of
from mvit_video.analysis.studies import STUDIES, Subject
from mvit_video.jobs import atomic_write
from mvit_video.metrics.names import CALIBRATION
from mvit_video.pages.figures import write_png
from mvit_video.pages.html import write_html
from mvit_video.types import ConfigError

_RECORD = b"record"
Record = Mapping[str, Any]


class Finished(NamedTuple):
    """A study that is on disk."""

    name: str
    table: pa.Table
    record: Record


def study(name: str, subject: Subject, record: Record, folder: Path) -> bool:
    """Run a study and write `<name>.parquet` and `<name>.png`, unless they exist.

    Args:
        record: everything that the result depends on, as JSON.

    Returns: whether the study ran now.

    Raises:
        ConfigError: the folder has this study of another net, of other clips or with other settings.
    """
    file, figure_file = folder / f"{name}.parquet", folder / f"{name}.png"
    found = read_study(file)
    if found is not None:
        _require_same(found, record, file)
        table = found.table
    else:
        made = STUDIES[name].compute(subject)
        metadata = {**(made.schema.metadata or {}), _RECORD: json.dumps(record)}
        table = made.replace_schema_metadata(metadata)
        with atomic_write(file) as unfinished:
            parquet.write_table(table, unfinished)
    if found is None or not figure_file.exists():
        write_png(STUDIES[name].draw(table), figure_file)
    return found is None


def read_study(file: Path) -> Finished | None:
    """Return a study from its table; None where the file is missing or not a study."""
    try:
        table = parquet.read_table(file)
        return Finished(file.stem, table, json.loads(table.schema.metadata[_RECORD]))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None


def finished(folder: Path) -> Iterator[Finished]:
    """Yield the studies in a folder, in the order of the page."""
    for name in STUDIES:
        if (found := read_study(folder / f"{name}.parquet")) is not None:
            yield found


def write_page(folder: Path, title: str) -> Path:
    """Write `report.html` of all studies in a folder."""
    sections = []
    for name, table, record in finished(folder):
        image = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        settings = {key: value for key, value in record.items() if key != "weights"}
        sections.append((name, STUDIES[name], image, table.num_rows, settings, _numbers(summary_of(table))))
    path = folder / "report.html"
    write_html(path, "mvit_video.analysis", "report.html.j2", kind="Analysis of", title=title, sections=sections)
    return path


def _numbers(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = {
        "loss": "loss of the unchanged net",
        "top1": "top-1 of the unchanged net, %",
        "nll": CALIBRATION["nll"],
        "brier": CALIBRATION["brier"],
        "ece": f"{CALIBRATION['ece']}, %",
        "signed_ece": "mean confidence minus accuracy, %",
        "sure": "clips with a confidence above 0.9, %",
        "top1_of_sure": "accuracy on these, %",
        "unsure_of_wrong": "mistakes with a confidence up to 0.9, %",
        "nep": "share of negative eigenvalues",
        "ape": "mean of the positive eigenvalues",
    }
    rows = []
    for key, name in names.items():
        if (value := summary.get(key)) is not None:
            text = (
                f"{value['value']:.3g} ({value['low']:.3g} to {value['high']:.3g})"
                if isinstance(value, dict)
                else f"{value:.4g}"
            )
            rows.append((name, text))
    return rows


def _require_same(found: Finished, record: Record, file: Path) -> None:
    for key in sorted({*found.record, *record}):
        before, now = found.record.get(key), record.get(key)
        if before != now:
            raise ConfigError(
                f"{file} was made with {key} {before!r}, not {now!r}: give another folder, or delete the file"
            )
