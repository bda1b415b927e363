"""Folder of a run, `<root>/<name>/version_<n>`: name, version, config and checkpoints."""

from __future__ import annotations

import contextlib
import difflib
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mvit_video.checkpoints.folders import checkpoint_path
from mvit_video.data.settings import in_new_layout
from mvit_video.jobs.files import nearest
from mvit_video.jobs.yaml_files import read_yaml
from mvit_video.runs.record import RECORD
from mvit_video.types import CheckpointError, ConfigError

CONFIG = "config.yaml"
_VERSION = re.compile(r"version_(\d+)")


def run_name(configs: Sequence[str]) -> str:
    """Return the name of the runs of a config: the name of its file, or of the run that a `config.yaml` is of."""
    if not configs:
        return "default"
    path = Path(configs[-1]).absolute()
    if _is_config_of_run(path):
        return path.parents[1].name if _VERSION.fullmatch(path.parent.name) else path.parent.name
    return path.stem


def run_of(configs: Sequence[str]) -> Path | None:
    """Return the folder of the run whose `config.yaml` is among the configs; the last of several."""
    return next((Path(path).parent for path in reversed(configs) if _is_config_of_run(Path(path).absolute())), None)


def _is_config_of_run(path: Path) -> bool:
    folder = path.parent
    is_run = _VERSION.fullmatch(folder.name) or any((folder / name).exists() for name in (RECORD, "checkpoints"))
    return path.name == CONFIG and bool(is_run)


def versions(root: Path) -> list[Path]:
    """Return the run folders under `root`, the oldest version first."""
    found = [(_VERSION.fullmatch(path.name), path) for path in root.iterdir()] if root.is_dir() else []
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]


def next_version(root: Path) -> Path:
    """Return the folder of the next run under `root`, without making it."""
    found = versions(root)
    number = int(found[-1].name.removeprefix("version_")) + 1 if found else 0
    return root / f"version_{number}"


def claim_version(root: Path) -> Path:
    """Make the folder of the next run under `root`, for this process alone.

    Raises:
        ConfigError: the folder cannot be made.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            folder = next_version(root)
            with contextlib.suppress(FileExistsError):  # another run has taken it
                folder.mkdir()
                return folder
    except OSError as error:
        raise ConfigError(
            f"trainer.default_root_dir: cannot make a folder for the run at {error.filename} ({error.strerror}); "
            "set it to a folder that can be written to"
        ) from error


def read_config(run: Path) -> Mapping[str, Any]:
    """Return the config of a run, its keys in the layout of this version; empty without a config.

    Raises:
        ConfigError: the config cannot be read, or is not a mapping.
    """
    file = run / CONFIG
    if not file.is_file():
        return {}
    content = read_yaml(file)
    if not isinstance(content, Mapping):
        raise ConfigError(f"{file}: expected the config of a run, got a {type(content).__name__}")
    data = content.get("data")
    return {**content, "data": in_new_layout(data)} if isinstance(data, Mapping) else content


def run_with(checkpoint: Path) -> Path | None:
    """Return the run folder of a checkpoint; None outside a run folder."""
    folder = checkpoint.absolute().parent
    return folder.parent if folder.name == "checkpoints" else None


def find_checkpoint(
    ckpt_path: str, root: Path, own_run: Path | None = None, warn: Callable[[str], object] = warnings.warn
) -> Path:
    """Return the checkpoint that a user names; `last` and `best` are of `own_run`, or of the newest run under `root`.

    If the newest `last.ckpt` is damaged, `last` is `previous.ckpt`, the one before it, with a warning.

    Args:
        own_run: the run whose config is given.

    Raises:
        ConfigError: there is no such checkpoint.
        CheckpointError: all checkpoints for `last` are damaged.
    """
    if ckpt_path not in ("last", "best"):
        return _existing(ckpt_path)
    saved = _checkpoints_by_age([own_run] if own_run is not None else versions(root))
    where = str(own_run) if own_run is not None else f"{root}/version_*"
    if not saved:
        raise ConfigError(
            f"ckpt_path={ckpt_path}: {where} has no checkpoint; train first (mvit-video fit), or give the path of a "
            "checkpoint"
        )
    if ckpt_path == "best":
        return _best(saved, own_run)
    found = [path for path in saved if path.stem != "best"]
    if not found:
        raise ConfigError(f"ckpt_path=last: {where} has no last.ckpt; there is {saved[0]}")
    if found[0].is_dir():  # a sharded checkpoint is a folder
        return found[0]
    complete = next(filter(_is_complete, found), None)
    if complete is None:
        raise CheckpointError(f"ckpt_path=last: {found[0]} is truncated or damaged, and so are all before it")
    if complete != found[0]:
        warn(f"{found[0]} is truncated or damaged: resuming from {complete}, the one before it")
    return complete


def _existing(name: str) -> Path:
    if "://" in name:
        raise ConfigError(f"ckpt_path={name}: a URL; download the file and give its path")
    path = Path(name)
    if not path.exists():
        near = next(iter(difflib.get_close_matches(name.lower(), ("last", "best"), n=1)), None) or nearest(path)
        kind = "file" if near in ("last", "best") else "file or folder"
        raise ConfigError(f"ckpt_path={name}: there is no such {kind}" + (f"; did you mean {near}?" if near else ""))
    if path.is_dir() and not (path / ".metadata").exists():  # a sharded checkpoint has it
        found = [
            str(file) for pattern in ("", "checkpoints/", "*/checkpoints/") for file in path.glob(f"{pattern}*.ckpt")
        ]
        names = ", ".join(sorted(found)) or "it has none"
        raise ConfigError(f"ckpt_path={path}: a folder; give one of its checkpoints ({names})")
    return path


def _checkpoints_by_age(runs: Iterable[Path]) -> list[Path]:
    """Return the `last.ckpt`, `previous.ckpt` and `best.ckpt` of runs, the newest first."""
    paths = [checkpoint_path(run, name) for run in runs for name in ("last", "previous", "best")]
    return sorted(filter(Path.exists, paths), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _best(saved: Sequence[Path], own_run: Path | None) -> Path:
    """Return the `best.ckpt` of the run that saved the first of the checkpoints."""
    run = saved[0].parents[1]
    best = checkpoint_path(run, "best")
    if best in saved:
        return best
    which = "" if own_run is not None else ", the newest run,"
    others = [path for path in saved if path.stem == "best"]
    older = f", or ckpt_path={others[0]}, the best of an older run" if others else ""
    raise ConfigError(
        f"ckpt_path=best: {run}{which} has no best.ckpt, because no validation gave it a finite score; give "
        f"ckpt_path=last{older}"
    )


def _is_complete(path: Path) -> bool:
    """Return whether a checkpoint is complete and unchanged, by its checksums."""
    try:
        if not path.is_file():  # a pipe would block
            return False
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
