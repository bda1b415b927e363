"""Measurements of every layer as means over clips, and tables with a summary.

Letters: B clips, C channels, T H W grid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor, nn

from mvit_video.analysis.adapter import Kind, iter_features
from mvit_video.analysis.batches import Batch, on_device
from mvit_video.types import ConfigError

_SUMMARY = b"summary"


class Layer(NamedTuple):
    """A place of the residual stream and its measurements.

    Attributes:
        sample: number of the place, 0 for the stem.
        size: C, T, H and W of its map.
    """

    sample: int
    name: str
    kind: Kind
    size: tuple[int, ...]
    values: dict[str, NDArray[np.float64]]

    @property
    def record(self) -> dict[str, Any]:
        """Columns that identify the layer."""
        sizes = dict(zip("CTHW", self.size, strict=True))
        return {"sample": self.sample, "name": self.name, "kind": self.kind, **sizes}


def measure_layers(
    model: nn.Module, batches: Iterable[Batch], measure: Callable[[Tensor], Mapping[str, NDArray[np.float64]]]
) -> list[Layer]:
    """Return the means over clips of the values of `measure`, each the mean of a batch of maps.

    Raises:
        ConfigError: there is no clip.
    """
    sums: list[Layer] = []
    num_clips = 0
    for clip, _ in on_device(model, batches):
        for i, feature in enumerate(iter_features(model, clip)):
            values = {name: len(clip) * value for name, value in measure(feature.map).items()}
            if num_clips:
                values = {name: sums[i].values[name] + value for name, value in values.items()}
                sums[i] = sums[i]._replace(values=values)
            else:
                sums.append(Layer(i, feature.name, feature.kind, tuple(feature.map.shape[1:]), values))
        num_clips += len(clip)
    if not num_clips:
        raise ConfigError("there is no clip to analyse")
    return [layer._replace(values={name: value / num_clips for name, value in layer.values.items()}) for layer in sums]


def with_summary(table: pa.Table, **numbers: Any) -> pa.Table:
    """Return the table with a summary in its metadata."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _SUMMARY: json.dumps(numbers)})


def summary_of(table: pa.Table) -> dict[str, Any]:
    """Return the summary of a table; empty where it has none."""
    return json.loads((table.schema.metadata or {}).get(_SUMMARY, b"{}"))
