"""Videos of a tar file with their labels, paired by name; only headers and labels are read."""

from __future__ import annotations

import json
import math
import os
import posixpath
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, NamedTuple, cast

import pyarrow as pa

from mvit_video.data.table.files import is_video
from mvit_video.data.table.labels import LABEL_SPANS, LABEL_SPANS_TYPE, is_label_spans, label_number, label_text
from mvit_video.jobs.arrow import is_utf8
from mvit_video.jobs.stores import Shard, open_headers
from mvit_video.types import AnnotationError

BLOCK_BYTES = tarfile.BLOCKSIZE

_MAX_HEADER_BYTES = 2**16
# tarfile parses numbers in extended headers in quadratic time
_MANY_DIGITS = re.compile(rb"[0-9]{128}")
_MAX_TEXT_BYTES = 2**24
_PACKERS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Member(NamedTuple):
    """File in a tar: first byte, number of bytes, and content of a label."""

    name: str
    offset: int
    size: int
    text: bytes | None


def read_members(file: BinaryIO, name: str, size: int, is_text: Callable[[str], bool]) -> Iterator[Member]:
    """Yield the plain files of a tar. The tar is not trusted: each size and offset is checked against its length.

    Args:
        file: the tar, opened for reading; only headers and texts are read.
        name: name of the tar, for messages.
        size: bytes of the tar.
        is_text: whether to read the content of a member, by its name.

    Raises:
        AnnotationError: names the tar and the byte where it is damaged or truncated.
    """
    start = file.read(8)
    for magic, packer in _PACKERS.items():
        if start.startswith(magic):
            raise AnnotationError(name, 0, f"is compressed with {packer}; decompress it, shards are plain tar files")
    file.seek(0)
    headers = _Headers(file, name, size)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", headers), mode="r:") as tar:
            while (found := tar.next()) is not None:
                cast("Any", tar).members.clear()  # saves memory
                headers.begin(found.offset)
                if not 0 <= found.size <= size - found.offset_data:
                    raise AnnotationError(
                        name, 0, f"is truncated: {found.name!r} at byte {found.offset} has {found.size} bytes, the "
                        f"file ends at byte {size}"
                    )  # fmt: skip
                if found.issparse():
                    raise AnnotationError(name, 0, f"{found.name!r} at byte {found.offset} is sparse; pack it again")
                if not found.isreg():
                    continue
                if not is_utf8(found.name):
                    raise AnnotationError(
                        name, 0, f"the name {os.fsencode(found.name)!r} at byte {found.offset} is not UTF-8; rename it"
                    )
                text = _read_text(file, name, found) if is_text(found.name) else None
                yield Member(found.name, found.offset_data, found.size, text)
            headers.begin(end := tar.offset)
            headers.seek(end)
            if any(headers.read(BLOCK_BYTES)):
                raise AnnotationError(name, 0, f"is damaged at byte {end}: there is no header")
    # tarfile raises errors of its parsers for some headers
    except (tarfile.TarError, ValueError, ArithmeticError, LookupError, TypeError, RecursionError) as error:
        reason = error if isinstance(error, tarfile.TarError) else "an invalid header"
        raise AnnotationError(name, 0, f"is damaged at byte {headers.offset}, or not a tar ({reason})") from None


def _read_text(file: BinaryIO, name: str, found: tarfile.TarInfo) -> bytes:
    if found.size > _MAX_TEXT_BYTES:
        raise AnnotationError(
            name, 0, f"{found.name!r} at byte {found.offset} has {found.size} bytes, too large for a label"
        )
    file.seek(found.offset_data)
    return file.read(found.size)


class _Headers:
    """File for tarfile that limits reads to the size of a header, whatever the header claims."""

    def __init__(self, file: BinaryIO, name: str, size: int) -> None:
        self._file, self._name, self._size = file, name, size
        self._budget = _MAX_HEADER_BYTES
        self.offset = 0

    def begin(self, offset: int) -> None:
        """Start the header at an offset."""
        self.offset, self._budget = offset, _MAX_HEADER_BYTES

    def read(self, num_bytes: int) -> bytes:
        self._budget -= num_bytes
        if num_bytes < 0 or self._budget < 0:
            raise tarfile.ReadError(f"a header of more than {_MAX_HEADER_BYTES} bytes")
        position = self.tell()
        if position + num_bytes > self._size:
            raise AnnotationError(self._name, 0, f"is truncated at byte {self._size}, before the end of the tar")
        data = self._file.read(num_bytes)
        if _MANY_DIGITS.search(data) and num_bytes > BLOCK_BYTES:
            raise tarfile.ReadError("a header with a number of more than 128 digits")
        return data

    def seek(self, position: int) -> int:
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()


LABEL_EXTENSIONS = ("cls", "json", "txt")

_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")


def split_name(name: str) -> tuple[str, str] | None:
    """Return key and extension of a member's name, split at the first dot of its last component; None for others."""
    match = None if _META.match(name) else _NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else None


def read_samples(shard: Shard) -> pa.Table:
    """Return the videos, or segments of videos, in a shard, in its order.

    Columns: `key` (name without suffix), `path` (shard and member), `offset`, `size`, `label` (text as written, a list
    of texts, or null; one type in a shard), `start`, `end` (seconds or null), `label_spans` (lists of seconds for each
    label, or null).

    Raises:
        AnnotationError: names the shard and the member or byte with the error.
    """
    rows = [row for sample in _group(shard) for row in _rows(shard, sample)]
    columns = list(zip(*rows, strict=True)) or [[]] * len(_Row._fields)
    text, whole, seconds = pa.large_string(), pa.int64(), pa.float64()
    types = (text, text, whole, whole, _column_type(shard, rows), seconds, seconds, LABEL_SPANS_TYPE)
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
    """Return the videos with the texts of the longest matching name: `a.b.mp4` has the texts of `a.b`, else of `a`.

    WebDataset uses the name up to its first dot, which loses labels of names with more dots.
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
    """Yield a name, and its parts before each dot of the last component, the longest first."""
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
    """Return the row of a video, or the rows of its segments in the JSON."""
    path = f"{posixpath.basename(shard.url)}/{sample.video.name}"
    facts = _json(shard, sample)
    segments = facts.get("segments", [facts])
    if not isinstance(segments, list) or not all(isinstance(segment, dict) for segment in segments):
        raise _unusable(shard, sample.texts["json"], "segments", segments, "a list of objects")
    rows: list[_Row] = []
    for segment in segments:
        start, end = _span(shard, sample, segment)
        label = _label(shard, sample, segment)
        times = segment.get(LABEL_SPANS)
        if times is not None and not is_label_spans(times):
            raise _unusable(shard, sample.texts["json"], LABEL_SPANS, times, "a list of seconds for each label")
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
            raise _unusable(shard, member, "content", text, "a class number from 0, or -1; put names into .txt")
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
    """Return the type of all labels."""
    lists = [row for row in rows if isinstance(row.label, list)]
    single = [row for row in rows if isinstance(row.label, str)]
    if lists and single:
        raise AnnotationError(
            shard.url, 0, f"use one kind of labels: {lists[0].path} has {lists[0].label!r}, {single[0].path} has "
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
