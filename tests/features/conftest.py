"""Stored features made by hand."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet


def features_table(
    vectors: np.ndarray, path: Sequence[str], label: Sequence[int | None], metadata: dict[str, str], **columns: Any
) -> pa.Table:
    """Rows as `mvit-video extract` writes them; windows of half a second, numbered along each run of one path."""
    num_rows = len(vectors)
    window = [0]
    for before, own in itertools.pairwise(path):
        window.append(window[-1] + 1 if before == own else 0)
    number = np.array(columns.get("window", window))
    start, frame = number * 0.5, number * 15
    shown: dict[str, Any] = {
        "path": list(path), "label": pa.array(label, pa.int64()), "window": pa.array(number, pa.int32()),
        "crop": pa.array(columns.get("crop", [0] * num_rows), pa.int8()), "start_seconds": start,
        "end_seconds": start + 0.5, "center_seconds": start + 0.25, "start_frame": frame, "end_frame": frame + 15,
        "num_padded": pa.array([0] * num_rows, pa.int32()),
        "feature": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
    }  # fmt: skip
    return pa.table(shown).replace_schema_metadata(metadata)


@pytest.fixture
def store_features(tmp_path: Path) -> Callable[..., Path]:
    """Writes features in the layout of an extraction."""

    def store(
        vectors: np.ndarray,
        path: Sequence[str],
        label: Sequence[int | None] | None = None,
        *,
        name: str = "stored",
        class_names: Sequence[str] | None = None,
        num_parts: int = 1,
        metadata: dict[str, str] | None = None,
        **columns: Any,
    ) -> Path:
        folder = tmp_path / name
        (folder / "features").mkdir(parents=True)
        shape = {"feature_shape": json.dumps([vectors.shape[1]]), "layer": "pooled", "model": "toy", "key": "toy"}
        labels = [None] * len(path) if label is None else label
        table = features_table(vectors, path, labels, shape | (metadata or {}), **columns)
        ends = np.linspace(0, len(table), num_parts + 1).astype(int)
        for number, (start, end) in enumerate(itertools.pairwise(ends)):
            parquet.write_table(table.slice(start, end - start), folder / "features" / f"part-{number:05d}.parquet")
        record = {} if class_names is None else {"class_names": list(class_names)}
        (folder / "extract.json").write_text(json.dumps(record))
        return folder

    return store
