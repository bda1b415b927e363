"""Where the config files of a command line are, and which others they are deltas on."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import mvit_video
from mvit_video.types import ConfigError

PACKAGED_CONFIGS = Path(mvit_video.__file__).parent / "configs"
if not PACKAGED_CONFIGS.is_dir():  # a source tree keeps them beside the package
    PACKAGED_CONFIGS = PACKAGED_CONFIGS.parents[1] / "configs"

# options that say which model, or ask for something else
_ENOUGH = ("--config", "--model", "--print_config", "--help", "-h")


def find_config(name: str) -> str:
    """The config file of that name: as it is, or else the package's own copy of `configs/<name>`.

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
    """Words of a command line with each config file where it is, and before it the one that its key `base` names.

    Raises:
        ConfigError: there is no such file, or it cannot be read.
    """
    found: list[str] = []
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
            found.append(word)
            continue
        path = find_config(name)
        for file in [*_bases(path), path]:
            found += ["--config", file]
    if not any(word.startswith(_ENOUGH) for word in found):
        given = (word for before, word in pairwise(words) if not before.startswith("--") or "=" in before)
        stray = "".join(f"; {word} is given as -c {word}" for word in given if word.endswith((".yaml", ".yml")))
        raise ConfigError(
            f"{words[0]} needs a config that says which model and which videos: mvit-video {words[0]} -c "
            f"configs/demo.yaml, or another of configs/{stray}"
        )
    return found


def _bases(path: str) -> list[str]:
    """Files that a config is a delta on, the most general first."""
    files = [path]
    while (base := _read_base(files[0])) is not None:
        path = str(Path(files[0]).parent / base)
        if not os.path.isfile(path):
            raise ConfigError(f"{files[0]}: base: {base}: there is no {path}")
        if path in files:
            raise ConfigError(f"{files[0]}: base: {path} is a delta on itself")
        files.insert(0, path)
    return files[:-1]


def _read_base(path: str) -> str | None:
    from mvit_video.jobs.yaml_files import read_yaml  # brings a parser that few verbs need

    settings = read_yaml(path)
    if not isinstance(settings, dict):
        got = "nothing" if settings is None else f"a {type(settings).__name__}"
        raise ConfigError(f"{path}: must hold keys such as model, data and trainer, got {got}")
    base = settings.get("base")
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"{path}: base must name a config file, got {base!r}")
    return base
