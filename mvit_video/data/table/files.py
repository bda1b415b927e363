"""Video files and folders of videos."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import pyarrow as pa

from mvit_video.jobs.arrow import as_strings, compute, is_utf8, to_mask
from mvit_video.types import AnnotationError

VIDEO_SUFFIXES = frozenset({
    ".264", ".265", ".3g2", ".3gp", ".3gp2", ".3gpp", ".asf", ".avc", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif",
    ".h264", ".h265", ".hevc", ".ivf", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg",
    ".mk3d", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt",
    ".rm", ".rmvb", ".tod", ".tp", ".trp", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".xvid",
})  # fmt: skip
"""Suffixes of videos, in lower case; files with other suffixes are not videos."""

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})

SUFFIX_PATTERN = rf"(?i:\.(?:{'|'.join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))}))"

SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validate": "val", "validation": "val", "dev": "val", "eval": "val",
    "test": "test", "testing": "test", "tests": "test",
}  # fmt: skip
"""Split of each folder name, in lower case."""

MAX_DEPTH = 3
"""Most folders between the root and a video that is found by its name."""


def is_video(path: str) -> bool:
    """Return whether a path has the suffix of a video."""
    return os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES


def is_image(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has the suffix of an image."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


# annotations and notes may lie beside videos
_TEXTS = frozenset({".csv", ".json", ".jsonl", ".md", ".parquet", ".tsv", ".txt", ".yaml", ".yml"})


class Files(NamedTuple):
    """Paths of the wanted and the other files below a folder, without texts and tables."""

    wanted: list[str]
    others: list[str]


def is_text(path: str) -> bool:
    """Return whether a path has the suffix of annotations or notes."""
    return os.path.splitext(path)[1].lower() in _TEXTS


def printable(path: str) -> str:
    """Return a path with bytes that are not UTF-8 escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def videos_below(folder: str | os.PathLike[str]) -> list[str]:
    """Return the paths of the videos below a folder, except hidden ones; warn about other files."""
    files = files_below(folder, is_video)
    if files.wanted:
        warn_of_others(folder, files.others)
    return files.wanted


def warn_of_others(folder: str | os.PathLike[str], others: Sequence[str]) -> None:
    """Warn about files of a folder that are ignored because of their suffix."""
    if others:
        shown = first_few([printable(os.path.relpath(path, folder)) for path in others])
        warnings.warn(f"{os.fspath(folder)}: ignoring files without the suffix of a video: {shown}", stacklevel=3)


def first_few(names: Sequence[str]) -> str:
    """Return up to three names, and the number of the others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def files_below(folder: str | os.PathLike[str], is_wanted: Callable[[str], bool]) -> Files:
    """List the files below a folder, except hidden ones; links are followed."""
    found = Files([], [])
    # real paths of each folder and its parents: a link to one of them is a loop
    start = Path(os.path.realpath(folder))
    above = {os.fspath(folder): frozenset(map(str, (start, *start.parents)))}
    for parent, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        outer = above.pop(parent)
        real = {name: os.path.realpath(os.path.join(parent, name)) for name in folders if not name.startswith(".")}
        folders[:] = sorted(name for name in real if real[name] not in outer)
        above |= {os.path.join(parent, name): outer | {real[name]} for name in folders}
        for name in sorted(files):
            if not name.startswith("."):
                if is_wanted(name):
                    found.wanted.append(os.path.join(parent, name))
                elif not is_text(name):
                    found.others.append(os.path.join(parent, name))
    return found


def unlistable(error: OSError) -> AnnotationError:
    """Return the error for a folder that cannot be listed."""
    reason = f"the folder cannot be listed ({error.strerror}); make it readable, or give other folders"
    return AnnotationError(error.filename, 0, reason)


def _refuse(error: OSError) -> NoReturn:
    raise unlistable(error) from error


FoldersOf = Callable[[int], set[str]]
"""Function that returns names of the folders where the video of a row may be."""


class VideoIndex:
    """Videos below a folder by name without suffix; the folder is listed once."""

    def __init__(self, root: Path) -> None:
        paths: list[str] = []
        try:
            _list_videos(str(root), "", MAX_DEPTH, paths)
        except OSError as error:
            raise AnnotationError(
                root, 0, f"the folder of the videos cannot be listed ({error.strerror}); set data.root"
            ) from None
        paths.sort()
        self.root = root
        self.paths = as_strings(paths)
        self.names = as_strings([os.path.splitext(os.path.basename(path))[0] for path in paths])
        counts = compute.value_counts(self.names)
        self._repeated = counts.field("values").filter(compute.greater(counts.field("counts"), 1))

    def find(self, names: pa.Array, folders_of: FoldersOf) -> pa.Array:
        """Return the path of each name, relative to the root; null if there is no such video.

        Args:
            folders_of: names of folders where the video of a row may be, to choose between equal names.
        """
        paths = self.paths.take(compute.index_in(names, value_set=self.names))
        mask = to_mask(compute.is_in(names, value_set=self._repeated))
        if not mask.any():
            return paths
        repeated = to_mask(compute.is_in(self.names, value_set=self._repeated))
        equal: dict[str, list[str]] = {}
        columns = (column.filter(pa.array(repeated)).to_pylist() for column in (self.names, self.paths))
        for name, path in zip(*columns, strict=True):
            equal.setdefault(name, []).append(path)
        chosen = [self._choose(equal[names[int(row)].as_py()], folders_of(int(row))) for row in np.flatnonzero(mask)]
        return compute.replace_with_mask(paths, pa.array(mask), as_strings(chosen))

    def _choose(self, equal: list[str], folders: set[str]) -> str:
        fitting = [path for path in equal if folders & set(path.split("/")[:-1])] or equal
        if len(fitting) > 1:
            raise AnnotationError(
                self.root, 0, f"has both {fitting[0]!r} and {fitting[1]!r}; set data.root to the right folder"
            )
        return fitting[0]


def _list_videos(folder: str, prefix: str, depth: int, paths: list[str]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not is_utf8(entry.name):
                continue
            if is_video(entry.name):
                paths.append(prefix + entry.name)
            elif depth and entry.is_dir():
                _list_videos(entry.path, f"{prefix}{entry.name}/", depth - 1, paths)
