"""The videos of one tar with their labels, paired as WebDataset does: files that differ after the first dot only."""

from __future__ import annotations

import json
import math
import os
import posixpath
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from mvit_video.data.annotations import VIDEO_SUFFIXES
from mvit_video.data.shards.storage import Shard, open_headers
from mvit_video.data.shards.tar_headers import Member, read_members
from mvit_video.types import AnnotationError

LABEL_EXTENSIONS = ("cls", "json", "txt")

_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")


def split_name(name: str) -> tuple[str, str] | None:
    """Key and extension of a member's name, parted at the first dot of its last component; None for others."""
    match = None if _META.match(name) else _NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else None


def read_samples(shard: Shard) -> pa.Table:
    """The labelled parts of the videos in a shard, in its order.

    Columns: `key`, `path` (shard and member), `offset`, `size`, `label` (a class number, a class name, a list of
    either, or null; one type in a shard), `start`, `end` (seconds; null where not given).

    Raises:
        AnnotationError: names the shard and the member or byte where it is not what it should be.
    """
    rows = [row for sample in _group(shard) for row in _rows(shard, sample)]
    columns = list(zip(*rows, strict=True)) or [[]] * len(_Row._fields)
    table = dict(zip(_Row._fields, columns, strict=True))
    return pa.table(
        {
            "key": pa.array(table["key"], pa.string()),
            "path": pa.array(table["path"], pa.string()),
            "offset": pa.array(table["offset"], pa.int64()),
            "size": pa.array(table["size"], pa.int64()),
            "label": pa.array(table["label"], _column_type(shard, rows)),
            "start": pa.array(table["start"], pa.float64()),
            "end": pa.array(table["end"], pa.float64()),
        }
    )


class _Row(NamedTuple):
    key: str
    path: str
    offset: int
    size: int
    label: int | str | list[int] | list[str] | None
    start: float | None
    end: float | None


@dataclass
class _Sample:
    key: str
    video: Member | None = None
    texts: dict[str, Member] = field(default_factory=dict)


def _group(shard: Shard) -> list[_Sample]:
    """The samples that have a video."""
    samples: dict[str, _Sample] = {}
    with open_headers(shard) as file:
        for member in read_members(file, shard.url, shard.size, _is_label):
            if (parts := split_name(member.name)) is None:
                continue
            key, extension = parts
            sample = samples.setdefault(key, _Sample(key))
            if _is_label(member.name):
                known = sample.texts.setdefault(extension, member)
            elif os.path.splitext(f".{extension}")[1] in VIDEO_SUFFIXES or f".{extension}" in VIDEO_SUFFIXES:
                known = sample.video = sample.video or member
            else:
                continue
            if known is not member:
                raise AnnotationError(
                    shard.url, 0, f"{known.name!r} at byte {known.offset} and {member.name!r} at byte {member.offset} "
                    f"have one key, {key!r} (the name up to its first dot); give each video its own"
                )  # fmt: skip
    return [sample for sample in samples.values() if sample.video is not None]


def _is_label(name: str) -> bool:
    parts = split_name(name)
    return parts is not None and parts[1] in LABEL_EXTENSIONS


def _rows(shard: Shard, sample: _Sample) -> list[_Row]:
    """One row, or one for each segment that the JSON names."""
    assert sample.video is not None
    path = f"{posixpath.basename(shard.url)}/{sample.video.name}"
    facts = _json(shard, sample)
    segments = facts.get("segments", [facts])
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        raise _unusable(shard, sample.texts["json"], "segments", segments, "a list of objects")
    rows: list[_Row] = []
    for segment in segments:
        start, end = _span(shard, sample, segment)
        label = _label(shard, sample, segment)
        rows.append(_Row(sample.key, path, sample.video.offset, sample.video.size, label, start, end))
    return rows


def _json(shard: Shard, sample: _Sample) -> dict[str, Any]:
    member = sample.texts.get("json")
    if member is None:
        return {}
    try:
        facts = json.loads(member.text or b"")
    except (ValueError, RecursionError):
        raise _unusable(shard, member, "content", member.text, "JSON") from None
    if not isinstance(facts, dict):
        raise _unusable(shard, member, "content", facts, "a JSON object")
    return facts


def _label(shard: Shard, sample: _Sample, segment: dict[str, Any]) -> int | str | list[int] | list[str] | None:
    if member := sample.texts.get("cls"):
        text = _text(shard, member)
        if not re.fullmatch(r"-1|\d{1,9}", text):
            raise _unusable(shard, member, "content", text, "a class number from 0, or -1; names belong into .txt")
        return int(text)
    key = "labels" if "labels" in segment else "label"
    label = segment.get(key)
    if label is not None:
        if _label_type(label) is None:
            expected = "a class number from 0, -1, a class name, or a list of numbers or of names"
            raise _unusable(shard, sample.texts["json"], key, label, expected)
        return label
    member = sample.texts.get("txt")
    return (_text(shard, member) or None) if member else None


def _text(shard: Shard, member: Member) -> str:
    try:
        return (member.text or b"").decode().strip()
    except UnicodeDecodeError:
        raise _unusable(shard, member, "content", member.text, "text in UTF-8") from None


def _span(shard: Shard, sample: _Sample, segment: dict[str, Any]) -> tuple[float | None, float | None]:
    start, end = segment.get("start"), segment.get("end")
    if start is None and end is None:
        return None, None
    if not all(value is None or (isinstance(value, (int, float)) and value == value) for value in (start, end)) or not (
        0 <= (start or 0) < (math.inf if end is None else end)
    ):
        raise _unusable(shard, sample.texts["json"], "start and end", [start, end], "seconds, 0 <= start < end")
    return float(start or 0), math.inf if end is None else float(end)


def _label_type(label: object) -> pa.DataType | None:
    """The type of a label, with nulls for an empty list; None for what is no label."""
    if isinstance(label, list):
        types = {None if isinstance(one, list) else _label_type(one) for one in label} or {pa.null()}
        kind = types.pop()
        return None if types or kind is None else pa.list_(kind)
    if isinstance(label, str):
        return pa.string() if label else None
    is_number = isinstance(label, int) and not isinstance(label, bool) and -1 <= label < 2**31
    return pa.int64() if is_number else None


def _column_type(shard: Shard, rows: list[_Row]) -> pa.DataType:
    """The one type of all labels; an empty list goes with any list."""
    first: dict[pa.DataType, _Row] = {}
    for row in rows:
        if row.label is not None:
            first.setdefault(_label_type(row.label), row)
    empty = pa.list_(pa.null())
    types = [kind for kind in first if kind != empty] or [empty if first else pa.null()]
    if len(types) > 1 or (empty in first and not pa.types.is_list(types[0])):
        one, other = list(first.values())[:2]
        raise AnnotationError(
            shard.url, 0, f"labels are of one sort, but {one.path} has {one.label!r} and {other.path} has "
            f"{other.label!r}"
        )  # fmt: skip
    return types[0]


def _unusable(shard: Shard, member: Member, what: str, value: object, expected: str) -> AnnotationError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return AnnotationError(
        shard.url, 0, f"{what} of {member.name!r} at byte {member.offset}: expected {expected}, got {shown}"
    )
