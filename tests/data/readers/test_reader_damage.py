"""Damage is told, strict readers refuse it, and no call of a library goes on for ever."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from mvit_video.data.readers import Backend, libraries, open_video, stream
from mvit_video.data.readers import reader as reader_module
from mvit_video.data.readers.source import Source
from mvit_video.types import VideoDecodeError
from tests.fixtures.data import Barcodes, OddVideos

BACKENDS: list[Backend] = ["decord", "pyav"]


def flip_frame(path: Path, into: Path, number: int) -> Path:
    """The video with some bytes replaced in the data of its `number`-th packet."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
    data = bytearray(path.read_bytes())
    place = packet.pos + packet.size // 2
    data[place : place + 20] = np.random.default_rng(3).bytes(20)
    into.write_bytes(data)
    return into


@pytest.fixture
def damaged(tmp_path: Path, odd_videos: OddVideos) -> Path:
    """48 frames in groups of 12, of which the key frame of the third group is damaged; the codec conceals it."""
    return flip_frame(odd_videos("no_b_frames"), tmp_path / "damaged.mp4", 24)


@pytest.mark.parametrize("backend", BACKENDS)
def test_damage_is_told_of_what_was_read(backend: Backend, damaged: Path, barcodes: Barcodes) -> None:
    with open_video(damaged, backend) as reader:
        assert barcodes(reader.get_frames([2, 23, 40])) == [2, 23, 40]
        assert not reader.damaged
        assert reader.get_frames([26, 3]).shape == (2, 64, 96, 3)
        assert reader.damaged
        assert barcodes(reader.get_frames([47])) == [47]
        assert reader.damaged


def test_strict_names_the_frame(damaged: Path, barcodes: Barcodes) -> None:
    for backend in BACKENDS:
        with open_video(damaged, backend, strict=True) as reader:
            assert reader.backend == "pyav"
            assert barcodes(reader.get_frames([2, 40])) == [2, 40]
            with pytest.raises(VideoDecodeError, match=r"damaged\.mp4: the data of frame 26 or of an earlier one are"):
                reader.get_frames([3, 26, 27])
            assert barcodes(reader.get_frames([5])) == [5]


def test_strict_reads_sound_files(odd_videos: OddVideos) -> None:
    for name in ("open_gop", "hevc", "edit_list", "mpeg4_avi", "mpeg_ts", "variable_rate"):
        with open_video(odd_videos(name), strict=True) as reader:
            assert len(reader.get_frames(range(reader.num_frames))) == reader.num_frames


def test_counted_frames_that_are_damaged(tmp_path: Path, odd_videos: OddVideos) -> None:
    pytest.importorskip("decord")
    path = flip_frame(odd_videos("mpeg4_avi"), tmp_path / "damaged.avi", 13)
    with open_video(path) as reader:
        assert reader.get_frames([0, 30]).shape == (2, 64, 96, 3)
        assert reader.damaged
    with pytest.raises(VideoDecodeError, match="cannot be identified by time stamps"):
        open_video(path, strict=True)


def test_a_pipe_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoDecodeError, match="is a pipe, a socket or a device"):
        open_video(tmp_path / "pipe.mp4")
    with pytest.raises(VideoDecodeError, match="is a pipe, a socket or a device"):
        open_video("/dev/null")


def test_a_truncated_video_with_an_index_says_how_much_is_missing(tmp_path: Path, odd_videos: OddVideos) -> None:
    data = odd_videos("index_first").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoDecodeError, match=rf"is truncated: .* 48 frames, the file has {len(data) // 2} bytes"):
        open_video(path)


