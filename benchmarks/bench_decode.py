"""Our readers against the readers of other projects: one thread, CPU time, a process for each row, medians.

The videos (340x256 and 1280x720, H.264 and HEVC as the encoders do by default, a key frame every 250 and every 12) are
made once in FOLDER from the real clips of ../shared/videos, or from a moving texture without them. Before a peer is
timed, its frames are compared with a sequential decode; a peer that delivers other frames is marked with *.

    python benchmarks/bench_decode.py                      # random clip 16x4 and 5x1 views, short side 256
    python benchmarks/bench_decode.py --memory 5000        # memory over so many opens and reads of each backend
    python benchmarks/bench_decode.py --workers            # clips a second of one and of two loader workers
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
import torch
from decode_peers import Clips, Peer, Size, ours, peers
from measuring import cpu_seconds, resident_megabytes
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mvit_video.data.readers import Backend, IndexCache, open_video
from mvit_video.jobs import atomic_write

T = TypeVar("T")

REAL_CLIPS = Path(__file__).resolve().parents[2] / "shared" / "videos"
SIZES = {"340x256": (256, 340), "1280x720": (720, 1280)}  # height, width
CODECS = {"h264": "libx264", "hevc": "libx265"}
NUM_FRAMES, FPS = 300, 30
CLIP_FRAMES, RATE, NUM_VIEWS, SHORT_SIDE = 16, 4, 5, 256
SPAN = (CLIP_FRAMES - 1) * RATE + 1


def source_frames(size: tuple[int, int]) -> Iterator[av.VideoFrame]:
    """Yield ten seconds of the real clips, or of a moving texture, in a size."""
    height, width = size
    names = ("mma_test.mp4", "arm_wrestling.mp4") if height == 256 else ("arm_wrestling.mp4", "mma_test.mp4")
    if not REAL_CLIPS.is_dir():
        texture = np.random.default_rng(0).integers(0, 256, (height // 4, width // 2, 3), dtype=np.uint8)
        texture = texture.repeat(4, axis=0).repeat(4, axis=1)
        for i in range(NUM_FRAMES):
            rolled = np.roll(texture, (i, 3 * i), axis=(0, 1))[:, :width]
            yield av.VideoFrame.from_ndarray(np.ascontiguousarray(rolled), format="rgb24")
        return
    count = 0
    for name in names:
        with av.open(str(REAL_CLIPS / name)) as container:
            for frame in container.decode(video=0):
                if count < NUM_FRAMES:
                    yield frame.reformat(width, height, "yuv420p", interpolation="BICUBIC")
                count += 1


def make_videos(folder: Path) -> dict[str, tuple[str, tuple[int, int]]]:
    """Make the videos and return the path and size of each, by its name in the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    videos = {}
    for (size_name, size), codec, group in product(SIZES.items(), CODECS, (250, 12)):
        path = folder / f"{size_name}_{codec}_{group}.mp4"
        if not path.exists():
            with atomic_write(path) as unfinished:
                write(unfinished, CODECS[codec], group, size)
        videos[f"{size_name} {codec} GOP {group}"] = (str(path), size)
    return videos


def write(path: Path, codec: str, group: int, size: tuple[int, int]) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        options = {"g": str(group)} | ({"x265-params": "log-level=none"} if codec == "libx265" else {})
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for i, frame in enumerate(source_frames(size)):
            frame.pts, frame.time_base, frame.pict_type = i, 1 / stream.codec_context.framerate, 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def delivered_size(size: tuple[int, int]) -> Size:
    """Return a size after resizing to short side 256; None for no change."""
    height, width = size
    if min(size) <= SHORT_SIDE:
        return None
    scale = SHORT_SIDE / min(size)
    return round(height * scale), round(width * scale)


def random_clip(rng: np.random.Generator) -> Clips:
    """Return one clip 16x4 at a random position."""
    return (rng.integers(0, NUM_FRAMES - SPAN + 1) + RATE * np.arange(CLIP_FRAMES))[None]


def five_views(_: np.random.Generator) -> Clips:
    """Return five clips 16x4 from the first to the last frame."""
    starts = np.linspace(0, NUM_FRAMES - SPAN, NUM_VIEWS).round().astype(np.int64)
    return starts[:, None] + RATE * np.arange(CLIP_FRAMES)


