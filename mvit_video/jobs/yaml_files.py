"""Safe reader of YAML: nothing is executed, and memory and time are limited."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from mvit_video.types import ConfigError

MAX_BYTES = 2**20
MAX_DEPTH = 50
MAX_NODES = 100_000
# parsing it takes quadratic time, at least in base 60
_LONG_NUMBER = re.compile(r"[-+0-9a-fA-Fx_:.]{1001,}")
# errors of int, float and date in constructors of scalars included
_FAILURES = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(yaml.YAMLError):
    """Text that is not YAML or exceeds a limit; the message is one line."""


def read_yaml(path: str | PathLike[str]) -> Any:
    """Return the content of a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or exceeds a limit.
    """
    file = Path(path)
    try:
        if not file.is_file():
            raise ConfigError(f"{path}: {_kind(file)}; expected a YAML file")
        with file.open("rb") as content:
            text = content.read(MAX_BYTES + 1).decode()
        return parse_yaml(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); expected a YAML file") from error
    except YamlError as error:
        raise ConfigError(f"{path}: {error}") from error


def _load(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def parse_yaml(text: str, load: Callable[[str], Any] = _load) -> Any:
    """Return the content of YAML text: mappings, lists, strings, numbers, booleans, dates and None.

    Args:
        load: parser of text within the limits.

    Raises:
        YamlError: the text is not YAML, or exceeds a limit.
    """
    check_yaml(text)
    try:
        return load(text)
    except _FAILURES as error:
        raise YamlError(_describe(error)) from error


def check_yaml(text: str) -> None:
    """Refuse text that is large or deep, with aliases replaced.

    Raises:
        YamlError: the text exceeds a limit, or is not YAML.
    """
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise YamlError(f"more than {MAX_BYTES:,} bytes; expected a config, which can name files for long lists")
    try:
        _check_events(yaml.parse(text, Loader=_Loader))
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        raise YamlError(_describe(error)) from error


class _Open:
    """List or mapping that is being read, with aliases replaced."""

    def __init__(self, anchor: str | None) -> None:
        self.anchor, self.num_nodes, self.depth = anchor, 1, 1

    def add(self, num_nodes: int, depth: int) -> None:
        self.num_nodes += num_nodes
        self.depth = max(self.depth, 1 + depth)


def _check_events(events: Iterator[Any]) -> None:
    outer = [_Open(None)]  # the document and the open lists and mappings in it
    named: dict[str, tuple[int, int]] = {}
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in named:
                raise YamlError(f"line {line}: the alias *{event.anchor} is undefined or refers to itself")
            size = named[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            if _LONG_NUMBER.fullmatch(event.value):
                raise YamlError(f"line {line}: a number of {len(event.value):,} digits")
            size = (1, 0)
            if event.anchor is not None:
                named[event.anchor] = size
        elif isinstance(event, yaml.CollectionStartEvent):
            named.pop(event.anchor or "", None)
            outer.append(_Open(event.anchor))
            size = None
        elif isinstance(event, yaml.CollectionEndEvent):
            inner = outer.pop()
            size = (inner.num_nodes, inner.depth)
            if inner.anchor is not None:
                named[inner.anchor] = size
        else:
            continue
        if size is not None:
            outer[-1].add(*size)
        if len(outer) + (size or (0, 0))[1] > MAX_DEPTH:
            raise YamlError(f"line {line}: more than {MAX_DEPTH} levels of lists and mappings")
        if sum(one.num_nodes for one in outer) > MAX_NODES:
            raise YamlError(f"line {line}: more than {MAX_NODES:,} values, counted with aliases replaced")


def _describe(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = "" if mark is None else f"line {mark.line + 1}: "
    what = getattr(error, "problem", None) or f"{type(error).__name__}: {error}"
    return f"{where}not YAML ({' '.join(str(what).split())})"


def _kind(path: Path) -> str:
    if not path.exists():
        return "there is no such file"
    return "a folder" if path.is_dir() else "not a regular file"
