import io
import multiprocessing as mp
import os
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mvit_video.data import VideoReader, open_video
from mvit_video.data.clips.trimming import trim
from mvit_video.data.readers import Backend, packet_index
from mvit_video.data.readers import reader as reader_module
from mvit_video.data.readers.image import ImageReader
from mvit_video.data.readers.source import Source
from mvit_video.types import ConfigError, VideoDecodeError
from tests.fixtures.data import Barcodes, OddVideos

BACKENDS: list[Backend] = ["decord", "pyav"]
# the same for every file, since runs count videos by the text
EDITED = "an edit list discards some of its frames"
# why neither decord nor torchcodec, or decord alone, is trusted with a file; None: both are
REFUSALS: dict[str, tuple[str | None, str | None]] = {
    "closed_gop": (None, None),
    "no_b_frames": (None, None),
    "matroska": (None, None),
    "vp9": (None, None),
    "variable_rate": (None, None),
    "odd_size": (None, None),
    "one_frame": (None, None),
    "rotated": (None, None),
    "open_gop": ("open GOP", None),
    "hevc": ("open GOP", None),
    "av1": ("codec is av1", None),
    "mpeg4_avi": ("container is avi", "container is avi"),
    "mpeg_ts": ("container is mpegts", "container is mpegts"),
    "flv": ("container is flv", "container is flv"),
    "edit_list": (EDITED, EDITED),
    "edit_list_reordered": (EDITED, EDITED),
    "ten_bits": ("more than 8 bits", "more than 8 bits"),
    "interlaced": ("interlaced", "interlaced"),
    "odd_size_subsampled": ("size is odd", "size is odd"),
    "two_tracks": ("it has 2 video streams", "it has 2 video streams"),
    "two_tracks_matroska": ("it has 2 video streams", "it has 2 video streams"),
    "with_cover": ("it has 2 video streams", "it has 2 video streams"),
}


def decode_sequentially(path: Path) -> torch.Tensor:
    with av.open(str(path)) as container:
        frames = [np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90) for f in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames))


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system has no such policies")
@pytest.mark.parametrize("name", ["av1", "av1_matroska", "hevc", "closed_gop"])
def test_videos_for_tests_leave_the_scheduling_as_it_was(name: str, odd_videos: OddVideos) -> None:
    assert odd_videos(name).stat().st_size
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("hidden", [[1], [1, 3]])
def test_hidden_pictures_are_refused_in_one_text(hidden: list[int]) -> None:
    numbers, none = np.arange(5), np.zeros(5, dtype=bool)
    packets = packet_index._Packets(numbers, numbers == 0, ~np.isin(numbers, hidden), none, numbers + 9, numbers + 1)
    assert packet_index._refusal(packets) == "some of its frames are not shown"


@pytest.mark.parametrize("name", REFUSALS)
def test_why_a_file_is_left_to_pyav(name: str, odd_videos: OddVideos, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord")
    monkeypatch.setattr(reader_module, "require_torchcodec", lambda: None)
    backends: tuple[Backend, Backend] = ("decord", "torchcodec")
    for backend, refusal in zip(backends, REFUSALS[name], strict=True):
        with open_video(odd_videos(name), backend) as reader:
            assert isinstance(reader, VideoReader)
            assert reader.backend == ("pyav" if refusal else backend)
            assert (f"not {backend}: " if refusal else "as asked") in reader.backend_reason
            assert (refusal or "") in reader.backend_reason


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["two_tracks", "two_tracks_second", "two_tracks_two_sizes", "two_tracks_matroska"])
def test_of_two_tracks_every_backend_reads_the_best(
    name: str, backend: Backend, odd_videos: OddVideos, barcodes: Barcodes
) -> None:
    with open_video(odd_videos(name), backend) as reader:
        assert (reader.height, reader.width) == (64, 96)
        assert barcodes(reader.get_frames([0, 30, 47])) == [0, 30, 47]


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [("closed_gop", "h264", "mov"), ("vp9", "vp9", "matroska"), ("hevc", "hevc", "mov"), ("mpeg4_avi", "mpeg4", "avi")],
)
def test_what_a_file_is(name: str, codec: str, container: str, odd_videos: OddVideos) -> None:
    with open_video(odd_videos(name)) as reader:
        assert (reader.codec, reader.container) == (codec, container)


def test_durations(odd_videos: OddVideos) -> None:
    """To the end of the last frame, also where the rate varies, where frames are counted, and after a cut."""
    expected = {"closed_gop": 1.6, "mpeg4_avi": 1.6, "edit_list": 41 / 30, "one_frame": 1 / 30, "variable_rate": 1.776}
    for name, seconds in expected.items():
        with open_video(odd_videos(name)) as reader:
            assert reader.duration_seconds == pytest.approx(seconds, abs=0.03), name
            assert reader.timestamps[-1] < reader.duration_seconds


