"""Stored features: rows as an Arrow table, vectors as one memory-mapped array.

Letters: R rows, V videos, C channels of a vector.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.jobs import atomic_write
from mvit_video.jobs.arrow import compute, joined
from mvit_video.jobs.foreign import parsing, read_parquet_column, read_parquet_schema, read_parquet_table, require_file
from mvit_video.types import ConfigError, MVitVideoError, printable

_log = logging.getLogger(__name__)

COLUMNS = (
    "path", "label", "window", "crop", "start_seconds", "end_seconds", "center_seconds", "start_frame", "end_frame",
    "num_padded",
)  # fmt: skip
_ROWS_PER_BATCH = 4096
_ARRAY_NAME = re.compile(r"[a-z]+-[0-9a-f]{16}\.npy")
_STORED = {pa.float16(): np.dtype(np.float16), pa.float32(): np.dtype(np.float32)}


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Features of videos; each extracted part of a file counts as a video.

    Attributes:
        source: folder or file that was read.
        rows: every column except the vectors, in the order of the part files.
        vectors: `(R, C)` in half or single precision; maps are flattened.
        video: `(R,)` number of each row's video, increasing from 0.
        file: `(R,)` number of each row's file; videos of one file share it.
        files: path of each file.
        metadata: metadata of the part files: `feature_shape`, `layer`, `model` and `key`.
        record: content of `extract.json`; empty where there is none.

    Examples:
        >>> table = mv.load_features("features")
        >>> len(table), table.vectors.shape, table.label.tolist()
        (6, (6, 32), [0, 0, 1, 1, 2, 2])
    """

    source: Path
    rows: pa.Table
    vectors: NDArray[np.floating[Any]]
    video: NDArray[np.int64]
    file: NDArray[np.int64]
    files: pa.Array
    metadata: dict[str, str]
    record: dict[str, Any]
    _cache: _Cache

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        layer = f"layer {self.metadata['layer']}, " if "layer" in self.metadata else ""
        names = f", classes {', '.join(self.class_names)}" if self.class_names else ""
        size = f"{len(self):,} rows of {len(self.first_rows):,} videos"
        return f"{self.source}: {layer}{size}, {self.vectors.shape[1]:,} channels{printable(names, 200)}"

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Name of each class, when known."""
        names = self.record.get("class_names")
        return None if names is None else tuple(names)

    @cached_property
    def label(self) -> NDArray[np.int64]:
        """`(R,)` class of each row; -1 where unknown."""
        return compute.fill_null(self.rows["label"], -1).to_numpy()

    @cached_property
    def first_rows(self) -> NDArray[np.int64]:
        """`(V,)` first row of each video."""
        return np.flatnonzero(np.diff(self.video, prepend=-1))

    def numbers_of(self, files: pa.Array) -> NDArray[np.int64]:
        """Return the number of each file in this table; -1 where it is not in it."""
        return compute.index_in(files, value_set=self.files).fill_null(-1).to_numpy().astype(np.int64)

    def averaged(self) -> FeatureTable:
        """Return a table with one row per video: the mean vector of its windows and crops."""
        first = self.first_rows
        last = np.append(first[1:], len(self)) - 1
        column = {name: self.rows[name] for name in COLUMNS}
        ends = {name: column[name].take(pa.array(last)) for name in ("end_seconds", "end_frame")}
        starts = {name: column[name].take(pa.array(first)) for name in COLUMNS if name not in ends}
        begin, end = starts["start_seconds"].to_numpy(), ends["end_seconds"].to_numpy()
        zeros = {name: pa.array(np.zeros(len(first), np.int64)).cast(column[name].type) for name in ("window", "crop")}
        padded = pa.array(np.add.reduceat(column["num_padded"].to_numpy(), first))
        columns = starts | ends | zeros | {"center_seconds": pa.array((begin + end) / 2), "num_padded": padded}
        vectors = self._cache.mapped(
            "videos", (len(first), self.vectors.shape[1]), np.dtype(np.float32), lambda: self._means(first, last + 1)
        )
        return FeatureTable(
            self.source, pa.table({name: columns[name] for name in COLUMNS}), vectors, np.arange(len(first)),
            self.file[first], self.files, self.metadata, self.record, self._cache,
        )  # fmt: skip

    def _means(self, first: NDArray[np.int64], end: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        """Yield the mean vectors of the videos, some videos at a time."""
        start = 0
        while start < len(first):
            stop = max(start + 1, int(np.searchsorted(end, first[start] + _ROWS_PER_BATCH, side="right")))
            rows = self.vectors[first[start] : end[stop - 1]].astype(np.float32)
            sums = np.add.reduceat(rows, first[start:stop] - first[start], axis=0)
            yield sums / (end[start:stop] - first[start:stop])[:, None].astype(np.float32)
            start = stop


def load_features(source: str | os.PathLike[str], class_names: Sequence[str] | None = None) -> FeatureTable:
    """Read the features that `mvit-video extract` wrote in Parquet.

    Parquet cannot be mapped: the first call copies the vectors to a `.npy` file in a folder `mapped` beside the part
    files, and later calls map that file. If it cannot be written, the vectors are read into memory.

    Args:
        source: folder of an extraction, folder of part files, or one Parquet file.
        class_names: name of each class; None takes those of the extraction.

    Raises:
        ConfigError: there are no features, or more classes than names.
        MVitVideoError: the files hold no features, or features of several extractions.

    Examples:
        >>> print(mv.load_features("features"))
        features: layer pooled, 6 rows of 6 videos, 32 channels, classes jump, run, sit
    """
    path = Path(source)
    parts = _parts(path)
    if not parts:
        raise ConfigError(f"{path}: there are no features in Parquet here; give the --out folder of mvit-video extract")
    try:
        schema = _agreed_schema(parts)
        read = [read_parquet_table(part, wanted=COLUMNS) for part in parts]
        rows, metadata = pa.concat_tables([table for table, _ in read]).combine_chunks(), read[0][1]
        kind = schema.field("feature").type
        cache = _Cache(path / "mapped" if path.is_dir() else path.with_name(f"{path.name}.mapped"), _key(parts))
        shape = (rows.num_rows, kind.list_size)
        vectors = cache.mapped("vectors", shape, _STORED[kind.value_type], lambda: _read_vectors(parts))
    except OSError as error:
        raise MVitVideoError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not len(vectors):
        raise MVitVideoError(f"{path}: holds no features, not a single row")
    encoded = joined(rows["path"]).dictionary_encode()
    file = encoded.indices.to_numpy().astype(np.int64)
    record = _record(path) | ({} if class_names is None else {"class_names": list(class_names)})
    if record.get("checkpoint", "") is None:
        _log.warning("%s: features of random weights, so they mean nothing: extract with a checkpoint", path)
    table = FeatureTable(path, rows, vectors, _videos(rows, file), file, encoded.dictionary, metadata, record, cache)
    if class_names is not None and (largest := int(table.label.max())) >= len(class_names):
        raise ConfigError(f"class_names holds {len(class_names)} names, {path} has class {largest}")
    return table


def require_alike(one: FeatureTable, other: FeatureTable) -> None:
    """Refuse features that cannot be compared.

    Raises:
        ConfigError: they are of different models, layers or shapes, or number the classes differently.
    """
    for key in ("model", "layer", "feature_shape"):
        found, expected = other.metadata.get(key), one.metadata.get(key)
        if found != expected:
            raise ConfigError(f"{other.source} has {key} {found} but {one.source} {expected}; extract both alike")
    if None in (one.class_names, other.class_names):
        return
    for number, (name, expected) in enumerate(zip_longest(other.class_names or (), one.class_names or ())):
        if name != expected:
            raise ConfigError(f"class {number} is {name!r} in {other.source} but {expected!r} in {one.source}")


def video_means(of_rows: NDArray[np.float64], table: FeatureTable) -> NDArray[np.float64]:
    """Return the mean over the rows of each video, `(V, K)`."""
    sums = np.add.reduceat(of_rows, table.first_rows, axis=0)
    return sums / np.bincount(table.video)[:, None]


def _parts(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".parquet" else []
    found = (sorted(filter(Path.is_file, folder.glob("part-*.parquet"))) for folder in (path / "features", path))
    return next(filter(None, found), [])


def _record(path: Path) -> dict[str, Any]:
    folder = path.parent if path.is_file() else path
    file = folder / "extract.json"
    if folder.name == "features" and not file.exists():
        file = folder.parent / file.name
    if not file.exists():
        return {}
    require_file(file)
    with parsing(file):
        record = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise MVitVideoError(f"{file}: not the record of an extraction; extract the features again")
    return record


def _agreed_schema(parts: Sequence[Path]) -> pa.Schema:
    """Return the schema of the first part; all parts must share the type of vectors and the key."""
    first, agreed = None, None
    for part in parts:
        schema = read_parquet_schema(part)
        missing = next((name for name in (*COLUMNS, "feature") if name not in schema.names), None)
        if missing is not None:
            raise MVitVideoError(f"{part}: these are no features of mvit-video extract, {missing} is missing")
        kind = schema.field("feature").type
        if not pa.types.is_fixed_size_list(kind) or kind.value_type not in _STORED:
            raise MVitVideoError(f"{part}: feature is {kind}, expected fixed_size_list of halffloat or float")
        found = kind.list_size, kind.value_type, (schema.metadata or {}).get(b"key")
        first, agreed = first or schema, agreed or found
        if found != agreed:
            raise MVitVideoError(f"{part}: comes from another extraction than {parts[0]}; give one of them")
    assert first is not None
    return first


def _read_vectors(parts: Sequence[Path]) -> Iterator[NDArray[Any]]:
    for part in parts:
        for column in read_parquet_column(part, "feature", _ROWS_PER_BATCH):
            values = column.flatten()
            if column.null_count or values.null_count:
                raise MVitVideoError(f"{part}: a feature is null; extract it again")
            yield values.to_numpy().reshape(len(column), -1)


def _videos(rows: pa.Table, file: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of each row's video: a new one begins with another file, or where windows count from 0."""
    window, crop = (rows[name].to_numpy().astype(np.int64) for name in ("window", "crop"))
    continues = (window[1:] > window[:-1]) | ((window[1:] == window[:-1]) & (crop[1:] > crop[:-1]))
    return np.concatenate([[0], np.cumsum((file[1:] != file[:-1]) | ~continues)])


