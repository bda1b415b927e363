"""Frames of videos that are there, in part, in shards, damaged or gone."""

import base64
import io
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mvit_video.cli import main
from mvit_video.data import open_video
from mvit_video.evaluation.report import strips as reading
from mvit_video.evaluation.report.strips import Strip, read_strips

QUIET = Console(quiet=True)


def frames_of(strip: Strip) -> list[Image.Image]:
    assert strip.note == ""
    picture = Image.open(io.BytesIO(base64.b64decode(strip.image.removeprefix("data:image/jpeg;base64,"))))
    assert picture.size == (strip.num_frames * strip.width, strip.height)
    return [picture.crop((i * strip.width, 0, (i + 1) * strip.width, strip.height)) for i in range(strip.num_frames)]


def test_frames_stand_side_by_side(digits: Path) -> None:
    video = next((digits / "val").rglob("*.mp4"))
    whole, part, tiny = (
        read_strips({0: (video.name, *span)}, video.parent, QUIET)[0] for span in ((None, None), (0.5, None), (0, 0.1))
    )
    assert (whole.num_frames, whole.width, whole.height) == (8, 135, 135)
    assert tiny.num_frames == 3  # it has no more
    with open_video(video) as reader:
        shown = reader.get_frames([0, 15, 31]).numpy()
    for strip, place, frame in ((whole, 0, shown[0]), (part, 0, shown[1]), (part, -1, shown[2])):
        expected = Image.fromarray(frame).resize((135, 135), Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(frames_of(strip)[place], float) - np.asarray(expected)).mean() < 4


def test_what_cannot_be_shown_says_why(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "good.mp4").write_bytes(next((digits / "val").rglob("*.mp4")).read_bytes())
    Image.new("RGB", (90, 30), "red").save(tmp_path / "picture.png")
    names = ["broken.mp4", "gone.mp4", "good.mp4", "picture.png", "x" * 5000, "nul\0.mp4", "."]
    keys = {i: (name, None, None) for i, name in enumerate(names)} | {9: ("good.mp4", 50.0, 60.0)}
    strips = read_strips(keys, tmp_path, QUIET)
    assert strips[0].note.startswith("The video cannot be read: ")
    assert [strips[i].note for i in (1, 4, 5, 6)] == ["The video is no longer where the test found it."] * 4
    assert len(frames_of(strips[2])) == 8
    assert (strips[3].num_frames, strips[3].width, strips[3].height) == (1, 240, 80)
    assert "no frame begins between 50 and 60 seconds" in strips[9].note


def test_a_decoder_that_hangs_costs_one_strip(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = sorted((digits / "val").rglob("*.mp4"))[:2]
    (tmp_path / "hanging_decoder.py").write_text("import time\n\ndef read(video, heartbeat):\n    time.sleep(600)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(reading, "_read", import_module("hanging_decoder").read)
    monkeypatch.setattr(reading, "_LIMIT_SECONDS", 0.5)
    strips = read_strips({i: (str(video), None, None) for i, video in enumerate(videos)}, digits, QUIET)
    assert [strip.note for strip in strips.values()] == ["no heartbeat for 0.5 s"] * len(videos)


def test_videos_in_shards(digits: Path, tmp_path: Path) -> None:
    assert main(["pack", str(digits / "val.csv"), "--out", str(tmp_path / "shards")]) == 0
    path = next((digits / "val").rglob("*.mp4")).relative_to(digits)
    strips = read_strips({0: (str(path), None, None), 1: ("val/gone.mp4", None, None)}, tmp_path / "shards", QUIET)
    assert len(frames_of(strips[0])) == 8
    assert strips[1].note == "The video is no longer where the test found it."