@pytest.mark.parametrize("backend", BACKENDS)
def test_short_side(backend: Backend, odd_videos: OddVideos) -> None:
    if backend == "decord":
        pytest.importorskip("decord")
    for name, whole, small in [("closed_gop", (64, 96), (40, 60)), ("rotated", (96, 64), (60, 40))]:
        for short_side, size in [(40, small), (64, whole), (500, whole), (None, whole)]:
            with open_video(odd_videos(name), backend, short_side=short_side) as reader:
                assert (reader.height, reader.width) == size
                assert reader.get_frames([3, 1]).shape == (2, *size, 3)
                assert reader.get_frames([]).shape == (0, *size, 3)
                assert reader.backend == backend, reader.backend_reason


@pytest.mark.parametrize("short_side", [0, -1, 127.5, "256"])
def test_a_short_side_that_is_no_whole_number_is_refused(barcode_video: Path, short_side: Any) -> None:
    with pytest.raises(ConfigError, match=f"short_side must be a whole number of at least 1, got {short_side!r}"):
        open_video(barcode_video, short_side=short_side)


def test_without_torchcodec_the_extra_is_named(barcode_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(ConfigError, match=r"mvit-video\[torchcodec\].*import of torchcodec halted"):
        open_video(barcode_video, "torchcodec")


def read_in_child(reader: VideoReader, queue: mp.SimpleQueue) -> None:
    queue.put(reader.get_frames([30, 2]).numpy())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reader_that_is_open_when_the_process_forks(
    backend: Backend, barcode_video: Path, barcodes: Barcodes
) -> None:
    context = mp.get_context("fork")
    queue = context.SimpleQueue()
    with open_video(barcode_video, backend) as reader:
        assert barcodes(reader.get_frames([5])) == [5]
        child = context.Process(target=read_in_child, args=(reader, queue))
        child.start()
        frames = queue.get()
        child.join()
        assert barcodes(torch.from_numpy(frames)) == [30, 2]
        assert barcodes(reader.get_frames([47, 0])) == [47, 0]


def open_files() -> list[str]:
    links = Path("/proc/self/fd").iterdir()
    return [os.readlink(link) for link in links if link.is_symlink()]


@pytest.mark.parametrize("backend", BACKENDS)
def test_hundreds_of_openings_leave_nothing_behind(backend: Backend, barcode_video: Path) -> None:
    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    for i in range(400):
        if i == 100:
            before, threads = resident(), threading.active_count()
        reader = open_video(barcode_video, backend)
        reader.get_frames([0, 13])
        if i % 2:  # what nobody closes goes with its reader
            reader.close()
        del reader
    assert resident() - before < 10 * 2**20
    assert threading.active_count() <= threads
    assert str(barcode_video) not in open_files()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(indices=st.lists(st.integers(0, 47), max_size=12), backend=st.sampled_from(BACKENDS))
def test_any_order_and_repetition(
    barcode_video: Path, barcodes: Barcodes, indices: list[int], backend: Backend
) -> None:
    with open_video(barcode_video, backend) as reader:
        frames = reader.get_frames(indices)
        assert frames.shape == (len(indices), 64, 96, 3)
        assert barcodes(frames) == indices


def test_variable_rate_tells_the_mean_rate(odd_videos: OddVideos) -> None:
    with open_video(odd_videos("variable_rate")) as reader:
        assert reader.fps == pytest.approx(1000 / 37, rel=0.02)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bytes_and_files(barcode_video: Path, backend: Backend) -> None:
    data = barcode_video.read_bytes()
    expected = decode_sequentially(barcode_video)[[5, 3]]
    with barcode_video.open("rb") as file:
        sources = [str(barcode_video), data, bytearray(data), memoryview(data), io.BytesIO(data), file]
        for source in sources:
            with open_video(source, backend) as reader:
                assert torch.equal(reader.get_frames(np.array([5, 3])), expected)


def test_what_is_no_source_is_named(barcode_video: Path) -> None:
    with barcode_video.open() as text:
        for source, name in [(None, "NoneType"), (3, "int"), (text, "TextIOWrapper"), (io.StringIO("a"), "StringIO")]:
            with pytest.raises(TypeError, match=rf"a path, bytes or .* binary mode, got .* type {name}$"):
                open_video(source)  # type: ignore[arg-type]


def test_what_lies_in_memory_is_left_to_pyav(barcode_video: Path) -> None:
    data = barcode_video.read_bytes()
    for source in (data, io.BytesIO(data)):
        with open_video(source, "decord") as reader:
            assert reader.backend == "pyav"
            assert "in memory" in reader.backend_reason


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_index_out_of_range_is_named(barcode_video: Path, backend: Backend) -> None:
    with open_video(barcode_video, backend) as reader:
        with pytest.raises(VideoDecodeError, match="frame 48 is out of range, it has 48 frames"):
            reader.get_frames([3, 48])
        with pytest.raises(VideoDecodeError, match="frame -1 is out of range"):
            reader.get_frames([-1])
        with pytest.raises(TypeError, match="float64"):
            reader.get_frames([0.5])  # type: ignore[list-item]


def test_readers_stay_in_their_process(barcode_video: Path) -> None:
    with open_video(barcode_video) as reader, pytest.raises(TypeError, match="pass the path"):
        pickle.dumps(reader)


def test_a_closed_reader_says_so(barcode_video: Path) -> None:
    reader = open_video(barcode_video)
    reader.close()
    with pytest.raises(VideoDecodeError, match="closed"):
        reader.get_frames([0])


def test_damage_is_told_after_closing_only_where_it_is_known(barcode_video: Path) -> None:
    pytest.importorskip("decord")
    known, asked, unknown = (open_video(barcode_video, backend) for backend in ("pyav", "decord", "decord"))
    for reader in (known, asked, unknown):
        reader.get_frames([3])
    assert not asked.damaged
    for reader in (known, asked, unknown):
        reader.close()
    assert not known.damaged
    assert not asked.damaged
    for _ in range(2):
        with pytest.raises(VideoDecodeError, match="the reader is closed"):
            _ = unknown.damaged
    assert str(barcode_video) not in open_files()


def test_an_unknown_backend_is_refused(barcode_video: Path) -> None:
    with pytest.raises(ConfigError, match="opencv"):
        open_video(barcode_video, "opencv")  # type: ignore[arg-type]


def test_without_decord_pyav_decodes(barcode_video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)
    with open_video(barcode_video, "decord") as reader:
        assert reader.backend == "pyav"
        assert "cannot be imported" in reader.backend_reason
        assert len(reader.get_frames([0, 1])) == 2


def test_decord_returning_torch_tensors_makes_no_difference(barcode_video: Path) -> None:
    decord = pytest.importorskip("decord")
    with open_video(barcode_video) as reader:
        expected = reader.get_frames([4, 2])
        decord.bridge.set_bridge("torch")
        try:
            assert torch.equal(reader.get_frames([4, 2]), expected)
        finally:
            decord.bridge.reset_bridge()


def test_fields_in_packets_of_their_own_are_counted(odd_videos: OddVideos, monkeypatch: pytest.MonkeyPatch) -> None:
    """No encoder at hand writes such files, so a file whose first packets give no frame stands for them."""
    pytest.importorskip("decord")
    assert packet_index._pairs_packets(Source(str(odd_videos("starts_between_keys"))))
    assert not packet_index._pairs_packets(Source(str(odd_videos("interlaced"))))
    path = odd_videos("interlaced")
    monkeypatch.setattr(packet_index, "_pairs_packets", lambda source: True)
    with open_video(path) as reader:
        assert "time stamps do not give the order" in reader.backend_reason
        assert torch.equal(reader.get_frames([40, 7]), decode_sequentially(path)[[40, 7]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reader_is_a_sequence_of_frames(barcode_video: Path, barcodes: Barcodes, backend: Backend) -> None:
    with open_video(barcode_video, backend) as reader:
        assert len(reader) == reader.num_frames == 48
        assert reader[5].shape == (64, 96, 3)
        assert reader[5].dtype == torch.uint8
        assert barcodes(torch.stack([reader[5], reader[-1], reader[np.int64(-48)]])) == [5, 47, 0]
        numbers = list(range(48))
        for part in (slice(0, 64, 4), slice(None, None, -7), slice(-3, None), slice(40, 3, -11), slice(9, 9)):
            assert barcodes(reader[part]) == numbers[part]
        assert reader[9:9].shape == (0, 64, 96, 3)
        assert barcodes(torch.stack(list(reader))) == numbers
        for index in (48, -49):
            with pytest.raises(IndexError, match=rf"frame {index} is out of range, the video has 48 frames"):
                reader[index]
        with pytest.raises(TypeError, match=r"an integer or a slice, got \[1, 2\]; .*get_frames"):
            reader[[1, 2]]  # type: ignore[index]


def test_a_segment_and_an_image_are_sequences_of_frames(
    barcode_video: Path, barcodes: Barcodes, tmp_path: Path
) -> None:
    with open_video(barcode_video) as whole:
        segment = trim(whole, 0.4, 1.0, barcode_video)
        assert (len(segment), barcodes(segment[-1:0:-8])) == (18, [29, 21, 13])
    Image.new("RGB", (4, 3), "red").save(tmp_path / "red.png")
    image = ImageReader(tmp_path / "red.png")
    assert (len(image), image[0].shape, image[:5].shape) == (1, (3, 4, 3), (1, 3, 4, 3))
