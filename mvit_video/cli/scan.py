"""The verb `scan`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from mvit_video.cli.options import (
    VerbParser,
    add_class_names_option,
    add_videos_and_out,
    add_worker_options,
    console_for_reports,
    require_outside,
    resumable,
    workers_of,
)
from mvit_video.types import Backend


def run(words: list[str]) -> int:
    """Check every video of a data set and write the results.

    Returns: exit code: 1 when some videos cannot be used.
    """
    args = _parser().parse_args(words)
    from mvit_video.curation import scanning
    from mvit_video.data import find_videos

    console, out = console_for_reports(), Path(args.out)
    require_outside(args.data, args.out)
    table = find_videos(args.data, args.root, labels="optional", class_names=args.class_names)
    settings = scanning.ScanSettings(args.backend, args.full, args.min_seconds)
    with resumable("videos checked"):
        manifest = scanning.scan_videos(table, out, settings, workers_of(args, console))
    summary = scanning.summarise(manifest, table.class_names)
    scanning.write_manifest(manifest, out / "manifest.parquet")
    scanning.write_failures(manifest, out / "failures.csv")
    scanning.write_page(
        manifest, summary, out / "report.html", title=args.data, unlabelled_because=table.unlabelled_because
    )
    scanning.print_summary(summary, console, table.unlabelled_because)
    console.print(f"{summary.num_usable:,} of {summary.num_rows:,} videos can be used", highlight=False)
    use = "give it as data.train, data.val or data.test" if summary.num_usable else "what was found in each video"
    for name, purpose in (
        ("manifest.parquet", use),
        ("failures.csv", "videos with a problem, and which problem"),
        ("report.html", "all of this with figures, for a browser"),
    ):
        console.print(f"  {out / name}  {purpose}", highlight=False, markup=False, soft_wrap=True)
    return 1 if summary.num_failed else 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video scan",
        description="Check every video of a data set: open it, index its packets, decode its first, middle and last "
        "frame. The manifest that it writes can be trained on. A second run checks only new and changed files; after "
        "Ctrl-C the same command resumes.",
        example="mvit-video scan data/k400/train.csv --out scans/k400_train",
    )
    add_videos_and_out(parser, "folder for the manifest, the list of failures and the report")
    parser.add_argument("--full", action="store_true", help="decode every frame and hash every file")
    parser.add_argument(
        "--min-seconds", type=float, default=0.5, metavar="SECONDS", help="shortest usable video or segment "
        "(default: %(default)g, about 16 frames)",
    )  # fmt: skip
    parser.add_argument(
        "--backend", choices=get_args(Backend), default="decord", help="backend that training will use (default: "
        "%(default)s)",
    )  # fmt: skip
    add_class_names_option(parser, "classes.txt beside DATA, or the labels themselves")
    add_worker_options(parser)
    return parser
