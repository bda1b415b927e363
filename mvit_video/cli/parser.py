"""Parser of the verbs with a config."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info
from torch import nn

from mvit_video import models
from mvit_video.cli.wording import in_words
from mvit_video.jobs.yaml_files import YamlError, parse_yaml, read_yaml
from mvit_video.types import ConfigError

_LOAD = get_loader("yaml")
_NET = ("--model.net", "--model.net.class_path")
_NET_HELP = "--model.net.help"
_INIT = "--model.init_from"
_OF_EVERY_NET = ("num_classes", "num_frames", "crop_size")


def read_yaml_our_way() -> None:
    """Have jsonargparse read values and files within the limits of `yaml_files`, and take their short forms."""
    set_loader("yaml", lambda text: _in_full(parse_yaml(text, _LOAD)), exceptions=(YamlError,))


def any_net(num_classes: int = 0, num_frames: int = 1, crop_size: int = 1) -> nn.Module:
    """Take the arguments of every builder: set between two builders, it makes jsonargparse drop all others."""
    raise NotImplementedError


class _Net:
    """The builder of `model.net`, and where its arguments are set, as configs and words follow each other."""

    def __init__(self) -> None:
        self.builder: str | None = None
        self.places: dict[str, str] = {}

    def words(self, net: Any, place: str, *, is_delta: bool = False) -> list[str]:
        """Return words that drop the arguments of another builder, where `net` names a new one.

        Args:
            net: a name, or a mapping with `class_path` and `init_args`.
            place: file or option that sets `net`.
            is_delta: the file names the config that it changes; its reader needs no message.
        """
        net = {"class_path": net} if isinstance(net, str) else net
        if not isinstance(net, dict):
            return []
        before, builder, words = self.builder, net.get("class_path"), []
        if isinstance(builder, str):
            self.builder = builder.rpartition(".")[2]
            foreign = {name: file for name, file in self.places.items() if name not in _OF_EVERY_NET}
            if foreign and self.builder != before:
                words = [_NET[0], f"{__name__}.{any_net.__name__}"]
                self.places = {name: self.places[name] for name in self.places.keys() - foreign.keys()}
                if not is_delta:
                    files, names = ", ".join(dict.fromkeys(foreign.values())), ", ".join(foreign)
                    rank_zero_info(f"model.net={self.builder} replaces {before}; ignored: {names} of {files}")
        settings = net.get("init_args")
        self.places |= dict.fromkeys(settings if isinstance(settings, dict) else (), place)
        return words

    def words_of_file(self, file: str) -> list[str]:
        """Return the words that come before a config file."""
        content = read_yaml(file)
        model = content.get("model") if isinstance(content, dict) else None
        return self.words(model.get("net"), file, is_delta="base" in content) if isinstance(model, dict) else []


def words_in_full(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with their short forms written out.

    A model's bare name becomes the builder's dotted path, and a file given as `model.init_from` its `path`. Another
    builder drops the arguments of the one before.

    Raises:
        ConfigError: no model has the name, and another has nearly that.
        SystemExit: the words ask for the arguments of a model, which are printed.
    """
    found: list[str] = []
    net = _Net()
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option == _NET_HELP:
            _print_net_help(value or next(rest, ""))
        if option not in (*_NET, _INIT, "--config"):
            if option.startswith("--model.net."):
                net.places[option.rpartition(".")[2]] = "the command line"
            found.append(word)
            continue
        if not equals and (value := next(rest, None)) is None:
            return [*found, word]
        if option == "--config":
            found += [*net.words_of_file(value), option, value]
        elif option in _NET:
            named = value if value.startswith("{") else _net_path(value)
            found += [*net.words(parse_yaml(named), option), option, named]
        else:
            found += [f"{_INIT}.path" if _is_weights(value) else _INIT, value]
    return found


def _print_net_help(name: str) -> NoReturn:
    builders = models.builders()
    if name not in builders:
        near = difflib.get_close_matches(name, builders, n=1)
        hint = f"did you mean {near[0]}?" if near else "mvit-video models lists the names"
        raise ConfigError(f"{_NET_HELP} {name}: there is no such model; {hint}")
    parser = ArgumentParser(usage="", add_help=False)
    parser.add_function_arguments(builders[name], "model.net", as_group=True)
    print(parser.format_help().partition("\n\n")[2], end="")
    raise SystemExit(0)


def _in_full(content: Any) -> Any:
    """Return the content of a config file with its short forms written out."""
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
    """Return whether `init_from` is a file of weights rather than settings or null."""
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
    """Parser that reports a wrong config in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise instead of printing the whole usage.

        Raises:
            ConfigError: the text in one line.
        """
        message += self._hint(message)
        if not self.exit_on_error:  # a parser within a parser: the outer one adds the key and says it
            super().error(message, ex)
        raise ConfigError(in_words(" ".join(message.split()))) from ex

    def _hint(self, message: str) -> str:
        """Return which key is near to an unknown one."""
        unknown = re.search(r"(unrecognized arguments: --|option '|Option ')([\w.]+)", message)
        if unknown is None:
            return ""
        actions = list(self._actions)
        for action in self._actions:
            if isinstance(action.choices, dict):  # the verbs, which have all the same keys
                actions += [key for parser in action.choices.values() for key in parser._actions]
        keys = {action.dest for action in actions if not action.dest.endswith("help")}
        near = difflib.get_close_matches(unknown[2], sorted(keys), n=1)
        return f"; did you mean {near[0]}?" if near else ""
