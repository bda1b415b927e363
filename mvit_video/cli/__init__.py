"""The command line: `mvit-video VERB`, and `lightning VERB` for the verbs of Lightning.

Help, version and the list of models answer without importing Lightning.
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from mvit_video import __version__
from mvit_video.cli.configs import with_found_configs
from mvit_video.cli.explain import out_of_memory
from mvit_video.types import ConfigError, MVitVideoError, printable


class Verb(NamedTuple):
    """Module of `cli` whose `run` is the verb, imported only when the verb is used, and its purpose."""

    module: str
    purpose: str


TRAINER_VERBS = ("fit", "validate", "test")
VERBS = {
    "fit": Verb("trainer", "train a model and validate it after every epoch"),
    "validate": Verb("trainer", "score a checkpoint on the validation videos"),
    "test": Verb("trainer", "score a checkpoint on the test videos over all their views"),
    "predict": Verb("predict", "write features of windows of videos, as extract does, by a config"),
    "robustness": Verb("robustness", "test a checkpoint with frames in other orders, and with corrupted clips"),
    "report": Verb("report", "write a test as one page for a browser"),
    "compare": Verb("compare", "compare two tests of the same videos"),
    "scan": Verb("scan", "check every video of a data set and write a manifest that training reads"),
    "prepare": Verb("prepare", "re-encode videos small and with regular key frames, for quick reading"),
    "pack": Verb("pack", "put videos into tar shards"),
    "extract": Verb("extract", "write features of windows that slide over videos"),
    "classify": Verb("classify", "say what a video shows, and when"),
    "probe": Verb("probe", "fit a linear probe on stored features"),
    "knn": Verb("knn", "classify stored features by their nearest neighbours"),
    "search": Verb("search", "find what is most like a video among stored features"),
    "analyse": Verb("analyse", "study what the layers of a trained net do, and how its loss is curved"),
    "runs": Verb("runs", "list the runs in a folder with their best metric and state"),
    "models": Verb("models", "list the models with parameters, FLOPs and published accuracy"),
    "convert": Verb("convert", "convert a checkpoint from or to SlowFast, pytorchvideo, torchvision"),
}
RENAMED = {"study": "robustness"}
USAGE = f"""\
usage: mvit-video VERB [options]

Video understanding with Multiscale Vision Transformers.

verbs:
{chr(10).join(f"  {name:<11} {verb.purpose}" for name, verb in VERBS.items())}

options of every verb:
  --help      what the verb takes
  --debug     show where in the code an error arose

  --version   print the version

exit codes:
  0    all of it is done
  1    the work failed, or a part of it: the message says which
  2    the command line or the config is wrong, or names what is not there
  130  stopped by Ctrl-C; 143: by a signal; 141: nobody reads the output any more

examples:
  mvit-video fit -c configs/demo.yaml
  mvit-video fit -c configs/demo.yaml --ckpt_path last     continue where the last run stopped
  mvit-video test -c configs/demo.yaml --ckpt_path best    the best checkpoint of the last run
  mvit-video scan train.csv --out scans/train              then --data.train scans/train/manifest.parquet
  mvit-video extract videos/ --model runs/mvit_b_k400/version_3 --out features
  mvit-video convert k400.pyth mvit_b.safetensors --to mvit_video
  lightning fit -c configs/demo.yaml                       the same program by another name
"""


class Stopped(Exception):
    """The user or the system ended a run that can go on later.

    Attributes:
        exit_code: 130 for Ctrl-C, 143 for a termination signal.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main(args: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        args: words after the program's name; None takes those of the process.

    Returns: exit code, as `USAGE` says.
    """
    words = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    warnings.formatwarning = _warning_line
    try:
        code = _run(words)
        sys.stdout.flush()
        return code
    except MVitVideoError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Stopped as stop:
        if str(stop):  # one of several processes speaks
            print(stop, file=sys.stderr)
        return stop.exit_code
    except (MemoryError, RuntimeError) as error:
        text = out_of_memory(error)
        if debug or text is None:
            raise
        print(f"error: {text}: lower the batch size, or the number of workers", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return _without_reader()
    except OSError as error:
        if debug:
            raise
        print(f"error: {_of_system(error)}", file=sys.stderr)
        return MVitVideoError.exit_code
    except SystemExit as stop:  # after --help; rich ends so where nobody reads
        return _without_reader() if isinstance(stop.__context__, BrokenPipeError) else int(stop.code or 0)


def _warning_line(message: Warning | str, *_: object, **__: object) -> str:
    """A warning as one line that is safe to show, without where in the code it arose."""
    return f"warning: {printable(' '.join(str(message).splitlines()))}\n"


def _without_reader() -> int:
    """The exit code where the output is no longer read, such as by `| head`; what is left of it goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())  # or the interpreter complains when it flushes at its end
    return 141


def _of_system(error: OSError) -> str:
    """What the operating system refused, and what to do about it."""
    remedies = {
        errno.ENOSPC: "; make room", errno.EDQUOT: "; make room", errno.EMFILE: "; raise the limit of `ulimit -n`",
        **dict.fromkeys(
            (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
            "; give a place that can be written to, or change its permissions",
        ),
    }  # fmt: skip
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or error}{remedies.get(error.errno or 0, '; --debug shows where')}"


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        print(f"mvit-video {__version__}")
        return 0
    if words[0] in RENAMED:
        raise ConfigError(f"the verb {words[0]} is now {RENAMED[words[0]]}: mvit-video {RENAMED[words[0]]} --help")
    if words[0] not in VERBS:
        near = difflib.get_close_matches(words[0], VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else "mvit-video --help lists the verbs"
        raise ConfigError(f"there is no verb {words[0]!r}; {hint}")
    # Lightning's own verbs take their name along, and their configs are looked for before the slow import
    words_of_verb = with_found_configs(words) if words[0] in (*TRAINER_VERBS, "predict", "robustness") else words[1:]
    verb = VERBS[words[0]]
    return importlib.import_module(f"mvit_video.cli.{verb.module}").run(words_of_verb)
