"""Which videos a user means, and what to do where there are none."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from mvit_video.data.annotations import load_annotations, may_exist
from mvit_video.data.remote import find_remote
from mvit_video.data.table.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_video, printable, unlistable, videos_below
from mvit_video.data.table.video_table import VideoTable
from mvit_video.jobs.arrow import first, matches
from mvit_video.jobs.files import nearest
from mvit_video.types import AnnotationError, ConfigError

_NUM_TRIED = 20
_UNSET = "for a folder of your own, which data.root names alone, add --data.train null --data.val null --data.test null"
_START_BYTES = 4096
_IMAGE = rf"(?i)\.(?:{'|'.join(suffix[1:] for suffix in sorted(IMAGE_SUFFIXES))})$"


def find_videos(
    source: str,
    root: str | None = None,
    *,
    labels: Literal["required", "optional"] = "required",
    class_names: Sequence[str] | str | os.PathLike[str] | None = None,
    allow_outside: bool = False,
) -> VideoTable:
    """Return the videos that a user means, with their labels.

    Args:
        source: annotations as `load_annotations` takes them. Where labels are optional also a list of paths, a video,
            a folder with videos anywhere below it, or the URL of a video, a pattern or a folder.
        root: folder that relative paths of annotations start from; None is that of the annotations.
        labels: "required" refuses annotations without labels; "optional" takes them with unknown labels, and the
            table's `unlabelled_because` says why a folder has none.
        class_names: name of each class in the order of their numbers, or a file that holds them.
        allow_outside: let annotations name videos outside of the root.

    Raises:
        AnnotationError: there is no such source or no video in it, or it cannot be read.
    """
    load = partial(load_annotations, source, root, allow_outside=allow_outside, class_names=class_names)
    if labels == "required" or source.endswith(".tar"):
        return load()
    if "://" in source:
        remote = find_remote(source)
        return load() if remote is None else remote
    if not may_exist(source):
        raise AnnotationError(source, 0, "no such file or folder")
    if os.path.isdir(source):
        return _find_in_folder(Path(source), load)
    if is_video(source):
        return VideoTable.of_paths([source], Path())
    if _is_binary(source):
        raise AnnotationError(
            source, 0, "neither annotations, which are text or Parquet, nor by its name a video "
            f"({_suffixes()}); give a video one of these endings"
        )  # fmt: skip
    return load(need_labels=False)


def _find_in_folder(folder: Path, load: Callable[[], VideoTable]) -> VideoTable:
    """Return the videos below a folder, labelled where it holds one folder per class and nothing else."""
    if any(folder.glob("*.tar")):
        return load()
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise unlistable(error) from None
    if any(is_video(name) and not name.startswith(".") for name in names):
        because = "the folder holds videos, not one folder per class"
    else:
        try:
            return load()
        except AnnotationError as error:
            because = error.reason
    # a name that is no UTF-8 fits no column; written out, the video is at least reported as missing
    paths = [printable(os.path.relpath(path, folder)) for path in videos_below(folder)]
    if not paths:
        raise AnnotationError(folder, 0, f"holds no videos ({_suffixes()})")
    return VideoTable.of_paths(paths, folder, unlabelled_because=because)


def _is_binary(source: str) -> bool:
    """Whether a file is no text, as the lists of videos are, nor Parquet."""
    if not os.path.isfile(source):
        return False
    try:
        with open(source, "rb") as file:
            start = file.read(_START_BYTES)
    except OSError:  # reading it says more
        return False
    return b"\0" in start and not start.startswith((b"PAR1", b"\xff\xfe", b"\xfe\xff"))  # Parquet; UTF-16


def _suffixes() -> str:
    return " ".join(sorted(VIDEO_SUFFIXES))


def require_videos(table: VideoTable, verb: str) -> None:
    """Refuse a data set of images, which training reads but a job over videos does not."""
    image = first(matches(table.paths, _IMAGE))
    if image is not None:
        raise ConfigError(f"{verb} is for videos, {table.path(image)!r} is an image; images are trained on as they are")


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
        return f"`{shlex.join(command)}` writes it (docs/guides/videos.md shows how to lay out other videos)"
    return (
        "docs/guides/videos.md shows how to lay out videos; configs/demo.yaml needs none of yours, "
        f"`{shlex.join(command)}` writes those that it uses"
    )


def require_root(root: str | None) -> None:
    """Refuse a root that is not there."""
    if root is not None and not os.path.exists(root):
        near = nearest(Path(root))
        hint = f"did you mean {near}?" if near else "give the folder that the paths in the annotations start from"
        raise ConfigError(f"data.root: there is no {root}; {hint}")


def require_under_root(table: VideoTable, key: str, source: str, root: str | None) -> None:
    """Refuse a root under which none of the first videos of annotations is.

    Args:
        key: of the annotations, such as `data.train`.
    """
    if root is None or table.archive is not None or not len(table):
        return
    tried = [table.locate(row) for row in range(min(_NUM_TRIED, len(table)))]
    if not any(path.exists() for path in tried):
        raise ConfigError(f"data.root={root}: there is no {tried[0]}, which {key}={source} names; {_UNSET}")
