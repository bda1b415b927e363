"""Inputs that are no sound video, and a process to try them in."""

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

OddVideos = Callable[[str], Path]
Answer = dict[str, Any]
IDLE_SECONDS = 60  # a process that takes no CPU time for so long waits for nothing that comes


def cpu_seconds(group: int) -> float:
    """CPU time of the processes of a group and of their ended children."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = file.read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15])) if int(fields[2]) == group else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def communicate(child: subprocess.Popen[str], request: str, limit: float) -> tuple[str, str, str]:
    """Ask a process, and kill its group when it spins or hangs, however busy the machine is.

    Args:
        limit: CPU seconds that it may take.

    Returns: why it was killed, or nothing; its output and errors.
    """
    used = [0.0]
    while True:
        try:
            return "", *child.communicate(request, timeout=IDLE_SECONDS)
        except subprocess.TimeoutExpired:
            used.append(cpu_seconds(child.pid))
        if used[-1] > limit or used[-1] - used[-2] < 0.1:
            os.killpg(child.pid, signal.SIGKILL)
            return f"no answer, {used[-1]:.1f} s of CPU time", *child.communicate()


@pytest.fixture(scope="session")
def run_attempts() -> Callable[..., list[Answer]]:
    """Runs `attempts.py` on jobs; each one that killed the process or never came back is answered with "died"."""

    def run(jobs: list[dict[str, Any]], mode: str = "main", seconds: float = 20) -> list[Answer]:
        answers: list[Answer] = []
        while len(answers) < len(jobs):
            todo = jobs[len(answers) :]
            request = json.dumps({"mode": mode, "jobs": todo})
            command = [sys.executable, str(Path(__file__).with_name("attempts.py"))]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            with subprocess.Popen(
                command, stdin=-1, stdout=-1, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
            ) as child:
                hung, out, err = communicate(child, request, 30 + 0.2 * len(todo) + seconds)
                err += f"\n{hung}" if hung else ""
            lines = out.splitlines()
            answers += [json.loads(line) for line in lines]
            if len(lines) < len(todo):
                answers.append({**todo[len(lines)], "died": f"exit {child.returncode}: {err[-300:]}"})
        return answers

    return run


def replace(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def span(data: bytes, atom: bytes) -> slice:
    """Where the contents of an MP4 atom lie."""
    start = data.index(atom) + 4
    return slice(start, start + int.from_bytes(data[start - 8 : start - 4], "big") - 8)


def flip(data: bytes, where: slice, share: float, seed: int = 0) -> bytes:
    """Bytes at random places replaced by random ones."""
    rng = np.random.default_rng(seed)
    array = np.frombuffer(data, dtype=np.uint8).copy()
    places = rng.integers(where.start, where.stop, max(1, round(share * (where.stop - where.start))))
    array[places] ^= rng.integers(1, 256, len(places)).astype(np.uint8)
    return array.tobytes()


def with_number(data: bytes, marker: bytes, offset: int, form: str, value: int) -> bytes:
    """`value` written `offset` bytes behind the first `marker`."""
    array = bytearray(data)
    struct.pack_into(form, array, data.index(marker) + offset, value)
    return bytes(array)


def write_sound(path: Path, cover: bool = False) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        if cover:
            still = container.add_stream("mjpeg", options={})
            still.width, still.height, still.pix_fmt = 64, 64, "yuvj420p"
            still.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if cover:
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 99, dtype=np.uint8), format="rgb24")
            container.mux(still.encode(picture))
    return path


def write_still(path: Path, codec: str, pixel_format: str) -> Path:
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt, context.framerate = 64, 48, pixel_format, 25
    picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 99, dtype=np.uint8), format="rgb24")
    packets = context.encode(picture.reformat(format=pixel_format)) + context.encode()
    return replace(path, b"".join(bytes(packet) for packet in packets))


def write_zip(path: Path, member: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(member, member.name)
    return path


def playlist(path: Path, other: Path, text: str) -> Path:
    """A text that names another video, which lies beside it."""
    (path.parent / "other.mp4").write_bytes(other.read_bytes())
    path.write_text(text.format("other.mp4"))
    return path


M3U8 = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\n{}\n#EXT-X-ENDLIST\n"
FFCONCAT = "ffconcat version 1.0\nfile {}\n"


# name: makes the input in a folder from sound videos. Nothing can be read from any of them.
def refused(folder: Path, odd: OddVideos) -> dict[str, str | Path]:
    mp4, first = odd("closed_gop").read_bytes(), odd("index_first").read_bytes()
    mkv, avi, ts = odd("matroska").read_bytes(), odd("mpeg4_avi_no_b").read_bytes(), odd("mpeg_ts").read_bytes()
    moov = span(mp4, b"moov")
    rng = np.random.default_rng(0)
    (folder / "folder.mp4").mkdir()
    (folder / "dangling.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    os.mkfifo(folder / "fifo.mp4")
    return {
        "missing": folder / "missing.mp4",
        "missing, newline in its name": f"{folder}/two\nlines.mp4",
        "missing, name too long": f"{folder}/{'x' * 300}.mp4",
        "missing, NUL in its name": f"{folder}/a\0b.mp4",
        "empty path": "",
        "folder": folder / "folder.mp4",
        "dangling link": folder / "dangling.mp4",
        "link to itself": folder / "loop.mp4",
        "pipe": folder / "fifo.mp4",
        "device": "/dev/zero",
        "address": "http://localhost:9/video.mp4",
        "protocol of the decoder": f"concat:{odd('mpeg_ts')}|{odd('mpeg_ts')}",
        "device of the decoder": "lavfi:testsrc",
        "empty": replace(folder / "empty.mp4", b""),
        "text": replace(folder / "text.mp4", b"no video\n" * 50),
        "text, newline in its name": replace(folder / "new\nline.mp4", b"no video\n" * 50),
        "text named txt": replace(folder / "read.txt", b"no video\n" * 50),
        "bytes named bin": replace(folder / "any.bin", rng.bytes(20_000)),
        "random bytes": replace(folder / "random.mp4", rng.bytes(100_000)),
        "zeros": replace(folder / "zeros.mp4", bytes(100_000)),
        "archive": write_zip(folder / "zip.mp4", odd("closed_gop")),
        "playlist of another video": playlist(folder / "list.m3u8", odd("closed_gop"), M3U8),
        "playlist named mp4": playlist(folder / "list.mp4", odd("closed_gop"), M3U8),
        "script that names another video": playlist(folder / "script.mp4", odd("closed_gop"), FFCONCAT),
        "subtitles": replace(folder / "titles.srt", b"1\n00:00:01,000 --> 00:00:02,000\nhello\n"),
        "sound only": write_sound(folder / "sound.m4a"),
        "sound with a cover picture": write_sound(folder / "cover.mp4", cover=True),
        "jpeg": write_still(folder / "image.jpg", "mjpeg", "yuvj420p"),
        "png": write_still(folder / "image.png", "png", "rgb24"),
        "jpeg named mp4": write_still(folder / "still.mp4", "mjpeg", "yuvj420p"),
        "truncated before the index": replace(folder / "tail.mp4", mp4[:-2000]),
        "truncated to a header": replace(folder / "head.mp4", mp4[:24]),
        "truncated to the index": replace(folder / "moov.mp4", first[: first.index(b"mdat") + 4]),
        "truncated to a header, matroska": replace(folder / "head.mkv", mkv[: mkv.index(b"\x1f\x43\xb6\x75")]),
        "truncated to a header, avi": replace(folder / "head.avi", avi[: avi.index(b"movi") + 4]),
        "truncated to a packet, ts": replace(folder / "head.ts", ts[:188]),
        "index zeroed": replace(folder / "index.mp4", mp4[: moov.start] + bytes(moov.stop - moov.start)),
        "index random": replace(folder / "index2.mp4", flip(mp4, moov, 0.5)),
        "unknown codec": replace(folder / "codec.mp4", mp4.replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC")),
        "encrypted": replace(folder / "encrypted.mp4", mp4.replace(b"avc1", b"encv")),
        "decoder parameters zeroed": replace(
            folder / "params.mp4", mp4[: span(mp4, b"avcC").start] + bytes(30) + mp4[span(mp4, b"avcC").start + 30 :]
        ),
        "pictures zeroed": replace(
            folder / "zeroed.mp4",
            mp4[: span(mp4, b"mdat").start] + bytes(len(mp4[span(mp4, b"mdat")])) + mp4[moov.start - 8 :],
        ),
        "pictures random": replace(folder / "heavy.mp4", flip(mp4, span(mp4, b"mdat"), 0.9)),
        "offsets beyond the end": replace(folder / "stco.mp4", with_number(mp4, b"stco", 12, ">I", 2**31)),
        "huge count of frames": replace(folder / "stsz.mp4", with_number(mp4, b"stsz", 12, ">I", 2**31 - 1)),
        "huge first frame": replace(folder / "stsz2.mp4", with_number(mp4, b"stsz", 16, ">I", 2**31 - 1)),
        "huge pictures": replace(folder / "huge.avi", huge_pictures(odd("mjpeg").read_bytes(), 65500)),
        "large pictures that are not there": replace(
            folder / "large.avi", huge_pictures(odd("mjpeg").read_bytes(), 16000)
        ),
    }


def huge_pictures(mjpeg: bytes, size: int) -> bytes:
    """Every JPEG header claims `size` x `size` pixels."""
    return mjpeg.replace(
        b"\xff\xc0\x00\x11\x08\x00\x40\x00\x60", b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", size, size)
    )


Change = tuple[str, Callable[[bytes], bytes]]

# name: the sound video it comes from, and how. Frames may come from these: sound ones, or the damage is told
DAMAGED: dict[str, Change] = {
    "truncated behind the index": ("index_first", lambda data: data[: len(data) * 6 // 10]),
    "truncated fragments": ("fragmented", lambda data: data[: len(data) * 6 // 10]),
    "flipped lightly": ("closed_gop", lambda data: flip(data, span(data, b"mdat"), 0.005, seed=1)),
    "flipped": ("closed_gop", lambda data: flip(data, span(data, b"mdat"), 0.03, seed=2)),
    "flipped, one group of pictures": ("long_gop", lambda data: flip(data, span(data, b"mdat"), 0.003, seed=3)),
    "flipped, hevc": ("hevc", lambda data: flip(data, span(data, b"mdat"), 0.01, seed=4)),
    "flipped, av1": ("av1", lambda data: flip(data, span(data, b"mdat"), 0.02, seed=5)),
    "flipped, vp9": ("vp9", lambda data: flip(data, slice(600, len(data)), 0.01, seed=6)),
    "flipped, vp8": ("vp8", lambda data: flip(data, slice(600, len(data)), 0.01, seed=7)),
    "flipped, mpeg4": ("mpeg4_avi", lambda data: flip(data, slice(6000, len(data)), 0.005, seed=8)),
    "flipped, mpeg2 ts": ("mpeg2_ts", lambda data: flip(data, slice(0, len(data)), 0.002, seed=9)),
    "flipped, h264 ts": ("mpeg_ts", lambda data: flip(data, slice(0, len(data)), 0.002, seed=10)),
    "flipped, mjpeg": ("mjpeg", lambda data: flip(data, slice(6000, len(data)), 0.005, seed=11)),
    "hole": ("closed_gop", lambda data: data[:1500] + bytes(1000) + data[2500:]),
    "truncated, avi": ("mpeg4_avi_no_b", lambda data: data[: len(data) // 2]),
    "zero time scale": ("closed_gop", lambda data: with_number(data, b"mdhd", 16, ">I", 0)),
    "packets lost, ts": ("mpeg_ts", lambda data: data[: 188 * 30] + data[188 * 34 :]),
}
# as above; fewer frames come from these, all of them sound
SHORTENED: dict[str, Change] = {
    "truncated, matroska": ("matroska", lambda data: data[: len(data) // 2]),
    "truncated, webm": ("vp9", lambda data: data[: len(data) * 7 // 10]),
    "truncated, ts": ("mpeg_ts", lambda data: data[: len(data) // 2]),
    "truncated, ps": ("mpeg2_ps", lambda data: data[: len(data) // 2]),
}
# as above; strange, but every frame is there
WHOLE: dict[str, Change] = {
    "zero frame rate, avi": ("mpeg4_avi_no_b", lambda data: with_number(data, b"strh", 32, "<I", 0)),
    "zero duration, mp4": ("closed_gop", lambda data: with_number(data, b"mdhd", 20, ">I", 0)),
    "huge duration, mp4": ("closed_gop", lambda data: with_number(data, b"mdhd", 20, ">I", 2**32 - 2)),
    "huge display size, mp4": ("closed_gop", lambda data: with_number(data, b"tkhd", 80, ">I", 2**31)),
    "time stamps leap, fragments": (
        "fragmented",
        lambda data: data[: data.rindex(b"tfdt") + 8] + struct.pack(">Q", 2**47) + data[data.rindex(b"tfdt") + 16 :],
    ),
    "rubbish behind the end": ("closed_gop", lambda data: data + b"rubbish" * 1000),
    "rubbish before the start, ts": ("mpeg_ts", lambda data: b"rubbish" * 100 + data),
    "another suffix": ("matroska", lambda data: data),
}


@pytest.fixture(scope="session")
def bad_inputs(
    tmp_path_factory: pytest.TempPathFactory, odd_videos: OddVideos
) -> dict[str, tuple[str, str, str | None]]:
    """By name: the path, what is expected of it ("refused", "damaged", "shortened", "whole"), the sound video."""
    folder = tmp_path_factory.mktemp("bad")
    inputs: dict[str, tuple[str, str, str | None]] = {
        name: (str(path), "refused", None) for name, path in refused(folder, odd_videos).items()
    }
    for expected, table in (("damaged", DAMAGED), ("shortened", SHORTENED), ("whole", WHOLE)):
        for i, (name, (source, change)) in enumerate(table.items()):
            sound = odd_videos(source)
            suffix = ".mp4" if name == "another suffix" else sound.suffix
            path = replace(folder / f"{expected}_{i}{suffix}", change(sound.read_bytes()))
            inputs[name] = (str(path), expected, source)
    return inputs
