"""Checkpoints in a run folder."""

from __future__ import annotations

from pathlib import Path

from mvit_video.jobs.files import read_json_object
from mvit_video.types import CheckpointError

SAVED = "model.safetensors"  # weights in a folder of `TrainedModel.save`, named as Hugging Face does
_MAX_RECORD_BYTES = 1 << 20


def checkpoint_path(run: Path, name: str) -> Path:
    """Return the path of a run's checkpoint `best`, `last`, `previous` or `last_good`."""
    return run / "checkpoints" / f"{name}.ckpt"


def checkpoint_in(folder: Path) -> Path:
    """Return the `best.ckpt` of a training run, else its `last.ckpt`; of a test, the checkpoint that it tested.

    A folder of `TrainedModel.save` has one file of weights.

    Raises:
        CheckpointError: there is no such file.
    """
    names = ("best", "last")
    of_run = [checkpoint_path(folder, name) for name in names]
    for file in (*of_run, *(folder / f"{name}.ckpt" for name in names), folder / SAVED):
        if file.is_file():
            return file
        if file.is_dir():
            raise CheckpointError(f"{file}: a sharded checkpoint, which cannot be read here")
    tested = _tested_checkpoint(folder)
    if tested is None:
        raise CheckpointError(
            f"{folder}: is a directory without checkpoints/best.ckpt or last.ckpt; give a checkpoint file or the "
            "folder of a run"
        )
    # relative to where the test started: a folder above its own, or this one
    bases = [] if tested.is_absolute() else [*folder.absolute().parents, Path()]
    found = next((base / tested for base in bases or [Path()] if (base / tested).is_file()), None)
    if found is None:
        raise CheckpointError(f"{folder}: a test of {tested}, which no longer exists; give a checkpoint file")
    return found


def _tested_checkpoint(folder: Path) -> Path | None:
    try:
        return Path(read_json_object(folder / "run.json", _MAX_RECORD_BYTES)["checkpoint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
