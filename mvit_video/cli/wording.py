"""What jsonargparse finds wrong with a setting, in a user's words."""

from __future__ import annotations

import difflib
import re

_KINDS: dict[str, str] = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
}
_IMPORT_PATH = "the import path of a class or function, such as torch.optim.AdamW"
_UNION = re.compile(
    r"(?P<before>.*?)Does not validate against any of the Union subtypes Subtypes: \[(?P<kinds>.*?)\] "
    r"Errors: (?P<errors>.*) Given value type: \S+ '\w+'> Given value: (?P<value>.*)"
)
_PLAIN = re.compile(r"Expected a (?P<kind><class '\w+'>|typing\.Literal\[.*\])\. Got value: (?P<value>.*)")
_NO_PATH = re.compile(r"Expected a path but \S+ either not accessible or invalid - ")
_NO_IMPORT = re.compile(r"Expected a dot import path string: (?P<value>.*)")
_OF_CLASS = re.compile(r"Problem with given class_path '[\w.]+': (?P<name>\w+): (?P<rest>.*)")
_KEY = re.compile(r"(?P<key>[\w.]+): (?P<rest>.*)")


def in_words(line: str) -> str:
    """Return a message of jsonargparse as `KEY=VALUE: expected ...`, where it is about the type of a value."""
    line = re.sub(r'Parser key "([^"]+)":', r"\1:", line.replace(": - ", ": "))
    line = re.sub(r"Subcommand '\w+' does not accept option '([^']+)'", r"\1: there is no such key", line)
    if stray := re.fullmatch(r"unrecognized arguments: ([^-\s]\S*)( .*)?", line):
        hint = (
            f"a config is given as -c {stray[1]}" if stray[1].endswith((".yaml", ".yml")) else "options begin with --"
        )
        return f"{line}; {hint}"
    keyed = _KEY.fullmatch(line)
    return line if keyed is None else _of_type(keyed["key"], _NO_PATH.sub("", keyed["rest"]))


def _of_type(key: str, text: str) -> str:
    if union := _UNION.fullmatch(text):
        classes = set(re.findall(r"<class '([\w.]+)'>", union["kinds"]))
        if classes <= _KINDS.keys() and not re.search(r"\b(list|tuple|dict)\b", union["kinds"]):
            return _expected(key, union["value"], union["kinds"])
        others = [error for error in union["errors"].split(" - ") if not re.fullmatch(r"Expected a <.*>", error)]
        text = " - ".join(others) or union["errors"]
    if inner := _OF_CLASS.fullmatch(text):
        return _of_type(f"{key}.{inner['name']}", inner["rest"])
    if no_import := _NO_IMPORT.fullmatch(text):
        return f"{key}={no_import['value']}: expected {_IMPORT_PATH}"
    if plain := _PLAIN.fullmatch(text):
        return _expected(key, plain["value"], plain["kind"])
    return f"{key}: {text}"


def _expected(key: str, value: str, kinds: str) -> str:
    names: list[str] = [
        name for part in re.findall(r"Literal\[(.*?)\]", kinds) for name in part.replace("'", "").split(", ")
    ]
    classes: list[str] = re.findall(r"<class '([\w.]+)'>", kinds)
    words = [_KINDS.get(name, name) for name in classes]
    names = list(dict.fromkeys(names))
    if names:
        words.insert(0, f"one of {', '.join(names)}")
    near = difflib.get_close_matches(value, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{key}={value}: expected {' or '.join(words)}{hint}"
