"""Videos in tar files: their index, from `index.parquet` of `pack` or from the headers, and reads of single videos."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet
from rich.console import Console
from rich.progress import track

from mvit_video.data.shards.samples import read_samples
from mvit_video.data.table.classes import ClassNames
from mvit_video.data.table.labels import LABEL_SPANS
from mvit_video.data.table.rows import Rows
from mvit_video.data.table.video_table import VideoTable
from mvit_video.jobs import atomic_write
from mvit_video.jobs.arrow import as_strings, compute
from mvit_video.jobs.foreign import read_parquet_table
from mvit_video.jobs.stores import Shard, find_shard, is_folder, is_url, list_shards, local_path, read_file, read_range
from mvit_video.types import AnnotationError, VideoDecodeError

_NUM_THREADS = 8


@dataclass(frozen=True, eq=False)
class TarArchive:
    """Places of the videos of a table in tar files; it can be pickled.

    Attributes:
        shards: the tar files.
        shard_of: int32 index in `shards` of each video.
        offsets: int64 first byte of each video in its shard.
        sizes: int64 bytes of each video.
    """

    shards: tuple[Shard, ...]
    shard_of: NDArray[np.int32]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def read(self, row: int) -> bytes:
        """Return the bytes of the video in a row.

        Raises:
            VideoDecodeError: the shard cannot be read, or has changed.
        """
        shard = self.shards[self.shard_of[row]]
        try:
            return read_range(shard, int(self.offsets[row]), int(self.sizes[row]))
        except Exception as error:  # file systems raise errors of their own
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise VideoDecodeError(
                shard.url, f"shard {posixpath.basename(shard.url)} cannot be read ({reason})"
            ) from error

    def version(self, row: int) -> str:
        """Return size and stamp of the shard, and the place of the video in it."""
        size, stamp = self._versions[self.shard_of[row]]
        return f"{size} {stamp} {self.offsets[row]}+{self.sizes[row]}"

    @cached_property
    def _versions(self) -> list[tuple[int, str]]:
        """Size and stamp of each shard; a packed index at a URL has no stamps."""

        def find(shard: Shard) -> tuple[int, str]:
            found = shard if shard.stamp else find_shard(shard.url)
            return found.size, found.stamp

        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            return list(threads.map(find, self.shards))

    def take(self, rows: NDArray[np.int64]) -> TarArchive:
        """Return the archive of some videos, with their shards."""
        kept, shard_of = np.unique(self.shard_of[rows], return_inverse=True)
        return replace(
            self,
            shards=tuple(self.shards[shard] for shard in kept),
            shard_of=shard_of.astype(np.int32),
            offsets=self.offsets[rows],
            sizes=self.sizes[rows],
        )


INDEX_NAME = "index.parquet"

_FORMAT = 1
_KEY = "mvit_video_shards"


def write_index(path: Path, table: VideoTable, archive: TarArchive) -> None:
    """Write the rows of a table that are in an archive, in the order of the table.

    Columns: `shard` (name), `offset` and `size` of the video in the shard, `path`, `label` (or a list), perhaps
    `label_spans`, `start`, `end` (seconds, null for the complete video). Metadata: format, sizes of the shards, class
    names.
    """
    rows = np.flatnonzero(archive.shard_of >= 0)
    names = [posixpath.basename(shard.url) for shard in archive.shards]
    facts = {
        "format": _FORMAT,
        "class_names": table.class_names,
        "shards": {name: shard.size for name, shard in zip(names, archive.shards, strict=True)},
    }
    columns = {
        "shard": pa.DictionaryArray.from_arrays(pa.array(archive.shard_of[rows]), pa.array(names, pa.string())),
        "offset": archive.offsets[rows],
        "size": archive.sizes[rows],
        "path": table.paths.take(pa.array(rows)),
        **{name: column.take(pa.array(rows)) for name, column in (table.label_columns | table.span_columns).items()},
    }
    parquet.write_table(pa.table(columns, metadata={_KEY: json.dumps(facts).encode()}), path)


def read_packed(folder: str, wanted: Sequence[str] | None) -> tuple[Rows, TarArchive] | None:
    """Return the rows of packed shards; None if there is no index.

    Args:
        wanted: URLs of some shards of the folder; None takes all.

    Raises:
        AnnotationError: the index does not match the shards.
    """
    index = posixpath.join(folder, INDEX_NAME)
    data = read_file(index)
    if data is None:
        return None
    try:
        columns, metadata = read_parquet_table(index, data)
    except AnnotationError as error:
        raise AnnotationError(index, 0, f"cannot be read ({error.reason}); pack again") from None
    if _KEY not in metadata:  # another file of that name
        return None
    facts = json.loads(metadata[_KEY])
    if facts["format"] != _FORMAT:
        raise AnnotationError(index, 0, f"has format {facts['format']}, expected {_FORMAT}; pack again")
    sizes: dict[str, int] = facts["shards"]
    names = list(sizes) if wanted is None else [posixpath.basename(url) for url in wanted]
    shards = _check_shards(index, folder, sizes, names, is_whole=wanted is None)
    found = compute.index_in(columns["shard"].combine_chunks(), value_set=as_strings(names))
    shard_of = found.fill_null(-1).to_numpy()
    if wanted is not None:
        columns, shard_of = columns.filter(pa.array(shard_of >= 0)), shard_of[shard_of >= 0]
    archive = TarArchive(shards, shard_of, columns["offset"].to_numpy(), columns["size"].to_numpy())
    _check_ranges(index, archive)
    names = facts["class_names"]
    classes = None if names is None else ClassNames(tuple(names), index)
    return rows_of_columns(folder, columns, columns["label"].combine_chunks(), classes), archive


def rows_of_columns(folder: str, columns: pa.Table, labels: pa.Array, classes: ClassNames | None) -> Rows:
    """Return rows with the columns `path`, `start`, `end` (seconds) and perhaps `label_spans` of an index."""
    return Rows(
        folder,
        np.arange(len(columns)),
        columns["path"].combine_chunks(),
        labels,
        np.stack([columns[name].to_numpy() for name in ("start", "end")], axis=1),
        classes=classes,
        root=Path(folder),
        label_spans=columns[LABEL_SPANS].combine_chunks() if LABEL_SPANS in columns.column_names else None,
        unit="video",
    )


def _check_shards(
    index: str, folder: str, sizes: dict[str, int], names: list[str], is_whole: bool
) -> tuple[Shard, ...]:
    listed = [posixpath.basename(url) for url in list_shards(folder)] if is_whole and not is_url(folder) else names
    unknown = [name for name in listed if name not in sizes]
    if unknown:
        raise AnnotationError(
            index, 0, f"does not list {unknown[0]}; move that file, or remove {INDEX_NAME} to index all shards again"
        )
    shards: list[Shard] = []
    for name in names:
        url = posixpath.join(folder, name)
        # sizes at a URL are slow to get; reads are checked against the index
        shard = Shard(url, sizes[name], "") if is_url(url) else find_shard(url)
        if shard.size != sizes[name]:
            raise AnnotationError(
                index, 0, f"lists {name} with {sizes[name]} bytes, it has {shard.size}; copy the shard again, or "
                f"remove {INDEX_NAME} to index all shards again"
            )  # fmt: skip
        shards.append(shard)
    return tuple(shards)


def _check_ranges(index: str, archive: TarArchive) -> None:
    lengths = np.array([shard.size for shard in archive.shards])[archive.shard_of]
    outside = (archive.offsets < 0) | (archive.sizes < 0) | (archive.sizes > lengths - archive.offsets)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise AnnotationError(
            index, 0, f"row {row} is at bytes {archive.offsets[row]} to {archive.offsets[row] + archive.sizes[row]} of "
            f"{archive.shards[archive.shard_of[row]].url}, which has {lengths[row]}; pack again"
        )  # fmt: skip


_CACHE_NAME = ".mvit_video_index"
_CACHE_FORMAT = "3"
_CACHE_KEY = "mvit_video"
_NUM_THREADS = 8


def read_shards(source: str | os.PathLike[str]) -> tuple[Rows, TarArchive]:
    """Read the list of videos in tar files in the layout of WebDataset; the videos are read later, one by one.

    Shards of `mvit-video pack` have an index. The headers of other shards are read once and cached, beside local shards
    or in the user's cache folder; labels are in `.cls` (a number), `.json` (`label` or `labels`) or `.txt` (text).

    Args:
        source: a tar, a folder of them, a pattern such as `train-{000000..000099}.tar` or `train-*.tar`, or the URL of
            any of these.

    Raises:
        AnnotationError: names the shard, the place in it and the value.
    """
    source = local_path(os.fspath(source))
    if is_folder(source):
        packed = read_packed(source, None)
        urls = [] if packed is not None else list_shards(source)
    else:
        urls = list_shards(source)
        folders = {posixpath.dirname(url) for url in urls}
        packed = read_packed(folders.pop(), urls) if len(folders) == 1 else None
    return packed if packed is not None else _index(source, urls)


def _index(source: str, urls: list[str]) -> tuple[Rows, TarArchive]:
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        shards = tuple(threads.map(find_shard, urls))
        console = Console(stderr=True)
        found = list(
            track(
                threads.map(_cached_samples, shards),
                "indexing shards", len(shards), console=console, transient=True, disable=not console.is_terminal,
            )
        )  # fmt: skip
    num_rows = [len(table) for table in found]
    if not sum(num_rows):
        raise AnnotationError(source, 0, "has no videos; name a video KEY.mp4 and its label KEY.cls")
    columns = pa.concat_tables(
        [table.select(["path", "offset", "size", "start", "end", LABEL_SPANS]) for table in found]
    )
    archive = TarArchive(
        shards,
        np.repeat(np.arange(len(shards), dtype=np.int32), num_rows),
        columns["offset"].to_numpy(),
        columns["size"].to_numpy(),
    )
    labels = _join_labels(shards, [table["label"] for table in found])
    return rows_of_columns(posixpath.dirname(urls[0]), columns, labels, None), archive


def _join_labels(shards: Sequence[Shard], found: Sequence[pa.ChunkedArray]) -> pa.Array:
    """Return the labels of all shards in one column; a shard has texts, lists of texts, or nulls."""
    kinds: dict[pa.DataType, Shard] = {}
    for shard, column in zip(shards, found, strict=True):
        if not pa.types.is_null(column.type):  # shards without labels go with any
            kinds.setdefault(column.type, shard)
    if len(kinds) > 1:
        several, single = (kinds[kind] for kind in sorted(kinds, key=str))  # large_list, large_string
        raise AnnotationError(
            several.url, 0, f"has lists of labels, {single.url} has single labels; use one kind in all shards"
        )
    kind = next(iter(kinds), pa.large_string())
    return pa.chunked_array([chunk.cast(kind) for column in found for chunk in column.chunks], kind).combine_chunks()


def _cached_samples(shard: Shard) -> pa.Table:
    """Return the samples of a shard, from the cache if the shard has not changed."""
    key = json.dumps([_CACHE_FORMAT, shard.size, shard.stamp])
    files = _cache_files(shard)
    for file in files:
        if not file.exists():
            continue
        try:
            table, metadata = read_parquet_table(file)
        except AnnotationError:
            continue
        if metadata.get(_CACHE_KEY) == key:
            return table
    table = read_samples(shard)
    for file in files:
        try:
            with atomic_write(file) as unfinished:
                parquet.write_table(table.replace_schema_metadata({_CACHE_KEY: key}), unfinished)
        except OSError:  # read-only, or full
            continue
        break
    return table


def _cache_files(shard: Shard) -> list[Path]:
    """Return possible cache files of a shard, the best first."""
    name = posixpath.basename(shard.url)
    address = shard.url if is_url(shard.url) else os.path.abspath(shard.url)
    unique = f"{hashlib.sha256(address.encode()).hexdigest()[:16]}-{name[-100:]}.parquet"
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mvit_video" / "shards" / unique
    return [user] if is_url(shard.url) else [Path(shard.url).parent / _CACHE_NAME / f"{name}.parquet", user]
