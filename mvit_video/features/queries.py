"""Queries of a search: rows of stored features, or a video whose features are extracted like those.

Letters: Q queries, C channels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.features.extractor import Extractor, ExtractSettings
from mvit_video.features.inputs import one_video
from mvit_video.features.store import FeatureTable
from mvit_video.features.videos import VideoFeatures
from mvit_video.jobs.arrow import compute
from mvit_video.jobs.foreign import read_parquet_table
from mvit_video.types import ConfigError


class Queries(NamedTuple):
    """Queries of a search.

    Attributes:
        vectors: `(Q, C)`.
        path: path of each query's video.
        start_seconds: `(Q,)` start of the part of the video.
        end_seconds: `(Q,)` end of the part of the video.
        label: `(Q,)` class; -1 where unknown.
        file: `(Q,)` number of its file among the searched ones; -1 where it is none of them.
    """

    vectors: NDArray[Any]
    path: list[str]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    label: NDArray[np.int64]
    file: NDArray[np.int64]


class _Windows(NamedTuple):
    """Windows of one file, one for each crop."""

    vectors: NDArray[Any]
    start_seconds: NDArray[np.float64]
    end_seconds: NDArray[np.float64]
    center_seconds: NDArray[np.float64]


def query_rows(asked: FeatureTable, table: FeatureTable) -> Queries:
    """Return every row of a table as a query over another."""
    rows = asked.rows
    return Queries(
        asked.vectors,
        rows["path"].to_pylist(),
        rows["start_seconds"].to_numpy(),
        rows["end_seconds"].to_numpy(),
        asked.label,
        table.numbers_of(asked.files)[asked.file],
    )


def query_video(text: str, table: FeatureTable) -> Queries:
    """Return one query: the mean of the windows of a video, or with `:SECONDS` the window there.

    Args:
        text: path of a video of the table, or of any other video, whose features are then extracted.
        table: every window that is searched.

    Raises:
        ConfigError: there is no such video or moment, or the model of the table is missing.
        VideoDecodeError: the video cannot be read.
    """
    path, number, seconds = _place(text, table)
    label = -1
    if number >= 0:
        own = np.flatnonzero(table.file == number)
        columns = (table.rows[name].to_numpy()[own] for name in _Windows._fields[1:])
        windows = _Windows(table.vectors[own], *columns)
        labels = np.unique(table.label[own])
        label = int(labels[0]) if len(labels) == 1 else -1
    else:
        windows = _of_features(extractor_of(table).extract(one_video(path)))
    vector, start, end = _chosen(windows, seconds, text)
    return Queries(vector[None], [path], np.array([start]), np.array([end]), np.array([label]), np.array([number]))


def extractor_of(table: FeatureTable) -> Extractor:
    """Return the extractor that made the features of a table.

    Raises:
        ConfigError: the table does not state its model, or the model has changed since.
    """
    record = table.record
    if "model" not in record:
        raise ConfigError(f"{table.source}: no extract.json states the model; search for a video of the table")
    extractor = Extractor(settings_of(record))
    if extractor.key != record["key"]:
        model = record["checkpoint"] or record["model"]
        raise ConfigError(f"{model} did not make {table.source}: weights or preprocessing have changed")
    return extractor


def settings_of(record: Mapping[str, Any]) -> ExtractSettings:
    """Return the settings that an `extract.json` records."""
    crops, preprocessing = str(record["crops"]), record["preprocessing"]
    return ExtractSettings(
        model=record["checkpoint"] or record["model"],
        layer=record["layer"],
        window=record["window"],
        stride=record["stride"],
        num_crops=int(crops.split()[-1]),
        keep_crops=crops.startswith("each"),
        precision=record["precision"],
        backend=preprocessing["backend"],
        decode_short_side=preprocessing["decode_short_side"],
    )


def _place(text: str, table: FeatureTable) -> tuple[str, int, float | None]:
    """Return path, its number among the files of the table or -1, and seconds; a path may contain a colon."""
    split = re.fullmatch(r"(.+):(\d+(?:\.\d*)?)", text)
    for path, seconds in [(text, None), *([(split[1], float(split[2]))] if split else [])]:
        number = int(table.numbers_of(pa.array([path], table.files.type))[0])
        if number < 0 and Path(path).is_file():
            return path, _number_of_file(Path(path), table), seconds
        if number >= 0:
            return path, number, seconds
    raise ConfigError(f"--query {text}: neither a video of {table.source} nor a file; give PATH or PATH:SECONDS")


def _number_of_file(path: Path, table: FeatureTable) -> int:
    """Return the number of a file whose path in the table starts from another folder; -1 if there is none."""
    alike = compute.ends_with(table.files, path.name).to_numpy(zero_copy_only=False)
    manifest = table.source / "manifest.parquet"
    sizes = read_parquet_table(manifest, wanted=["path", "size"])[0] if manifest.is_file() else None
    for number in np.flatnonzero(alike).tolist():
        stored = table.files[number].as_py()
        if not os.path.abspath(path).endswith(os.sep + stored.lstrip(os.sep)):
            continue
        # another file may have the same name in another folder
        known = [] if sizes is None else sizes.filter(compute.equal(sizes["path"], stored))["size"].to_pylist()
        if known in ([], [None], [path.stat().st_size]):
            return number
    return -1


def _of_features(features: VideoFeatures) -> _Windows:
    num_crops = features.feature.shape[1]
    times = (features.start_seconds, features.end_seconds, features.center_seconds)
    vectors = features.feature.reshape(len(features.feature) * num_crops, -1)
    return _Windows(vectors, *(np.repeat(each, num_crops) for each in times))


def _chosen(windows: _Windows, seconds: float | None, text: str) -> tuple[NDArray[np.float32], float, float]:
    """Return the mean of the queried windows, their start and their end."""
    if seconds is None:
        chosen = np.arange(len(windows.vectors))
    else:
        begin, end = windows.start_seconds.min(), windows.end_seconds.max()
        if not begin <= seconds <= end:
            raise ConfigError(f"--query {text}: its windows are from {begin:g} to {end:g} seconds")
        distance = np.abs(windows.center_seconds - seconds)
        chosen = np.flatnonzero(distance == distance.min())
    mean = windows.vectors[chosen].astype(np.float32).mean(axis=0)
    return mean, float(windows.start_seconds[chosen].min()), float(windows.end_seconds[chosen].max())