def test_frames_too_large_are_refused_by_their_size(barcode_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_EDGE", 90)
    with pytest.raises(VideoDecodeError, match="declares frames of 96x64 pixels, more than 90x90"):
        open_video(barcode_video)


def test_more_frames_than_memory_holds(barcode_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with open_video(barcode_video, "pyav") as reader:
        monkeypatch.setattr(torch, "empty", refuse)
        with pytest.raises(VideoDecodeError, match="2 frames of 96x64 pixels do not fit into memory"):
            reader.get_frames([0, 1])


class _Endless:
    """A container whose demuxer goes round in circles."""

    def __init__(self, container: Any) -> None:
        self.container = container

    def demux(self, of: object) -> Iterator[Any]:
        (packet, *_) = self.container.demux(of)
        while True:
            yield packet

    def __getattr__(self, name: str) -> Any:
        return getattr(self.container, name)


def test_packets_without_end(barcode_video: Path) -> None:
    with stream.OpenStream(Source(str(barcode_video))) as opened:
        opened.container = _Endless(opened.container)  # type: ignore[assignment]
        with pytest.raises(VideoDecodeError, match="its packets repeat without end"):
            list(opened.packets())


def test_packets_without_frames(barcode_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_STALL_SECONDS", 0.0)
    monkeypatch.setattr(stream.OpenStream, "decode", lambda self, packet: [])
    stalled = pytest.raises(VideoDecodeError, match="no frame came within 0 s of decoding")
    with stream.OpenStream(Source(str(barcode_video))) as opened, stalled:
        list(opened.frames(opened.packets()))


def hang(*_: object) -> torch.Tensor:
    time.sleep(30)
    raise AssertionError("woke up")


@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
def test_a_library_that_does_not_return_is_left_behind(
    backend: Backend,
    barcode_video: Path,
    barcodes: Barcodes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if backend == "decord":
        pytest.importorskip("decord")
    monkeypatch.setattr(reader_module, "require_torchcodec", lambda: None)
    monkeypatch.setattr(libraries, f"_read_with_{backend}", hang)
    monkeypatch.setattr(libraries, "_BASE_SECONDS", 0.2)
    monkeypatch.setattr(libraries, "_IDLE_SECONDS", 0.2)
    with open_video(barcode_video, backend) as reader:
        with pytest.warns(UserWarning, match=f"{backend} did not return within 0 s of CPU time and is left running"):
            assert barcodes(reader.get_frames([7, 1])) == [7, 1]
        assert (reader.backend, reader.backend_reason) == ("pyav", f"{backend} did not return within 0 s of CPU time")
        assert barcodes(reader.get_frames([9])) == [9]
        assert not reader.damaged


def test_a_library_that_fails_hands_over(
    barcode_video: Path, barcodes: Barcodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    decord = pytest.importorskip("decord")

    def fail(*_: object, **__: object) -> None:
        raise decord.DECORDError("no such thing")

    monkeypatch.setattr(decord, "VideoReader", fail)
    with open_video(barcode_video) as reader:
        assert barcodes(reader.get_frames([7, 1])) == [7, 1]
        assert (reader.backend, reader.backend_reason) == ("pyav", "decord failed on it")


def test_the_limit_grows_with_the_work() -> None:
    assert libraries.decoding_limit(100, 256, 340, 10**6) < 8
    assert libraries.decoding_limit(10_000, 1080, 1920, 10**6) > 1000


def test_the_limit_leaves_time_to_read_a_large_file() -> None:
    clip_of_a_film = libraries.decoding_limit(16, 256, 340, 4 * 10**9)
    assert clip_of_a_film == pytest.approx(libraries.decoding_limit(16, 256, 340, 0) + 200)


def test_a_reader_counts_the_size_of_its_file(
    barcode_video: Path, barcodes: Barcodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("decord")
    limits: list[float] = []

    def call(call: Callable[[], torch.Tensor], library: str, seconds: float) -> torch.Tensor:
        limits.append(seconds)
        return call()

    monkeypatch.setattr(libraries, "call_with_limit", call)
    with open_video(barcode_video) as reader:
        assert barcodes(reader.get_frames([7, 1])) == [7, 1]
    assert limits == [libraries.decoding_limit(8, 64, 96, barcode_video.stat().st_size)]


def test_errors_cross_the_watchdog() -> None:
    def fail() -> None:
        raise KeyError("as it was")

    assert libraries.call_with_limit(lambda: 3, "it", 5) == 3
    with pytest.raises(KeyError, match="as it was"):
        libraries.call_with_limit(fail, "it", 5)
