"""What the features of a video are called in formats that name them."""

from __future__ import annotations

from math import inf
from pathlib import PurePath

from mvit_video.jobs import fitting_name

Span = tuple[float, float]


def file_name(path: str, span: Span | None, longest_ending: str = "") -> str:
    """Path without its suffix, inside the folder of the features wherever the video itself lies.

    Folders stay, so that videos of one name in two of them do not meet; a part of a video is called by its seconds:
    `a/x_12.5_20`. A name too long for file systems is cut, with a hash of it behind.

    Args:
        longest_ending: what files add to the name at most.
    """
    whole = PurePath(path)
    parts = ["_" if part == ".." else part for part in whole.parts if part != whole.anchor]
    stem = whole.stem if span is None else f"{whole.stem}_{_seconds(span[0])}_{_seconds(span[1])}"
    fitting = fitting_name(stem, longest_ending).removesuffix(longest_ending)
    return PurePath(*parts).with_name(fitting).as_posix()


def group_name(path: str, span: Span | None) -> str:
    """Path as it is; a part of a video carries its seconds as a media fragment: `a/x.mp4#t=12.5,20`."""
    return path if span is None else f"{path}#t={_seconds(span[0])},{_seconds(span[1])}"


def split_group_name(name: str) -> tuple[str, Span | None]:
    """Path and span of a video by its `group_name`."""
    path, mark, times = name.rpartition("#t=")
    start, _, end = times.partition(",")
    try:
        return (path, (float(start), inf if end == "end" else float(end))) if mark else (name, None)
    except ValueError:  # the mark is in the path
        return name, None


def _seconds(value: float) -> str:
    return "end" if value == inf else f"{value:.3f}".rstrip("0").rstrip(".")
