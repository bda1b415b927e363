"""Class names and their numbers."""

from __future__ import annotations

import difflib
import json
import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.table.labels import CLASS_NUMBER, LabelError, label_number
from mvit_video.jobs.arrow import as_strings, compute, first, is_string, lengths, matches, to_mask
from mvit_video.jobs.foreign import require_file
from mvit_video.jobs.stores import is_url, read_file
from mvit_video.types import AnnotationError, ConfigError

CLASSES_FILES = ("classes.txt", "classes.json")

_NUMBER = rf"^{CLASS_NUMBER}$"
_MAX_DIGITS = 18


class ClassNames(NamedTuple):
    """Names in the order of their numbers.

    Attributes:
        origin: where they come from, for messages.
    """

    names: tuple[str, ...]
    origin: str


def given_names(class_names: Sequence[str] | str | os.PathLike[str]) -> ClassNames:
    """Names from a sequence, or from a file.

    Raises:
        AnnotationError: the file holds no list of names.
        ConfigError: a name comes twice.
    """
    if isinstance(class_names, (str, os.PathLike)):
        return read_names(Path(class_names))
    names = tuple(class_names)
    repeated = _repeated(names)
    if repeated is not None:
        raise ConfigError(f"class_names holds {names[repeated]!r} twice")
    return ClassNames(names, "class_names")


def names_beside(source: str | os.PathLike[str]) -> ClassNames | None:
    """Names of the file `classes.txt` or `classes.json` in a folder of classes, or beside annotations or a shard.

    Raises:
        AnnotationError: names the file, the line and the value.
    """
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
    """Names of a text file, one per line, or of a JSON file: a list, or an object of names and numbers.

    Raises:
        AnnotationError: names the file, the line and the value.
    """
    require_file(file)
    try:
        return _parse_names(file, file.read_bytes())
    except OSError as error:
        raise AnnotationError(file, 0, f"cannot be read ({error.strerror})") from None


def _parse_names(file: str | Path, data: bytes) -> ClassNames:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise AnnotationError(file, 0, f"is not a text file (byte {error.start} is no UTF-8)") from None
    if os.fspath(file).lower().endswith(".json"):
        names, line_of = _names_of_json(file, parse_json(file, text)), [0] * len(text)
    else:
        lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1)]
        line_of, names = [number for number, line in lines if line], tuple(line for _, line in lines if line)
    if not names:
        raise AnnotationError(file, 0, "holds no class names; write one per line")
    repeated = _repeated(names)
    if repeated is not None:
        raise AnnotationError(file, line_of[repeated], f"class {names[repeated]!r} comes twice")
    return ClassNames(names, str(file))


def parse_json(file: str | Path, text: str) -> Any:
    """A JSON file's value.

    Raises:
        AnnotationError: it is no JSON.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise AnnotationError(file, error.lineno, f"is no JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(file, 0, f"is no JSON that can be read ({error})") from None


def sorted_names(labels: pa.Array) -> tuple[str, ...]:
    """The different names among labels."""
    return tuple(sorted(labels.drop_null().unique().to_pylist()))


def describe_label(label: int | list[int], class_names: tuple[str, ...] | None) -> str:
    """A label as people read it."""
    if isinstance(label, list):
        return ", ".join(describe_label(one, class_names) for one in sorted(label))
    return class_names[label] if class_names is not None and label >= 0 else str(label)


def number_labels(
    labels: pa.Array,
    known: ClassNames | None,
    error: LabelError,
    *,
    are_names: bool = False,
    are_own: bool = False,
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Class of each label, -1 where it is null, and the names of the classes where labels are names.

    Names are numbered as in `known`, or in sorted order.

    Args:
        labels: strings or integers.
        are_names: whether labels that look like numbers are names.
        are_own: whether `known` came with the labels, so that their numbers are its own.

    Raises:
        AnnotationError: a label has no number.
    """
    if labels.null_count == len(labels):
        return np.full(len(labels), -1, np.int64), known.names if known is not None else None
    if is_string(labels.type):
        is_null = to_mask(labels.is_null())
        is_number = matches(labels, _NUMBER)
        if are_names or not (is_number | is_null).all():
            if not are_names:
                _refuse_mixtures(labels, is_number, is_null, error)
            return _number_names(labels, known, error)
    try:
        numbers = labels.cast(pa.int64())
    except pa.ArrowInvalid:
        numbers = None
    values = np.full(len(labels), 2**31) if numbers is None else numbers.fill_null(-1).to_numpy()
    bad = first((values < -1) | (values >= 2**31))
    if bad is not None and numbers is None:  # too long for an integer of 64 bits
        bad = next(i for i in range(len(labels)) if not _is_in_range(labels[i].as_py()))
    if bad is not None:
        shown = str(labels[bad].as_py())
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        raise error(bad, f"label {shown} is out of range; classes count from 0, -1 is unknown")
    if known is None:
        return values.astype(np.int64), None
    nameless = first(values >= len(known.names))
    if nameless is not None:
        raise error(nameless, f"label {values[nameless]} has no name among the {len(known.names)} of {known.origin}")
    if not are_own:
        refuse_confusion(values, known, error)
    return values.astype(np.int64), known.names


