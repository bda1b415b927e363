"""Generated videos whose frames carry their own number as a barcode."""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
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
    fps: int | Fraction = 30,
    pts: Sequence[int] | None = None,
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    muxer_options: dict[str, str] | None = None,
    sound: bool = False,
) -> Path:
    """Encode barcode frames; `pts` counts in milliseconds and makes the frame rate variable."""
    width, height = size
    with keeping_its_scheduling(), av.open(str(path), "w", options=muxer_options or {}) as container:
        audio = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        stream = container.add_stream(codec, rate=fps if pts is None else 1000, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.thread_count = 1
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(num_frames):
            if audio is not None:
                write_silence(container, audio, number)
            frame = av.VideoFrame.from_ndarray(barcode_frame(number, width, height), format="rgb24")
            frame.pts = number if pts is None else pts[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            container.mux(audio.encode())
    return path


@contextmanager
def keeping_its_scheduling() -> Iterator[None]:
    """Has this thread scheduled as before.

    Run by root, SVT-AV1 makes a thread that encodes a real-time one for good, and so every process that it starts
    afterwards; they keep the cores from everything else.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def write_silence(container: av.container.OutputContainer, stream: av.AudioStream, number: int) -> None:
    """The `number`-th block of 1024 samples."""
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 16000, 1024 * number
    container.mux(stream.encode(frame))


def remux(source: Path, path: Path, first_packet: int = 0, shift_frames: int = 0, **muxer_options: str) -> Path:
    """Copy the packets from `first_packet` on into another file, their time stamps moved."""
    with av.open(str(source)) as container, av.open(str(path), "w", options=muxer_options) as output:
        stream = container.streams.video[0]
        copied = output.add_stream_from_template(stream)
        shift = round(shift_frames / (stream.average_rate * stream.time_base))
        packets = [packet for packet in container.demux(stream) if packet.size]
        for packet in packets[first_packet:]:
            packet.pts += shift
            packet.dts += shift
            packet.stream = copied
            output.mux(packet)
    return path


def add_cover(source: Path, path: Path) -> Path:
    """The same video behind a still picture, as music files and downloads carry it."""
    with av.open(str(source)) as container, av.open(str(path), "w") as output:
        cover = output.add_stream("mjpeg", options={})
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        copied = output.add_stream_from_template(container.streams.video[0])
        picture = av.VideoFrame.from_ndarray(barcode_frame(255, 640, 480), format="rgb24")
        output.mux(cover.encode(picture))
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = copied
                output.mux(packet)
    return path


def write_two_tracks(path: Path, default: int, other_size: tuple[int, int] = (96, 64)) -> Path:
    """Two video tracks: the default one shows frames 0 to 47, the other one frames 100 to 147."""
    with av.open(str(path), "w") as container:
        streams = []
        for track in range(2):
            stream = container.add_stream("libx264", rate=30, options=x264())
            stream.width, stream.height = (96, 64) if track == default else other_size
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1
            stream.disposition = av.stream.Disposition.default if track == default else av.stream.Disposition(0)
            streams.append(stream)
        for number in range(48):
            for track, stream in enumerate(streams):
                shown = number if track == default else 100 + number
                frame = av.VideoFrame.from_ndarray(barcode_frame(shown, stream.width, stream.height), format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    return path


def cut_without_encoding(source: Path, path: Path, start_frame: int) -> Path:
    """What `ffmpeg -ss START -c copy` writes: an edit list hides the frames before the start."""
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        ticks = int(1 / (stream.average_rate * stream.time_base))
        packets = [packet for packet in container.demux(stream) if packet.size]
        first = max(i for i, p in enumerate(packets) if p.is_keyframe and p.pts <= start_frame * ticks)
    return remux(source, path, first, -start_frame)


def join(parts: list[Path], path: Path) -> Path:
    """One file after the other, as a recorder leaves them."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def patch(path: Path, marker: bytes, offset: int, value: int, byte_order: str) -> Path:
    """Overwrite the 32-bit number that lies `offset` bytes behind the first `marker`."""
    data = bytearray(path.read_bytes())
    struct.pack_into(f"{byte_order}I", data, data.index(marker) + offset, value)
    path.write_bytes(data)
    return path


def end_early(path: Path, seconds: float) -> Path:
    """Let the only entry of the edit list last so long; it counts in the time scale of the movie header."""
    data = path.read_bytes()
    (time_scale,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    return patch(path, b"elst", 12, int(seconds * time_scale), ">")


def x264(**settings: object) -> dict[str, str]:
    """Encoder options that make a group of pictures regular."""
    parameters = {"keyint": 12, "min-keyint": 12, "scenecut": 0, "bframes": 2, "b-adapt": 0, **settings}
    return {"x264-params": ":".join(f"{key}={value}" for key, value in parameters.items()), "preset": "fast"}


def x265(**settings: object) -> dict[str, str]:
    """Encoder options of a quiet x265."""
    parameters = {"log-level": "none", "pools": "none", **settings}
    return {"x265-params": ":".join(f"{key}={value}" for key, value in parameters.items()), "preset": "fast"}


OPEN_GOP = {"open-gop": 1}
VARIABLE_RATE = np.cumsum(np.tile([20, 35, 60, 33], 12)).tolist()
VP_FAST = {"g": "12", "cpu-used": "8"}

ODD_VIDEOS: dict[str, Callable[[Path], Path]] = {
    # codecs and groups of pictures
    "closed_gop": lambda folder: write_video(folder / "closed.mp4", options=x264()),
    "long_gop": lambda folder: write_video(folder / "long.mp4", options=x264(keyint=250, bframes=3), num_frames=200),
    "no_b_frames": lambda folder: write_video(folder / "no_b.mp4", options=x264(bframes=0)),
    "b_pyramid": lambda folder: write_video(folder / "pyramid.mp4", options=x264(keyint=24, bframes=7)),
    "open_gop": lambda folder: write_video(folder / "open.mp4", options=x264(**OPEN_GOP)),
    "interlaced": lambda folder: write_video(folder / "interlaced.mp4", options=x264(tff=1)),
    "hevc": lambda folder: write_video(folder / "hevc.mp4", "libx265", x265(keyint=12, **OPEN_GOP)),
    "hevc_default": lambda folder: write_video(folder / "hevc_default.mp4", "libx265", x265(), num_frames=255),
    "hevc_closed": lambda folder: write_video(
        folder / "hevc_closed.mp4", "libx265", x265(keyint=12, **{"open-gop": 0})
    ),
    "hevc_ten_bits": lambda folder: write_video(
        folder / "hevc_ten.mp4", "libx265", x265(keyint=12), pixel_format="yuv420p10le"
    ),
    "hevc_ts": lambda folder: write_video(folder / "hevc.ts", "libx265", x265(keyint=12)),
    "vp8": lambda folder: write_video(folder / "vp8.webm", "libvpx", VP_FAST),
    "vp9": lambda folder: write_video(folder / "vp9.webm", "libvpx-vp9", VP_FAST),
    "vp9_hidden_frames": lambda folder: write_video(
        folder / "vp9_hidden.webm",
        "libvpx-vp9",
        {"g": "24", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "4"},
    ),
    "av1": lambda folder: write_video(folder / "av1.mp4", "libsvtav1", AV1),
    "av1_matroska": lambda folder: write_video(folder / "av1.mkv", "libsvtav1", AV1),
    "mjpeg": lambda folder: write_video(folder / "mjpeg.avi", "mjpeg", pixel_format="yuvj420p"),
    "mjpeg_mov": lambda folder: write_video(folder / "mjpeg.mov", "mjpeg", pixel_format="yuvj420p"),
    "prores": lambda folder: write_video(folder / "prores.mov", "prores", pixel_format="yuv422p10le"),
    # containers
    "matroska": lambda folder: write_video(folder / "closed.mkv", options=x264()),
    "matroska_live": lambda folder: write_video(folder / "live.mkv", options=x264(), muxer_options={"live": "1"}),
    "matroska_starts_late": lambda folder: remux(odd(folder, "closed_gop"), folder / "late.mkv", shift_frames=150),
    "mpeg4_avi": lambda folder: write_video(folder / "mpeg4.avi", "mpeg4", {"bf": "2", "g": "12"}),
    "mpeg4_avi_no_b": lambda folder: write_video(folder / "mpeg4_no_b.avi", "mpeg4", {"g": "12"}),
    "mpeg4_mp4": lambda folder: write_video(folder / "mpeg4.mp4", "mpeg4", {"bf": "2", "g": "12"}),
    "h264_avi": lambda folder: write_video(folder / "h264.avi", options=x264()),
    "mpeg_ts": lambda folder: write_video(folder / "stream.ts", options=x264()),
    "mpeg_ts_wraps": lambda folder: remux(
        odd(folder, "mpeg_ts"), folder / "wraps.ts", shift_frames=2**33 // 3000 - 25, avoid_negative_ts="disabled"
    ),
    "mpeg2_ts": lambda folder: write_video(folder / "mpeg2.ts", "mpeg2video", {"bf": "2", "g": "12"}),
    "mpeg2_ps": lambda folder: write_video(folder / "mpeg2.mpg", "mpeg2video", {"bf": "2", "g": "12"}),
    "mpeg1_ps": lambda folder: write_video(folder / "mpeg1.mpg", "mpeg1video", {"g": "12"}),
    "mpeg_ts_open_gop": lambda folder: write_video(folder / "open.ts", options=x264(**OPEN_GOP)),
    "mpeg_ts_joined": lambda folder: join([odd(folder, "mpeg_ts")] * 2, folder / "joined.ts"),
    "intra_refresh_ts": lambda folder: write_video(folder / "refresh.ts", options=x264(**{"intra-refresh": 1})),
    "flv": lambda folder: write_video(folder / "stream.flv", options=x264(keyint=2)),
    "wmv": lambda folder: write_video(folder / "stream.wmv", "wmv2", {"g": "12"}),
    "h263_3gp": lambda folder: write_video(folder / "phone.3gp", "h263", {"g": "12"}, size=(176, 144)),
    "elementary_stream": lambda folder: write_video(folder / "raw.h264", options=x264()),
    "with_cover": lambda folder: add_cover(odd(folder, "closed_gop"), folder / "cover.mp4"),
    "two_tracks": lambda folder: write_two_tracks(folder / "two.mp4", default=0),
    "two_tracks_second": lambda folder: write_two_tracks(folder / "second.mp4", default=1),
    "two_tracks_two_sizes": lambda folder: write_two_tracks(folder / "sizes.mp4", default=0, other_size=(160, 128)),
    "two_tracks_matroska": lambda folder: write_two_tracks(folder / "two.mkv", default=0),
    "with_sound": lambda folder: write_video(folder / "sound.mp4", options=x264(), sound=True),
    "fragmented": lambda folder: write_video(
        folder / "fragments.mp4",
        options=x264(),
        muxer_options={"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    ),
    "index_first": lambda folder: write_video(
        folder / "faststart.mp4", options=x264(), muxer_options={"movflags": "faststart"}
    ),
    # time
    "variable_rate": lambda folder: write_video(folder / "vfr.mp4", options=x264(), pts=VARIABLE_RATE),
    "variable_rate_matroska": lambda folder: write_video(folder / "vfr.mkv", options=x264(), pts=VARIABLE_RATE),
    "ntsc_rate": lambda folder: write_video(folder / "ntsc.mp4", options=x264(), fps=Fraction(30000, 1001)),
    "edit_list": lambda folder: cut_without_encoding(
        write_video(folder / "whole.mp4", options=x264(keyint=40)), folder / "cut.mp4", 7
    ),
    "edit_list_reordered": lambda folder: cut_without_encoding(odd(folder, "closed_gop"), folder / "cut_12.mp4", 17),
    "edit_list_hevc": lambda folder: cut_without_encoding(odd(folder, "hevc"), folder / "cut_hevc.mp4", 17),
    "edit_list_starts_late": lambda folder: remux(odd(folder, "closed_gop"), folder / "late.mp4", shift_frames=15),
    "edit_list_ends_early": lambda folder: end_early(remux(odd(folder, "closed_gop"), folder / "short.mp4"), 31 / 30),
    "starts_between_keys": lambda folder: remux(odd(folder, "closed_gop"), folder / "between.mp4", first_packet=5),
    "starts_between_keys_matroska": lambda folder: remux(
        odd(folder, "closed_gop"), folder / "between.mkv", first_packet=5
    ),
    "starts_between_keys_ts": lambda folder: remux(odd(folder, "mpeg_ts"), folder / "between.ts", first_packet=5),
    "starts_between_keys_hevc": lambda folder: remux(odd(folder, "hevc"), folder / "between_hevc.mp4", first_packet=5),
    "starts_at_open_key": lambda folder: remux(odd(folder, "hevc"), folder / "open_key.mp4", first_packet=11),
    "header_counts_more": lambda folder: patch(
        write_video(folder / "more.avi", "mpeg4", {"g": "12"}), b"strh", 40, 4800, "<"
    ),
    "header_counts_fewer": lambda folder: patch(
        write_video(folder / "fewer.avi", "mpeg4", {"g": "12"}), b"strh", 40, 5, "<"
    ),
    # pictures
    "one_frame": lambda folder: write_video(folder / "one.mp4", options=x264(), num_frames=1),
    "one_frame_matroska": lambda folder: write_video(folder / "one.mkv", options=x264(), num_frames=1),
    "odd_size": lambda folder: write_video(folder / "odd.mp4", options=x264(), size=(91, 63), pixel_format="yuv444p"),
    "odd_size_subsampled": lambda folder: write_video(folder / "odd.webm", "libvpx-vp9", VP_FAST, size=(91, 63)),
    "rotated": lambda folder: write_video(folder / "rotated.mp4", options=x264(), rotation=90),
    "rotated_180": lambda folder: write_video(folder / "rotated_180.mp4", options=x264(), rotation=180),
    "rotated_270": lambda folder: write_video(folder / "rotated_270.mp4", options=x264(), rotation=270),
    "ten_bits": lambda folder: write_video(folder / "ten.mp4", options=x264(), pixel_format="yuv420p10le"),
    "full_chroma": lambda folder: write_video(folder / "444.mp4", options=x264(), pixel_format="yuv444p"),
    "half_chroma": lambda folder: write_video(folder / "422.mp4", options=x264(), pixel_format="yuv422p"),
    "bt709": lambda folder: write_video(folder / "bt709.mp4", options=x264(colormatrix="bt709", colorprim="bt709")),
    "grey": lambda folder: write_video(folder / "grey.mp4", options=x264(), pixel_format="gray"),
    "rgb": lambda folder: write_video(folder / "rgb.mp4", "libx264rgb", x264(), pixel_format="rgb24"),
    "full_range": lambda folder: write_video(folder / "full_range.mp4", options=x264(), pixel_format="yuvj420p"),
}
AV1 = {"preset": "12", "g": "12", "svtav1-params": "lp=1"}


def odd(folder: Path, name: str) -> Path:
    """A video of `ODD_VIDEOS`, encoded once a folder."""
    kept = folder / name
    if not kept.exists():
        kept.symlink_to(ODD_VIDEOS[name](folder))
    return kept.resolve()


@pytest.fixture(scope="session")
def odd_videos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A video of `ODD_VIDEOS` by name, encoded once."""
    folder = tmp_path_factory.mktemp("odd_videos")
    return lambda name: odd(folder, name)


@pytest.fixture(scope="session")
def barcode_video(odd_videos: Callable[[str], Path]) -> Path:
    """48 frames of 96x64 at 30 fps, H.264 with closed groups of 12 pictures."""
    return odd_videos("closed_gop")


@pytest.fixture
def listed(tmp_path: Path, barcode_video: Path) -> Callable[..., str]:
    """Writes an annotation file of videos with the given labels."""

    def write(*labels: object, name: str = "list.txt") -> str:
        for i in range(len(labels)):
            if not (tmp_path / f"{i}.mp4").exists():
                (tmp_path / f"{i}.mp4").symlink_to(barcode_video)
        (tmp_path / name).write_text("".join(f"{i}.mp4 {label}\n" for i, label in enumerate(labels)))
        return str(tmp_path / name)

    return write


@pytest.fixture(scope="session")
def barcodes() -> Callable[[torch.Tensor], list[int]]:
    """The numbers that frames `(T, H, W, 3)` carry."""
    return lambda frames: read_barcodes(frames.numpy()) if len(frames) else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that ask for `odd_name` run once for each of `ODD_VIDEOS`."""
    if "odd_name" in metafunc.fixturenames:
        metafunc.parametrize("odd_name", ODD_VIDEOS)
