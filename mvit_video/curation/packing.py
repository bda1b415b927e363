"""Packing of the videos of a table into shards."""

from __future__ import annotations

import hashlib
import json
import math
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mvit_video.curation.tar_writing import OutputFolder, ShardWriter, SourceFailed, open_source
from mvit_video.data import VideoTable
from mvit_video.data.shards.archive import INDEX_NAME, TarArchive, write_index
from mvit_video.data.shards.samples import read_samples
from mvit_video.data.sources import require_videos
from mvit_video.data.table.files import VIDEO_SUFFIXES
from mvit_video.jobs import write_rows
from mvit_video.jobs.stores import Shard, find_shard, is_url, local_path, read_file, read_range
from mvit_video.types import AnnotationError, ConfigError, MVitVideoError, VideoDecodeError

SETTINGS_NAME = "pack.json"
FAILURES_NAME = "failures.csv"
CLASSES_NAME = "classes.txt"

_SHARD_NAME = re.compile(r"shard-(\d{6,})\.tar")


@dataclass(frozen=True)
class PackSettings:
    """Distribution of videos over shards.

    Attributes:
        shard_bytes: largest size of a shard with several videos.
        max_videos: most videos in a shard; None is any number.
        seed: seed of the order of videos; None keeps the order of the annotations.
    """

    shard_bytes: int = 10**9
    max_videos: int | None = None
    seed: int | None = 0

    def __post_init__(self) -> None:
        for key, least in [("shard_bytes", 1), ("max_videos", 1), ("seed", 0)]:
            value = getattr(self, key)
            if value is not None and value < least:
                raise ConfigError(f"{key} must be at least {least}, got {value}")


class PackFailure(NamedTuple):
    """Video that is not in the shards; `kind` is missing, empty or unreadable."""

    path: str
    kind: str
    reason: str


class PackReport(NamedTuple):
    """Content of the output folder.

    Attributes:
        num_videos: packed files; segments of one video count once.
        num_earlier: files packed by an earlier run.
        num_shards: number of tar files.
        num_bytes: bytes of all tar files.
        failures: videos that are not in the shards.
        damaged: names of damaged shards, which were moved to the folder `damaged` and packed again.
    """

    num_videos: int
    num_earlier: int
    num_shards: int
    num_bytes: int
    failures: list[PackFailure]
    damaged: list[str]


def pack_videos(
    table: VideoTable,
    out: str,
    settings: PackSettings = PackSettings(),
    on_progress: Callable[[int, int], None] = lambda num_done, num_videos: None,
) -> PackReport:
    """Write the videos of a table as shards in the layout of WebDataset, with an index.

    `index.parquet` keeps the order of the table, so that training from the shards repeats training from the files.
    Calling it again resumes after the last complete shard and retries failures.

    Args:
        out: folder or URL.
        on_progress: called with the numbers of finished and of all videos.

    Raises:
        ConfigError: the table has images, or `out` has shards of other videos or settings, or other files.
        MVitVideoError: `out` cannot be written.
    """
    require_videos(table, "pack")
    out = local_path(out)
    try:
        with OutputFolder(out) as folder, closing(_Packing(table, folder, settings)) as packing:
            packing.resume()
            num_earlier = packing.num_packed
            failures: list[PackFailure] = []
            for num_done, failure in enumerate(packing.run(), start=num_earlier + 1):
                if failure is not None:
                    failures.append(failure)
                on_progress(num_done, packing.num_videos)
            packing.finish(failures)
            num_bytes = sum(shard.size for shard in packing.shards)
            return PackReport(
                packing.num_packed, num_earlier, len(packing.shards), num_bytes, failures, packing.damaged
            )
    except OSError as error:  # errors of videos are failures
        raise MVitVideoError(
            f"{out}: cannot be written ({error.strerror or error}); run the same command again to resume"
        ) from error


