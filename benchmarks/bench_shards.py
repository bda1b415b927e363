"""Random reads from shards against the same videos in files, alternating in one process; cost of the tables.

Prints process time, median of several rounds, with the files in the page cache: what the code costs, not the disk. The
memory is that of a fresh process which loads the index of so many videos.

    python benchmarks/bench_shards.py
    python benchmarks/bench_shards.py --videos 300 --rows 100000 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from measuring import cpu_seconds, resident_megabytes, timed

from mvit_video.curation.packing import PackSettings, pack_videos
from mvit_video.data import VideoTable, load_annotations
from mvit_video.data.shards import TarArchive
from mvit_video.data.shards.archive import write_index
from mvit_video.jobs.stores import Shard

SHARD_BYTES = 200_000_000
VIDEO_BYTES = (200_000, 400_000)  # a ten-second video of Kinetics with a short side of 256


def read(table: VideoTable, order: list[int]) -> None:
    """Read the bytes of each video, in files or shards."""
    for row in order:
        source = table.source(row)
        _ = source.read_bytes() if isinstance(source, Path) else source


def bench_reading(folder: Path, num_videos: int, rounds: int) -> None:
    rng = np.random.default_rng(0)
    (folder / "files").mkdir()
    paths = [f"{i}.mp4" for i in range(num_videos)]
    for path in paths:
        (folder / "files" / path).write_bytes(rng.bytes(int(rng.integers(*VIDEO_BYTES))))
    files = VideoTable(pa.array(paths), np.arange(num_videos) % 400, None, folder / "files")
    out = folder / "shards"
    packing = cpu_seconds(lambda: pack_videos(files, str(out), PackSettings(SHARD_BYTES)))
    print(f"pack: {packing / num_videos * 1e6:.0f} us a video")
    shards = load_annotations(out)
    order = rng.permutation(num_videos).tolist()
    times: dict[str, list[float]] = {"files": [], "shards": []}
    for _ in range(rounds):
        times["files"].append(cpu_seconds(lambda: read(files, order)))
        times["shards"].append(cpu_seconds(lambda: read(shards, order)))
    for name, spent in times.items():
        median = statistics.median(spent)
        print(f"read from {name}: {num_videos / median:.0f} videos/s ({median / num_videos * 1e6:.0f} us a video)")
    (out / "index.parquet").unlink()
    print(f"index by headers: {cpu_seconds(lambda: load_annotations(out)) / num_videos * 1e6:.0f} us a video, once")


def bench_table(folder: Path, num_rows: int) -> None:
    per_shard, size = 4000, VIDEO_BYTES[0]
    row = np.arange(num_rows)
    shards = [Shard(str(folder / f"{i}.tar"), per_shard * size, "") for i in range(-(-num_rows // per_shard))]
    for shard in shards:
        with open(shard.url, "wb") as file:
            file.truncate(shard.size)
    paths = pa.array([f"train/name of a class/{i:011x}_000010_000020.mp4" for i in range(num_rows)])
    archive = TarArchive(
        tuple(shards), (row // per_shard).astype(np.int32), row % per_shard * size, np.full(num_rows, size)
    )
    write_index(folder / "index.parquet", VideoTable(paths, row % 400, None, folder), archive)
    subprocess.run([sys.executable, __file__, "--load", str(folder)], check=True)


def print_load(folder: Path) -> None:
    before = resident_megabytes()
    spent, table = timed(lambda: load_annotations(folder))
    pa.default_memory_pool().release_unused()
    added = resident_megabytes() - before
    print(f"index of {len(table)} videos: loaded in {spent:.2f} s, {added:.0f} MiB more memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load is not None:
        print_load(args.load)
        return
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = name
        for part in ("reading", "table"):
            (Path(name) / part).mkdir()
        bench_reading(Path(name) / "reading", args.videos, args.rounds)
        bench_table(Path(name) / "table", args.rows)


if __name__ == "__main__":
    main()
