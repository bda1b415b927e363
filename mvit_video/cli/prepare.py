"""The verb `prepare`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mvit_video.cli.options import (
    VerbParser,
    add_videos_and_out,
    add_worker_options,
    console_for_reports,
    require_outside,
    resumable,
)
from mvit_video.curation.encoding import EncodeSettings
from mvit_video.curation.preparation import Preparation, prepare_videos
from mvit_video.data import find_videos
from mvit_video.jobs import Workers


def run(words: list[str]) -> int:
    """Encodes the videos of a data set anew, into another folder.

    Returns: exit code: 1 when some videos could not be encoded.
    """
    args = _parser().parse_args(words)
    settings, console, out = EncodeSettings(args.short_side, args.gop, args.crf), console_for_reports(), Path(args.out)
    require_outside(args.data, args.out)
    table = find_videos(args.data, args.root, labels="optional")
    with resumable("videos encoded"):
        done = prepare_videos(table, out, settings, Workers(args.workers, args.time_limit, console))
    for line in _report(done):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0 if all(video.is_usable for video in done.videos) else 1


def _report(done: Preparation) -> list[str]:
    usable = [video for video in done.videos if video.is_usable]
    before, after = sum(video.size or 0 for video in usable), sum(video.target_size or 0 for video in usable)
    lines = [f"{len(usable):,} of {len(done.videos):,} videos encoded, {_megabytes(before)} became {_megabytes(after)}"]
    for is_usable, verdict in ((False, "failed"), (True, "encoded all the same")):
        kinds = Counter(video.kind for video in done.videos if video.kind and video.is_usable == is_usable)
        lines += [f"  {number:,} {kind}: {verdict}" for kind, number in kinds.most_common()]
    if any(video.kind for video in done.videos):
        lines.append(f"  {done.failures}  which, and why")
    if usable:
        lines.append(f"  {done.annotations}  for data.train, data.val or data.test")
    return lines


def _megabytes(number: int) -> str:
    return f"{number / 1e6:,.1f} MB"


def _parser() -> VerbParser:
    defaults = EncodeSettings()
    parser = VerbParser(
        prog="mvit-video prepare",
        description="Encode videos anew as H.264 that reads quickly: small, upright, a key frame every so many frames. "
        "Every frame is kept at its time; sound is dropped. The sources stay as they are. A second run encodes only "
        "what is new or has changed; after Ctrl-C the same command goes on.",
        example="mvit-video prepare data/k400/train.csv --out data/k400_256/train",
    )
    add_videos_and_out(parser, "folder for the new videos and their annotations")
    parser.add_argument(
        "--short-side", type=int, default=defaults.short_side, metavar="PIXELS", help="shorter edge, even; smaller "
        "videos are not enlarged (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--gop", type=int, default=defaults.gop, metavar="FRAMES", help="from one key frame to the next (default: "
        "%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--crf", type=int, default=defaults.crf, help="quality: 0 is lossless, 51 the worst (default: %(default)s)"
    )
    add_worker_options(parser)
    return parser
