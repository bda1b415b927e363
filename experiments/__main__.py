"""Small experiments on published findings, on a CPU; docs/findings.md has the results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments import alternating, design, digits, layers, position, reduction
from mvit_video.types import MVitVideoError

EXPERIMENTS = {
    "position": position,
    "reduction": reduction,
    "digits": digits,
    "design": design,
    "layers": layers,
    "alternating": alternating,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description=__doc__,
        epilog="example: python -m experiments position --seeds 0 1 2 --out findings",
    )
    verbs = parser.add_subparsers(dest="experiment", required=True)
    for name, experiment in EXPERIMENTS.items():
        text = (experiment.__doc__ or "").strip().splitlines()[0]
        verb = verbs.add_parser(
            name, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        verb.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one run of every net per seed")
        verb.add_argument("--out", type=Path, default=Path("findings"), help="folder for tables and figures")
        verb.add_argument("--workers", type=int, default=2, help="runs at a time, each with one thread")
        experiment.add_arguments(verb)
    args = parser.parse_args()
    try:
        EXPERIMENTS[args.experiment].run(args)
    except MVitVideoError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
