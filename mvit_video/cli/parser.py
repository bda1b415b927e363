"""The parser of the verbs with a config."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from mvit_video import models
from mvit_video.cli.wording import in_words
from mvit_video.data.settings import MOVED_KEYS
from mvit_video.jobs.yaml_files import YamlError, parse_yaml
from mvit_video.types import ConfigError

_LOAD = get_loader("yaml")
_NET = ("--model.net", "--model.net.class_path")
_INIT = "--model.init_from"


def read_yaml_our_way() -> None:
    """Have jsonargparse read values and files within the limits of `yaml_files`, and take their short forms."""
    set_loader("yaml", lambda text: _in_full(parse_yaml(text, _LOAD)), exceptions=(YamlError,))


def words_in_full(words: Sequence[str]) -> list[str]:
    """Words of a command line whose short forms are written out.

    A model's bare name becomes the builder's dotted path, and a file that stands for `model.init_from` its `path`.

    Raises:
        ConfigError: no model has the name, and another has nearly that.
    """
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option not in (*_NET, _INIT):
            found.append(word)
            continue
        if not equals and (value := next(rest, None)) is None:
            return [*found, word]
        if option in _NET:
            found += [option, _net_path(value)]
        else:
            found += [f"{_INIT}.path" if _is_weights(value) else _INIT, value]
    return found


def _in_full(content: Any) -> Any:
    """The same for what a config file says."""
    if not isinstance(content, dict):
        return content
    if isinstance(content.get("class_path"), str):
        return content | {"class_path": _net_path(content["class_path"])}
    model = content.get("model")
    if not isinstance(model, dict):
        return content
    changes: dict[str, Any] = {}
    if "net" in model:
        changes["net"] = _net_path(model["net"]) if isinstance(model["net"], str) else _in_full(model["net"])
    if isinstance(model.get("init_from"), str) and _is_weights(model["init_from"]):
        changes["init_from"] = {"path": model["init_from"]}
    return content | {"model": model | changes}


def _is_weights(value: str) -> bool:
    """Whether `init_from` is a file of weights, not settings or none."""
    return not value.startswith("{") and value not in ("null", "~", "") and not value.endswith((".yaml", ".yml"))


def _net_path(name: str) -> str:
    if name in models.builders():
        return f"{models.__name__}.{name}"
    names = models.list_models()
    near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1) if "." not in name else []
    if near:
        raise ConfigError(f"model.net: there is no model {name!r}; did you mean {near[0]}?")
    return name


class Parser(LightningArgumentParser):
    """Says what is wrong with a config in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises instead of printing the whole usage.

        Raises:
            ConfigError: the text in one line.
        """
        message += self._hint(message)
        if not self.exit_on_error:  # a parser within a parser: the outer one adds the key and says it
            super().error(message, ex)
        raise ConfigError(in_words(" ".join(message.split()))) from ex

    def _hint(self, message: str) -> str:
        """What to do about a key that is not known: another one that is near.

        Raises:
            ConfigError: it is one of an earlier version, and has another name now.
        """
        unknown = re.search(r"(unrecognized arguments: --|option '|Option ')([\w.]+)", message)
        if unknown is None:
            return ""
        root, *names = unknown[2].split(".")
        if root == "data" and names and (moved := MOVED_KEYS.get(names[0])) is not None:
            raise ConfigError(f"{unknown[2]} is now {'.'.join((root, moved, *names[1:]))}")
        actions = list(self._actions)
        for action in self._actions:
            if isinstance(action.choices, dict):  # the verbs, which have all the same keys
                actions += [key for parser in action.choices.values() for key in parser._actions]
        keys = {action.dest for action in actions if not action.dest.endswith("help")}
        near = difflib.get_close_matches(unknown[2], sorted(keys), n=1)
        return f"; did you mean {near[0]}?" if near else ""
