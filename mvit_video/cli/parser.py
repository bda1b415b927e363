"""The parser of the verbs with a config."""

from __future__ import annotations

import difflib
import re
from typing import NoReturn

from jsonargparse import get_loader, set_loader
from lightning.pytorch.cli import LightningArgumentParser

from mvit_video.cli.wording import in_words
from mvit_video.types import ConfigError
from mvit_video.yaml_files import YamlError, parse_yaml

_LOAD = get_loader("yaml")


def limit_yaml() -> None:
    """Have jsonargparse read values and files within the limits of `yaml_files`."""
    set_loader("yaml", lambda text: parse_yaml(text, _LOAD), exceptions=(YamlError,))


class Parser(LightningArgumentParser):
    """Says what is wrong with a config in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises instead of printing the whole usage.

        Raises:
            ConfigError: the text in one line.
        """
        message += self._nearest_key(message)
        if not self.exit_on_error:  # a parser within a parser: the outer one adds the key and says it
            super().error(message, ex)
        raise ConfigError(in_words(" ".join(message.split()))) from ex

    def _nearest_key(self, message: str) -> str:
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
