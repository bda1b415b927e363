"""Settings of a config file as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mvit_video.types import ConfigError


def typed_settings(given: Any, kinds: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the settings that `kinds` names, built from plain values and checked.

    Args:
        given: mapping of a config; None is an empty one. Other keys and null values are ignored.
        kinds: type of each setting, such as a frozen dataclass.
        where: key of the mapping, for messages.

    Raises:
        ConfigError: a value is not of its type, or is refused by it.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}={given!r}: expected keys with values")
    return {key: _typed(kinds[key], given[key], f"{where}.{key}") for key in kinds if given.get(key) is not None}


def _typed(kind: Any, value: Any, key: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin is dict or is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}={value!r}: expected keys with values")
        if origin is dict:
            return dict(value)
        hints = get_type_hints(kind)
        if unknown := [name for name in value if name not in hints]:
            raise ConfigError(f"{key}.{unknown[0]}: there is no such key; known are {', '.join(hints)}")
        typed = {name: _typed(hints[name], one, f"{key}.{name}") for name, one in value.items()}
        return kind(**typed)  # pyright: ignore[reportCallIssue]
    if origin in (Union, UnionType):
        if value is None and NoneType in args:
            return None
        choices = [one for one in args if one is not NoneType]
        for choice in choices[:-1]:
            try:
                return _typed(choice, value, key)
            except ConfigError:
                continue
        return _typed(choices[-1], value, key)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or len(value) != len(args):
            raise ConfigError(f"{key}={value!r}: expected {len(args)} values")
        return tuple(_typed(one, item, key) for one, item in zip(args, value, strict=True))
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{key}={value!r}: expected one of {', '.join(map(str, args))}")
        return value
    accepted: tuple[type, ...] = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{key}={value!r}: expected {_WORDS[kind]}")
    return float(value) if kind is float else value


_WORDS: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
