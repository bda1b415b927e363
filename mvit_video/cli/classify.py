"""The verb `classify`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from mvit_video.cli.options import (
    FLAGS_OF_EXTRACTION,
    VerbParser,
    add_class_names_option,
    console_for_reports,
    count,
    existing,
)
from mvit_video.cli.wording import in_flags
from mvit_video.types import Backend, ConfigError, Precision, VideoDecodeError

if TYPE_CHECKING:
    from rich.console import Console

    from mvit_video.features.classification import Classification

_MOST_UNREAD = 3


def run(words: list[str]) -> int:
    """Print the classes of a video and their times."""
    args = _parser().parse_args(words)
    from mvit_video.features.classification import classify_video
    from mvit_video.features.extractor import Extractor, ExtractSettings
    from mvit_video.features.inputs import one_video
    from mvit_video.features.overlay import check_target, write_overlay
    from mvit_video.features.timeline import draw_timeline
    from mvit_video.runs.trained_model import load_model

    console = console_for_reports()
    with in_flags(**FLAGS_OF_EXTRACTION, videos="VIDEO"):
        settings = ExtractSettings(
            args.model, "logits", args.window, args.stride, args.crops, True, args.precision, args.batch_size,
            args.device, args.backend,
        )  # fmt: skip
        video = one_video(args.video)
        for option, target in (("--overlay", args.overlay), ("--timeline", args.timeline)):
            if target is not None:
                check_target(Path(args.video), Path(target), option)
        if args.overlay is not None and not isinstance(video.source, Path):
            raise ConfigError(f"--overlay {args.overlay} needs a video file, not {args.video}; copy the video first")
        extractor = Extractor(settings, load_model(args.model, class_names=args.class_names))
    with _seconds_bar(console, "classifying") as reached:
        found = classify_video(extractor, video, args.k, reached)
    if args.json:
        print(json.dumps(found.record()))
    else:
        _print(console, found, args.rows)
    _warn_of_unread(found)
    written = []
    if args.overlay is not None:
        end = float(found.edges[-1])
        with _seconds_bar(console, "drawing") as reached:
            drawn = write_overlay(
                Path(args.video), found, Path(args.overlay), count=args.k, reached=lambda done: reached(done, end)
            )
        written.append(f"{args.overlay}  {drawn.num_frames:,} frames, {'with' if drawn.has_sound else 'without'} sound")
    if args.timeline is not None:
        try:
            draw_timeline(found, Path(args.timeline))
        except OSError as error:
            raise ConfigError(f"--timeline {args.timeline}: cannot be written ({error.strerror})") from error
        written.append(args.timeline)
    if not args.json:
        for line in written:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _parser() -> VerbParser:
    parser = VerbParser(
        prog="mvit-video classify",
        description="Classify a video of any length window by window: print its most probable classes and their times; "
        "on request also draw them beneath the video, and as a plot over time.",
        example="mvit-video classify video.mp4 --model runs/demo/version_0 --overlay shown.mp4 --timeline shown.png",
    )
    parser.add_argument("video", check=_one_video, metavar="VIDEO", help="video file, or its URL")
    parser.add_argument("--model", required=True, help="checkpoint, run folder, or a model's name")
    add_class_names_option(parser, "those of the checkpoint")
    parser.add_argument("-k", type=count, default=3, metavar="K", help="classes to name (default: %(default)s)")
    parser.add_argument("--window", metavar="LENGTH", help="64 frames or 2.5s (default: what a clip covers)")
    parser.add_argument("--stride", metavar="LENGTH", help="from window to window, as --window (default: the window)")
    parser.add_argument("--crops", type=int, choices=[1, 3], default=1, help="of each window (default: %(default)s)")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32", help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=count, default=8, metavar="N", help="clips at once (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--backend", choices=get_args(Backend), default="pyav", help="decoder (default: %(default)s)")
    parser.add_argument("--overlay", metavar="MP4", help="the video with classes and a strip of time beneath")
    parser.add_argument("--timeline", metavar="PNG", help="plot of the probabilities over time")
    parser.add_argument("--rows", type=count, default=40, metavar="N", help="segments to print (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON with windows and segments instead")
    return parser


def _print(console: Console, found: Classification, num_segments: int) -> None:
    for line in found.lines(num_segments):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if (num_more := len(found.segments()) - num_segments) > 0:
        console.print(f"  {num_more:,} more; --rows or --json gives them", highlight=False)


def _warn_of_unread(found: Classification) -> None:
    """Say on standard error which windows are missing: the times of the first few."""
    if not found.unread:
        return
    from mvit_video.features.classification import clock

    shown = [f"{clock(one.start_seconds)} to {clock(one.end_seconds)}" for one in found.unread[:_MOST_UNREAD]]
    more = f" and {len(found.unread) - len(shown)} more" if len(found.unread) > len(shown) else ""
    num_windows = len(found.unread) + len(found.start_seconds)
    text = (
        f"{len(found.unread)} of {num_windows} windows do not decode and are missing: {', '.join(shown)}{more} "
        f"({found.unread[0].reason})"
    )
    print(f"warning: {VideoDecodeError(found.path, text)}", file=sys.stderr)  # one line, whatever the path holds


@contextmanager
def _seconds_bar(console: Console, text: str) -> Iterator[Callable[[float, float], None]]:
    """Show a bar over the seconds of a video on a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[seconds]}"), TimeRemainingColumn(),
        TextColumn("left"), console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task(text, total=None, seconds="")
        yield lambda done, total: bar.update(task, completed=done, total=total, seconds=f"{done:.0f} of {total:.0f} s")


def _one_video(text: str) -> str | None:
    """Return what is wrong with an input: it is missing, or a folder."""
    return "a folder; give one video file" if os.path.isdir(text) else existing(text)
