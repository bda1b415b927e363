"""The 5x1 test of a folder of ten-second videos: files opened, frames decoded, CPU time; ours against one open a view.

The other way is SlowFast's: each view opens the file, seeks, and decodes its span (`decode_peers.slowfast`). The videos
(340x256, H.264, a key frame every 250 and every 12) are made once in FOLDER from the real clips of ../shared/videos, or
from a moving texture without them. Opens are counted by the system (inotify, Linux only).

    python benchmarks/bench_eval.py
"""

from __future__ import annotations

import argparse
import ctypes
import io
import logging
import os
import shutil
import struct
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import decode_peers
import numpy as np
import torch
from bench_decode import NUM_FRAMES, SHORT_SIDE, make_videos
from lightning.pytorch import LightningModule, Trainer
from measuring import median_cpu_seconds
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mvit_video.data.clips.transforms import Normalize, crop_views
from mvit_video.data.dataset import ClipBatch
from mvit_video.data.readers import Backend
from mvit_video.data.readers.stream import OpenStream
from mvit_video.data.sampling import uniform_clips
from mvit_video.data.settings import InputSpec, LoadingSpec
from mvit_video.evaluation import MultiViewEvaluation
from mvit_video.models import mvit
from mvit_video.models.architecture import Patch
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import ClipSpec, ViewSpec

ASKED = 2.5
CLIP, VIEWS, CROP = ClipSpec(16, 4), ViewSpec(5, 1), 224
_ACCESS, _CLOSE, _OPEN = 0x01, 0x18, 0x20  # of inotify(7)


@dataclass
class Counts:
    """Cost of a test of some videos."""

    opens: int = 0
    frames: int = 0
    cpu_seconds: float = 0.0


