"""What the features of a video are called in formats that name them."""

from __future__ import annotations

from math import inf
from pathlib import PurePath

Span = tuple[float, float]


def file_name(path: str, span: Span | None) -> str:
    """Path without its suffix, inside the folder of the features wherever the video itself lies.

    Folders stay, so that videos of one name in two of them do not meet; a part of a video is called by its seconds:
    `a/x_12.5_20`.
    """
    whole = PurePath(path)
    parts = ["_" if part == ".." else part for part in whole.parts if part != whole.anchor]
    name = PurePath(*parts).with_name(whole.stem).as_posix()
    return name if span is None else f"{name}_{_seconds(span[0])}_{_seconds(span[1])}"


def group_name(path: str, span: Span | None) -> str:
    """Path as it is; a part of a video carries its seconds as a media fragment: `a/x.mp4#t=12.5,20`."""
    return path if span is None else f"{path}#t={_seconds(span[0])},{_seconds(span[1])}"


def _seconds(value: float) -> str:
    return "end" if value == inf else f"{value:.3f}".rstrip("0").rstrip(".")
