"""Summary of the demo: top-1 for each order of frames, frames of some videos, and a report.

python scripts/demo_summary.py runs/demo
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mvit_video.evaluation.gallery import write_gallery
from mvit_video.evaluation.report import write_report
from mvit_video.runs.folder import versions
from mvit_video.runs.predictions import PREDICTIONS, Predictions, load_predictions
from mvit_video.types import MVitVideoError

MEANING = {
    "forward": "in order, as in training",
    "shuffled": "chance is 25: the classes differ only in the order of frames",
    "reversed": "a reversed video shows another class",
}


def newest_predictions(root: Path) -> dict[str, Predictions]:
    """Return the newest predictions of each frame order among the runs of a config."""
    files = [run / PREDICTIONS for run in versions(root) if (run / PREDICTIONS).is_file()]
    found = [load_predictions(file) for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]
    return {test.metadata["frame_order"]: test for test in found}


def top1(test: Predictions) -> float:
    """Return the percentage of the videos whose prediction is their label."""
    return 100 * float((test.label == test.prediction).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the demo's runs")
    runs = parser.parse_args().runs
    predictions = newest_predictions(runs)
    missing = MEANING.keys() - predictions.keys()
    if missing:
        sys.exit(f"error: {runs} has no test with frames {', '.join(sorted(missing))}; run bash scripts/demo.sh")
    table = Table("frames", "top1", "", title="Digit videos, validation", title_justify="left")
    for order, meaning in MEANING.items():
        table.add_row(order, f"{top1(predictions[order]):.2f}", meaning)
    console = Console()
    console.print(table)
    gallery, page = (predictions["forward"].file.with_name(name) for name in ("gallery.png", "report.html"))
    try:
        write_gallery(predictions["forward"].file, gallery)
        write_report(page.parent, page, console)
    except MVitVideoError as error:
        sys.exit(f"error: {error}")
    test = predictions["forward"]
    video = os.path.relpath(Path(test.metadata["root"], test.keys[0][0]))
    print(f"Results: {page.parent}\nFrames:  {gallery}\nReport:  {page} (open it in a browser)")
    print(f"Try:     .venv/bin/mvit-video classify {video} --model {page.parent}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command starts again")
