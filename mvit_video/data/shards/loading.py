"""Rows of a table from tar files."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from rich.console import Console
from rich.progress import track

from mvit_video.data.shards.archive import TarArchive, read_packed, rows_of_columns
from mvit_video.data.shards.samples import read_samples
from mvit_video.data.table.labels import LABEL_SPANS
from mvit_video.data.table.rows import Rows
from mvit_video.jobs import atomic_write
from mvit_video.jobs.foreign import read_parquet_table
from mvit_video.jobs.stores import Shard, find_shard, is_folder, is_url, list_shards, local_path
from mvit_video.types import AnnotationError

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
