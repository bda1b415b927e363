"""The JSON files of Something-Something V2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mvit_video.data.table.classes import ClassNames, read_names
from mvit_video.data.table.rows import Rows, locate_videos
from mvit_video.jobs.arrow import as_strings
from mvit_video.types import AnnotationError

_LABELS_FILES = ("something-something-v2-labels.json", "labels.json")


def is_something(records: list[Any]) -> bool:
    """Whether records are those of Something-Something: each has an `id` and no `path`."""
    return bool(records) and isinstance(records[0], dict) and "id" in records[0] and "path" not in records[0]


def read_something(file: Path, records: list[Any], root: Path | None, known: ClassNames | None) -> Rows:
    """Videos `{id}` under the root; the class is the template without its brackets, which a labels file numbers."""
    beside = [file.with_name(name) for name in _LABELS_FILES if file.with_name(name).is_file()]
    classes = known or (read_names(beside[0]) if beside else None)
    names: list[str] = []
    labels: list[str | None] = []
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict) or not isinstance(record.get("id"), (str, int)):
            raise AnnotationError(file, 0, f'record {number}: has no "id", got {str(record)[:80]!r}')
        template = record.get("template")
        if template is not None and not isinstance(template, str):
            raise AnnotationError(file, 0, f'record {number}: "template" is no string, got {str(template)[:80]!r}')
        names.append(str(record["id"]))
        labels.append(template if template is None else template.replace("[", "").replace("]", ""))
    if classes is None and any(labels):
        raise AnnotationError(
            file, 0, f"needs the numbers of its templates; put {_LABELS_FILES[0]} or {_LABELS_FILES[1]} beside it"
        )
    videos = as_strings(names)
    rows = Rows(
        file, np.arange(1, len(names) + 1), videos, as_strings(labels), classes=classes, are_names=True, unit="record"
    )
    return locate_videos(rows, root or file.parent, [videos])
