"""Every backend on every kind of file delivers the frames and times of PyAV's sequential decode."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mvit_video.data.readers import Backend, open_video
from tests.fixtures.data import Barcodes, OddVideos

# name in ODD_VIDEOS: numbers of the first and the last frame
NUMBERS = {
    "long_gop": (0, 199),
    "hevc_default": (0, 254),
    "edit_list": (7, 47),
    "edit_list_reordered": (17, 47),
    "edit_list_hevc": (17, 47),
    "edit_list_ends_early": (0, 30),
    "starts_between_keys": (12, 47),
    "starts_between_keys_matroska": (12, 47),
    "starts_between_keys_ts": (12, 47),
    "starts_between_keys_hevc": (12, 47),
    "starts_at_open_key": (12, 47),
    "one_frame": (0, 0),
    "one_frame_matroska": (0, 0),
    "rotated": None,
    "rotated_180": None,
    "rotated_270": None,
    "mpeg_ts_joined": None,
}
REAL_VIDEOS = {
    "arm_wrestling.mp4": 280,
    "mma_test.avi": 164,
    "mma_test.mp4": 300,
    "part_0.mp4": 32,
    "spatiotemporal.mp4": 57,
}


class Sequential(NamedTuple):
    frames: torch.Tensor
    seconds: NDArray[np.float64] | None  # None where the decoder gives no time, or times that do not rise


@cache
def decode_sequentially(path: Path) -> Sequential:
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.best("video")))
        pictures = np.stack([np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90) for f in frames])
    seconds = np.array([np.nan if f.time is None else f.time for f in frames])
    is_timed = np.isfinite(seconds).all() and (np.diff(seconds) > 0).all()
    return Sequential(torch.from_numpy(pictures), seconds - seconds[0] if is_timed else None)


def index_patterns(num_frames: int, seed: int) -> dict[str, list[int]]:
    """What samplers ask for, in an order that makes readers go back and forth."""
    rng = np.random.default_rng(seed)
    first = int(rng.integers(0, max(1, num_frames - 13)))
    return {
        "strided": [min(i, num_frames - 1) for i in range(first, first + 16, 4)],
        "last": [num_frames - 1],
        "random": rng.integers(0, num_frames, 8).tolist(),
        "first": [0],
        "reversed": list(range(num_frames))[::-7],
        "repeated": [num_frames // 2, num_frames // 2, 0, num_frames // 2],
        "linspace": np.linspace(0, num_frames - 1, 5).astype(int).tolist(),
        "more random": np.sort(rng.integers(0, num_frames, 4)).tolist(),
        **{f"frame {i} alone": [i] for i in range(seed % 3, min(num_frames, 48), 3)},
    }


def open_or_skip(backend: Backend) -> None:
    if backend == "torchcodec":
        try:
            import torchcodec  # noqa: F401
        except (ImportError, OSError, RuntimeError) as error:
            pytest.skip(f"torchcodec cannot be imported here: {str(error).splitlines()[0]}")


def check_file(path: Path, backend: Backend, seed: int) -> None:
    open_or_skip(backend)
    expected = decode_sequentially(path)
    num_frames = len(expected.frames)
    with open_video(path, backend) as reader:
        assert (reader.num_frames, reader.height, reader.width) == expected.frames.shape[:3]
        assert reader.timestamps.shape == (num_frames,)
        assert reader.timestamps.dtype == np.float64
        assert reader.timestamps[0] == 0
        if expected.seconds is not None:
            np.testing.assert_allclose(reader.timestamps, expected.seconds, rtol=0, atol=1e-6)
        for pattern, indices in index_patterns(num_frames, seed).items():
            frames = reader.get_frames(indices)
            wrong = [i for i, got in zip(indices, frames, strict=True) if not torch.equal(got, expected.frames[i])]
            assert not wrong, (
                f"{pattern}: frames {wrong} of {indices} differ; {reader.backend}: {reader.backend_reason}"
            )
        assert not reader.damaged
    for seed_of_clip in range(3):  # a reader for each clip, as in training
        indices = index_patterns(num_frames, 100 * seed + seed_of_clip)["strided"]
        with open_video(path, backend) as reader:
            assert torch.equal(reader.get_frames(indices), expected.frames[indices])


@pytest.mark.parametrize("backend", ["decord", "pyav", "torchcodec"])
def test_every_kind_of_file(odd_name: str, backend: Backend, odd_videos: OddVideos) -> None:
    check_file(odd_videos(odd_name), backend, seed=len(odd_name))


@pytest.mark.parametrize("backend", ["decord", "pyav", "torchcodec"])
@pytest.mark.parametrize("name", REAL_VIDEOS)
def test_real_files(name: str, backend: Backend, real_videos: Path) -> None:
    assert len(decode_sequentially(real_videos / name).frames) == REAL_VIDEOS[name]
    check_file(real_videos / name, backend, seed=REAL_VIDEOS[name])


def test_the_sequential_decode_is_the_video_that_was_written(
    odd_name: str, odd_videos: OddVideos, barcodes: Barcodes
) -> None:
    numbers = NUMBERS.get(odd_name, (0, 47))
    if numbers is None:
        pytest.skip("its frames do not lie upright, or it is not one video")
    first, last = numbers
    assert barcodes(decode_sequentially(odd_videos(odd_name)).frames) == list(range(first, last + 1))


def test_times_of_variable_rate_are_those_written(odd_videos: OddVideos) -> None:
    written = np.cumsum(np.tile([20, 35, 60, 33], 12)) / 1000
    for name in ("variable_rate", "variable_rate_matroska"):
        with open_video(odd_videos(name), "pyav") as reader:
            np.testing.assert_allclose(reader.timestamps, written - written[0], atol=1e-3)


@pytest.mark.parametrize("backend", ["decord", "pyav", "torchcodec"])
@pytest.mark.parametrize("name", ["closed_gop", "hevc", "rotated", "ten_bits", "edit_list", "vp9", "one_frame"])
def test_resized_frames_are_the_same_frames(
    name: str, backend: Backend, odd_videos: OddVideos, barcodes: Barcodes
) -> None:
    open_or_skip(backend)
    expected = decode_sequentially(odd_videos(name)).frames
    with open_video(odd_videos(name), backend, short_side=32) as reader:
        assert min(reader.height, reader.width) == 32
        assert abs(reader.width / reader.height - expected.shape[2] / expected.shape[1]) < 0.05
        indices = list(range(reader.num_frames))[::-3]
        frames = reader.get_frames(indices)
        assert frames.shape == (len(indices), reader.height, reader.width, 3)
    small = torch.nn.functional.interpolate(
        expected[indices].permute(0, 3, 1, 2).float(), size=frames.shape[1:3], mode="bilinear", antialias=True
    )
    difference = (frames.permute(0, 3, 1, 2).float() - small).abs().mean()
    assert difference < 6, f"mean difference {difference:.1f} from the same frames resized by torch"
    if name != "rotated":
        assert barcodes(frames) == barcodes(expected[indices])


@pytest.mark.parametrize("backend", ["decord", "pyav", "torchcodec"])
def test_frames_are_never_enlarged(barcode_video: Path, backend: Backend) -> None:
    open_or_skip(backend)
    with open_video(barcode_video, backend, short_side=256) as reader:
        assert (reader.height, reader.width) == (64, 96)
        assert reader.get_frames([1]).shape == (1, 64, 96, 3)
