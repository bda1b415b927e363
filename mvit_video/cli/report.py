"""The verb `report`."""

from __future__ import annotations

from pathlib import Path

from mvit_video.cli.options import VerbParser, add_class_names_option, console_for_reports
from mvit_video.cli.wording import in_flags


def run(words: list[str]) -> int:
    """Write the page of a test."""
    args = _parser().parse_args(words)
    from mvit_video.evaluation.report import write_report
    from mvit_video.jobs import require_writable

    console, run = console_for_reports(), Path(args.run)
    out = Path(args.out) if args.out else (run if run.is_dir() else run.parent) / "report.html"
    require_writable(out, "--out")
    with in_flags(class_names="--class-names"):
        write_report(run, out, console, args.class_names)
    console.print(f"written: {out}  for a browser, also offline", highlight=False, markup=False, soft_wrap=True)
    return 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video report",
        description="Write one HTML page about a test: confused classes, accuracy of each class, calibration, mistakes "
        "with frames of their videos, failures, and the record of the run.",
        example="mvit-video report runs/mvit_b_k400/version_3",
    )
    parser.add_argument("run", metavar="RUN", help="run folder of a test, or its predictions.parquet")
    add_class_names_option(parser, "the names that the test recorded")
    parser.add_argument("--out", metavar="FILE", help="page to write (default: report.html in the folder)")
    return parser