class Small(LightningModule):
    """Net that costs little beside decoding: two blocks on cubes of 2x32x32."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = mvit(
            num_classes=4, num_frames=CLIP.num_frames, crop_size=CROP, depths=(1, 1), embed_dim=32,
            patch=Patch(kernel=(2, 32, 32), stride=(2, 32, 32)),
        )  # fmt: skip

    def test_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
        return {"probabilities": self.net(batch.clip).softmax(dim=-1)}


@contextmanager
def counted_opens(paths: list[str], counts: Counts) -> Iterator[None]:
    """Count how often the system opens the files."""
    libc = ctypes.CDLL(None, use_errno=True)
    queue = libc.inotify_init1(os.O_NONBLOCK)
    for path in paths:
        # without reading in between, two opens would be reported as one
        if libc.inotify_add_watch(queue, path.encode(), _OPEN | _ACCESS | _CLOSE) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", path)
    try:
        yield
        with suppress(BlockingIOError):  # nothing is left
            while events := os.read(queue, 2**16):
                counts.opens += sum(bool(mask & _OPEN) for _, mask, _, _ in struct.iter_unpack("iIII", events))
    finally:
        os.close(queue)


@contextmanager
def counted_frames(counts: Counts) -> Iterator[None]:
    """Count the frames that PyAV decodes, in our reader and in containers that `decode_peers` opens."""
    ours, theirs = OpenStream.decode, av.open

    def decode(self: OpenStream, *args: Any) -> Any:
        frames = ours(self, *args)
        counts.frames += len(frames)
        return frames

    class Counting:
        def __init__(self, *args: Any, **options: Any) -> None:
            self._container = theirs(*args, **options)

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *_: object) -> None:
            self._container.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def decode(self, **options: Any) -> Iterator[Any]:
            for frame in self._container.decode(**options):
                counts.frames += 1
                yield frame

    with patch.object(OpenStream, "decode", decode), patch.object(decode_peers.av, "open", Counting):
        yield


def frames_by_decord(path: str) -> int:
    """Return the number of frames that decord decodes: in each group from its key frame to the last one wanted."""
    wanted = np.unique(uniform_clips(NUM_FRAMES, 30.0, CLIP, VIEWS.num_clips))
    with av.open(path) as container:
        stream = container.streams.video[0]
        packets = sorted(
            (packet.pts, packet.is_keyframe) for packet in container.demux(stream) if packet.pts is not None
        )
    keys = np.flatnonzero([is_key for _, is_key in packets])
    group = np.searchsorted(keys, wanted, side="right") - 1
    return sum(int(wanted[group == number].max() - keys[number] + 1) for number in np.unique(group))


def test_ours(folder: Path, backend: Backend) -> Callable[[], None]:
    """Run the multi-view test as `mvit-video test` does, in one process."""

    def run() -> None:
        data = VideoDataModule(
            root=None, test=str(folder), clip=CLIP, views=VIEWS, loading=LoadingSpec(backend=backend, num_workers=0),
            input=InputSpec(CROP, decode_short_side=SHORT_SIDE),
        )  # fmt: skip
        trainer = Trainer(
            accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False,
            callbacks=[MultiViewEvaluation(folder.parent / "run")],
        )  # fmt: skip
        with redirect_stdout(io.StringIO()):
            trainer.test(Small(), datamodule=data, verbose=False)

    return run


def test_each_view(paths: list[str]) -> Callable[[], None]:
    """Open the video for each view, then take the same crops, the same net and the mean of its scores."""

    def run() -> None:
        net = Small().net.eval()
        clips = uniform_clips(NUM_FRAMES, 30.0, CLIP, VIEWS.num_clips)
        for path in paths:
            answers = []
            for clip in clips:
                (frames,) = decode_peers.slowfast(path, clip[None], None)
                shown = frames.permute(1, 2, 3, 0).byte()
                rows = np.arange(CLIP.num_frames)[None]
                view = crop_views(shown, rows, CROP, SHORT_SIDE, 1, Normalize())
                with torch.inference_mode():
                    answers.append(net(view).softmax(dim=-1))
            torch.cat(answers).mean(dim=0)

    return run


def measure(run: Callable[[], None], paths: list[str], rounds: int) -> Counts:
    """Return opens and frames of one run, and the median CPU time of some more."""
    found = Counts()
    with counted_opens(paths, found), counted_frames(found):
        run()
    found.cpu_seconds = median_cpu_seconds(run, rounds)
    return found


def table_of(name: str, path: str, num_videos: int, rounds: int) -> Table:
    """Test a folder of copies of one video in every way."""
    table = Table(title=f"5x1 test of {num_videos} videos, {name}, medians of {rounds}", title_justify="left")
    for column in ("way", "opens a video", "frames decoded a video", f"fewer frames, asked {ASKED}x", "videos / CPU s"):
        table.add_column(column, justify="left" if column == "way" else "right")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "videos"
        (folder / "one class").mkdir(parents=True)
        paths = [shutil.copy(path, str(folder / "one class" / f"{i}.mp4")) for i in range(num_videos)]
        others = measure(test_each_view(paths), paths, rounds)
        ways = [("one open a view", others)]
        backends: tuple[Backend, ...] = ("decord", "pyav")
        for backend in backends:
            found = measure(test_ours(folder, backend), paths, rounds)
            if backend == "decord":  # it does not report frames; PyAV's frames are counted already
                found.frames += num_videos * frames_by_decord(path)
            ways.append((f"ours, {backend}", found))
    for way, found in ways:
        table.add_row(
            way, f"{found.opens / num_videos:.1f}", f"{found.frames / num_videos:.1f}",
            f"{others.frames / found.frames:.2f}x", f"{num_videos / found.cpu_seconds:.2f}",
        )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("data/bench_decode"), help="where the videos are made")
    parser.add_argument("--videos", type=int, default=8, help="videos of the folder that is tested")
    parser.add_argument("--rounds", type=int, default=3, help="medians are over this many rounds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of Lightning, about loaders without workers
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for name, (path, _) in make_videos(args.folder).items():
        if name.startswith("340x256 h264"):
            Console(width=140).print(table_of(name, path, args.videos, args.rounds))


if __name__ == "__main__":
    main()
