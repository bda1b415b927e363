"""Files of studies: a table and a figure each, and one page that joins them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from jinja2 import Environment, PackageLoader
from pyarrow import parquet

from mvit_video.analysis.layers import summary_of
from mvit_video.analysis.studies import STUDIES, Subject
from mvit_video.jobs import atomic_write
from mvit_video.types import ConfigError

_RECORD = b"record"
Record = Mapping[str, Any]


class Finished(NamedTuple):
    """A study that is on disk."""

    name: str
    table: pa.Table
    record: Record


def study(name: str, subject: Subject, record: Record, folder: Path) -> bool:
    """Makes a study and writes `<name>.parquet` and `<name>.png`, each whole; one that is there already is left alone.

    Args:
        record: everything that the result depends on, as JSON has it.

    Returns: whether it was made now.

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
        figure = STUDIES[name].draw(table)
        with atomic_write(figure_file) as unfinished:
            figure.savefig(unfinished, format="png")
    return found is None


def read_study(file: Path) -> Finished | None:
    """A study from its table; None where there is none, or where it is no study's."""
    try:
        table = parquet.read_table(file)
        return Finished(file.stem, table, json.loads(table.schema.metadata[_RECORD]))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None


def finished(folder: Path) -> Iterator[Finished]:
    """The studies in a folder, in the order of the page."""
    for name in STUDIES:
        if (found := read_study(folder / f"{name}.parquet")) is not None:
            yield found


def write_page(folder: Path, title: str) -> Path:
    """Writes `report.html` from all studies that the folder has; it needs no other file and no network."""
    sections = []
    for name, table, record in finished(folder):
        image = base64.b64encode((folder / f"{name}.png").read_bytes()).decode()
        settings = {key: value for key, value in record.items() if key != "weights"}
        sections.append((name, STUDIES[name], image, table.num_rows, settings, _numbers(summary_of(table))))
    environment = Environment(loader=PackageLoader("mvit_video.analysis", "."), autoescape=True)
    page = environment.get_template("report.html.j2").render(title=title, sections=sections)
    path = folder / "report.html"
    with atomic_write(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return path


def _numbers(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = {
        "loss": "loss of the net as it is",
        "top1": "top1 of the net as it is, percent",
        "nll": "negative log-likelihood",
        "brier": "Brier score",
        "ece": "expected calibration error, percent",
        "signed_ece": "confidence less accuracy, percent",
        "sure": "clips with a confidence above 0.9, percent",
        "top1_of_sure": "of these right, percent",
        "unsure_of_wrong": "wrong predictions with a lower confidence, percent",
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
                f"{file} was made with {key} {before!r}, now {now!r} is asked for: give another --out, or delete it"
            )
