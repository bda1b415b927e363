"""Predictions of an earlier test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray
from pyarrow import parquet

from mvit_video.types import ConfigError, MVitVideoError

compute: Any = pyarrow.compute  # pyarrow makes its functions at import, so a type checker does not know their names

Key = tuple[str, float | None, float | None]


@dataclass(frozen=True, eq=False)
class Predictions:
    """A `predictions.parquet` without the scores of its views.

    Attributes:
        keys: path, start and end of each video; a start without an end reaches to the last frame.
        label: int64 class of each video; -1 where unknown, and everywhere when videos have several.
        scored: whether a video has finite scores.
        metadata: the setting of the test, as text.
    """

    file: Path
    keys: list[Key]
    label: NDArray[np.int64]
    prediction: NDArray[np.int64]
    scored: NDArray[np.bool_]
    is_multilabel: bool
    metadata: dict[str, str]
    _probabilities: pa.ChunkedArray

    @cached_property
    def probabilities(self) -> NDArray[np.float32]:
        """Of the scored videos alone, `(videos, classes)`."""
        values = self._probabilities.combine_chunks().filter(pa.array(self.scored))
        flat = values.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(values), len(flat) // max(len(values), 1))

    @cached_property
    def class_names(self) -> list[str] | None:
        """Name of each class, when known."""
        return json.loads(self.metadata.get("class_names", "null"))


def in_words(key: Key) -> str:
    """A video's path, and the part of it that counts."""
    path, start, end = key
    if start is None:
        return path
    return f"{path} ({start:g} seconds to {'the end' if end is None else f'{end:g}'})"


def load_predictions(source: str | Path, class_names: Sequence[str] | None = None) -> Predictions:
    """Reads the predictions of a run.

    Args:
        source: a run folder, or a `predictions.parquet`.
        class_names: name of each class; None takes those that the test recorded.

    Raises:
        ConfigError: there is no such file, or it has scores of another number of classes.
        MVitVideoError: it holds no predictions.
    """
    file = Path(source)
    if file.is_dir():
        file = file / "predictions.parquet"
    if not file.is_file():
        raise ConfigError(f"{source}: there is no {file.name} here; give the folder of a test, or its predictions")
    columns = ["path", "start", "end", "label", "prediction", "probabilities", "status"]
    try:
        schema = parquet.read_schema(file)
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        lacking = next((name for name in columns if name not in schema.names), None)
        if lacking is not None or "num_clips" not in metadata:
            name = lacking or "num_clips"
            raise MVitVideoError(f"{file}: these are no predictions of a test of this version, {name} is lacking")
        table = parquet.read_table(file, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise MVitVideoError(f"{file}: cannot be read as Parquet ({' '.join(str(error).split())})") from error
    path, start, end = (table[name].to_pylist() for name in ("path", "start", "end"))
    is_multilabel = pa.types.is_list(table.schema.field("label").type)
    prediction = table["prediction"].to_numpy()
    if class_names is not None:
        metadata["class_names"] = json.dumps(list(class_names))
    found = Predictions(
        file=file,
        keys=list(zip(path, start, end, strict=True)),
        label=np.full(len(path), -1) if is_multilabel else table["label"].to_numpy(),
        prediction=prediction,
        scored=(prediction >= 0) & _are_finite(table["probabilities"]),
        is_multilabel=is_multilabel,
        metadata=metadata,
        _probabilities=table["probabilities"],
    )
    num_classes = found.probabilities.shape[1] if len(found.probabilities) else 0
    if class_names is not None and num_classes not in (0, len(class_names)):
        raise ConfigError(f"--class-names holds {len(class_names)} names, {file} has scores of {num_classes} classes")
    return found


def _are_finite(lists: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Whether a list has no NaN or inf, for each row."""
    rows = lists.combine_chunks()
    is_bad = ~np.isfinite(rows.flatten().to_numpy(zero_copy_only=False))
    finite = np.ones(len(rows), np.bool_)
    finite[compute.list_parent_indices(rows).to_numpy()[is_bad]] = False
    return finite
