"""Decoding before and after `mvit-video prepare`: CPU time of one random 16x4 clip, open included, in one thread."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from measuring import cpu_seconds, timed

from mvit_video.curation.encoding import EncodeSettings, encode_video
from mvit_video.data.readers import Backend, open_video
from mvit_video.data.sampling import clip_span
from mvit_video.data.table.files import VIDEO_SUFFIXES

NUM_FRAMES, SAMPLING_RATE, NUM_CLIPS = 16, 4, 21


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="videos to measure on")
    videos = sorted(path for path in parser.parse_args().folder.iterdir() if path.suffix in VIDEO_SUFFIXES)
    print("| video | frames | kB before | after | encode, CPU s | pyav, clips/s | after | decord | after |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for video in videos:
            small = Path(folder) / f"{video.name}.mp4"
            seconds, encoded = timed(partial(encode_video, str(video), small, EncodeSettings(), lambda: None))
            sizes = [f"{path.stat().st_size / 1e3:.0f}" for path in (video, small)]
            rates = [rate for backend in ("pyav", "decord") for rate in compare(video, small, backend)]
            row = [video.name, encoded.num_frames, *sizes, f"{seconds:.1f}", *(f"{rate:.1f}" for rate in rates)]
            print("|", " | ".join(map(str, row)), "|", flush=True)


def compare(before: Path, after: Path, backend: Backend) -> list[float]:
    """Return clips per second of both videos, medians; the two alternate."""
    with open_video(before) as reader:
        last = reader.num_frames - 1
    starts = np.random.default_rng(0).integers(0, max(1, last - clip_span(NUM_FRAMES, SAMPLING_RATE)), NUM_CLIPS)
    seconds: dict[Path, list[float]] = {before: [], after: []}
    for start in starts:
        indices = np.minimum(start + SAMPLING_RATE * np.arange(NUM_FRAMES), last)
        for path, taken in seconds.items():
            taken.append(cpu_seconds(partial(read, path, backend, indices)))
    return [1 / float(np.median(taken)) for taken in seconds.values()]


def read(path: Path, backend: Backend, indices: np.ndarray) -> None:
    """Read one clip, its short side 256."""
    with open_video(path, backend, short_side=256) as reader:
        reader.get_frames(indices)


if __name__ == "__main__":
    main()
