"""Parser, kinds of arguments, options of jobs and console of the verbs without a config."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console

from mvit_video.cli import Stopped
from mvit_video.types import ConfigError

if TYPE_CHECKING:
    from mvit_video.jobs import Workers

Check = Callable[[str], str | None]

FLAGS_OF_EXTRACTION = {
    "source": "--model", "class_names": "--class-names", "layer": "--layer", "window": "--window",
    "stride": "--stride", "num_crops": "--crops", "precision": "--precision", "batch_size": "--batch-size",
    "device": "--device", "backend": "--backend", "decode_short_side": "--decode-short-side",
}  # fmt: skip
"""Flag of each argument of the library, for `wording.in_flags`."""


class VerbParser(argparse.ArgumentParser):
    """Parser of one verb that reports a wrong option in one line."""

    def __init__(self, prog: str, description: str, example: str, **options: Any) -> None:
        """Make a parser that takes no shortened names.

        Args:
            prog: program and verb, `mvit-video scan`.
            example: a whole command, printed after the options.
            options: others of `argparse.ArgumentParser`.
        """
        self._words: list[str] = []
        epilog = f"example: {example}"
        self._checks: list[tuple[argparse.Action, Check]] = []
        super().__init__(prog=prog, description=description, epilog=epilog, allow_abbrev=False, **options)

    def add_argument(self, *names: str, check: Check | None = None, **options: Any) -> argparse.Action:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Add an argument; the reason that `check` returns is an error once all words are parsed."""
        action = super().add_argument(*names, **options)
        if check is not None:
            self._checks.append((action, check))
        return action

    def parse_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parse, then check the values.

        Raises:
            ConfigError: something is wrong with the words.
        """
        parsed = super().parse_args(args, namespace)
        for action, check in self._checks:
            value = getattr(parsed, action.dest)
            if value is not None and (reason := check(str(value))) is not None:
                raise ConfigError(f"{[*action.option_strings, action.metavar][0]} {value}: {reason}")
        return parsed

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse; an option that does not exist is reported before a missing one, which it may have been meant for.

        Raises:
            ConfigError: something is wrong with the words.
        """
        words = self._words = list(sys.argv[1:] if args is None else args)
        if self._subparsers is None:
            for word in words[: words.index("--") if "--" in words else None]:
                name = word.partition("=")[0]
                if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                    self.error(f"{name}: there is no such option")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage.

        Raises:
            ConfigError: the text in one line.
        """
        line = " ".join(re.sub(r"^argument ", "", message).split())
        line = re.sub(r"invalid int value: (.+)", r"must be a whole number, got \1", line)
        line = re.sub(r"invalid float value: (.+)", r"must be a number, got \1", line)
        dashed = next((word for word in self._words if word.startswith("-") and Path(word).exists()), None)
        if dashed is not None:
            raise ConfigError(f"{dashed} is taken for an option, since it begins with -; give the file as ./{dashed}")
        unknown = re.match(r"(--\S+): there is no such option", line)
        near = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1) if unknown else []
        raise ConfigError(f"{line}; " + (f"did you mean {near[0]}?" if near else f"see {self.prog} --help"))


def positive(text: str) -> float:
    """Return a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def count(text: str) -> int:
    """Return a whole number above 0."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return value


def existing(text: str) -> str | None:
    """Return why an input cannot be used: it is missing. A URL is not looked up."""
    if "://" in text or os.path.exists(text):
        return None
    from mvit_video.jobs.files import nearest  # slow

    near = nearest(Path(text))
    return "there is no such file or folder" + (f"; did you mean {near}?" if near is not None else "")


def annotation_source(text: str) -> str | None:
    """Return why annotations cannot be used: they are missing; HMDB is named by a path without a file."""
    if os.path.exists(text):
        return None
    from mvit_video.data.annotations import may_exist
    from mvit_video.data.sources import how_to_get  # slow

    return None if may_exist(text) else f"there is no such file or folder; {how_to_get(text)}"


def out_folder(text: str) -> str | None:
    """Return why an output folder cannot be made or written to. A URL is not looked up."""
    if "://" in text:
        return None
    path = Path(text)
    above = next((one for one in (path, *path.parents) if one.exists()), Path())
    if not above.is_dir():
        return f"{above} is a file, not a folder; give another place"
    if not os.access(above, os.W_OK | os.X_OK):
        return f"the folder {above} cannot be written to; give another place"
    return None


def out_file(text: str) -> str | None:
    """Return why an output file cannot be made or replaced."""
    return "a folder; give the path of a file" if os.path.isdir(text) else out_folder(str(Path(text).parent))


def add_videos_and_out(parser: VerbParser, out_help: str) -> None:
    """Add the videos of a job, and the folder that it fills."""
    parser.add_argument(
        "data", check=annotation_source, metavar="DATA", help="annotations, a folder of classes, or any with videos"
    )
    parser.add_argument("--out", check=out_folder, required=True, metavar="DIR", help=out_help)


def require_outside(source: str, out: str) -> None:
    """Refuse an output folder inside a folder of videos, where a later run would look for videos.

    Args:
        source: annotations of any kind; only a folder can hold the output.
        out: folder or URL.

    Raises:
        ConfigError: names both folders.
    """
    folder = Path(source)
    if "://" not in out and folder.is_dir() and Path(out).resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"--out {out} lies in the folder {source} of the sources; choose one outside")


@contextmanager
def resumable(done: str) -> Iterator[None]:
    """Report how far a job came that Ctrl-C stopped.

    Args:
        done: what was done to items, such as "videos checked".

    Raises:
        Stopped: in place of `JobStopped`.
    """
    from mvit_video.jobs import JobStopped  # slow

    try:
        yield
    except JobStopped as stop:
        message = f"stopped with {stop.num_done:,} of {stop.num_items:,} {done}; the same command does the rest"
        raise Stopped(message, 130) from None


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a job that many processes share; `workers_of` reads them."""
    parser.add_argument(
        "--workers", type=count, metavar="N", help="processes, one thread each (default: one for each core)"
    )
    add_time_limit(parser)
    parser.add_argument("--root", help="folder that relative paths start from (default: that of the annotation file)")


