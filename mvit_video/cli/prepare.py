"""The verb `prepare`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mvit_video.cli.options import (
    VerbParser,
    add_videos_and_out,
    add_worker_options,
    console_for_reports,
    require_outside,
    resumable,
    workers_of,
)

if TYPE_CHECKING:
    from mvit_video.curation.preparation import Preparation


def run(words: list[str]) -> int:
    """Re-encode the videos of a data set into another folder.

    Returns: exit code: 1 when some videos could not be encoded.
    """
    args = _parser().parse_args(words)
    from mvit_video.curation.encoding import EncodeSettings
    from mvit_video.curation.preparation import prepare_videos
    from mvit_video.data import find_videos

    settings, console, out = EncodeSettings(args.short_side, args.gop, args.crf), console_for_reports(), Path(args.out)
    require_outside(args.data, args.out)
    table = find_videos(args.data, args.root, labels="optional")
    with resumable("videos encoded"):
        done = prepare_videos(table, out, settings, workers_of(args, console))
    for line in _report(done):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0 if all(video.is_usable for video in done.videos) else 1


def _report(done: Preparation) -> list[str]:
    usable = [video for video in done.videos if video.is_usable]
    before, after = sum(video.size or 0 for video in usable), sum(video.target_size or 0 for video in usable)
    sizes = f"{before / 1e6:,.1f} MB became {after / 1e6:,.1f} MB"
    lines = [f"{len(usable):,} of {len(done.videos):,} videos encoded, {sizes}"]
    for is_usable, verdict in ((False, "failed"), (True, "encoded all the same")):
        kinds = Counter(video.kind for video in done.videos if video.kind and video.is_usable == is_usable)
        lines += [f"  {number:,} {kind}: {verdict}" for kind, number in kinds.most_common()]
    if any(video.kind for video in done.videos):
        lines.append(f"  {done.failures}  videos with a problem, and which problem")
    if usable:
        lines.append(f"  {done.annotations}  give it as data.train, data.val or data.test")
    return lines


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video prepare",
        description="Re-encode videos as H.264 that decodes quickly: small, upright, with regular key frames. Every "
        "frame is kept at its time; sound is dropped; the sources are not changed. A second run encodes only new and "
        "changed files; after Ctrl-C the same command resumes.",
        example="mvit-video prepare data/k400/train.csv --out data/k400_256/train",
    )
    add_videos_and_out(parser, "folder for the new videos and their annotations")
    parser.add_argument(
        "--short-side", type=int, default=256, metavar="PIXELS", help="shorter edge, an even number; smaller videos "
        "keep their size (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--gop", type=int, default=32, metavar="FRAMES", help="frames from one key frame to the next (default: "
        "%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--crf", type=int, default=20, help="quality of x264 from 0, lossless, to 51, worst (default: %(default)s)"
    )
    add_worker_options(parser)
    return parser