TASKS = {"random clip 16x4": random_clip, "5x1 views of 16x4": five_views}


def as_images(clip: Tensor) -> NDArray[np.int16]:
    """Return a clip of either layout as `(T, H, W, 3)`."""
    return (clip if clip.shape[-1] == 3 else clip.permute(1, 2, 3, 0)).numpy().astype(np.int16)


def is_exact(peer: Peer, path: str, trials: int) -> bool:
    """Return whether frames at full size equal a sequential decode, index by index.

    Libraries round colour conversion differently, so a mean difference below one grey level counts as equal.
    """
    rng = np.random.default_rng(1)
    asked = [random_clip(rng) for _ in range(trials)] + [five_views(rng)]
    with av.open(path) as container:
        wanted = set(np.concatenate([clips.ravel() for clips in asked]).tolist())
        sequential = {
            i: frame.to_ndarray(format="rgb24").astype(np.int16)
            for i, frame in enumerate(container.decode(video=0))
            if i in wanted
        }
    try:
        for clips in asked:
            for clip, indices in zip(peer.read(path, clips, None), clips, strict=True):
                for frame, i in zip(as_images(clip), indices.tolist(), strict=True):
                    if np.abs(frame - sequential[i]).mean() >= 1:
                        return False
    except Exception as error:  # a peer may raise anything
        Console(stderr=True).print(f"{peer.name} on {Path(path).name}: {error}", highlight=False)
        return False
    return True


def exact_peers(path: str, index: Path) -> set[str]:
    """Return the names of the peers that deliver the frames asked for."""
    torch.set_num_threads(1)
    return {peer.name for peer in peers(IndexCache(index)) if is_exact(peer, path, 3)}


def cpu_milliseconds(path: str, index: Path, size: Size, task: str, rounds: int) -> dict[str, float]:
    """Return the median of each peer; in a round all read the same clips, and the first one rotates."""
    torch.set_num_threads(1)
    candidates, rng = peers(IndexCache(index)), np.random.default_rng(0)
    times: dict[str, list[float]] = {peer.name: [] for peer in candidates}
    for round_number in range(rounds + 1):
        clips, first = TASKS[task](rng), round_number % len(candidates)
        for peer in candidates[first:] + candidates[:first]:
            times[peer.name].append(1e3 * cpu_seconds(partial(peer.read, path, clips, size)))
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def in_fresh_process(work: Callable[..., T], *arguments: object) -> T:
    """Run in a new process: the cost of large buffers depends on what the allocator has seen before."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def ratios_to(mine: str, medians: Mapping[str, float], exact_peers: Collection[str]) -> list[str]:
    """Return the time of pytorchvideo, of SlowFast's way and of the quickest exact peer, over that of ours."""
    cells = [f"{medians[name] / medians[mine]:.2f}" for name in ("pytorchvideo", "SlowFast's way")]
    best = min(exact_peers, key=medians.__getitem__, default=None)
    return [*cells, "none is exact" if best is None else f"{medians[best] / medians[mine]:.2f} {best}"]


def time_tables(folder: Path, rounds: int, only: str) -> Iterator[Table]:
    """Yield for each task a table of milliseconds and a table of ratios."""
    index = folder / "index"
    candidates = peers(IndexCache(index))
    others = {peer.name for peer in candidates if not peer.is_ours}
    videos = {name: video for name, video in make_videos(folder).items() if only in name}
    exact = {name: in_fresh_process(exact_peers, path, index) for name, (path, _) in videos.items()}
    for task in TASKS:
        table = Table(title=f"{task}, CPU ms, median of {rounds} (* other frames than asked)", title_justify="left")
        ratios = Table(title=f"{task}, time of a peer / time of ours", title_justify="left")
        table.add_column("video")
        ratios.add_column("video")
        ratios.add_column("ours")
        for peer in candidates:
            table.add_column(peer.name, justify="right")
        for column in ("pytorchvideo", "SlowFast's way", "best exact peer"):
            ratios.add_column(column, justify="right")
        for video, (path, size) in videos.items():
            medians = in_fresh_process(cpu_milliseconds, path, index, delivered_size(size), task, rounds)
            marks = {peer.name: "" if peer.name in exact[video] else "*" for peer in candidates}
            table.add_row(video, *(f"{ms:.1f}{marks[name]}" for name, ms in medians.items()))
            for mine in (p.name for p in candidates if p.is_ours):
                ratios.add_row(video, mine + marks[mine], *ratios_to(mine, medians, others & exact[video]))
            ratios.add_section()
        yield table
        yield ratios


