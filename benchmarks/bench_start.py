"""CPU time from a command line to its answer: help of every verb, `models`, and `classify` where a model is given.

Each command runs in a new process, all of them and `python -c "import torch"` in every round; CPU seconds (user and
system), median. Then the five packages that take longest to import, from `-X importtime`: milliseconds by the clock,
without what they import of other packages.

    python benchmarks/bench_start.py
    python benchmarks/bench_start.py --model runs/demo/version_0 --video v.mp4      # classify too
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
from collections import Counter

from rich.console import Console
from rich.table import Table

from mvit_video.cli import VERBS

TORCH = ("-c", "import torch")
MVIT = ("-m", "mvit_video")
LIMITS = {
    "--help": 0.3, "models": 1.0, "scan --help": 0.5, "report --help": 0.5, "extract --help": 0.5, "fit --help": 6.0,
    "classify": 7.0,
}  # fmt: skip
"""CPU seconds that a command may take."""


def child_seconds(words: tuple[str, ...]) -> float:
    """Return the CPU seconds of a Python process and its children."""
    before = os.times()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def costliest_imports(words: tuple[str, ...], number: int) -> list[tuple[str, int]]:
    """Return the packages whose own modules take longest to import, with the microseconds of each."""
    done = subprocess.run([sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=True)
    microseconds: Counter[str] = Counter()
    for micros, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\w+)", done.stderr):
        microseconds[name] += int(micros)
    return microseconds.most_common(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="medians are over this many rounds (default: 5)")
    parser.add_argument("--only", default="", help="only command lines that contain this")
    parser.add_argument("--model", help="for classify: run folder, checkpoint or name")
    parser.add_argument("--video", help="for classify: a video")
    args = parser.parse_args()
    commands = {"--help": ["--help"], "models": ["models"]} | {f"{verb} --help": [verb, "--help"] for verb in VERBS}
    if args.model and args.video:
        commands["classify"] = ["classify", args.video, "--model", args.model]
    console = Console(width=140)
    table = Table(title=f"CPU seconds, median of {args.rounds}; load of the machine {os.getloadavg()[0]:.1f}")
    for column in ("command", "CPU s", "limit", "x import torch", "costliest imports, ms"):
        table.add_column(column, justify="left" if column.startswith("co") else "right")
    chosen = {name: (*MVIT, *words) for name, words in commands.items() if args.only in name}
    rounds = [
        {name: child_seconds(words) for name, words in {"torch": TORCH, **chosen}.items()} for _ in range(args.rounds)
    ]
    for name, words in chosen.items():
        seconds = statistics.median(one[name] for one in rounds)
        ratio = statistics.median(one[name] / one["torch"] for one in rounds)
        costly = ", ".join(f"{package} {micros / 1e3:.0f}" for package, micros in costliest_imports(words, 5))
        limit = f"{LIMITS[name]:.1f}" if name in LIMITS else ""
        table.add_row(name, f"{seconds:.2f}", limit, f"{ratio:.2f}", costly)
    console.print(table, highlight=False, markup=False)


if __name__ == "__main__":
    main()
