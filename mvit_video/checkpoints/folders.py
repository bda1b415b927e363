"""The checkpoint that a run folder stands for."""

from __future__ import annotations

from pathlib import Path

from mvit_video.jobs.files import read_json_object
from mvit_video.types import CheckpointError

SAVED = "model.safetensors"  # weights in a folder of `TrainedModel.save`, named as Hugging Face does
_MAX_RECORD_BYTES = 1 << 20


def checkpoint_path(run: Path, name: str) -> Path:
    """Return where a run keeps its checkpoint `best`, `last`, `previous` or `last_good`."""
    return run / "checkpoints" / f"{name}.ckpt"


def checkpoint_in(folder: Path) -> Path:
    """Return the `best.ckpt` of a training run, else its `last.ckpt`; of a test, the checkpoint that it tested.

    A folder of `TrainedModel.save` has one file of weights.

    Raises:
        CheckpointError: the folder holds none, and names none that exists.
    """
    names = ("best", "last")
    of_run = [checkpoint_path(folder, name) for name in names]
    for file in (*of_run, *(folder / f"{name}.ckpt" for name in names), folder / SAVED):
        if file.is_file():
            return file
        if file.is_dir():
            raise CheckpointError(f"{file}: a checkpoint in parts, of sharded training, which cannot be read here")
    tested = _tested_checkpoint(folder)
    if tested is None:
        raise CheckpointError(
            f"{folder}: is a directory without checkpoints/best.ckpt or last.ckpt; give a checkpoint file or the "
            "folder of a run"
        )
    # relative to where the test was started, which is above its folder or here
    bases = [] if tested.is_absolute() else [*folder.absolute().parents, Path()]
    found = next((base / tested for base in bases or [Path()] if (base / tested).is_file()), None)
    if found is None:
        raise CheckpointError(f"{folder}: the folder of a test of {tested}, which is gone; give a checkpoint file")
    return found


def _tested_checkpoint(folder: Path) -> Path | None:
    try:
        return Path(read_json_object(folder / "run.json", _MAX_RECORD_BYTES)["checkpoint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