def memory_table(folder: Path, opens: int) -> Table:
    """Return the resident memory while each backend opens and reads the videos."""
    videos = list(make_videos(folder).values())
    table = Table("backend", title=f"Resident MB after so many opens and clips of 16, {len(videos)} videos")
    steps = [max(1, opens * i // 10) for i in (1, 2, 4, 6, 8, 10)]
    for step in steps:
        table.add_column(str(step), justify="right")
    backends: list[tuple[str, Backend, IndexCache | None]] = [
        ("decord", "decord", None),
        ("pyav", "pyav", None),
        ("pyav, cache", "pyav", IndexCache(folder / "index")),
    ]
    for name, backend, cache in backends:
        read, rng, seen = ours(backend, cache), np.random.default_rng(0), []
        for i in range(1, opens + 1):
            path, _ = videos[i % 4] if i % 50 else videos[i // 50 % len(videos)]  # mostly the small ones
            first = int(rng.integers(0, NUM_FRAMES - CLIP_FRAMES))
            read(path, first + np.arange(CLIP_FRAMES)[None], (256, 340))
            if i in steps:
                seen.append(f"{resident_megabytes():.0f}")
        table.add_row(name, *seen)
    return table


class Clips16x4(Dataset[Tensor]):
    """Random clips of the 340x256 videos."""

    def __init__(self, paths: list[str], backend: Backend, length: int) -> None:
        self.paths, self.length = paths, length
        self.backend: Backend = backend

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Tensor:
        with open_video(self.paths[i % len(self.paths)], self.backend, short_side=SHORT_SIDE) as reader:
            return reader.get_frames(random_clip(np.random.default_rng(i))[0])


def loader_speed(data: Clips16x4, workers: int) -> tuple[float, float]:
    """Return clips per second by the clock, after eight for the start, and CPU ms of the workers per clip."""
    before = os.times()
    loader = iter(DataLoader(data, batch_size=1, num_workers=workers, prefetch_factor=4))
    for _ in range(8):
        next(loader)
    start = time.perf_counter()
    rest = sum(1 for _ in loader)
    seconds = time.perf_counter() - start
    del loader  # ends the workers, which reports their CPU time
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return rest / seconds, 1e3 * used / len(data)


def workers_table(folder: Path, rounds: int) -> Table:
    """Return the speed of one and of two workers; other programs disturb the clock, but hardly the CPU time."""
    paths = [path for name, (path, _) in make_videos(folder).items() if name.startswith("340x256")]
    load = os.getloadavg()[0]
    table = Table(
        "backend", "workers", title=f"Clips 16x4, 340x256, median of {rounds}; load of the machine {load:.1f}"
    )
    for column in ("clips/s by the clock", "x one worker", "CPU ms a clip"):
        table.add_column(column, justify="right")
    backends: tuple[Backend, ...] = ("decord", "pyav")
    for backend in backends:
        data = Clips16x4(paths, backend, 200)
        speeds = {workers: [] for workers in (1, 2)}
        for _ in range(rounds):
            for workers, found in speeds.items():
                found.append(loader_speed(data, workers))
        medians = {
            workers: [statistics.median(column) for column in zip(*found, strict=True)]
            for workers, found in speeds.items()
        }
        for workers, (rate, cpu) in medians.items():
            table.add_row(backend, str(workers), f"{rate:.1f}", f"{rate / medians[1][0]:.2f}", f"{cpu:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("data/bench_decode"), help="where the videos are made")
    parser.add_argument("--rounds", type=int, default=9, help="medians are over this many rounds")
    parser.add_argument("--only", default="", help="only videos whose name in the tables contains this")
    parser.add_argument("--memory", type=int, metavar="N", help="measure memory over N opens instead")
    parser.add_argument("--workers", action="store_true", help="measure loader workers instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=200)
    if args.memory:
        console.print(memory_table(args.folder, args.memory))
    elif args.workers:
        console.print(workers_table(args.folder, args.rounds))
    else:
        for table in time_tables(args.folder, args.rounds, args.only):
            console.print(table)


if __name__ == "__main__":
    main()
