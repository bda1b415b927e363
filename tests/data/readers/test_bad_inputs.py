"""What is no sound video gives an error that names it, or tells its damage: soon, in any process, no other frames."""

import hashlib
import multiprocessing
import os
from functools import cache
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from mvit_video.data.readers import Backend, open_video
from mvit_video.types import VideoDecodeError
from tests.fixtures.data import BadInputs, OddVideos
from tests.fixtures.processes import RunAttempts

SECONDS = 10


@cache
def hashes_of(path: Path) -> list[str]:
    """What `attempts.py` would tell of each frame."""
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    return [hashlib.md5(frame.tobytes()).hexdigest() for frame in frames]


def complaint(answer: dict[str, Any], sound: list[str]) -> str | None:
    """What is wrong with an answer, None when it is as it should be."""
    if "died" in answer:
        return f"the process died: {answer['died']}"
    if answer["seconds"] > SECONDS:
        return f"took {answer['seconds']:.1f} s"
    if error := answer.get("error"):
        if error["type"] != "VideoDecodeError":
            return f"raised {error['type']}: {error['text']}"
        if error["path"] != answer["path"] or not error["reason"] or "\n" in error["text"]:
            return f"path, reason or text is not as it should be: {error}"
        must_give = answer["expected"] == "whole" or (answer["expected"] == "shortened" and not answer["strict"])
        return f"refused: {error['reason']}" if must_give else None
    if answer["expected"] == "refused":
        return f"gave {answer['num_frames']} frames"
    if answer["expected"] == "whole" and answer["frames"] != [sound[i] for i in (0, len(sound) // 2, -1)]:
        return f"gave other frames than the sound video, of {answer['num_frames']}"
    foreign = [i for i, frame in zip(answer["indices"], answer["frames"], strict=True) if frame not in sound]
    if foreign and answer["strict"]:
        return f"gave damaged frames {foreign} although strict"
    if foreign and not answer["damaged"]:
        return f"gave damaged frames {foreign} and does not tell"
    return None


@pytest.mark.parametrize("mode", ["main", "fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_every_kind_of_bad_input(
    mode: str, bad_inputs: BadInputs, run_attempts: RunAttempts, odd_videos: OddVideos
) -> None:
    jobs = [
        {"name": name, "path": path, "expected": expected, "backend": backend, "strict": strict}
        for name, (path, expected, _) in bad_inputs.items()
        for backend in ("decord", "pyav")
        for strict in ((False, True) if mode == "main" else (False,))
    ]
    complaints = []
    for answer in run_attempts(jobs, mode):
        source = bad_inputs[answer["name"]][2]
        sound = hashes_of(odd_videos(source)) if source else []
        if what := complaint(answer, sound):
            complaints.append(f"{answer['name']}, {answer['backend']}, strict {answer['strict']}: {what}")
    assert not complaints, "\n".join(complaints)
    assert len(bad_inputs) > 70


def test_a_sound_video_in_a_path_of_two_lines(tmp_path: Path, barcode_video: Path) -> None:
    path = tmp_path / "two\nlines %03d*?[0] #1.mp4"
    path.symlink_to(barcode_video)
    for backend in ("decord", "pyav"):
        with open_video(path, backend) as reader:
            assert reader.num_frames == 48
            assert len(reader.get_frames([0, 47])) == 2


def test_without_permission(tmp_path_factory: pytest.TempPathFactory, barcode_video: Path) -> None:
    path = tmp_path_factory.mktemp("locked") / "video.mp4"
    path.write_bytes(barcode_video.read_bytes())
    path.chmod(0)
    path.parent.chmod(0o755)
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    process = context.Process(target=open_as_nobody, args=(path, told))
    process.start()
    errors = [told.get() for _ in range(2)]
    process.join()
    assert [error.path for error in errors] == ["video.mp4"] * 2
    assert all("permission denied" in error.reason.lower() for error in errors)


def open_as_nobody(path: Path, told: SimpleQueue[object]) -> None:
    os.chdir(path.parent)
    if os.geteuid() == 0:  # nothing is locked for root; nobody may not enter the folder's parents
        os.setegid(65534)
        os.seteuid(65534)
    for backend in ("decord", "pyav"):
        try:
            told.put(open_video("video.mp4", backend).backend)
        except Exception as error:
            told.put(error)


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_a_file_that_becomes_another_video_after_it_was_opened(
    backend: Backend, tmp_path: Path, odd_videos: OddVideos
) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(odd_videos("closed_gop").read_bytes())
    with open_video(path, backend) as reader:
        reader.get_frames([0])
        path.unlink()
        path.write_bytes(odd_videos("no_b_frames").read_bytes())
        with pytest.raises(VideoDecodeError, match="chang"):
            reader.get_frames([5, 30])
        path.unlink()
        with pytest.raises(VideoDecodeError, match=r"no such file|chang"):
            reader.get_frames([5, 30])


@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_damage_told_by_a_reader_is_that_of_the_frames_read(
    backend: Backend, tmp_path: Path, odd_videos: OddVideos
) -> None:
    """The last group of pictures is damaged: who reads the first one is not told, who reads on is."""
    data = bytearray(odd_videos("closed_gop").read_bytes())
    with av.open(str(odd_videos("closed_gop"))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    key = [packet for packet in packets if packet.is_keyframe][-1]
    rng = np.random.default_rng(0)
    data[key.pos + 40 : key.pos + 120] = rng.bytes(80)
    path = tmp_path / "end.mp4"
    path.write_bytes(data)
    with av.open(str(odd_videos("closed_gop"))) as container:
        sound = [torch.from_numpy(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    with open_video(path, backend) as reader:
        assert torch.equal(reader.get_frames([3, 20]), torch.stack([sound[3], sound[20]]))
        assert not reader.damaged
        frames = reader.get_frames([3, 47])
        assert torch.equal(frames[0], sound[3])
        assert not torch.equal(frames[1], sound[47])
        assert reader.damaged
    with open_video(path, backend, strict=True) as reader, pytest.raises(VideoDecodeError, match=r"end\.mp4"):
        reader.get_frames([3, 47])
