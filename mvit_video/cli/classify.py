"""The verb `classify`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mvit_video.cli.options import (
    FLAGS_OF_EXTRACTION,
    VerbParser,
    add_class_names_option,
    console_for_reports,
    count,
    existing,
)
from mvit_video.cli.wording import in_flags
from mvit_video.data.readers import open_video
from mvit_video.features.classification import Classification, classify_video
from mvit_video.features.extractor import Extractor, ExtractSettings
from mvit_video.features.overlay import check_target, write_overlay
from mvit_video.features.timeline import draw_timeline
from mvit_video.features.videos import Video
from mvit_video.runs.trained_model import load_model
from mvit_video.types import Backend, ConfigError, Precision, VideoDecodeError

_MOST_UNREAD = 3


def run(words: list[str]) -> int:
    """Says what a video shows, and when."""
    args = _parser().parse_args(words)
    console = console_for_reports()
    with in_flags(**FLAGS_OF_EXTRACTION):
        settings = ExtractSettings(
            args.model, "logits", args.window, args.stride, args.crops, True, args.precision, args.batch_size,
            args.device, args.backend,
        )  # fmt: skip
    with open_video(args.video, args.backend) as reader:
        total = reader.duration_seconds
    for option, target in (("--overlay", args.overlay), ("--timeline", args.timeline)):
        if target is not None:
            check_target(Path(args.video), Path(target), option)
    with in_flags(**FLAGS_OF_EXTRACTION):
        extractor = Extractor(settings, load_model(args.model, num_crops=args.crops, class_names=args.class_names))
    with _seconds_bar(console, "classifying", total) as reached:
        timeline = classify_video(extractor, Video(args.video, Path(args.video)), reached)
    if args.json:
        print(json.dumps(timeline.record(args.k)))
    else:
        _print(console, timeline, args.k, args.rows)
    _print_unread(Console(stderr=True), timeline)
    written = []
    if args.overlay is not None:
        with _seconds_bar(console, "drawing", total) as reached:
            drawn = write_overlay(Path(args.video), timeline, Path(args.overlay), count=args.k, reached=reached)
        written.append(f"{args.overlay}  {drawn.num_frames:,} frames, {'with' if drawn.has_sound else 'without'} sound")
    if args.timeline is not None:
        try:
            draw_timeline(timeline, Path(args.timeline))
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
        description="Classify a video of any length window by window: its most probable classes, when which one is "
        "the first, and, if asked, an MP4 with that drawn beneath and a picture over time.",
        example="mvit-video classify video.mp4 --model runs/demo/version_0 --overlay shown.mp4 --timeline shown.png",
    )
    parser.add_argument("video", check=_one_video, metavar="VIDEO", help="file")
    parser.add_argument("--model", required=True, help="checkpoint, run folder, or a model's name")
    add_class_names_option(parser, "those of the checkpoint")
    parser.add_argument("-k", type=count, default=3, metavar="K", help="classes to name (default: %(default)s)")
    parser.add_argument("--window", metavar="LENGTH", help="64 frames or 2.5s (default: what a clip stands for)")
    parser.add_argument("--stride", metavar="LENGTH", help="from window to window, likewise (default: the window)")
    parser.add_argument("--crops", type=int, choices=[1, 3], default=1, help="of each window (default: %(default)s)")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32", help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=count, default=8, metavar="N", help="clips at once (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--backend", choices=get_args(Backend), default="pyav", help="decoder (default: %(default)s)")
    parser.add_argument("--overlay", metavar="MP4", help="the video with classes and a strip of time beneath")
    parser.add_argument("--timeline", metavar="PNG", help="picture of the probabilities over time")
    parser.add_argument("--rows", type=count, default=40, metavar="N", help="segments to print (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print windows, segments and all as JSON instead")
    return parser


def _print(console: Console, timeline: Classification, k: int, num_rows: int) -> None:
    overall = Table("class", "percent", title="Whole video", title_justify="left")
    for one in timeline.top(timeline.overall, k):
        overall.add_row(one["name"], f"{100 * one['probability']:.1f}")
    console.print(overall, highlight=False, markup=False)
    segments = timeline.segments()
    table = Table("from", "to", "class", "percent", title=f"Segments ({len(segments):,})", title_justify="left")
    if k > 1:
        table.add_column("then")
    for segment in segments[:num_rows]:
        first, *others = timeline.top(segment.probabilities, k)
        then = ", ".join(f"{one['name']} {100 * one['probability']:.1f}" for one in others)
        span = _clock(segment.start_seconds), _clock(segment.end_seconds)
        table.add_row(*span, first["name"], f"{100 * first['probability']:.1f}", *([then] if k > 1 else []))
    console.print(table, highlight=False, markup=False)
    if len(segments) > num_rows:
        console.print(f"{len(segments) - num_rows:,} more; --rows or --json gives them", highlight=False)


def _print_unread(console: Console, timeline: Classification) -> None:
    """Say on standard error which windows are missing, the first few of them by their time."""
    if not timeline.unread:
        return
    shown = [f"{_clock(one.start_seconds)} to {_clock(one.end_seconds)}" for one in timeline.unread[:_MOST_UNREAD]]
    more = f" and {len(timeline.unread) - len(shown)} more" if len(timeline.unread) > len(shown) else ""
    num_windows = len(timeline.unread) + len(timeline.start_seconds)
    text = (
        f"{len(timeline.unread)} of {num_windows} windows do not decode and are left out: {', '.join(shown)}{more} "
        f"({timeline.unread[0].reason})"
    )
    error = VideoDecodeError(timeline.path, text)  # one line, whatever the path holds
    console.print(f"warning: {error}", highlight=False, markup=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:05.2f}"


@contextmanager
def _seconds_bar(console: Console, text: str, total: float) -> Iterator[Callable[[float], None]]:
    """A bar over the seconds of a video; nothing is shown off a terminal."""
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} s"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    with bar:
        task = bar.add_task(text, total=total)
        yield lambda seconds: bar.update(task, completed=seconds)


def _one_video(text: str) -> str | None:
    """What speaks against an input: it is not there, or a folder."""
    return "a folder; give one video file" if os.path.isdir(text) else existing(text)
