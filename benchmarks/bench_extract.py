"""Time of dense extraction against decoding every window separately: CPU seconds by stage, one thread.

Both ways use the same model, the same frames and the same writer, one video after the other in one process.

    python benchmarks/bench_extract.py VIDEO... --model mvit_b_16x4 --window 64 --stride 16
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mvit_video.data.readers import open_video
from mvit_video.data.table.files import VIDEO_SUFFIXES
from mvit_video.features import Extractor, ExtractSettings, Video, VideoFeatures, decoding, writer_for
from mvit_video.features.decoding import Chunk
from mvit_video.features.extractor import Place, join_features
from mvit_video.features.windows import windows_of

STAGES = ("decode", "transform", "model", "write")


class Clock:
    """CPU seconds of stages; a stage does not count the stages inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._switch()
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def _switch(self) -> None:
        now = time.process_time()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return call


class TimedReader:
    """A reader whose work counts as decoding."""

    def __init__(self, clock: Clock, *args: Any, **kwargs: Any) -> None:
        with clock.stage("decode"):
            self._reader: Any = open_video(*args, **kwargs)
        self.get_frames = clock.timed("decode", self._reader.get_frames)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def __enter__(self) -> TimedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()


def one_pass(extractor: Extractor, video: Video, clock: Clock) -> VideoFeatures:
    """Extract as `mvit-video extract` does."""
    with clock.stage("transform"):
        return extractor.extract(video)


def window_by_window(extractor: Extractor, video: Video, clock: Clock) -> VideoFeatures:
    """Open the video for every window and decode what it needs."""
    rule = extractor.rule
    with TimedReader(Clock(), video.source, rule.backend) as reader:
        windows = windows_of(rule.windows, reader.timestamps, reader.fps, reader.duration_seconds)
        fps, end_seconds = reader.fps, reader.duration_seconds
    features = []
    for row, indices in enumerate(windows.frames):
        with clock.stage("transform"):
            with TimedReader(clock, video.source, rule.backend, short_side=rule.decode_short_side) as reader:
                frames = reader.get_frames(np.unique(indices))
            crops = decoding.crop_frames(frames, rule)
            rows = np.searchsorted(np.unique(indices), indices)[None]
            chunk = Chunk(crops, rows, windows.part(slice(row, row + 1)), fps, end_seconds)
            features.append(extractor.features_of([Place(chunk, 0)]))
    return join_features(video, [windows], features, fps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path, help="files, or folders of them")
    parser.add_argument("--model", default="mvit_b_16x4")
    parser.add_argument("--window", default="64")
    parser.add_argument("--stride", default="16")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--without-model", action="store_true", help="leave the model out, to measure reading longer")
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = ExtractSettings(
        args.model, window=args.window, stride=args.stride, precision=args.precision, batch_size=1, device="cpu"
    )
    extractor = Extractor(settings)
    files = [file for each in args.videos for file in videos_at(each)]
    measure(extractor, one_pass, Video("warm-up", files[0]), Clock(), without_model=True)
    print(f"{args.model}, window {args.window}, stride {args.stride}, {args.precision}")
    print("| video | frames | windows | way | " + " | ".join(f"{stage} s" for stage in STAGES) + " | model share |")
    print("|---|--:|--:|---|" + "--:|" * (len(STAGES) + 1), flush=True)
    totals: dict[str, Clock] = {}
    for path in files:
        with open_video(path) as reader:
            num_frames = reader.num_frames
        found = {}
        for way, extract in (("one pass", one_pass), ("window by window", window_by_window)):
            clock = Clock()
            found[way] = measure(extractor, extract, Video(path.name, path), clock, without_model=args.without_model)
            total = totals.setdefault(way, Clock())
            total.seconds = {stage: total.seconds[stage] + clock.seconds[stage] for stage in STAGES}
            print(
                f"| {path.name} | {num_frames} | {len(found[way].feature)} | {way} | {in_columns(clock)} |", flush=True
            )
        np.testing.assert_allclose(*(features.feature for features in found.values()), rtol=1e-3, atol=1e-4)
    for way, clock in totals.items():
        print(f"| all | | | {way} | {in_columns(clock)} |")
    ratio = totals["window by window"].seconds["decode"] / totals["one pass"].seconds["decode"]
    print(f"\ndecoding window by window takes {ratio:.1f} times as long")


def measure(
    extractor: Extractor, extract: Callable[..., VideoFeatures], video: Video, clock: Clock, *, without_model: bool
) -> VideoFeatures:
    """Time the stages of extracting a video into a temporary folder."""
    features_of, clips, own_open = extractor.features_of, extractor.clips, decoding.open_video
    shape = (extractor.settings.num_crops, *extractor.feature_shape)

    def transform_only(places: Sequence[Place]) -> NDArray[Any]:
        extractor.clips(places)
        return np.zeros((len(places), *shape), np.float32)

    extractor.clips = clock.timed("transform", clips)
    extractor.features_of = clock.timed("model", transform_only if without_model else features_of)
    decoding.open_video = lambda *args, **kwargs: TimedReader(clock, *args, **kwargs)
    try:
        with tempfile.TemporaryDirectory() as folder:
            features = extract(extractor, video, clock)
            with clock.stage("write"):
                writer_for("parquet", Path(folder), extractor.record).write([features])
        return features
    finally:
        extractor.features_of, extractor.clips, decoding.open_video = features_of, clips, own_open


def videos_at(path: Path) -> list[Path]:
    """Return the file, or the videos in the folder."""
    return sorted(file for file in path.iterdir() if file.suffix in VIDEO_SUFFIXES) if path.is_dir() else [path]


def in_columns(clock: Clock) -> str:
    """Return the seconds of each stage, and the share of the model."""
    share = clock.seconds["model"] / sum(clock.seconds.values())
    return " | ".join([*(f"{clock.seconds[stage]:.2f}" for stage in STAGES), f"{share:.1%}"])


if __name__ == "__main__":
    main()
