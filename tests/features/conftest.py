"""Stored features made by hand, and a small net to extract with."""

import itertools
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from mvit_video.checkpoints import ARCHITECTURE_KEY, create_model, describe, save_checkpoint
from mvit_video.models import Patch, mvit

# features are on disk as soon as they are there, and there is time to stop what computes them
SLOWLY = """
import time
from mvit_video.features import extraction
from mvit_video.features.engines.local import Batches

extraction._WAITING_SECONDS = 0.2
fill = Batches.fill
Batches.fill = lambda *given: time.sleep(0.05) or fill(*given)
"""


@pytest.fixture(scope="session")
def slowly() -> str:
    """What `start_slowly` runs first, for other processes."""
    return SLOWLY


@pytest.fixture(scope="session")
def start_slowly(start: Callable[..., BaseProcess]) -> Callable[..., BaseProcess]:
    """As `start`, with time to stop what computes features."""
    return lambda *words: start(*words, before=SLOWLY)


@pytest.fixture(scope="session")
def num_listed() -> Callable[[Path], int]:
    """Counts the videos in the ledger of an extraction, which another process may be writing."""

    def count(out: Path) -> int:
        while True:
            with suppress(FileNotFoundError):  # parts that have just been joined
                parts = sorted((out / "ledger").glob("part-*.parquet"))
                return len({path for part in parts for path in parquet.ParquetFile(part).read()["path"].to_pylist()})

    return count


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


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net of two blocks for clips of 4 frames of 32x32, three classes."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = mvit(
            num_classes=3, num_frames=4, crop_size=32, depths=(1, 1), embed_dim=16, patch=Patch((3, 7, 7), (2, 4, 4))
        )
    path = tmp_path_factory.mktemp("net") / "tiny.safetensors"
    save_checkpoint(net, path)
    return path


@pytest.fixture
def write_run(tiny_checkpoint: Path, tmp_path: Path) -> Callable[..., Path]:
    """A run folder with the net, a config and class names."""

    def write(data: dict[str, Any], class_names: Sequence[str]) -> Path:
        net = create_model(checkpoint=tiny_checkpoint)
        content = {
            "pytorch-lightning_version": "2.6.6",
            "state_dict": {f"net.{key}": value for key, value in net.state_dict().items()},
            "VideoDataModule": {"class_names": list(class_names)},
            ARCHITECTURE_KEY: describe(net).to_metadata(),
        }
        (tmp_path / "run" / "checkpoints").mkdir(parents=True)
        torch.save(content, tmp_path / "run" / "checkpoints" / "last.ckpt")
        (tmp_path / "run" / "config.yaml").write_text(json.dumps({"data": data}))
        return tmp_path / "run"

    return write
