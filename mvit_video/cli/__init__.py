"""The command line: `mvit-video VERB`, and `lightning VERB` for the verbs of Lightning.

A verb parses its words before it imports what does the work, so help and mistakes answer at once.
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
from mvit_video.cli.wording import out_of_memory
from mvit_video.types import ConfigError, MVitVideoError, printable


class Verb(NamedTuple):
    """A verb: the module of `cli` whose `run` does it, imported when used, and its purpose."""

    module: str
    purpose: str


TRAINER_VERBS = ("fit", "validate", "test")
VERBS = {
    "fit": Verb("trainer", "train a model and validate it after every epoch"),
    "validate": Verb("trainer", "score a checkpoint on the validation videos"),
    "test": Verb("trainer", "score a checkpoint on the test videos over all their views"),
    "predict": Verb("predict", "extract features of videos, with the settings of a config"),
    "robustness": Verb("robustness", "test a checkpoint with reordered frames and corrupted clips"),
    "report": Verb("report", "write an HTML page about a test"),
    "compare": Verb("compare", "compare two tests of the same videos"),
    "scan": Verb("scan", "check every video of a data set and write a manifest to train on"),
    "prepare": Verb("prepare", "re-encode videos so that they decode quickly"),
    "pack": Verb("pack", "pack videos into tar shards"),
    "extract": Verb("extract", "extract features of sliding windows of videos"),
    "classify": Verb("classify", "name the classes of a video, and when each occurs"),
    "probe": Verb("probe", "fit a linear probe on stored features"),
    "knn": Verb("knn", "classify stored features by nearest neighbours"),
    "search": Verb("search", "find the stored features most similar to a video"),
    "analyse": Verb("analyse", "study the layers of a trained net and the curvature of its loss"),
    "runs": Verb("runs", "list the runs in a folder with their best metric and state"),
    "models": Verb("models", "list the models with parameters, FLOPs and published accuracy"),
    "convert": Verb("convert", "convert checkpoints of SlowFast, pytorchvideo and torchvision"),
}
RENAMED = {"study": "robustness"}
USAGE = f"""\
usage: mvit-video VERB [options]

Video understanding with Multiscale Vision Transformers.

verbs:
{chr(10).join(f"  {name:<11} {verb.purpose}" for name, verb in VERBS.items())}

options of every verb:
  --help      arguments of the verb, with an example
  --debug     show the traceback of an error

  --version   print the version

exit codes:
  0    success
  1    the work failed, or some of its videos did
  2    the command line or the config is wrong, or a file does not exist
  130  stopped by Ctrl-C; 143: by a termination signal; 141: by a closed pipe

examples:
  mvit-video fit -c configs/demo.yaml
  mvit-video fit -c configs/demo.yaml --ckpt_path last      resume the last run
  mvit-video test -c configs/demo.yaml --ckpt_path best     its best checkpoint
  mvit-video classify video.mp4 --model runs/demo/version_0
  mvit-video extract videos/ --model runs/demo/version_0 --out features
  mvit-video scan train.csv --out scans/train
  mvit-video convert k400.pyth mvit_b.safetensors --to mvit_video
  lightning fit -c configs/demo.yaml                        the same program
"""


class Stopped(Exception):
    """End of a run by the user or the system; the run can be resumed.

    Attributes:
        exit_code: 130 for Ctrl-C, 143 for a termination signal.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def main(args: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        args: words after the program's name; None takes the process's own.

    Returns: exit code, see `USAGE`.
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
        if str(stop):  # of several processes one reports
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
    """Return a warning as one line that is safe to print, without its place in the code."""
    return f"warning: {printable(' '.join(str(message).splitlines()))}\n"


def _without_reader() -> int:
    """Discard the rest of the output, which nobody reads, as after `| head`, and return the exit code."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())  # or the interpreter complains when it flushes at exit
    return 141


def _of_system(error: OSError) -> str:
    """Return what the operating system refused, and a remedy."""
    remedies = {
        errno.ENOSPC: "; make room", errno.EDQUOT: "; make room", errno.EMFILE: "; raise the limit of `ulimit -n`",
        **dict.fromkeys(
            (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
            "; give a writable place, or change its permissions",
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
    # Lightning's verbs need their own name too; their configs are found before the slow import
    words_of_verb = with_found_configs(words) if words[0] in (*TRAINER_VERBS, "predict", "robustness") else words[1:]
    verb = VERBS[words[0]]
    return importlib.import_module(f"mvit_video.cli.{verb.module}").run(words_of_verb)
