"""The verb `pack`."""

from __future__ import annotations

import re
import sys

from rich.console import Console
from rich.progress import Progress

from mvit_video.cli.options import VerbParser, annotation_source, out_folder, require_outside
from mvit_video.curation.packing import PackReport, PackSettings, pack_videos
from mvit_video.curation.tar_writing import DAMAGED
from mvit_video.data import load_annotations
from mvit_video.jobs.stores import local_path
from mvit_video.types import ConfigError

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def run(words: list[str]) -> int:
    """Packs the videos of annotations into shards.

    Returns: 0, or 1 when videos are missing or cannot be read.
    """
    parser = VerbParser(
        prog="mvit-video pack",
        description="Pack videos into tar files in the layout of WebDataset (shards), with an index for reading them "
        "in any order. The folder of the shards then stands where an annotation file would (data.train, data.val, "
        "data.test). A run that was stopped goes on when it is started again.",
        example="mvit-video pack data/k400/train.csv --out shards/train",
    )
    parser.add_argument(
        "data",
        check=annotation_source,
        metavar="DATA",
        help="annotations, folder of class folders, or other shards",
    )
    parser.add_argument("--out", check=out_folder, required=True, metavar="DIR_OR_URL", help="folder of the shards")
    parser.add_argument("--root", metavar="DIR", help="folder that relative paths start from")
    parser.add_argument("--shard-size", default="1GB", metavar="SIZE", help="of a shard, such as 1GB or 500MB (1GB)")
    parser.add_argument("--max-videos", type=int, metavar="N", help="videos in a shard, however small they are")
    order = parser.add_mutually_exclusive_group()
    order.add_argument("--seed", type=int, default=0, help="of the order of the videos in the shards (0)")
    order.add_argument("--in-order", action="store_true", help="keep the order of the annotations instead")
    args = parser.parse_args(words)
    settings = PackSettings(_num_bytes(args.shard_size), args.max_videos, None if args.in_order else args.seed)
    require_outside(args.data, local_path(args.out))
    table = load_annotations(args.data, args.root)
    console = Console(stderr=True)
    try:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("packing")
            report = pack_videos(
                table, args.out, settings, lambda done, total: progress.update(bar, completed=done, total=total)
            )
    except KeyboardInterrupt:
        print("stopped; the same command goes on behind the last whole shard", file=sys.stderr)
        return 130
    print(_summary(report, args.out))
    return 1 if report.failures else 0


def _num_bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?B)?", text.strip().upper())
    if match is None:
        raise ConfigError(f"--shard-size must be a size such as 1GB or 500MB, got {text!r}")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def _summary(report: PackReport, out: str) -> str:
    earlier = f", {report.num_earlier} of them earlier" if report.num_earlier else ""
    size = f"{report.num_shards} shards ({report.num_bytes / 1e9:.2f} GB)"
    lines = [f"packed {report.num_videos} videos{earlier} in {size}: {out}"]
    if report.damaged:
        folder = f"{out.rstrip('/')}/{DAMAGED}"
        moved = "1 damaged shard" if len(report.damaged) == 1 else f"{len(report.damaged)} damaged shards"
        lines.append(f"{moved} moved to {folder}, the videos packed again")
    if report.failures:
        lines.append(f"{len(report.failures)} failed, listed in {out.rstrip('/')}/failures.csv")
    return "\n".join(lines)
