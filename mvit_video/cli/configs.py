"""The config files of a command line, and the ones that their key `base` names."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import mvit_video
from mvit_video.cli.keys import check_keys, short_help
from mvit_video.types import ConfigError

PACKAGED_CONFIGS = Path(mvit_video.__file__).parent / "configs"
if not PACKAGED_CONFIGS.is_dir():  # a source tree keeps them beside the package
    PACKAGED_CONFIGS = PACKAGED_CONFIGS.parents[1] / "configs"

# options that name a model, or ask for something else
_ENOUGH = ("--config", "--model", "--print_config", "--help-all")


def find_config(name: str) -> str:
    """Return the path of a config: the name itself, or else the package's copy of `configs/<name>`.

    Raises:
        ConfigError: there is neither.
    """
    if os.path.exists(name):
        return name
    packaged, is_ours = PACKAGED_CONFIGS / Path(name).name, Path(name).parent in (Path("configs"), Path())
    if is_ours and packaged.is_file():
        return str(packaged)
    ours = {path.name: f"configs/{path.name}" for path in PACKAGED_CONFIGS.glob("*.yaml")}
    beside = _configs_in(Path(name).parent)
    if near := difflib.get_close_matches(Path(name).name, beside, n=1):
        hint = f"did you mean {beside[near[0]]}?"
    elif near := difflib.get_close_matches(Path(name).name, ours, n=1, cutoff=0.6 if is_ours else 0.9):
        hint = f"did you mean {ours[near[0]]}?"
    else:
        hint = f"the package has {len(ours)}, such as configs/demo.yaml"
    raise ConfigError(f"-c {name}: there is no such file{'; ' + hint if ours else ''}")


def _configs_in(folder: Path) -> dict[str, Path]:
    try:
        return {path.name: path for path in folder.iterdir() if path.suffix in (".yaml", ".yml")}
    except OSError:
        return {}


def with_found_configs(words: Sequence[str]) -> list[str]:
    """Return the words of a command line, the verb first, with the path of each config file and before it its `base`.

    Where the words ask for help, print it. Nothing slow is imported: a wrong path or key is reported at once.

    Raises:
        ConfigError: a file is missing or cannot be read, or there is no such key.
        SystemExit: the words ask for help.
    """
    if not {"-h", "--help"}.isdisjoint(words):
        print(short_help(words[0]), end="")
        raise SystemExit(0)
    found: list[str] = []
    configs: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        option, _, name = word.partition("=")
        if option == "--base":
            raise ConfigError(
                "--base is a key of config files; on the command line give that file first: -c BASE -c FILE"
            )
        if word in ("-c", "--config"):
            name = next(rest, "")
            if not name or name.startswith("-"):
                raise ConfigError(f"{word} needs the path of a config, such as {word} configs/demo.yaml")
        elif option != "--config":
            found.append("--help" if word == "--help-all" else word)
            continue
        chain = _with_bases(find_config(name))
        configs |= chain
        for file in chain:
            found += ["--config", file]
    if not any(word.startswith(_ENOUGH) for word in words) and not configs:
        given = (word for before, word in pairwise(words) if not before.startswith("--") or "=" in before)
        stray = "".join(f"; {word} is given as -c {word}" for word in given if word.endswith((".yaml", ".yml")))
        raise ConfigError(
            f"{words[0]} needs a config that says which model and which videos: mvit-video {words[0]} -c "
            f"configs/demo.yaml, or another of configs/{stray}"
        )
    check_keys(words, configs)
    return found


def _with_bases(path: str) -> dict[str, Any]:
    """Return the content of a config and of its bases, by path, the most general first."""
    contents = {path: _read(path)}
    first = path
    while (base := contents[first].get("base")) is not None:
        if not isinstance(base, str):
            raise ConfigError(f"{first}: base must name a config file, got {base!r}")
        above = str(Path(first).parent / base)
        if not os.path.isfile(above):
            raise ConfigError(f"{first}: base: {base}: there is no {above}")
        if above in contents:
            raise ConfigError(f"{first}: base: {above} is a delta on itself")
        contents = {above: _read(above)} | contents
        first = above
    return contents


def _read(path: str) -> dict[str, Any]:
    from mvit_video.jobs.yaml_files import read_yaml  # brings a parser that few verbs need

    settings = read_yaml(path)
    if not isinstance(settings, dict):
        got = "nothing" if settings is None else f"a {type(settings).__name__}"
        raise ConfigError(f"{path}: must hold keys such as model, data and trainer, got {got}")
    return settings
