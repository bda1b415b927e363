"""Cost of an extraction beyond decoding and the model: the rates that benchmarks/simulate_extraction.py uses.

CPU time of one process, which other programs on the machine lengthen little. With Ray the caller's part only is
measured: workers of one local cluster answer at once, with features of the size of a video's.

    python benchmarks/bench_cluster.py
    python benchmarks/bench_cluster.py --no-ray --videos 20000
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mvit_video import __version__
from mvit_video.data import VideoTable
from mvit_video.features import Video, VideoFeatures, writer_for
from mvit_video.features.engines.ray_pool import Pool
from mvit_video.features.extraction import FEATURES, Results
from mvit_video.features.inputs import join_tables
from mvit_video.features.manifest import Manifest

NUM_WINDOWS, CHANNELS = 9, 768
RECORD = {"precision": "fp16", "feature_shape": [CHANNELS], "layer": "pooled", "model": "mvit_b_16x4", "key": "0" * 64}


def features_of(number: int) -> VideoFeatures:
    """Return features of a video of ten seconds; random, because features hardly compress."""
    feature = np.random.default_rng(number).normal(size=(NUM_WINDOWS, 1, CHANNELS)).astype(np.float16)
    start = np.arange(NUM_WINDOWS) * 32 / 30
    frames = np.arange(NUM_WINDOWS) * 32
    padded = np.zeros(NUM_WINDOWS, np.int32)
    video = Video(path_of(number), Path(), number % 400)
    return VideoFeatures(video, feature, start, start + 64 / 30, start + 32 / 30, frames, frames + 64, padded, 30.0)


def path_of(number: int) -> str:
    """Return a path like those of Kinetics, with an id of eleven letters."""
    code = hashlib.sha256(str(number).encode()).hexdigest()[:11]
    return f"k400/train/playing_something/{code}_000010_000020.mp4"


def bench_writing(folder: Path, num_videos: int) -> None:
    """Print the time and bytes of a video's features and ledger, and what a resumed run reads."""
    writer, manifest = writer_for("parquet", folder / FEATURES, RECORD), Manifest(folder, RECORD["key"])
    paths = pa.array([path_of(number) for number in range(num_videos)])
    inputs = join_tables([VideoTable(paths, np.zeros(num_videos, np.int64), None, folder, archive=Nowhere())])
    results = Results(writer, manifest)
    seconds = 0.0
    for number, _ in enumerate(results.begin(inputs, np.arange(num_videos))):
        features = features_of(number)
        start = time.process_time()
        results.add(features.video, features)
        seconds += time.process_time() - start
    start = time.process_time()
    results.save()
    writer.finish()
    seconds += time.process_time() - start
    print(f"write: {seconds / num_videos * 1e6:.0f} us a video")
    manifest.write()
    stored = {
        name: sum(file.stat().st_size for file in (folder / name).rglob("*.parquet")) for name in (FEATURES, "ledger")
    }
    ledger = stored["ledger"] + (folder / "manifest.parquet").stat().st_size
    print(f"features: {stored[FEATURES] / num_videos / NUM_WINDOWS:.0f} bytes a window")
    print(f"ledger and manifest: {ledger / num_videos:.0f} bytes a video")
    start = time.process_time()
    Manifest(folder, RECORD["key"]).begin(inputs, writer_for("parquet", folder / FEATURES, RECORD))
    print(f"resume: {(time.process_time() - start) / num_videos * 1e6:.1f} us a video")


class Nowhere:
    """Videos in an archive, so that no file is looked up; a disk or a network adds to it."""

    def read(self, row: int) -> bytes:
        raise NotImplementedError

    def version(self, row: int) -> str:
        return f"{300_000 + row * 7} {1_700_000_000_000_000_000 + row * 10**9}"

    def take(self, rows: Any) -> Nowhere:
        return self


def bench_ray(num_videos: int) -> None:
    """Print the time of the caller for each video that workers take and return."""
    import ray  # pyright: ignore[reportMissingImports]

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    feature = features_of(0)

    class Quick:
        def begin(self) -> tuple[str, ...]:
            return ray.get_runtime_context().get_node_id(), "", __version__, "key", ""

        def work(self, video: Video) -> VideoFeatures:
            return feature

    actor = ray.remote(num_cpus=1)(Quick)
    pool = Pool[Video, VideoFeatures](ray, lambda: actor.remote(), "key", 2)
    start = 0.0

    def videos() -> Iterator[Video]:
        nonlocal start
        start = time.process_time()
        for number in range(num_videos):
            yield Video(path_of(number), Path(path_of(number)), 0)

    for _ in pool.outcomes(videos()):
        pass
    print(f"driver: {(time.process_time() - start) / num_videos * 1e6:.0f} us a video")
    pool.end()
    ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--no-ray", action="store_true", help="leave Ray out")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench_writing(Path(folder), args.videos)
    if not args.no_ray:
        bench_ray(min(args.videos, 5000))


if __name__ == "__main__":
    main()
