"""Frames of a few videos as strips, which a browser plays without the videos."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from rich.console import Console

from mvit_video.evaluation.report.run_files import is_file
from mvit_video.jobs import Heartbeat, WorkFailure, num_cores, run_in_processes
from mvit_video.jobs.driver import progress_bar
from mvit_video.runs.predictions import Key
from mvit_video.types import MVitVideoError, VideoDecodeError

_NUM_FRAMES = 8
_FRAME_SIZE = (240, 135)
_QUALITY = 78
_LIMIT_SECONDS = 20.0
_MOST_WORKERS = 8


class Strip(NamedTuple):
    """Frames of a video side by side.

    Attributes:
        image: data URI of a JPEG; empty when there is none.
        width: pixels of one frame.
        note: why there is no image.
    """

    image: str = ""
    num_frames: int = 0
    width: int = 0
    height: int = 0
    note: str = ""


class _Wanted(NamedTuple):
    number: int
    source: Path | bytes
    span: tuple[float, float] | None


def read_strips(keys: Mapping[int, Key], root: Path, console: Console) -> dict[int, Strip]:
    """Return a strip of each video, or why there is none.

    Other processes read the videos, so that a file that crashes or hangs a decoder costs only its own strip.

    Args:
        keys: path and part of each video, by any number.
        root: folder of relative paths, or of the shards that hold the videos.
    """
    sources = _find({number: key[0] for number, key in keys.items()}, root)
    strips = {number: Strip(note=source) for number, source in sources.items() if isinstance(source, str)}
    found = {number: source for number, source in sources.items() if not isinstance(source, str)}
    wanted = [_Wanted(number, source, _span(keys[number])) for number, source in found.items()]
    if not wanted:
        return strips
    outcomes = run_in_processes(_read, wanted, min(num_cores(), _MOST_WORKERS, len(wanted)), _LIMIT_SECONDS)
    with closing(outcomes), progress_bar(console, "reading frames", len(wanted)) as advance:
        for item, outcome in outcomes:
            strips[item.number] = Strip(note=outcome.reason) if isinstance(outcome, WorkFailure) else outcome
            advance()
    return strips


def _find(paths: Mapping[int, str], root: Path) -> dict[int, Path | bytes | str]:
    """Return what to open for each video, or why there is nothing."""
    found: dict[int, Path | bytes | str] = {}
    for number, path in paths.items():
        place = root / path
        found[number] = place if is_file(place) else "The video is no longer where the test found it."
    absent = {paths[number]: number for number, source in found.items() if isinstance(source, str)}
    if absent and any(root.glob("*.tar")):
        found |= _find_in_shards(absent, root)
    return found


def _find_in_shards(numbers: Mapping[str, int], root: Path) -> dict[int, Any]:
    from mvit_video.data import load_annotations  # slow to import, and rarely needed

    try:
        table = load_annotations(root)
        rows = {path: row for row, path in enumerate(table.paths.to_pylist()) if path in numbers}
        return {numbers[path]: table.source(row) for path, row in rows.items()}
    except (MVitVideoError, OSError) as error:
        return dict.fromkeys(numbers.values(), f"The shards cannot be read: {error}")


def _span(key: Key) -> tuple[float, float] | None:
    _, start, end = key
    return None if start is None else (start, float("inf") if end is None else end)


def _read(wanted: _Wanted, heartbeat: Heartbeat) -> Strip:
    from mvit_video.evaluation.gallery import read_frames  # imports torch, which only these processes need

    try:
        frames = read_frames(wanted.source, _NUM_FRAMES, _FRAME_SIZE, wanted.span)
    except VideoDecodeError as error:
        return Strip(note=f"The video cannot be read: {error.reason}")
    width, height = frames[0].size
    strip = Image.new("RGB", (width * len(frames), height))
    for i, frame in enumerate(frames):
        strip.paste(frame, (i * width, 0))
    file = BytesIO()
    strip.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return Strip(f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}", len(frames), width, height)
