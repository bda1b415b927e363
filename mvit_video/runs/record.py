"""The record of a run, `run.json`: what a number from the run needs beside its config to be reproduced."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mvit_video.jobs.json_files import read_json_object, write_json_object

RECORD = "run.json"
_SOURCE = Path(__file__).parents[2]
_PACKAGES = ("mvit-video", "torch", "torchvision", "lightning", "av")


def write_record(
    run: Path, *, checkpoint: str | None, seed: int | None, precision: str, num_processes: int, device: str
) -> None:
    """Write how the run of this process was started, and with which versions.

    Args:
        run: folder of the run.
        checkpoint: file that the run begins with.
        device: as its maker calls it.
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
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    }
    write_json_object(run / RECORD, record)


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
