import io
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvit_video.data import VideoReader, open_video
from mvit_video.data.readers import Backend
from mvit_video.types import ConfigError, VideoDecodeError

BACKENDS: list[Backend] = ["decord", "pyav"]
# name: first barcode number, why decord is not trusted
VIDEOS: dict[str, tuple[int, str | None]] = {
    "closed_gop": (0, None),
    "no_b_frames": (0, None),
    "matroska": (0, None),
    "vp9": (0, None),
    "variable_rate": (0, None),
    "odd_size": (0, None),
    "one_frame": (0, None),
    "rotated": (0, None),
    "open_gop": (0, "open GOP"),
    "hevc": (0, "open GOP"),
    "mpeg4_avi": (0, "container is avi"),
    "mpeg4_avi_no_b": (0, "container is avi"),
    "mpeg_ts": (0, "container is mpegts"),
    "flv": (0, "container is flv"),
    "edit_list": (7, "edit list"),
    "edit_list_reordered": (17, "edit list"),
    "ten_bits": (0, "more than 8 bits"),
}


def decode_sequentially(path: Path) -> torch.Tensor:
    with av.open(str(path)) as container:
        frames = [np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90) for f in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames))


def some_indices(num_frames: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [
        list(range(num_frames)),
        list(range(num_frames))[::-3],
        [num_frames - 1],
        [0, 0, num_frames - 1, 0],
        *[rng.integers(0, num_frames, 6).tolist() for _ in range(8)],
    ]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", VIDEOS)
def test_every_frame_of_every_kind_of_file(
    name: str, backend: Backend, odd_videos: Callable[[str], Path], barcodes: Callable[[torch.Tensor], list[int]]
) -> None:
    path, (first, refusal) = odd_videos(name), VIDEOS[name]
    expected = decode_sequentially(path)
    with open_video(path, backend) as reader:
        assert isinstance(reader, VideoReader)
        assert (reader.num_frames, reader.height, reader.width) == expected.shape[:3]
        for indices in some_indices(reader.num_frames):
            frames = reader.get_frames(indices)
            assert frames.dtype == torch.uint8
            assert torch.equal(frames, expected[indices])
        if backend == "decord":
            assert reader.backend == ("decord" if refusal is None else "pyav")
            assert (refusal or "as asked") in reader.backend_reason
        if name != "rotated":
            assert barcodes(expected) == list(range(first, first + len(expected)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "num_frames", "fps"),
    [
        ("arm_wrestling.mp4", 280, 28),
        ("mma_test.avi", 164, 25),
        ("mma_test.mp4", 300, 30),
        ("spatiotemporal.mp4", 57, 6),
    ],
)
def test_real_videos(real_videos: Path, name: str, num_frames: int, fps: int, backend: Backend) -> None:
    expected = decode_sequentially(real_videos / name)
    with open_video(real_videos / name, backend) as reader:
        assert reader.num_frames == len(expected) == num_frames
        assert reader.fps == fps
        assert reader.duration_seconds == num_frames / fps
        for indices in some_indices(num_frames)[2:7]:
            assert torch.equal(reader.get_frames(indices), expected[indices])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(indices=st.lists(st.integers(0, 47), max_size=12), backend=st.sampled_from(BACKENDS))
def test_any_order_and_repetition(
    barcode_video: Path, barcodes: Callable, indices: list[int], backend: Backend
) -> None:
    with open_video(barcode_video, backend) as reader:
        frames = reader.get_frames(indices)
        assert frames.shape == (len(indices), 64, 96, 3)
        assert barcodes(frames) == indices


def test_variable_rate_tells_the_mean_rate(odd_videos: Callable[[str], Path]) -> None:
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
            with pytest.raises(TypeError, match=rf"a path, as its bytes or .* binary mode, got .* type {name}$"):
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


def write_audio(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("empty", "is an empty file"),
        ("text", "cannot be decoded"),
        ("audio", "no video stream"),
        ("no_index", "cannot be decoded"),
        ("empty_bytes", "is empty"),
    ],
)
def test_unusable_sources(kind: str, reason: str, tmp_path: Path, barcode_video: Path, backend: Backend) -> None:
    path = tmp_path / f"{kind}.mp4"
    source: Path | bytes = b"" if kind == "empty_bytes" else path
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no video\n" * 50)
    elif kind == "audio":
        write_audio(path)
    elif kind == "no_index":
        path.write_bytes(barcode_video.read_bytes()[:-2000])
    with pytest.raises(VideoDecodeError, match=reason) as caught:
        open_video(source, backend)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_truncated_video_never_gives_other_frames(
    backend: Backend, tmp_path: Path, odd_videos: Callable[[str], Path], barcodes: Callable
) -> None:
    whole = odd_videos("matroska")
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with open_video(path, backend) as reader:
        assert 0 < reader.num_frames < 48
        assert barcodes(reader.get_frames([0, 5])) == [0, 5]
        with pytest.raises(VideoDecodeError, match=r"48 is out of range|does not decode|cannot be decoded"):
            reader.get_frames([48])


@pytest.mark.parametrize("backend", BACKENDS)
def test_damage_inside_is_an_error(
    backend: Backend, tmp_path: Path, barcode_video: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(barcode_video.read_bytes())
    start = data.index(b"mdat")
    middle = start + int.from_bytes(data[start - 4 : start], "big") // 2
    data[middle : middle + 1000] = bytes(1000)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    with open_video(path, backend) as reader, pytest.raises(VideoDecodeError, match=r"damaged\.mp4") as caught:
        reader.get_frames(range(48))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_readers_stay_in_their_process(barcode_video: Path) -> None:
    with open_video(barcode_video) as reader, pytest.raises(TypeError, match="pass the path"):
        pickle.dumps(reader)


def test_a_closed_reader_says_so(barcode_video: Path) -> None:
    reader = open_video(barcode_video)
    reader.close()
    with pytest.raises(VideoDecodeError, match="closed"):
        reader.get_frames([0])


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
