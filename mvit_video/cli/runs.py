"""Where a run's files go, and where those of earlier runs are."""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mvit_video.types import CheckpointError, ConfigError

_VERSION = re.compile(r"version_(\d+)")


def run_name(configs: Sequence[str]) -> str:
    """Name of the runs of a config: its file's, or for the `config.yaml` of a run folder that run's own."""
    if not configs:
        return "default"
    path = Path(configs[-1]).absolute()
    if path.name == "config.yaml" and _VERSION.fullmatch(path.parent.name):
        return path.parents[1].name
    return path.stem


def next_version(root: Path) -> Path:
    """Folder of the next run under `root`, one higher than any that exists; not made yet."""
    found = [_VERSION.fullmatch(path.name) for path in root.iterdir()] if root.is_dir() else []
    return root / f"version_{max((int(match[1]) + 1 for match in found if match), default=0)}"


def claim_version(root: Path) -> Path:
    """Makes the folder of the next run under `root`, which no other process gets.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            folder = next_version(root)
            with contextlib.suppress(FileExistsError):  # another run was quicker
                folder.mkdir()
                return folder
    except OSError as error:
        raise ConfigError(
            f"trainer.default_root_dir: cannot make a folder for the run at {error.filename} ({error.strerror}); "
            "set it to a folder that can be written to"
        ) from error


def find_checkpoint(ckpt_path: str, root: Path) -> Path:
    """File that `--ckpt_path` speaks of; `last` and `best` are the newest of that name in the runs under `root`.

    Where the newest `last.ckpt` is damaged, `last` is the one before it, which a run keeps as `previous.ckpt`, with a
    warning. A path never means another file.

    Raises:
        ConfigError: there is none.
        CheckpointError: there are some for `last`, all damaged.
    """
    if ckpt_path not in ("last", "best"):
        if not Path(ckpt_path).exists():
            raise ConfigError(f"--ckpt_path {ckpt_path}: there is no such file")
        return Path(ckpt_path)
    names = ("last", "previous") if ckpt_path == "last" else ("best",)
    found = [path for name in names for path in root.glob(f"version_*/checkpoints/{name}.ckpt")]
    if not found:
        raise ConfigError(f"--ckpt_path {ckpt_path}: there is no version_*/checkpoints/{ckpt_path}.ckpt under {root}")
    found.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    if ckpt_path == "best" or found[0].is_dir():  # a folder is a checkpoint of several processes
        return found[0]
    whole = next(filter(_is_whole, found), None)
    if whole is None:
        raise CheckpointError(f"--ckpt_path last: {found[0]} is truncated or damaged, and so is all before it")
    if whole != found[0]:
        from lightning.pytorch.utilities import rank_zero_warn  # slow, and of no use to other verbs

        rank_zero_warn(f"{found[0]} is truncated or damaged: going on from {whole}, the one before it")
    return whole


def _is_whole(path: Path) -> bool:
    """Whether nothing of a checkpoint is cut off or changed; reads all of it."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
