"""JSON files that hold one object, written complete or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mvit_video.jobs.files import atomic_write

MAX_BYTES = 2**26


def read_json_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the object that a file holds; NaN and infinity become None.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no plain file, too large, not JSON in UTF-8, or holds no object.
    """
    if path.exists() and not path.is_file():  # a pipe would block
        raise ValueError("not a plain file")
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"larger than {max_bytes} bytes")
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=lambda _: None)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"an object was expected, not {type(value).__name__}")
    return value


def write_json_object(path: Path, value: Mapping[str, Any]) -> None:
    """Write an object without NaN, readable by people."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
