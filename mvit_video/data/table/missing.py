"""What to do about annotations and videos that are not where a user looks for them."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from pathlib import Path

from mvit_video.data.table.video_table import VideoTable
from mvit_video.types import ConfigError

_NUM_TRIED = 20
_UNSET = "for a folder of your own, which data.root names alone, add --data.train null --data.val null --data.test null"


def how_to_get(source: str | os.PathLike[str] = "", root: str | None = None) -> str:
    """Return what to do about annotations that are missing, for messages.

    Args:
        root: `data.root` of a config that names annotations too.
    """
    path = Path(source)
    if near := nearest(path):
        return f"did you mean {near}?"
    if root is not None:
        return f"data.root={root} is where the paths in it start; {_UNSET}"
    command = ["python", "-m", "mvit_video.data.digits"]
    if demo := re.match(r"(?P<root>(.*/)?data/demo)/(?P<labels>[^/]+)/", path.as_posix()):
        command += ["--root", demo["root"], "--labels", demo["labels"]]
        return f"`{shlex.join(command)}` writes it (docs/data.md shows how to lay out other videos)"
    return (
        "docs/data.md shows how to lay out videos; configs/demo.yaml needs none of yours, "
        f"`{shlex.join(command)}` writes those that it uses"
    )


def nearest(path: Path) -> Path | None:
    """Return the file or folder beside a missing one whose name is most like its name."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return None
    near = difflib.get_close_matches(path.name, names, n=1)
    return path.parent / near[0] if near else None


def require_root(root: str | None) -> None:
    """Refuse a root that is not there.

    Raises:
        ConfigError: names the nearest, or how to do without.
    """
    if root is not None and not os.path.exists(root):
        near = nearest(Path(root))
        hint = f"did you mean {near}?" if near else "give the folder that the paths in the annotations start from"
        raise ConfigError(f"data.root: there is no {root}; {hint}")


def require_under_root(table: VideoTable, key: str, source: str, root: str | None) -> None:
    """Refuse a root under which none of the first videos of annotations is.

    Args:
        key: of the annotations, such as `data.train`.

    Raises:
        ConfigError: names root, annotations and a video.
    """
    if root is None or table.archive is not None or not len(table):
        return
    tried = [table.locate(row) for row in range(min(_NUM_TRIED, len(table)))]
    if not any(path.exists() for path in tried):
        raise ConfigError(f"data.root={root}: there is no {tried[0]}, which {key}={source} names; {_UNSET}")