class _Packing:
    """State of packing a table; segments of one video stay together.

    Attributes:
        num_videos: number of all videos.
        shards: complete shards.
        damaged: names of damaged shards.
    """

    def __init__(self, table: VideoTable, folder: OutputFolder, settings: PackSettings) -> None:
        self._table, self._folder, self._settings = table, folder, settings
        self._video_of = _number_videos(table)
        self._rows = np.argsort(self._video_of, kind="stable")
        self._starts = np.flatnonzero(np.diff(self._video_of[self._rows], prepend=-1))
        self.num_videos = len(self._starts)
        self.shards: list[Shard] = []
        self.damaged: list[str] = []
        self._writer: ShardWriter | None = None
        self._next_number = 0
        self._shard_of = np.full(len(table), -1, dtype=np.int32)
        self._offsets = np.zeros(len(table), dtype=np.int64)
        self._sizes = np.zeros(len(table), dtype=np.int64)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.discard()

    @property
    def num_packed(self) -> int:
        return int((self._shard_of[self._rows[self._starts]] >= 0).sum())

    def resume(self) -> None:
        """Read the shards of an earlier run, or write the settings of this one."""
        url, found = self._folder.url, self._folder.names()
        facts = {**asdict(self._settings), "annotations": _fingerprint(self._table)}
        earlier = read_file(posixpath.join(url, SETTINGS_NAME))
        if earlier is None:
            if found:
                raise _not_ours(posixpath.join(url, found[0]))
            self._write_text(SETTINGS_NAME, json.dumps(facts, indent=1) + "\n")
            return
        try:
            known = dict(json.loads(earlier))
        except (ValueError, TypeError, RecursionError):
            raise ConfigError(f"{url}: its {SETTINGS_NAME} cannot be read; give a new folder, or remove it") from None
        for key, value in facts.items():
            if known.get(key) != value:
                raise ConfigError(
                    f"{url} was packed with {key}={known.get(key)}, not {value}; give a new folder, or remove it"
                )
        for name in found:
            shard = posixpath.join(url, name)
            if _SHARD_NAME.fullmatch(name) and not is_url(shard) and not os.path.isfile(shard):
                self.damaged.append(self._folder.quarantine(name))  # a link to nothing, a pipe, a folder
            elif name.endswith(".tar"):
                self._take_up(find_shard(shard))

    def run(self) -> Iterator[PackFailure | None]:
        """Pack the remaining videos; yield the failure or None for each."""
        order = np.arange(self.num_videos)
        if self._settings.seed is not None:
            order = np.random.default_rng(self._settings.seed).permutation(self.num_videos)
        first_rows = self._rows[self._starts[order]]
        for row in first_rows[self._shard_of[first_rows] < 0].tolist():
            try:
                self._add(row)
            except SourceFailed as error:
                yield PackFailure(self._table.path(row), error.kind, str(error))
            except VideoDecodeError as error:
                yield PackFailure(self._table.path(row), "unreadable", error.reason)
            else:
                yield None
        self._close_shard()

    def finish(self, failures: list[PackFailure]) -> None:
        """Write index, class names and failures."""
        if self._table.class_names is not None:
            self._write_text(CLASSES_NAME, "".join(f"{name}\n" for name in self._table.class_names))
        if self.shards:
            archive = TarArchive(tuple(self.shards), self._shard_of, self._offsets, self._sizes)
            write_index(self._folder.draft(INDEX_NAME), self._table, archive)
            self._folder.place(INDEX_NAME)
        write_rows(self._folder.draft(FAILURES_NAME), [PackFailure._fields, *failures])
        self._folder.place(FAILURES_NAME)

    def _take_up(self, shard: Shard) -> None:
        name = _SHARD_NAME.fullmatch(posixpath.basename(shard.url))
        if name is None:
            raise _not_ours(shard.url)
        self._next_number = int(name[1]) + 1
        try:
            samples = read_samples(shard)
        except AnnotationError:
            self.damaged.append(self._folder.quarantine(name[0]))
            return
        columns = [samples[column].to_pylist() for column in ("key", "offset", "size")]
        if not all(key.isdecimal() and int(key) < len(self._table) for key in columns[0]):
            raise _not_ours(shard.url)
        for key, offset, size in zip(*columns, strict=True):
            self._refuse_changed(int(key), offset, size, shard)
            self._note(int(key), offset, size)
        self.shards.append(shard)

    def _refuse_changed(self, row: int, offset: int, size: int, shard: Shard) -> None:
        """Refuse to resume if a packed video has changed."""
        source = self._table.locate(row)
        if self._table.archive is not None or not source.exists():  # not needed after packing
            return
        status = source.stat()
        is_newer = not is_url(shard.url) and status.st_mtime_ns > int(shard.stamp)
        if status.st_size != size or (is_newer and source.read_bytes() != read_range(shard, offset, size)):
            raise ConfigError(
                f"{source} has changed since it was packed into {shard.url}; give a new folder, or remove that shard"
            )

    def _add(self, row: int) -> None:
        """Add the video of its first row."""
        texts = self._texts(row)
        video, size = open_source(self._table.source(row))
        with video:
            if self._writer is not None and (
                self._writer.size_with(texts, size) > self._settings.shard_bytes
                or self._writer.num_videos == self._settings.max_videos
            ):
                self._close_shard()
            if self._writer is None:
                self._writer = ShardWriter(self._folder.draft(f"shard-{self._next_number:06d}.tar"))
                self._next_number += 1
            suffix = posixpath.splitext(self._table.path(row))[1].lower()
            # readers of shards recognise videos by suffix, decoders ignore it
            extension = suffix[1:] if suffix in VIDEO_SUFFIXES else "mp4"
            offset = self._writer.add(f"{row:09d}", texts, extension, video, size)
        self._note(row, offset, size)

    def _close_shard(self) -> None:
        if self._writer is None:
            return
        num_videos, path = self._writer.num_videos, self._writer.path
        self._writer.close()
        self._writer = None
        if num_videos:
            self.shards.append(find_shard(self._folder.place(path.name)))

    def _rows_of(self, row: int) -> NDArray[np.int64]:
        """Return all rows of the video of a row."""
        video = self._video_of[row]
        end = self._starts[video + 1] if video + 1 < self.num_videos else len(self._rows)
        return self._rows[self._starts[video] : end]

    def _note(self, row: int, offset: int, size: int) -> None:
        rows = self._rows_of(row)
        self._shard_of[rows], self._offsets[rows], self._sizes[rows] = len(self.shards), offset, size

    def _texts(self, row: int) -> dict[str, bytes]:
        """Return the labels of a video for other programs, by extension."""
        parts = [_facts(self._table, part) for part in self._rows_of(row).tolist()]
        facts = {"path": self._table.path(row), **(parts[0] if len(parts) == 1 else {"segments": parts})}
        texts = {"json": json.dumps(facts, ensure_ascii=False).encode()}
        if len(parts) == 1 and not self._table.is_multilabel:
            texts = {"cls": str(self._table.label_of(row)).encode(), **texts}
        return texts

    def _write_text(self, name: str, text: str) -> None:
        self._folder.draft(name).write_text(text, encoding="utf-8")
        self._folder.place(name)


