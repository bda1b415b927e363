"""What a process that a test starts does: `mvit-video` with what it is given: WORDS, ENVIRONMENT, BEFORE."""

import multiprocessing
import os
import sys

from lightning.fabric.utilities.rank_zero import rank_zero_only

from mvit_video.cli import main

words: list[str] = globals()["WORDS"]
os.environ.update(globals()["ENVIRONMENT"])
for stream in (sys.stdout, sys.stderr):
    os.dup2(os.open("log.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644), stream.fileno())
sys.path.insert(0, os.getcwd())
# as in a process of its own: one that the fork server made would have its loaders go through a fork server too, and
# Lightning was imported before it could learn the rank
multiprocessing.set_start_method("fork", force=True)
rank_zero_only.rank = int(os.environ.get("RANK", "0"))
exec(globals()["BEFORE"], {})
sys.exit(main(words))
