"""Pages of the reference in Markdown, made from the parsers of the command line and from the names of the package."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import docstring_parser
import jsonargparse

from mvit_video.cli import VERBS, main
from mvit_video.cli.options import VerbParser

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
WITH_CONFIG = ("fit", "validate", "test", "predict", "robustness")
PUBLIC_MODULES = {
    "mvit_video": "What `import mvit_video as mv` gives.",
    "mvit_video.models": "Named models, their builders and parts. A config names every builder as "
    "`mvit_video.models.<builder>`; [Models](../../models.md) lists them.",
    "mvit_video.nn": "Building blocks in plain torch.",
    "mvit_video.data": "From annotations and videos to batches.",
    "mvit_video.data.readers": "Frames by index.",
    "mvit_video.data.sampling": "Pure functions from a number of frames to frame indices.",
    "mvit_video.features": "Features of windows: extract, store, read.",
    "mvit_video.runs": "What a run leaves: settings, checkpoints, predictions.",
    "mvit_video.training": "Lightning task, data module, schedule and callbacks.",
    "mvit_video.evaluation": "Multi-view testing.",
    "mvit_video.analysis": "Studies of a trained net.",
}
_GENERAL = ("seed_everything", "base", "checkpoint_every_n_steps", "studies", "severities")
_TEXTS = {"seed_everything": "Seed of everything random; true draws one, false sets none"}  # in place of Lightning's
_GROUPS = {
    "general": "The run",
    "model": "`model`: net, optimiser, schedule",
    "data": "`data`: videos, clips, augmentation, views, loading",
    "features": "`features`: what `predict` extracts",
    "trainer": "`trainer`: Lightning's own",
}


class _ParserFound(BaseException):
    """Not an error: carries the parser of a verb out of the program."""


def parser_of(verb: str) -> Any:
    """Return the parser that a verb would parse its words with."""

    def stop(parser: Any, *_: Any, **__: Any) -> None:
        raise _ParserFound(parser)

    with (
        patch.object(argparse.ArgumentParser, "parse_args", stop),
        patch.object(jsonargparse.ArgumentParser, "parse_args", stop),
        patch.object(VerbParser, "parse_args", stop),
    ):
        try:
            main([verb, *(["-c", str(CONFIG)] if verb in WITH_CONFIG else [])])
        except _ParserFound as found:
            parser = found.args[0]
            return parser._subcommands_action._name_parser_map[verb] if verb in WITH_CONFIG else parser
    raise RuntimeError(f"the verb {verb} parsed nothing")


def command_line_page() -> str:
    """Return the page of every verb with its options and their defaults."""
    lines = [
        "# Command line",
        "",
        "The program is installed as `mvit-video`; `lightning` is the same program, and so is `python -m mvit_video`. "
        "An error is one line on standard error; `--debug` shows where in the code it arose.",
        "",
        "| verb | what it does |",
        "|---|---|",
        *(f"| [`{name}`](#{name}) | {verb.purpose} |" for name, verb in VERBS.items()),
        "",
        "| exit code | meaning |",
        "|---|---|",
        "| 0 | everything is done |",
        "| 1 | the work failed, or part of it: some videos could not be read, the disk is full |",
        "| 2 | the command line or the config is wrong, or names a path that does not exist; nothing was started |",
        "| 130, 143 | stopped by Ctrl-C; by a signal |",
        "| 141 | nobody reads the output any more, as with <code>&#124; head</code> |",
    ]
    for verb in VERBS:
        lines += ["", f"## {verb}", "", *_verb(verb)]
    return "\n".join(lines) + "\n"


def _verb(verb: str) -> Iterator[str]:
    if verb in WITH_CONFIG:
        yield from _verb_with_config(verb)
        return
    parser = parser_of(verb)
    yield from (_sentence(parser.description), "", "```text", (parser.epilog or "").removeprefix("example: "), "```")
    yield from ("", "| option | default | meaning |", "|---|---|---|")
    for action in parser._actions:
        names = action.option_strings or [action.metavar or action.dest.upper()]
        default = "" if action.default is False else _default(action)  # of a flag
        if action.help != argparse.SUPPRESS and action.dest != "help":
            choices = "" if action.choices is None else f" One of {', '.join(f'`{one}`' for one in action.choices)}."
            text = parser._get_formatter()._expand_help(action)
            text = re.sub(r" ?\(default: [^()]*\)", "", text) if default else text
            yield f"| {', '.join(f'`{name}`' for name in names)} | {default} | {_cell(text)}{choices} |"


def _verb_with_config(verb: str) -> Iterator[str]:
    printed = io.StringIO()
    with redirect_stdout(printed):
        main([verb, "--help"])
    _, description, *rest = printed.getvalue().split("\n\n")
    example = next(text for text in rest if text.startswith("example:")).partition("\n")[2]
    yield from (" ".join(description.split()), "", "```text", example.strip(), "```", "")
    yield "Every [config key](settings.md) is an option, such as `--data.loading.batch_size 4`. Besides:"
    yield from ("", "| option | meaning |", "|---|---|")
    yield "| `-c CONFIG` | Config file; of several, the later one overrides. |"
    for name, text in re.findall(
        r"^  (--?[\w.-]+(?: NAME)?|ckpt_path) +(?:null +)?(.+)$", printed.getvalue(), re.MULTILINE
    ):
        yield f"| `{name.replace('ckpt_path', '--ckpt_path')}` | {_sentence(text)} |"


def settings_page() -> str:
    """Return the page of every key of a config with its default, grouped by its first word."""
    actions = {
        action.dest: action
        for verb in ("robustness", "predict", "fit")
        for action in parser_of(verb)._actions
        if _is_key(action)
    }
    rows: dict[str, list[str]] = {group: [] for group in _GROUPS}
    for action in actions.values():
        group = action.dest.partition(".")[0]
        rows[group if group in _GROUPS else "general"] += _key_rows(action)
    lines = [
        "# Config keys",
        "",
        "Every key of a config file, with its default. A key is also an option: `--data.clip.num_frames 32`. A key "
        "that does not exist is refused with the nearest name. To print all values of a run: "
        "`mvit-video fit -c configs/demo.yaml --print_config`.",
    ]
    for group, title in _GROUPS.items():
        lines += ["", f"## {title}", "", "| key | default | meaning |", "|---|---|---|", *rows[group]]
    return "\n".join(lines) + "\n"


def _is_key(action: argparse.Action) -> bool:
    first = action.dest.partition(".")[0]
    is_setting = "." in action.dest and first in _GROUPS and not action.dest.endswith(".help")
    is_group = type(action).__name__ == "_ActionConfigLoad"
    return not is_group and (is_setting or action.dest in _GENERAL)


def _key_rows(action: argparse.Action) -> Iterator[str]:
    text = _TEXTS.get(action.dest, action.help)
    own = action.default if isinstance(action.default, dict) else {}
    yield f"| `{action.dest}` | {'see below' if own else _default(action)} | {_in_yaml(text)} |"
    typed = getattr(action, "_typehint", None)
    for found in (typed, *get_args(typed)):
        if is_dataclass(found) and isinstance(found, type):
            texts = {one.arg_name: one.description for one in docstring_parser.parse(found.__doc__ or "").params}
            for field in fields(found):
                default = _value(own.get(field.name, None if field.default is MISSING else field.default))
                yield f"| `{action.dest}.{field.name}` | {default} | {_in_yaml(texts.get(field.name))} |"


def _default(action: argparse.Action) -> str:
    return "required" if action.required else "" if action.default is argparse.SUPPRESS else _value(action.default)


def _value(value: Any) -> str:
    """Return a default as YAML has it; nothing for null."""
    if value is None or isinstance(value, bool):
        return {None: "", True: "`true`", False: "`false`"}[value]
    if isinstance(value, tuple | list):
        return f"`[{', '.join(f'{one:.4g}' if isinstance(one, float) else str(one) for one in value)}]`"
    return f"`{value}`"


def _in_yaml(text: str | None) -> str:
    """Return help with the words of YAML for those of Python."""
    for python, yaml in (("None", "null"), ("True", "true"), ("False", "false")):
        text = re.sub(rf"\b{python}\b", yaml, text or "")
    return _cell(text)


def _cell(text: str | None) -> str:
    """Return help as one line that may stand in a table."""
    text = re.sub(r":\w+:`[~!]?[\w.]*?(\w+)`", r"`\1`", " ".join((text or "").split()))
    text = re.sub(r" ?Default: ``.*?``\.?", "", text).replace("``", "`")
    return _sentence(re.sub(r"\|", "&#124;", text.replace("<", "&lt;")))


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith((".", ")")) else ".")


def python_pages() -> dict[str, str]:
    """Return the pages of the public modules by file name, each with every name in its `__all__`."""
    rows = "\n".join(f"| [`{name}`]({name}.md) | {text} |" for name, text in PUBLIC_MODULES.items())
    pages = {
        "index": "# Python\n\nImport names from these modules; the others may change.\n\n"
        f"| module | what it has |\n|---|---|\n{rows}\n"
    }
    for name, text in PUBLIC_MODULES.items():
        body = "\n\n".join(f"::: {name}.{public}" for public in public_names(name))
        pages[name] = f"# `{name}`\n\n{text}\n\n{body}\n"
    return pages


def public_names(module: str) -> list[str]:
    """Return the public names of a module in the order of its pages: functions and classes before constants."""
    found = import_module(module)
    names = getattr(found, "__all__", None) or [name for name in vars(found) if not name.startswith("_")]
    own = [
        name for name in names
        if getattr(getattr(found, name), "__module__", "").startswith("mvit_video")
    ]  # fmt: skip
    return sorted(own, key=str.lower)


def undocumented() -> list[str]:
    """Return the public names without a docstring of their own."""
    missing = []
    for module in PUBLIC_MODULES:
        for name in public_names(module):
            found = getattr(import_module(module), name)
            text = found.__doc__ or ""
            automatic = isinstance(found, type) and text.startswith(f"{found.__name__}(")  # a dataclass's or a tuple's
            if not text.strip() or automatic:
                missing.append(f"{module}.{name}")
    return missing
