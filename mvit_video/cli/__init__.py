"""The command line: `mvit-video VERB`, and `lightning VERB` for the verbs of Lightning.

Help, version and the list of models answer without importing Lightning.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence

from mvit_video import __version__
from mvit_video.cli.runs import with_found_configs
from mvit_video.types import ConfigError, MVitVideoError

USAGE = """\
usage: mvit-video VERB [options]

Video understanding with Multiscale Vision Transformers.

verbs:
  fit        train a model and validate it after every epoch
  validate   score a checkpoint on the validation videos, one clip each
  test       score a checkpoint on the test videos over all their views
  models     list the models with parameters, FLOPs and published accuracy
  convert    convert a checkpoint from or to SlowFast, pytorchvideo, torchvision

options of every verb:
  --help     what the verb takes
  --debug    show where in the code an error arose

  --version  print the version

examples:
  mvit-video fit -c configs/demo.yaml
  mvit-video fit -c configs/demo.yaml --ckpt_path last     continue where the last run stopped
  mvit-video test -c configs/demo.yaml --ckpt_path best    the best checkpoint of the last run
  mvit-video convert k400.pyth mvit_b.safetensors --to mvit_video
  lightning fit -c configs/demo.yaml                       the same program by another name
"""
TRAINER_VERBS = ("fit", "validate", "test")


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

    Returns: exit code: 0, 1 when something failed, 2 when the command or the config is wrong, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        return _run(words)
    except MVitVideoError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except Stopped as stop:
        if str(stop):  # one of several processes speaks
            print(stop, file=sys.stderr)
        return stop.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        print(f"mvit-video {__version__}")
        return 0
    verb = words[0]
    if verb == "models":
        from mvit_video.cli.models import print_models

        return print_models(words[1:])
    if verb == "convert":
        from mvit_video.cli.convert import convert

        return convert(words[1:])
    if verb in TRAINER_VERBS:
        words = with_found_configs(words)  # before the slow import
        from mvit_video.cli.trainer import run_trainer

        return run_trainer(words)
    near = difflib.get_close_matches(verb, [*TRAINER_VERBS, "models", "convert"], n=1)
    hint = f"did you mean {near[0]}?" if near else "mvit-video --help lists the verbs"
    raise ConfigError(f"there is no verb {verb!r}; {hint}")
