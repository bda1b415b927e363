"""The same frames give the same bytes at each run, whatever the memory of the process held before."""

import ctypes
import io
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mvit_video.curation.encoding import EncodeSettings, encode_video
from mvit_video.data.clips.corruptions import corrupt_clip
from mvit_video.data.digits import LABEL_SETS, draw_scene, encode, load_digit_pools, poses, render
from mvit_video.data.readers.stream import x264_options
from mvit_video.features import overlay
from mvit_video.types import Corruption

_M_PERTURB = -6  # of the GNU C library: fills memory that is handed out with the complement of a byte


@pytest.fixture(params=["prepare", "overlay", "digits", "compression"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param
    ctypes.CDLL(None).mallopt(_M_PERTURB, 0)


def encoded(kind: str, frames: NDArray[np.uint8], folder: Path) -> bytes:
    if kind == "compression":
        return corrupt_clip(torch.from_numpy(frames), Corruption(kind, 2), np.random.default_rng(0)).numpy().tobytes()
    if kind == "overlay":
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as output:
            stream = overlay._add_encoder(output, Fraction(30), frames.shape[2], frames.shape[1])
            for number, frame in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture.pts, picture.time_base = 3000 * number, Fraction(1, 90_000)
                output.mux(stream.encode(picture))
            output.mux(stream.encode(None))
        return file.getvalue()
    encode(frames, folder / "digits.mp4")
    if kind == "prepare":
        encode_video(f"{folder}/digits.mp4", folder / "prepared.mp4", EncodeSettings(short_side=64), lambda: None)
    return (folder / ("prepared.mp4" if kind == "prepare" else "digits.mp4")).read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is filled by an option of the GNU C library")
def test_bytes_do_not_depend_on_what_memory_held(kind: str, tmp_path: Path) -> None:
    scene = draw_scene(load_digit_pools()[1], np.random.default_rng(1))
    frames = render(scene, poses(next(iter(LABEL_SETS["orbit"].values())), scene))
    found = set()
    for fill in (1, 100, 200):
        ctypes.CDLL(None).mallopt(_M_PERTURB, fill)
        found.add(encoded(kind, frames, tmp_path))
    assert len(found) == 1


def test_parameters_of_a_caller_are_added() -> None:
    assert x264_options("fast", 20, min_keyint=8) == {
        "preset": "fast", "crf": "20", "threads": "1", "x264-params": "mbtree=0:min-keyint=8"
    }  # fmt: skip
    assert x264_options("fast", 20, b_frames=False)["x264-params"] == "bframes=0"