def _key(parts: Sequence[Path]) -> str:
    stats = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    return hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Cache:
    """Arrays kept in files of `folder` whose names end in `key`."""

    folder: Path
    key: str

    def mapped(
        self, name: str, shape: tuple[int, int], kind: np.dtype[Any], blocks: Callable[[], Iterator[NDArray[Any]]]
    ) -> NDArray[Any]:
        """Return the array of a name, made of blocks of rows the first time."""
        file = self.folder / f"{name}-{self.key}.npy"
        with suppress(OSError, ValueError, EOFError):  # missing or damaged
            found = np.load(file, mmap_mode="r")
            if found.shape == shape and found.dtype == kind:
                return found
        try:
            return self._write(file, shape, kind, blocks)
        except OSError:
            return np.concatenate([np.empty((0, shape[1]), kind), *blocks()])

    def _write(
        self, file: Path, shape: tuple[int, int], kind: np.dtype[Any], blocks: Callable[[], Iterator[NDArray[Any]]]
    ) -> NDArray[Any]:
        self.folder.mkdir(exist_ok=True)
        # a file that another program has mapped must not be cut short
        with atomic_write(file) as unfinished, unfinished.open("wb") as out:
            header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(out, header)
            for block in blocks():
                out.write(np.ascontiguousarray(block, kind).data)
        self._sweep()
        return np.load(file, mmap_mode="r")

    def _sweep(self) -> None:
        """Remove the arrays of earlier part files."""
        for old in self.folder.iterdir():
            if _ARRAY_NAME.fullmatch(old.name) and not old.stem.endswith(self.key):
                with suppress(OSError):
                    old.unlink()
