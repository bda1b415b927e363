"""Reads features as ActionFormer documents its input (its CUSTOM_DATASET.md and the keys of its configs).

A config gives `feat_folder`, `file_prefix`, `file_ext`, `feat_stride`, `num_frames`, `default_fps`; a JSON file in
ActivityNet's form gives each video's `subset`, `duration`, `fps` and `annotations` with `segment` in seconds. Rows of
`<feat_folder>/<file_prefix><video id><file_ext>` are `(T, C)`; row i stands for `num_frames` frames from frame
`i * feat_stride` on.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Item(NamedTuple):
    """Features `(C, T)`, and segments `(N, 2)` in rows, as the model would train on them."""

    features: NDArray[np.float32]
    segments: NDArray[np.float64]
    labels: NDArray[np.int64]
    fps: float


class ActionFormerReader:
    """Videos of one subset that have a file of features; the others are left out, as there."""

    def __init__(self, json_file: Path, subset: str, config: dict[str, Any]) -> None:
        self.config = config
        database = json.loads(json_file.read_text())["database"]
        self.entries = {
            name: entry
            for name, entry in database.items()
            if entry["subset"].lower() == subset and self._file(name).exists()
        }

    def __getitem__(self, name: str) -> Item:
        entry = self.entries[name]
        fps = self.config["default_fps"] or entry["fps"]
        features = np.load(self._file(name)).astype(np.float32)
        assert features.ndim == 2
        seconds = np.array([one["segment"] for one in entry["annotations"]]).reshape(-1, 2)
        segments = (seconds * fps - 0.5 * self.config["num_frames"]) / self.config["feat_stride"]
        labels = np.array([one["label_id"] for one in entry["annotations"]], np.int64)
        return Item(np.ascontiguousarray(features.T), segments, labels, fps)

    def seconds(self, name: str, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Times of places in the grid of rows, as detections are turned back into seconds."""
        fps = self.config["default_fps"] or self.entries[name]["fps"]
        return (rows * self.config["feat_stride"] + 0.5 * self.config["num_frames"]) / fps

    def _file(self, name: str) -> Path:
        prefix = self.config["file_prefix"] or ""
        return Path(self.config["feat_folder"]) / f"{prefix}{name}{self.config['file_ext']}"
