"""Class names, from a user or a file."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mvit_video.jobs.foreign import require_file
from mvit_video.jobs.stores import is_url, read_file
from mvit_video.types import AnnotationError, ConfigError

CLASSES_FILES = ("classes.txt", "classes.json")


class ClassNames(NamedTuple):
    """Class names in the order of their numbers; `origin` is their source, for messages."""

    names: tuple[str, ...]
    origin: str


def given_names(class_names: Sequence[str] | str | os.PathLike[str]) -> ClassNames:
    """Return the names of a sequence or of a file.

    Raises:
        AnnotationError: the file is not a list of names.
        ConfigError: a name is repeated.
    """
    if isinstance(class_names, (str, os.PathLike)):
        return read_names(Path(class_names))
    names = tuple(class_names)
    repeated = _repeated(names)
    if repeated is not None:
        raise ConfigError(f"class_names has {names[repeated]!r} twice")
    return ClassNames(names, "class_names")


def names_beside(source: str | os.PathLike[str]) -> ClassNames | None:
    """Return the names in `classes.txt` or `classes.json` in a folder of classes, or beside annotations or a shard."""
    if is_url(os.fspath(source)):
        return _names_beside_url(os.fspath(source))
    source = Path(source)
    folders = [source, source.parent] if source.is_dir() else [source.parent]
    files = [folder / name for folder in folders for name in CLASSES_FILES if (folder / name).is_file()]
    return read_names(files[0]) if files and files[0] != source else None


def _names_beside_url(url: str) -> ClassNames | None:
    for name in CLASSES_FILES:
        place = posixpath.join(posixpath.dirname(url), name)
        data = read_file(place)
        if data is not None:
            return _parse_names(place, data)
    return None


def read_names(file: Path) -> ClassNames:
    """Read a text file with a name per line, or a JSON file with a list, or an object of names and numbers."""
    require_file(file)
    try:
        return _parse_names(file, file.read_bytes())
    except OSError as error:
        raise AnnotationError(file, 0, f"cannot be read ({error.strerror})") from None


def _parse_names(file: str | Path, data: bytes) -> ClassNames:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise AnnotationError(file, 0, f"is not a text file (byte {error.start} is not UTF-8)") from None
    if os.fspath(file).lower().endswith(".json"):
        names, line_of = _names_of_json(file, parse_json(file, text)), [0] * len(text)
    else:
        lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1)]
        line_of, names = [number for number, line in lines if line], tuple(line for _, line in lines if line)
    if not names:
        raise AnnotationError(file, 0, "has no class names; write one per line")
    repeated = _repeated(names)
    if repeated is not None:
        raise AnnotationError(file, line_of[repeated], f"class {names[repeated]!r} is repeated")
    return ClassNames(names, str(file))


def parse_json(file: str | Path, text: str) -> Any:
    """Return the value of JSON text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise AnnotationError(file, error.lineno, f"is not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(file, 0, f"cannot be read as JSON ({error})") from None


def sorted_names(labels: pa.Array) -> tuple[str, ...]:
    """Return the distinct labels, sorted."""
    return tuple(sorted(labels.drop_null().unique().to_pylist()))


def describe_label(label: int | list[int], class_names: tuple[str, ...] | None) -> str:
    """Return the class name, or names, of a label."""
    if isinstance(label, list):
        return ", ".join(describe_label(one, class_names) for one in sorted(label))
    return class_names[label] if class_names is not None and label >= 0 else str(label)


def _names_of_json(file: str | Path, value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    if not isinstance(value, dict):
        raise AnnotationError(file, 0, 'has no class names; write a list of names, or an object {"name": number}')
    if all(isinstance(name, str) and not name.isdecimal() for name in value.values()):
        value = {name: number for number, name in value.items()}
    odd = next((name for name, number in value.items() if not str(number).isdecimal()), None)
    if odd is not None:
        raise AnnotationError(file, 0, f"gives class {odd!r} the number {value[odd]!r}; write a number from 0")
    # some lists of Kinetics have quotes in the names
    numbered = {int(number): name.strip('"') for name, number in value.items()}
    gap = next((i for i in range(len(value)) if i not in numbered), None)
    if gap is not None:
        raise AnnotationError(file, 0, f"has {len(value)} classes but no number {gap}; numbers start at 0")
    return tuple(numbered[i] for i in range(len(value)))


def _repeated(names: Sequence[str]) -> int | None:
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            return i
        seen.add(name)
    return None