def refuse_confusion(numbers: NDArray[np.int64], known: ClassNames, error: LabelError) -> None:
    """Refuses class numbers beside names that are numbers of other classes, as the sorted folders `0`, `1`, `10`, `2`.

    Raises:
        AnnotationError: a label is the number of one class and the name of another.
    """
    named = {label_number(name): i for i, name in enumerate(known.names)}
    elsewhere = {number: i for number, i in named.items() if number is not None and number != i}
    odd = first(np.isin(numbers, list(elsewhere)))
    if odd is not None:
        number = int(numbers[odd])
        other = elsewhere[number]
        raise error(
            odd, f"label {number} may be class {number}, {known.names[number]!r}, or the name of class {other}, "
            f"{known.names[other]!r}, in {known.origin}; give the classes other names, or class_names in the order of "
            "their numbers"
        )  # fmt: skip


def _is_in_range(label: str | int | None) -> bool:
    text = "-1" if label is None else str(label)
    return len(text) <= _MAX_DIGITS and -1 <= int(text) < 2**31


def _number_names(
    labels: pa.Array, known: ClassNames | None, error: LabelError
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    empty = first((lengths(labels) == 0) & to_mask(labels.is_valid()))
    if empty is not None:
        raise error(empty, "has an empty label; give a class name, or nothing at all where it is unknown")
    names = known.names if known is not None else sorted_names(labels)
    numbers = compute.index_in(labels, value_set=as_strings(names))
    if known is not None:
        strange = first(to_mask(numbers.is_null()) & to_mask(labels.is_valid()))
        if strange is not None:
            label = labels[strange].as_py()
            nearest = difflib.get_close_matches(label, names, n=1, cutoff=0.0)[0]
            raise error(
                strange,
                f"label {label!r} is none of the {len(names)} classes of {known.origin}; nearest is {nearest!r}",
            )
    return numbers.fill_null(-1).to_numpy().astype(np.int64), names


def _refuse_mixtures(
    labels: pa.Array,
    is_number: NDArray[np.bool_],
    is_null: NDArray[np.bool_],
    error: LabelError,
) -> None:
    start = first(~is_null)
    odd = first((is_number != is_number[start]) & ~is_null)
    if odd is not None:
        label = labels[start].as_py()
        raise error(odd, f"label {labels[odd].as_py()!r} mixes class names and class numbers; the first is {label!r}")


def _names_of_json(file: str | Path, value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return tuple(value)
    if not isinstance(value, dict):
        raise AnnotationError(file, 0, 'holds no class names; write a list of names, or an object {"name": number}')
    if all(isinstance(name, str) and not name.isdecimal() for name in value.values()):
        value = {name: number for number, name in value.items()}
    odd = next((name for name, number in value.items() if not str(number).isdecimal()), None)
    if odd is not None:
        raise AnnotationError(file, 0, f"gives class {odd!r} the number {value[odd]!r}; write a number from 0")
    # some lists of Kinetics have quotes inside the names
    numbered = {int(number): name.strip('"') for name, number in value.items()}
    gap = next((i for i in range(len(value)) if i not in numbered), None)
    if gap is not None:
        raise AnnotationError(file, 0, f"numbers {len(value)} classes but none is {gap}; they count from 0")
    return tuple(numbered[i] for i in range(len(value)))


def _repeated(names: Sequence[str]) -> int | None:
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            return i
        seen.add(name)
    return None
