"""The verb `pack`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from mvit_video.cli import Stopped
from mvit_video.cli.options import VerbParser, annotation_source, out_folder, require_outside
from mvit_video.types import ConfigError

if TYPE_CHECKING:
    from mvit_video.curation.packing import PackReport

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def run(words: list[str]) -> int:
    """Pack the videos of annotations into shards.

    Returns: exit code: 1 when videos are missing or cannot be read.
    """
    args = _parser().parse_args(words)
    num_bytes = _num_bytes(args.shard_size)
    from mvit_video.curation.packing import PackSettings, pack_videos
    from mvit_video.data import find_videos
    from mvit_video.jobs.stores import local_path

    settings = PackSettings(num_bytes, args.max_videos, None if args.in_order else args.seed)
    require_outside(args.data, local_path(args.out))
    table = find_videos(args.data, args.root)
    console = Console(stderr=True)
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("packing")
            report = pack_videos(
                table, args.out, settings, lambda done, total: progress.update(bar, completed=done, total=total)
            )
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command resumes after the last complete shard", 130) from None
    print(_summary(report, args.out))
    return 1 if report.failures else 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video pack",
        description="Pack videos into tar files (shards, the layout of WebDataset) with an index for random access. "
        "Give the folder of the shards as data.train, data.val or data.test. After Ctrl-C the same command resumes.",
        example="mvit-video pack data/k400/train.csv --out shards/train",
    )
    parser.add_argument(
        "data", check=annotation_source, metavar="DATA", help="annotations, folder of class folders, or other shards"
    )
    parser.add_argument("--out", check=out_folder, required=True, metavar="DIR_OR_URL", help="folder of the shards")
    parser.add_argument("--root", metavar="DIR", help="folder that relative paths start from")
    parser.add_argument(
        "--shard-size", default="1GB", metavar="SIZE", help="largest size of a shard: 500MB, 1GiB (default: "
        "%(default)s)",
    )  # fmt: skip
    parser.add_argument("--max-videos", type=int, metavar="N", help="most videos in a shard (default: no limit)")
    order = parser.add_mutually_exclusive_group()
    order.add_argument(
        "--seed", type=int, default=0, help="seed of the order of videos in the shards (default: %(default)s)"
    )
    order.add_argument("--in-order", action="store_true", help="keep the order of the annotations instead")
    return parser


def _num_bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?B)?", text.strip().upper())
    if match is None:
        raise ConfigError(f"--shard-size must be a size such as 1GB or 500MB, got {text!r}")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def _summary(report: PackReport, out: str) -> str:
    from mvit_video.curation.tar_writing import DAMAGED

    folder = out.rstrip("/")
    earlier = f", {report.num_earlier} of them earlier" if report.num_earlier else ""
    size = f"{report.num_shards:,} shard{'s' * (report.num_shards != 1)} ({report.num_bytes / 1e6:,.1f} MB)"
    lines = [f"packed {report.num_videos} videos{earlier} in {size}: {out}"]
    if report.damaged:
        number = len(report.damaged)
        moved = f"{number} damaged shard{'s' if number > 1 else ''} moved to {folder}/{DAMAGED}"
        lines.append(f"{moved}, the videos packed again")
    if report.failures:
        lines.append(f"{len(report.failures)} failed, listed in {folder}/failures.csv")
    return "\n".join(lines)
