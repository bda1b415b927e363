"""`index.parquet`: what `pack` leaves beside its shards, so that no header has to be read."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from mvit_video.data.shards.archive import TarArchive
from mvit_video.data.table.classes import ClassNames
from mvit_video.data.table.label_spans import COLUMN
from mvit_video.data.table.rows import Rows
from mvit_video.data.table.video_table import VideoTable
from mvit_video.jobs.arrow import as_strings, compute
from mvit_video.jobs.foreign import read_parquet_table
from mvit_video.jobs.stores import Shard, find_shard, is_url, list_shards, read_file
from mvit_video.types import AnnotationError

INDEX_NAME = "index.parquet"

_FORMAT = 1
_KEY = "mvit_video_shards"


def write_index(path: Path, table: VideoTable, archive: TarArchive) -> None:
    """Write the rows of a table that an archive of as many rows holds, in the table's order.

    Columns: `shard` (name), `offset`, `size` (of the video in the shard), `path`, `label` (or lists of them), perhaps
    `label_spans`, `start`, `end` (seconds, null where the whole video counts). Metadata: format, sizes of the shards,
    class names.
    """
    rows = np.flatnonzero(archive.shard_of >= 0)
    names = [posixpath.basename(shard.url) for shard in archive.shards]
    spans = np.full((len(table), 2), np.nan) if table.spans is None else table.spans
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
        **{name: column.take(pa.array(rows)) for name, column in table.label_columns.items()},
        "start": pa.array(spans[rows, 0], from_pandas=True),
        "end": pa.array(spans[rows, 1], from_pandas=True),
    }
    parquet.write_table(pa.table(columns, metadata={_KEY: json.dumps(facts).encode()}), path)


def read_packed(folder: str, wanted: Sequence[str] | None) -> tuple[Rows, TarArchive] | None:
    """Return the rows of packed shards; None where nothing was packed.

    Args:
        wanted: URLs of some of the shards of the folder; None takes all.

    Raises:
        AnnotationError: the index and the shards do not belong together.
    """
    index = posixpath.join(folder, INDEX_NAME)
    data = read_file(index)
    if data is None:
        return None
    try:
        columns, metadata = read_parquet_table(index, data)
    except AnnotationError as error:
        raise AnnotationError(index, 0, f"cannot be read ({error.reason}); pack again") from None
    if _KEY not in metadata:  # something else of that name
        return None
    facts = json.loads(metadata[_KEY])
    if facts["format"] != _FORMAT:
        raise AnnotationError(index, 0, f"has format {facts['format']}, this version reads {_FORMAT}; pack again")
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
    """Return rows with the columns `path`, `start`, `end` (seconds) and perhaps `label_spans` of an index.

    Args:
        classes: numbering of the labels, where they are numbers.
    """
    return Rows(
        folder,
        np.arange(len(columns)),
        columns["path"].combine_chunks(),
        labels,
        np.stack([columns[name].to_numpy() for name in ("start", "end")], axis=1),
        classes=classes,
        root=Path(folder),
        label_spans=columns[COLUMN].combine_chunks() if COLUMN in columns.column_names else None,
        unit="video",
    )


def _check_shards(
    index: str, folder: str, sizes: dict[str, int], names: list[str], is_whole: bool
) -> tuple[Shard, ...]:
    listed = [posixpath.basename(url) for url in list_shards(folder)] if is_whole and not is_url(folder) else names
    unknown = [name for name in listed if name not in sizes]
    if unknown:
        raise AnnotationError(
            index, 0, f"does not list {unknown[0]}; move it elsewhere, or remove {INDEX_NAME} to index all shards again"
        )
    shards: list[Shard] = []
    for name in names:
        url = posixpath.join(folder, name)
        # asking for each at a URL takes long; what is read from it is held against the index
        shard = Shard(url, sizes[name], "") if is_url(url) else find_shard(url)
        if shard.size != sizes[name]:
            raise AnnotationError(
                index, 0, f"says that {name} has {sizes[name]} bytes, it has {shard.size}; copy the shard again, or "
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
            index, 0, f"row {row} lies at bytes {archive.offsets[row]} to {archive.offsets[row] + archive.sizes[row]} "
            f"of {archive.shards[archive.shard_of[row]].url}, which has {lengths[row]}; pack again"
        )  # fmt: skip
