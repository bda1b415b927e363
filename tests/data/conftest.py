"""Generated videos whose frames carry their own number as a barcode."""

from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch

BITS = 8


def barcode_frame(number: int, width: int, height: int) -> np.ndarray:
    """A frame with `number` as black and white bars over a moving gradient."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    frame = np.stack([(x + 3 * number) % 256, (2 * y + number) % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    bar = width // BITS
    for bit in range(BITS):
        frame[: height // 2, bit * bar : (bit + 1) * bar] = 235 if number >> bit & 1 else 16
    return frame


def read_barcodes(frames: np.ndarray) -> list[int]:
    """The numbers of frames `(T, H, W, 3)`."""
    height, width = frames.shape[1:3]
    bar = width // BITS
    centres = frames[:, height // 4, bar // 2 : bar * BITS : bar].mean(axis=-1) > 128
    return (centres * 2 ** np.arange(BITS)).sum(axis=1).tolist()


def write_video(
    path: Path,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    num_frames: int = 48,
    size: tuple[int, int] = (96, 64),
    fps: int = 30,
    pts: Sequence[int] | None = None,
    pixel_format: str = "yuv420p",
    rotation: int = 0,
) -> Path:
    """Encode barcode frames; `pts` counts in milliseconds and makes the frame rate variable."""
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps if pts is None else 1000, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.thread_count = 1
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(barcode_frame(number, width, height), format="rgb24")
            frame.pts = number if pts is None else pts[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut_without_encoding(source: Path, path: Path, start_frame: int) -> Path:
    """What `ffmpeg -ss START -c copy` writes: an edit list hides the frames before the start."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        stream = container.streams.video[0]
        copied = output.add_stream_from_template(stream)
        ticks = int(1 / (stream.average_rate * stream.time_base))
        packets = [packet for packet in container.demux(stream) if packet.size]
        first = max(i for i, p in enumerate(packets) if p.is_keyframe and p.pts <= start_frame * ticks)
        for packet in packets[first:]:
            packet.pts -= start_frame * ticks
            packet.dts -= start_frame * ticks
            packet.stream = copied
            output.mux(packet)
    return path


def x264(**settings: object) -> dict[str, str]:
    """Encoder options that make a group of pictures regular."""
    parameters = {"keyint": 12, "min-keyint": 12, "scenecut": 0, "bframes": 2, "b-adapt": 0, **settings}
    return {"x264-params": ":".join(f"{key}={value}" for key, value in parameters.items()), "preset": "fast"}


ODD_VIDEOS: dict[str, Callable[[Path], Path]] = {
    "closed_gop": lambda folder: write_video(folder / "closed.mp4", options=x264()),
    "no_b_frames": lambda folder: write_video(folder / "no_b.mp4", options=x264(bframes=0)),
    "matroska": lambda folder: write_video(folder / "closed.mkv", options=x264()),
    "open_gop": lambda folder: write_video(folder / "open.mp4", options=x264(**{"open-gop": 1})),
    "hevc": lambda folder: write_video(
        folder / "hevc.mp4", "libx265", {"x265-params": "keyint=12:min-keyint=12:open-gop=1:log-level=none:pools=none"}
    ),
    "mpeg4_avi": lambda folder: write_video(folder / "mpeg4.avi", "mpeg4", {"bf": "2", "g": "12"}),
    "mpeg4_avi_no_b": lambda folder: write_video(folder / "mpeg4_no_b.avi", "mpeg4", {"g": "12"}),
    "mpeg_ts": lambda folder: write_video(folder / "stream.ts", options=x264()),
    "flv": lambda folder: write_video(folder / "stream.flv", options=x264(keyint=2)),
    "vp9": lambda folder: write_video(folder / "vp9.webm", "libvpx-vp9", {"g": "12", "cpu-used": "8"}),
    "variable_rate": lambda folder: write_video(
        folder / "vfr.mp4", options=x264(), pts=np.cumsum(np.tile([20, 35, 60, 33], 12)).tolist()
    ),
    "edit_list": lambda folder: cut_without_encoding(
        write_video(folder / "whole.mp4", options=x264(keyint=40)), folder / "cut.mp4", 7
    ),
    "edit_list_reordered": lambda folder: cut_without_encoding(
        write_video(folder / "whole_12.mp4", options=x264()), folder / "cut_12.mp4", 17
    ),
    "odd_size": lambda folder: write_video(folder / "odd.mp4", options=x264(), size=(91, 63), pixel_format="yuv444p"),
    "one_frame": lambda folder: write_video(folder / "one.mp4", options=x264(), num_frames=1),
    "rotated": lambda folder: write_video(folder / "rotated.mp4", options=x264(), rotation=90),
    "ten_bits": lambda folder: write_video(folder / "ten.mp4", options=x264(), pixel_format="yuv420p10le"),
}


@pytest.fixture(scope="session")
def odd_videos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A video of `ODD_VIDEOS` by name, encoded once."""
    folder, made = tmp_path_factory.mktemp("odd_videos"), {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = ODD_VIDEOS[name](folder)
        return made[name]

    return make


@pytest.fixture(scope="session")
def barcode_video(odd_videos: Callable[[str], Path]) -> Path:
    """48 frames of 96x64 at 30 fps, H.264 with closed groups of 12 pictures."""
    return odd_videos("closed_gop")


@pytest.fixture(scope="session")
def barcodes() -> Callable[[torch.Tensor], list[int]]:
    """The numbers that frames `(T, H, W, 3)` carry."""
    return lambda frames: read_barcodes(frames.numpy()) if len(frames) else []
