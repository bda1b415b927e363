"""Where a run's files go, and where those of earlier runs are."""

from __future__ import annotations

import contextlib
import difflib
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from mvit_video.cli.options import existing
from mvit_video.types import CheckpointError, ConfigError

_VERSION = re.compile(r"version_(\d+)")


def run_name(configs: Sequence[str]) -> str:
    """Name of the runs of a config: its file's, or for the `config.yaml` of a run folder that run's own."""
    if not configs:
        return "default"
    path = Path(configs[-1]).absolute()
    if _is_config_of_run(path):
        return path.parents[1].name if _VERSION.fullmatch(path.parent.name) else path.parent.name
    return path.stem


def run_of(configs: Sequence[str]) -> Path | None:
    """Folder of the run whose own `config.yaml` is among the configs; the last one where there are several."""
    return next((Path(path).parent for path in reversed(configs) if _is_config_of_run(Path(path).absolute())), None)


def _is_config_of_run(path: Path) -> bool:
    folder = path.parent
    is_run = _VERSION.fullmatch(folder.name) or any((folder / name).exists() for name in ("run.json", "checkpoints"))
    return path.name == "config.yaml" and bool(is_run)


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


def find_checkpoint(ckpt_path: str, root: Path, own_run: Path | None = None) -> Path:
    """File that `--ckpt_path` names; `last` and `best` are those of `own_run`, or else of the newest run under `root`.

    Where the newest `last.ckpt` is damaged, `last` is the one before it, which a run keeps as `previous.ckpt`, with a
    warning. A path never means another file.

    Args:
        own_run: the run whose own config is given.

    Raises:
        ConfigError: there is none.
        CheckpointError: there are some for `last`, all damaged.
    """
    if ckpt_path not in ("last", "best"):
        return _existing(ckpt_path)
    saved = _checkpoints_by_age([own_run] if own_run is not None else root.glob("version_*"))
    where = str(own_run) if own_run is not None else f"{root}/version_*"
    if not saved:
        raise ConfigError(
            f"--ckpt_path {ckpt_path}: {where} has no checkpoint; train first (mvit-video fit), or give the path of a "
            "checkpoint"
        )
    if ckpt_path == "best":
        return _best(saved, own_run)
    found = [path for path in saved if path.stem != "best"]
    if not found:
        raise ConfigError(f"--ckpt_path last: {where} has no last.ckpt; there is {saved[0]}")
    if found[0].is_dir():  # a folder is a checkpoint of several processes
        return found[0]
    whole = next(filter(_is_whole, found), None)
    if whole is None:
        raise CheckpointError(f"--ckpt_path last: {found[0]} is truncated or damaged, and so are all before it")
    if whole != found[0]:
        from lightning.pytorch.utilities import rank_zero_warn  # slow, and of no use to other verbs

        rank_zero_warn(f"{found[0]} is truncated or damaged: going on from {whole}, the one before it")
    return whole


def _existing(name: str) -> Path:
    if "://" in name:
        raise ConfigError(f"--ckpt_path {name}: a URL; download the file and give its path")
    if reason := existing(name):
        near = difflib.get_close_matches(name.lower(), ("last", "best"), n=1)
        raise ConfigError(
            f"--ckpt_path {name}: " + (f"there is no such file; did you mean {near[0]}?" if near else reason)
        )
    path = Path(name)
    if path.is_dir() and not (path / ".metadata").exists():  # of a checkpoint in parts, which is a folder
        found = [
            str(file) for pattern in ("", "checkpoints/", "*/checkpoints/") for file in path.glob(f"{pattern}*.ckpt")
        ]
        names = ", ".join(sorted(found)) or "it has none"
        raise ConfigError(f"--ckpt_path {path}: a folder; give one of its checkpoints ({names})")
    return path


def _checkpoints_by_age(runs: Iterable[Path]) -> list[Path]:
    """The `last.ckpt`, `previous.ckpt` and `best.ckpt` of runs, the newest first."""
    names = ("last", "previous", "best")
    paths = [run / "checkpoints" / f"{name}.ckpt" for run in runs for name in names]
    return sorted(filter(Path.exists, paths), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _best(saved: Sequence[Path], own_run: Path | None) -> Path:
    """The `best.ckpt` of the run that saved the first of the checkpoints."""
    run = saved[0].parents[1]
    best = run / "checkpoints" / "best.ckpt"
    if best in saved:
        return best
    which = "" if own_run is not None else ", the newest run,"
    others = [path for path in saved if path.stem == "best"]
    older = f", or --ckpt_path {others[0]}, the best of an older run" if others else ""
    raise ConfigError(
        f"--ckpt_path best: {run}{which} has no best.ckpt, because no validation gave it a finite score; give "
        f"--ckpt_path last{older}"
    )


def _is_whole(path: Path) -> bool:
    """Whether nothing of a checkpoint is cut off or changed; reads all of it."""
    try:
        if not path.is_file():  # a pipe would block
            return False
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