def add_time_limit(parser: argparse.ArgumentParser) -> None:
    """Add the limit of CPU time after which a worker counts as hung."""
    parser.add_argument(
        "--time-limit", type=positive, default=120.0, metavar="SECONDS", help="CPU time without a heartbeat after "
        "which a process counts as hung; its video is listed as failed (default: %(default)g)",
    )  # fmt: skip


def workers_of(args: argparse.Namespace, console: Console) -> Workers:
    """Return how a job is spread over processes, from the options of `add_worker_options`."""
    from mvit_video.jobs import Workers, num_cores

    return Workers(args.workers or num_cores(), args.time_limit, console)


def add_scoring_options(parser: VerbParser) -> None:
    """Add the options that `probe` and `knn` share."""
    parser.add_argument("features", metavar="FEATURES", help="folder of mvit-video extract, or a Parquet file of it")
    parser.add_argument("--test", metavar="FEATURES", help="features of other videos to test on")
    add_class_names_option(parser, "those of the extraction")
    parser.add_argument(
        "--windows", choices=["mean", "keep"], default="mean", help="one row per video, the mean of its windows, or "
        "every window; the probabilities of a video are then the mean over its windows (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="DIR", help="folder for the record and predictions.parquet, which `compare` reads"
    )
    parser.add_argument("--json", action="store_true", help="print the record as JSON instead of a table")


def add_class_names_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option that names classes.

    Args:
        default: where names come from without it.
    """
    parser.add_argument(
        "--class-names", type=_class_names, metavar="FILE", help="name of each class in the order of their numbers, "
        f"one per line or a JSON list (default: {default})",
    )  # fmt: skip


def _class_names(file: str) -> tuple[str, ...]:
    from mvit_video.data.table.classes import read_names  # slow

    return read_names(Path(file)).names


def console_for_reports() -> Console:
    """Return a console that gives a file or another program each row on one line."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    return console
