"""Messages about settings, from jsonargparse and the library, in a user's words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from mvit_video.types import CheckpointError, ConfigError

_KINDS: dict[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
}
_IMPORT_PATH = "the import path of a class or function, such as torch.optim.AdamW"
_UNION = re.compile(
    r"(?P<before>.*?)Does not validate against any of the Union subtypes Subtypes: \[(?P<kinds>.*?)\] "
    r"Errors: (?P<errors>.*) Given value type: \S+ '[\w.]+'> Given value: (?P<value>.*)"
)
_PLAIN = re.compile(r"Expected a (?P<kind><class '\w+'>|typing\.Literal\[.*\])\. Got value: (?P<value>.*)")
_NO_PATH = re.compile(r"Expected a path but \S+ either not accessible or invalid - ")
_NO_IMPORT = re.compile(r"Expected a dot import path string: (?P<value>.*)")
_OF_CLASS = re.compile(r"Problem with given class_path '[\w.]+': (?P<rest>.*)")
_OF_FUNCTION = re.compile(
    r"Type typing\.Callable\[.*?\] expects a function or a callable class: (?P<rest>.*)\. Got value: (?P<value>.*?)"
)
_NO_OPTION = re.compile(r"Option '(?P<name>[\w.]+)' is not accepted(?P<hint>.*)")
_LENGTH = re.compile(r"Expected a tuple with (?P<number>\d+) elements\. Got value: (?P<value>.*)")
_KEY = re.compile(r"(?P<key>[\w.]+): (?P<rest>.*)")


@contextmanager
def in_flags(**flags: str) -> Iterator[None]:
    """Replace arguments by flags or keys in errors of the library: `argument=value`, `argument holds`."""
    try:
        yield
    except (ConfigError, CheckpointError) as error:
        argument = re.compile(rf"(?<![\w.-])({'|'.join(flags)})(=| (?=holds ))")

        def named(match: re.Match[str]) -> str:
            is_key = not (flags[match[1]].startswith("-") or flags[match[1]].isupper())  # else an option or a place
            return flags[match[1]] + (match[2] if is_key else " ")

        raise type(error)(argument.sub(named, str(error))) from error


def in_words(line: str) -> str:
    """Return a message of jsonargparse, as `KEY=VALUE: expected ...` where it is about the type of a value."""
    line = re.sub(r'Parser key "([^"]+)":', r"\1:", line.replace(": - ", ": "))
    line = re.sub(r"Subcommand '\w+' does not accept option '([^']+)'", r"\1: there is no such key", line)
    if missing := re.fullmatch(r"the following arguments are required: (.*)", line):
        keys = re.sub(r"\b[a-z]+\.((?:model|data|trainer)\b)", r"\1", missing[1])
        return f"the config does not set {keys}; add them, or give a config of configs/ that does with -c"
    if stray := re.fullmatch(r"unrecognized arguments: ([^-\s]\S*)( .*)?", line):
        hint = (
            f"a config is given as -c {stray[1]}" if stray[1].endswith((".yaml", ".yml")) else "options begin with --"
        )
        return f"{line}; {hint}"
    keyed = _KEY.fullmatch(line)
    return line if keyed is None else _of_type(keyed["key"], _NO_PATH.sub("", keyed["rest"]))


def _of_type(key: str, text: str) -> str:
    if inner := _OF_CLASS.fullmatch(text) or _OF_FUNCTION.fullmatch(text):
        return _within(key, inner["rest"])
    if union := _UNION.fullmatch(text):
        classes = set(re.findall(r"<class '([\w.]+)'>", union["kinds"]))
        if classes - {"torch.Tensor"} <= _KINDS.keys() and not re.search(r"\b(list|tuple|dict)\b", union["kinds"]):
            return _expected(key, union["value"], union["kinds"])
        errors = union["errors"].split(" - ")
        if of_class := next((error for error in errors if _OF_CLASS.fullmatch(error)), None):
            return _of_type(key, of_class)
        if "Literal[" in union["kinds"]:
            return _expected(key, union["value"], union["kinds"])
        text = " - ".join(error for error in errors if not re.fullmatch(r"Expected a <.*>", error)) or union["errors"]
    if no_import := _NO_IMPORT.fullmatch(text):
        return f"{key}={no_import['value']}: expected {_IMPORT_PATH}"
    if plain := _PLAIN.fullmatch(text):
        return _expected(key, plain["value"], plain["kind"])
    if length := _LENGTH.fullmatch(text):
        return f"{key}={length['value']}: expected a list of {length['number']} values"
    return f"{key}: {text}"


def _within(key: str, text: str) -> str:
    """Return what is wrong with the class that `key` names, or with an argument of it."""
    if option := _NO_OPTION.fullmatch(text):
        return f"{key}.{option['name']}: there is no such key{option['hint']}"
    keyed = _KEY.fullmatch(text)
    return f"{key}: {text}" if keyed is None else _of_type(f"{key}.{keyed['key']}", _NO_PATH.sub("", keyed["rest"]))


def _expected(key: str, value: str, kinds: str) -> str:
    names: list[str] = [
        name for part in re.findall(r"Literal\[(.*?)\]", kinds) for name in part.replace("'", "").split(", ")
    ]
    classes: list[str] = re.findall(r"<class '([\w.]+)'>", kinds)
    words = list(dict.fromkeys(_KINDS[name] for name in classes if name in _KINDS))
    names = list(dict.fromkeys(names))
    if names:
        words.insert(0, f"one of {', '.join(names)}")
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{key}={value}: expected {' or '.join(words or classes)}{hint}"