def _number_videos(table: VideoTable) -> NDArray[np.int64]:
    """Return the number of the video of each row, in the order of first rows."""
    if table.archive is None:
        codes = table.paths.dictionary_encode().indices.to_numpy()
    elif isinstance(table.archive, TarArchive):
        places = np.stack([table.archive.shard_of, table.archive.offsets], axis=1)
        codes = np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)
    else:
        codes = np.arange(len(table))
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _facts(table: VideoTable, row: int) -> dict[str, Any]:
    """Return label and span of a row for JSON."""
    label, span, names = table.label_of(row), table.span(row), table.class_names
    facts: dict[str, Any] = {}
    if isinstance(label, list):
        facts["labels"] = label
        if table.label_spans is not None:
            facts["label_spans"] = table.label_spans[row].as_py()
        if names is not None:
            facts["class_names"] = [names[one] for one in label]
    else:
        facts["label"] = label
        if names is not None and label >= 0:
            facts["class_name"] = names[label]
    if span is not None:
        facts["start"], facts["end"] = span[0], None if math.isinf(span[1]) else span[1]
    return facts


def _fingerprint(table: VideoTable) -> str:
    """Return a digest of paths, labels and order, without the root."""
    digest = hashlib.sha256(json.dumps([len(table), table.class_names]).encode())
    for path in table.paths:
        digest.update(path.as_buffer())
        digest.update(b"\0")
    digest.update(table.labels.astype(np.int64).tobytes())
    if table.multi_labels is not None:
        digest.update(table.multi_labels.value_lengths().to_numpy().tobytes())
        digest.update(table.multi_labels.flatten().to_numpy().tobytes())
    if table.spans is not None:
        digest.update(table.spans.tobytes())
    if table.label_spans is not None:
        digest.update(json.dumps(table.label_spans.to_pylist()).encode())
    return digest.hexdigest()


def _not_ours(url: str) -> ConfigError:
    return ConfigError(f"{url} was not written by pack; give a new or empty folder for the shards")
