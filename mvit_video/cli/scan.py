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
)
from mvit_video.curation.scanning import (
    ScanSettings,
    print_summary,
    scan_videos,
    summarise,
    write_failures,
    write_manifest,
    write_page,
)
from mvit_video.data import find_videos
from mvit_video.data.readers import Backend
from mvit_video.jobs import Workers


def run(words: list[str]) -> int:
    """Checks every video of a data set and writes what it found.

    Returns: exit code: 1 when some videos cannot be used.
    """
    args = _parser().parse_args(words)
    console, out = console_for_reports(), Path(args.out)
    require_outside(args.data, args.out)
    table = find_videos(args.data, args.root, labels="optional", class_names=args.class_names)
    settings = ScanSettings(args.backend, args.full, args.min_seconds)
    with resumable("videos checked"):
        manifest = scan_videos(table, out, settings, Workers(args.workers, args.time_limit, console))
    summary = summarise(manifest, table.class_names)
    write_manifest(manifest, out / "manifest.parquet")
    write_failures(manifest, out / "failures.csv")
    write_page(manifest, summary, out / "report.html", title=args.data, unlabelled_because=table.unlabelled_because)
    print_summary(summary, console, table.unlabelled_because)
    console.print(f"{summary.num_usable:,} of {summary.num_rows:,} videos can be used", highlight=False)
    use = "for data.train, data.val or data.test" if summary.num_usable else "what was found of each video"
    for name, purpose in (
        ("manifest.parquet", use),
        ("failures.csv", "what is wrong with which video"),
        ("report.html", "the same with figures, for a browser"),
    ):
        console.print(f"  {out / name}  {purpose}", highlight=False, markup=False, soft_wrap=True)
    return 1 if summary.num_failed else 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video scan",
        description="Check every video of a data set: open it, index its packets, decode its first, middle and last "
        "frame. A second run checks only what is new or has changed; after Ctrl-C the same command goes on.",
        example="mvit-video scan data/k400/train.csv --out scans/k400_train",
    )
    add_videos_and_out(parser, "folder for the manifest, lists and report")
    parser.add_argument("--full", action="store_true", help="decode every frame and hash every file")
    parser.add_argument(
        "--min-seconds", type=float, default=0.5, metavar="SECONDS", help="a video or segment with less is too short "
        "(default: %(default)g, about 16 frames)",
    )  # fmt: skip
    parser.add_argument(
        "--backend", choices=get_args(Backend), default="decord", help="what training will ask for (default: "
        "%(default)s)",
    )  # fmt: skip
    add_class_names_option(parser, "classes.txt beside DATA, or the labels themselves")
    add_worker_options(parser)
    return parser
