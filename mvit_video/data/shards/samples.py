"""The videos of one tar with their labels, paired by their names."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import pyarrow as pa

from mvit_video.data.shards.tar_headers import Member, read_members
from mvit_video.data.table.files import is_video
from mvit_video.data.table.label_spans import COLUMN, TYPE, is_label_spans
from mvit_video.data.table.labels import label_number, label_text
from mvit_video.jobs.stores import Shard, open_headers
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

    Columns: `key` (name without suffix), `path` (shard and member), `offset`, `size`, `label` (text as written, a list
    of texts, or null; one type in a shard), `start`, `end` (seconds; null where not given), `label_spans` (lists of
    seconds for each of several labels, or null).

    Raises:
        AnnotationError: names the shard and the member or byte where it is not what it should be.
    """
    rows = [row for sample in _group(shard) for row in _rows(shard, sample)]
    columns = list(zip(*rows, strict=True)) or [[]] * len(_Row._fields)
    text, whole, seconds = pa.large_string(), pa.int64(), pa.float64()
    types = (text, text, whole, whole, _column_type(shard, rows), seconds, seconds, TYPE)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return pa.table(arrays, names=list(_Row._fields))


class _Row(NamedTuple):
    key: str
    path: str
    offset: int
    size: int
    label: str | list[str] | None
    start: float | None
    end: float | None
    label_spans: list[list[float]] | None


@dataclass(frozen=True)
class _Sample:
    key: str
    video: Member
    texts: dict[str, Member]


def _group(shard: Shard) -> list[_Sample]:
    """The videos, each with the texts of the longest name that it shares: `a.b.mp4` has those of `a.b`, else of `a`.

    WebDataset pairs by the name up to its first dot alone, which loses the labels of names with more dots.
    """
    videos: dict[str, Member] = {}
    texts: dict[str, dict[str, Member]] = {}
    with open_headers(shard) as file:
        for member in read_members(file, shard.url, shard.size, _is_label):
            if split_name(member.name) is None:
                continue
            stem, suffix = posixpath.splitext(member.name)
            if _is_label(member.name):
                known = texts.setdefault(stem, {}).setdefault(suffix[1:].lower(), member)
            elif is_video(member.name):
                known = videos.setdefault(stem, member)
            else:
                continue
            if known is not member:
                raise _same_key(shard, known, member, stem)
    samples: list[_Sample] = []
    owners: dict[str, Member] = {}
    for stem, video in videos.items():
        key = next((key for key in _keys(stem) if key in texts), None)
        if key is not None and owners.setdefault(key, video) is not video:
            raise _same_key(shard, owners[key], video, key)
        samples.append(_Sample(stem, video, texts[key] if key is not None else {}))
    return samples


def _keys(stem: str) -> Iterator[str]:
    """A name, and what is before each dot of its last component, the longest first."""
    folder, name = posixpath.split(stem)
    while name:
        yield posixpath.join(folder, name)
        name = name.rpartition(".")[0]


def _same_key(shard: Shard, one: Member, other: Member, key: str) -> AnnotationError:
    return AnnotationError(
        shard.url, 0, f"{one.name!r} at byte {one.offset} and {other.name!r} at byte {other.offset} have one key, "
        f"{key!r}; give each video its own"
    )  # fmt: skip


def _is_label(name: str) -> bool:
    return split_name(name) is not None and posixpath.splitext(name)[1][1:].lower() in LABEL_EXTENSIONS


def _rows(shard: Shard, sample: _Sample) -> list[_Row]:
    """One row, or one for each segment that the JSON names."""
    path = f"{posixpath.basename(shard.url)}/{sample.video.name}"
    facts = _json(shard, sample)
    segments = facts.get("segments", [facts])
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        raise _unusable(shard, sample.texts["json"], "segments", segments, "a list of objects")
    rows: list[_Row] = []
    for segment in segments:
        start, end = _span(shard, sample, segment)
        label = _label(shard, sample, segment)
        times = segment.get(COLUMN)
        if times is not None and not is_label_spans(times):
            raise _unusable(shard, sample.texts["json"], COLUMN, times, "a list of seconds for each label")
        rows.append(_Row(sample.key, path, sample.video.offset, sample.video.size, label, start, end, times))
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


def _label(shard: Shard, sample: _Sample, segment: dict[str, Any]) -> str | list[str] | None:
    if member := sample.texts.get("cls"):
        text = _text(shard, member)
        number = label_number(text)
        if number is None or number < -1:
            raise _unusable(shard, member, "content", text, "a class number from 0, or -1; names belong into .txt")
        return text
    key = "labels" if "labels" in segment else "label"
    label = segment.get(key)
    if label is not None:
        texts = [label_text(one) for one in label] if isinstance(label, list) else label_text(label)
        if not (texts if isinstance(texts, str) else texts is not None and None not in texts):
            expected = "a class number from 0, -1, a class name, or a list of numbers or of names"
            raise _unusable(shard, sample.texts["json"], key, label, expected)
        return cast("str | list[str]", texts)
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


def _column_type(shard: Shard, rows: list[_Row]) -> pa.DataType:
    """The one type of all labels."""
    lists = [row for row in rows if isinstance(row.label, list)]
    single = [row for row in rows if isinstance(row.label, str)]
    if lists and single:
        raise AnnotationError(
            shard.url, 0, f"labels are of one sort, but {lists[0].path} has {lists[0].label!r}, {single[0].path} "
            f"{single[0].label!r}"
        )  # fmt: skip
    if lists:
        return pa.large_list(pa.large_string())
    return pa.large_string() if single else pa.null()


def _unusable(shard: Shard, member: Member, what: str, value: object, expected: str) -> AnnotationError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return AnnotationError(
        shard.url, 0, f"{what} of {member.name!r} at byte {member.offset}: expected {expected}, got {shown}"
    )
