"""Write the embedded video data set: real handwritten digits in motion, under data/demo."""

import argparse
import sys
from pathlib import Path

from mvit_video.data.digits import LABEL_SETS, write_digits
from mvit_video.types import MVitVideoError

ROOT = Path(__file__).resolve().parents[1] / "data" / "demo"
EXAMPLE = "example: python scripts/make_demo_data.py --labels pairs --num-train 400 --num-val 120"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--labels", choices=list(LABEL_SETS), default="orbit", help="what the classes are")
    parser.add_argument("--root", type=Path, default=ROOT, help="the videos go to ROOT/LABELS")
    parser.add_argument("--num-train", type=int, default=800, help="training videos")
    parser.add_argument("--num-val", type=int, default=240, help="validation videos")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--num-workers", type=int, default=2, help="threads that draw and encode")
    return parser.parse_args()


def main() -> None:
    try:
        print(write_digits(**vars(parse_arguments())))
    except (MVitVideoError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
