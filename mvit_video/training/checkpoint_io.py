"""Checkpoint files of a run: written atomically, and read without executing anything in them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Trainer

from mvit_video.checkpoints.files import first_bytes
from mvit_video.checkpoints.pickles import is_pickle, read_pickle
from mvit_video.jobs import atomic_write
from mvit_video.types import CheckpointError, ConfigError

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Atomic checkpoint files; the `last.ckpt` that a new one replaces is kept as `previous.ckpt`.

    Lightning copies from the system's folder for temporary files, and a copy can be cut off.

    Attributes:
        unwritten: why the newest version of a file could not be written, by path.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unwritten: dict[Path, str] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`, and replace what was there.

        A failure, such as a full disk, becomes a warning and an entry of `unwritten`, not an error: one process writes,
        and the others wait for it.
        """
        path = Path(path)
        try:
            with (
                atomic_write(path, backup=path.with_name(PREVIOUS) if path.name == LAST else None) as unfinished,
                unfinished.open("wb") as file,
            ):
                torch.save(checkpoint, file)
            self.unwritten.pop(path, None)
        except Exception as error:
            reason = system_error(error)
            if reason is None:
                raise
            self.unwritten[path] = reason
            kept = "the previous file is kept" if path.exists() else "there is no previous file"
            step = checkpoint.get("global_step")
            text = f"{path} of step {step} could not be written ({reason}): {kept}, the run continues; free some space"
            warnings.warn(text, stacklevel=2)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint of a run without executing anything in it, whatever `weights_only` says.

        Raises:
            CheckpointError: the file cannot be read, is cut off, is no checkpoint of a run, or needs code to be loaded.
        """
        checkpoint: Any = None
        if is_pickle(first_bytes(Path(path))):
            checkpoint, _ = read_pickle(Path(path), map_location=map_location, lazily=False)
        if not isinstance(checkpoint, dict) or not {"state_dict", "pytorch-lightning_version"} <= checkpoint.keys():
            raise CheckpointError(f"{path}: not a checkpoint of a run; expected the last.ckpt or best.ckpt of one")
        return checkpoint


def check_unfinished(checkpoint: Mapping[str, Any], trainer: Trainer, source: str) -> None:
    """Refuse to resume a run that has nothing left to train.

    Raises:
        ConfigError: its epochs or steps are done.
    """
    try:
        num_epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    except (KeyError, TypeError):
        num_epochs = 0
    done = {"epochs": num_epochs, "steps": checkpoint.get("global_step", 0)}
    for unit, number in done.items():
        limit = getattr(trainer, f"max_{unit}")
        if limit is not None and 0 <= limit <= number:
            raise ConfigError(
                f"{source} has been trained for {number} {unit}, and trainer.max_{unit}={limit}: nothing is left to "
                f"train; raise trainer.max_{unit} to continue"
            )


def why_unwritten(trainer: Trainer, path: str | Path) -> str | None:
    """Return why the newest version of a checkpoint could not be written, in all processes; None if it was."""
    unwritten: dict[Path, str] = getattr(trainer.strategy.checkpoint_io, "unwritten", {})
    return trainer.strategy.broadcast(unwritten.get(Path(path)))


def system_error(error: BaseException | None) -> str | None:
    """Return the reason of an `OSError`, also of one that a library wrapped; None for other errors."""
    while error is not None:
        if isinstance(error, OSError):
            return error.strerror or str(error)
        error = error.__context__
    return None
