"""Features in Parquet, a row per window."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.annotations.arrow import compute
from mvit_video.data.jobs import Folder
from mvit_video.features.writers.naming import group_name

if TYPE_CHECKING:
    from mvit_video.features.videos import VideoFeatures

# parts of a run are joined until they are this large
_PART_BYTES = 2**26


class ParquetWriter:
    """Writes `part-*.parquet`; the rows of a video lie in one of them, in order.

    Columns: `path`, `label`, `window`, `crop`, `start_seconds`, `end_seconds`, `center_seconds`, `start_frame`,
    `end_frame`, `num_padded`, `feature`, and `video`, which is what the manifest calls it: its path, with the seconds
    of the part that was asked for, if it was. The metadata have `feature_shape`, `layer`, `model` and `key`.

    Args:
        folder: path or URL of where the files go.
        record: what is true of all features, as `Extractor.record` has it.
    """

    def __init__(self, folder: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
        self._folder = Folder(folder)
        value = pa.float32() if record["precision"] == "fp32" else pa.float16()
        self.schema = pa.schema(
            {
                "path": pa.string(),
                "label": pa.int64(),
                "window": pa.int32(),
                "crop": pa.int8(),
                "start_seconds": pa.float64(),
                "end_seconds": pa.float64(),
                "center_seconds": pa.float64(),
                "start_frame": pa.int64(),
                "end_frame": pa.int64(),
                "num_padded": pa.int32(),
                "feature": pa.list_(value, prod(record["feature_shape"])),
                "video": pa.string(),
            },
            metadata={
                "feature_shape": json.dumps(record["feature_shape"]),
                **{name: record[name] for name in ("layer", "model", "key")},
            },
        )

    def write(self, batch: Sequence[VideoFeatures]) -> None:
        """Writes some videos to a part of their own."""
        if batch:
            self._write(pa.concat_tables([self._rows(features) for features in batch]))

    def keep_only(self, videos: pa.StringArray) -> None:
        """Writes anew the parts that hold other videos too, or older features of the same ones."""
        seen = pa.array([], pa.string())
        for part in self._parts()[::-1]:
            found = self._folder.read_table(part, columns=["video"])["video"].combine_chunks()
            is_kept = compute.and_(
                compute.is_in(found, value_set=videos), compute.invert(compute.is_in(found, value_set=seen))
            )
            seen = pa.concat_arrays([seen, compute.unique(found)])
            if not compute.all(is_kept).as_py():
                self._filter(part, is_kept)

    def finish(self) -> None:
        """Joins the parts of a few seconds each to larger ones."""
        sizes = {part: self._folder.size(part) for part in self._parts()}
        small = [part for part in sizes if sizes[part] < _PART_BYTES // 2]
        group: list[str] = []
        size = 0
        for part in small:
            group.append(part)
            size += sizes[part]
            if size >= _PART_BYTES or part == small[-1]:
                self._join(group)
                group, size = [], 0

    def _rows(self, features: VideoFeatures) -> pa.Table:
        video, (num_windows, num_crops) = features.video, features.feature.shape[:2]
        num_rows = num_windows * num_crops

        def per_window(values: NDArray[Any]) -> NDArray[Any]:
            return values.repeat(num_crops)

        kind = self.schema.field("feature").type
        vectors = np.ascontiguousarray(features.feature).reshape(-1)
        columns = {
            "path": pa.array([video.path] * num_rows, pa.string()),
            "label": pa.array([video.label] * num_rows, pa.int64()),
            "window": per_window(np.arange(num_windows)),
            "crop": np.tile(np.arange(num_crops), num_windows),
            **{name: per_window(getattr(features, name)) for name in self.schema.names if name.endswith("_seconds")},
            **{name: per_window(getattr(features, name)) for name in ("start_frame", "end_frame", "num_padded")},
            "feature": pa.FixedSizeListArray.from_arrays(pa.array(vectors, kind.value_type), kind.list_size),
            "video": pa.array([group_name(video.path, video.span)] * num_rows, pa.string()),
        }
        arrays = [pa.array(columns[field.name]).cast(field.type) for field in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _parts(self) -> list[str]:
        return self._folder.names("part-*.parquet")

    def _write(self, rows: pa.Table) -> None:
        # the time orders parts, the process keeps two programs apart
        self._write_to(f"part-{time.time_ns():020d}-{os.getpid()}.parquet", rows)

    def _write_to(self, part: str, rows: pa.Table) -> None:
        # features repeat no values and nobody asks for their range: with dictionary and statistics this takes 8 times
        # as long, and reading 5 times, for 6 % less to store
        plain = [name for name in self.schema.names if name != "feature"]
        self._folder.write_table(part, rows, use_dictionary=plain, write_statistics=plain)

    def _filter(self, part: str, is_kept: pa.BooleanArray) -> None:
        if compute.any(is_kept).as_py():
            self._write_to(part, self._folder.read_table(part).filter(is_kept))
        else:
            self._folder.remove(part)

    def _join(self, parts: Sequence[str]) -> None:
        """A kill leaves rows twice at worst, of which the next run keeps the newer."""
        if len(parts) > 1:
            self._write(pa.concat_tables([self._folder.read_table(part) for part in parts]))
            for part in parts:
                self._folder.remove(part)
