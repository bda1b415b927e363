"""Features in Parquet, a row per window."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.features.videos import VideoFeatures
from mvit_video.features.writers.parts import Damaged, Kept, keep_only_listed
from mvit_video.jobs import Folder
from mvit_video.jobs.arrow import compute
from mvit_video.jobs.folder import new_part

# parts of a run are joined until they are this large
_PART_BYTES = 2**26


class ParquetWriter:
    """Writer of `part-*.parquet`; the rows of a video are in one of them, in order.

    Columns: `path`, `label`, `window`, `crop`, `start_seconds`, `end_seconds`, `center_seconds`, `start_frame`,
    `end_frame`, `num_padded`, `feature`, and `video`, the name in the manifest. The metadata have `feature_shape`,
    `layer`, `model` and `key`.

    Args:
        folder: path or URL.
        record: `Extractor.record`.
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
        """Write some videos to a new part."""
        self._write(pa.concat_tables([self._rows(features) for features in batch]))

    def require_free(self, videos: Sequence[str]) -> None:
        """Accept all videos: a column names them."""

    def keep_only(self, listed: Mapping[str, int]) -> Kept:
        """Rewrite the parts that hold other videos too, or older features."""
        return keep_only_listed(self._folder, "parquet", listed, self._contents, self._filter)

    def finish(self) -> None:
        """Join small parts to larger ones."""
        sizes = {part: self._folder.size(part) for part in self._folder.names("part-*.parquet")}
        small = [part for part in sizes if sizes[part] < _PART_BYTES // 2 and self._is_own(part)]
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
            "video": pa.array([video.name] * num_rows, pa.string()),
        }
        arrays = [pa.array(columns[field.name]).cast(field.type) for field in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _contents(self, part: str) -> dict[str, int] | None:
        """Return the number of windows of each video in a part; None for a part of another extraction."""
        try:
            rows = self._folder.read_table(part, columns=["video", "crop"])
            rows.validate(full=True)  # text may be no UTF-8
        except (pa.ArrowException, OSError) as error:
            if getattr(error, "errno", None) is not None:  # the disk or the network, not the file
                raise
            raise Damaged from error
        if (rows.schema.metadata or {}).get(b"key") != self.schema.metadata[b"key"]:
            return None
        counts = compute.value_counts(rows.filter(compute.equal(rows["crop"], 0))["video"])
        return {one["values"]: one["counts"] for one in counts.to_pylist()}

    def _is_own(self, part: str) -> bool:
        try:
            return self._contents(part) is not None
        except Damaged:
            return False

    def _write(self, rows: pa.Table, part: str | None = None) -> None:
        # dictionary and statistics of features make writing 8 times as slow and reading 5 times, for 6 % less space
        plain = [name for name in self.schema.names if name != "feature"]
        self._folder.write_table(part or new_part("parquet"), rows, use_dictionary=plain, write_statistics=plain)

    def _filter(self, part: str, videos: set[str]) -> None:
        rows = self._folder.read_table(part)
        self._write(rows.filter(compute.is_in(rows["video"], value_set=pa.array(sorted(videos)))), part)

    def _join(self, parts: Sequence[str]) -> None:
        """Join parts; a kill leaves rows twice at worst, and the next run keeps the newer ones."""
        if len(parts) > 1:
            self._write(pa.concat_tables([self._folder.read_table(part) for part in parts]))
            for part in parts:
                self._folder.remove(part)
