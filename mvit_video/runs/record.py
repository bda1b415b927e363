"""Record of a run, `run.json`: command, versions and end, which reproduce a result together with the config."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from mvit_video.jobs.files import read_json_object, write_json_object
from mvit_video.runs.results import METRICS

RECORD = "run.json"
State = Literal["finished", "tested", "stopped", "failed", "running"]
_QUIET_SECONDS = 3600.0  # without a change of its files, after which a run of another machine counts as failed
_SOURCE = Path(__file__).parents[2]
_PACKAGES = ("mvit-video", "torch", "torchvision", "lightning", "av")


def write_record(
    run: Path, *, checkpoint: str | None, seed: int | None, precision: str, num_processes: int, device: str
) -> None:
    """Write the command of the run of this process, and the versions that it uses.

    Args:
        run: folder of the run.
        checkpoint: file that the run begins with.
        device: name of the device by its maker.
    """
    record = {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": source_commit(),
        "checkpoint": checkpoint,
        "seed": seed,
        "precision": precision,
        "processes": num_processes,
        "device": device,
        "host": platform.node(),
        "process": os.getpid(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }
    write_json_object(run / RECORD, record)


def end_record(run: Path, state: State) -> None:
    """Add to the record how and when the run ended; nothing where the record is gone."""
    with suppress(OSError, ValueError):
        ended = datetime.now(timezone.utc).isoformat(timespec="seconds")
        write_json_object(run / RECORD, read_record(run) | {"state": state, "ended": ended})


def state_of(run: Path, record: Mapping[str, Any]) -> State:
    """Return how a run ended; a run that recorded no end is running while its process is, and else has failed."""
    ended, process = record.get("state"), record.get("process")
    if state := next((one for one in get_args(State) if one == ended), None):
        return state
    if not isinstance(process, int):  # of a version that recorded no process
        return "tested" if (run / METRICS).exists() else "finished"
    if record.get("host") != platform.node():
        is_recent = time.time() - max(file.stat().st_mtime for file in run.iterdir()) < _QUIET_SECONDS
        return "running" if is_recent else "failed"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return "failed"
    except PermissionError:
        pass
    return "running"


def read_record(run: Path) -> dict[str, Any]:
    """Return the record of a run.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: it is no JSON object.
    """
    return read_json_object(run / RECORD)


def source_commit(root: Path = _SOURCE) -> str | None:
    """Return the commit of a source tree, by default this package's, with `+` if files were changed.

    Returns: None outside a checkout.
    """
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
