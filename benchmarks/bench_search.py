"""Cost of reading stored features and of searching them, CPU time on one thread.

python benchmarks/bench_search.py --rows 1000000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet

from mvit_video.features.search import nearest_rows
from mvit_video.features.store import load_features

_ROWS_PER_PART, _WINDOWS_PER_VIDEO = 50_000, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--channels", type=int, default=768)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(f"{args.rows:,} rows of {args.channels} channels in half precision")
        for start in range(0, args.rows, _ROWS_PER_PART):
            write_part(folder, start, min(_ROWS_PER_PART, args.rows - start), args.channels)
        timed("first reading", lambda: load_features(folder))
        table = timed("later readings", lambda: load_features(folder))
        timed("means of the videos", table.averaged)
        queries = np.random.default_rng(1).standard_normal((256, args.channels), dtype=np.float32)
        for number in (1, 16, 256):
            timed(f"{number} queries at once", lambda n=number: nearest_rows(queries[:n], table.vectors, 10))


def write_part(folder: Path, start: int, count: int, num_channels: int) -> None:
    rows = np.arange(start, start + count)
    video, window = rows // _WINDOWS_PER_VIDEO, rows % _WINDOWS_PER_VIDEO
    vectors = np.random.default_rng(start).standard_normal((count, num_channels), dtype=np.float32).astype(np.float16)
    table = pa.table(
        {
            "path": [f"videos/{number:07d}.mp4" for number in video],
            "label": video % 400,
            "window": pa.array(window, pa.int32()),
            "crop": np.zeros(count, np.int8),
            "start_seconds": window * 0.5,
            "end_seconds": window * 0.5 + 2,
            "center_seconds": window * 0.5 + 1,
            "start_frame": window * 15,
            "end_frame": window * 15 + 60,
            "num_padded": np.zeros(count, np.int32),
            "feature": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), num_channels),
        }
    )
    parquet.write_table(table, folder / f"part-{start:09d}.parquet")


def timed(what: str, work: Callable[[], Any]) -> Any:
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    print(f"{what}: {time.process_time() - cpu:.2f} s of CPU, {time.perf_counter() - start:.2f} s on the wall")
    return result


if __name__ == "__main__":
    main()
