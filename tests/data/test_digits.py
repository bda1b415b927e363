import csv
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.data import VideoTable, digits, load_annotations
from mvit_video.data.digits import LABEL_SETS, SAMPLED_FRAMES, Poses, Scene, write_digits
from mvit_video.data.sampling import random_clip, uniform_clips
from mvit_video.types import ClipSpec, ConfigError, MVitVideoError
from tests.fixtures.places import ROOT

SCRIPT = ROOT / "scripts" / "make_demo_data.py"
SMALL: Any = {"num_train": 8, "num_val": 8}
REVERSED = {
    "clockwise_1": "counterclockwise_1",
    "clockwise_3": "counterclockwise_3",
    "left": "right",
    "up": "down",
    "grow": "shrink",
    "turn_clockwise": "turn_counterclockwise",
}
PARTNERS = [(labels, a, b) for labels in LABEL_SETS for a, b in REVERSED.items() if a in LABEL_SETS[labels]]

seeds = st.integers(0, 2**32 - 1)


def scene_of(seed: int) -> Scene:
    ink = np.random.default_rng(seed).random((3, 8, 8))
    return digits.draw_scene(ink, np.random.default_rng(seed))


def sampled_poses(labels: str, name: str, scene: Scene) -> Poses:
    path = digits.poses(LABEL_SETS[labels][name], scene)
    return Poses(*(values[SAMPLED_FRAMES] for values in path))


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def hashes(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def orbit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("demo"), "orbit", **SMALL)


def test_sampled_frames_are_those_of_the_8x4_clip_rule() -> None:
    assert SAMPLED_FRAMES.tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    clip = ClipSpec(num_frames=8, sampling_rate=4)
    assert uniform_clips(32, 30.0, clip, 3).tolist() == [SAMPLED_FRAMES.tolist()] * 3
    assert random_clip(32, 30.0, clip, np.random.default_rng(0)).tolist() == SAMPLED_FRAMES.tolist()


@given(seeds)
def test_orbit_classes_visit_the_same_places_so_shuffled_frames_carry_no_label(seed: int) -> None:
    scene = scene_of(seed)
    visited = []
    for name in LABEL_SETS["orbit"]:
        path = sampled_poses("orbit", name, scene)
        assert np.ptp(path.size) == 0
        assert np.ptp(path.tilt) == 0
        visited.append(path.centre)
    for centres in visited[1:]:
        distance = np.linalg.norm(visited[0][:, None] - centres[None], axis=-1)
        match = distance.argmin(1)
        assert sorted(match) == list(range(8))
        assert distance.min(1).max() < 1e-9


@given(seeds)
def test_orbit_positions_are_equally_spaced_and_distinct(seed: int) -> None:
    scene = scene_of(seed)
    centres = sampled_poses("orbit", "clockwise_1", scene).centre - scene.centre
    angles = np.unwrap(np.arctan2(centres[:, 1], centres[:, 0]))
    np.testing.assert_allclose(np.diff(angles), np.pi / 4, atol=1e-9)


@given(seed=seeds, phase_steps=st.integers(0, 7))
@pytest.mark.parametrize(("labels", "name", "partner"), PARTNERS)
def test_reversed_time_is_the_partner_class(labels: str, name: str, partner: str, seed: int, phase_steps: int) -> None:
    scene = scene_of(seed)
    forward = sampled_poses(labels, name, scene)
    # An orbit ends 7 steps from where it began, so its reversal is the partner that begins there.
    start = scene.phase_turns + 7 * LABEL_SETS[labels][name].orbit / 8
    backward = sampled_poses(labels, partner, scene._replace(phase_turns=start) if labels == "orbit" else scene)
    for a, b in zip(forward, backward, strict=True):
        np.testing.assert_allclose(a, b[::-1], atol=1e-9)


@given(seeds)
def test_the_digit_stays_in_the_frame(seed: int) -> None:
    scene = scene_of(seed)
    for classes in LABEL_SETS.values():
        for motion in classes.values():
            centre = digits.poses(motion, scene).centre
            assert centre.min() > 12
            assert centre.max() < digits.SIDE - 12


def test_the_drawing_follows_the_poses() -> None:
    scene = scene_of(3)
    scene = scene._replace(noise=np.zeros_like(scene.noise), background=np.zeros_like(scene.background))
    scene = scene._replace(colour=np.full(3, 255.0))
    path = digits.poses(LABEL_SETS["orbit"]["clockwise_3"], scene)
    ink = digits.render(scene, path)[..., 0].astype(float)
    pixels = np.arange(digits.SIDE)
    total = ink.sum((1, 2))
    centroid = np.stack([(ink.sum(1) * pixels).sum(1), (ink.sum(2) * pixels).sum(1)], 1) / total[:, None]
    np.testing.assert_allclose(centroid - centroid[0], path.centre - path.centre[0], atol=0.5)


@pytest.mark.parametrize("split", ["train", "val"])
def test_class_folders_and_annotation_files_name_the_same_videos(orbit: Path, split: str) -> None:
    with (orbit / f"{split}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == list(LABEL_SETS["orbit"]) * 2
    for index, row in enumerate(rows):
        assert row["path"] == f"{split}/{row['label']}/{split}_{index:05d}.mp4"
    by_file = load_annotations(orbit / f"{split}.csv")
    by_folder = load_annotations(orbit / split)
    assert by_file.class_names == by_folder.class_names == tuple(LABEL_SETS["orbit"])

    def labels(table: VideoTable) -> dict[str, int | list[int]]:
        return {table.locate(row).name: table.label_of(row) for row in range(len(table))}

    assert labels(by_file) == labels(by_folder)


@pytest.mark.parametrize("labels", LABEL_SETS)
def test_classes_are_in_sorted_order_as_class_folders_are(labels: str) -> None:
    assert list(LABEL_SETS[labels]) == sorted(LABEL_SETS[labels])


def test_no_digit_image_is_in_both_splits() -> None:
    train, val = ({image.tobytes() for image in pool} for pool in digits.load_digit_pools())
    assert (len(train), len(val)) == (1200, 597)
    assert not train & val


def test_videos_are_plain_h264(orbit: Path) -> None:
    path = next(orbit.glob("val/*/*.mp4"))
    assert b"elst" not in path.read_bytes()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.frames, stream.average_rate, stream.height, stream.width) == (32, 30, 64, 64)
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
    assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == [0, 8, 16, 24]


def test_decord_gives_the_frames_of_pyav(orbit: Path) -> None:
    decord = pytest.importorskip("decord")
    for path in orbit.glob("val/*/*.mp4"):
        frames = decode(path)
        reader = decord.VideoReader(str(path), num_threads=1)
        assert len(reader) == 32
        assert reader.get_avg_fps() == 30
        order = [31, 0, 13, 26, 4, 22, 8, 17]
        found = reader.get_batch(order).asnumpy().astype(int)
        # Two colour converters: a few grey levels apart, where neighbouring frames are much further.
        error = np.abs(found[:, None] - frames[None]).mean((2, 3, 4))
        assert error.argmin(1).tolist() == order
        assert error.min(1).max() < 1.5


def test_a_video_does_not_depend_on_workers_or_counts(orbit: Path, tmp_path: Path) -> None:
    one = write_digits(tmp_path / "one", "orbit", **SMALL, num_workers=1)
    assert hashes(one) == hashes(orbit)
    more = hashes(write_digits(tmp_path / "more", "orbit", num_train=12, num_val=4, num_workers=2))
    shared = {path for path in more if path in hashes(orbit) and path.endswith(".mp4")}
    assert len(shared) == 8 + 4
    assert {path: more[path] for path in shared} == {path: hashes(orbit)[path] for path in shared}


def test_another_seed_gives_other_videos(orbit: Path, tmp_path: Path) -> None:
    other = hashes(write_digits(tmp_path, "orbit", **SMALL, seed=1))
    videos = {path for path in other if path.endswith(".mp4")}
    assert len(videos) == 16
    assert all(other[path] != hashes(orbit)[path] for path in videos)


def test_a_second_call_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_digits(tmp_path, "pairs", **SMALL)
    assert folder == tmp_path / "pairs"
    monkeypatch.setattr(digits, "encode", None)
    assert write_digits(tmp_path, "pairs", **SMALL) == folder


def test_a_folder_with_other_settings_or_missing_videos_is_replaced(tmp_path: Path) -> None:
    folder = write_digits(tmp_path, "orbit", **SMALL)
    first = hashes(folder)
    next(folder.glob("train/*/*.mp4")).unlink()
    write_digits(tmp_path, "orbit", **SMALL)
    assert hashes(folder) == first
    write_digits(tmp_path, "orbit", num_train=4, num_val=4)
    assert len(list(folder.glob("*/*/*.mp4"))) == 8
    assert json.loads((folder / "digits.json").read_text())["num_train"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["orbit"]


def test_a_failed_run_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_digits(tmp_path, "orbit", **SMALL)
    first = hashes(folder)

    def fail(frames: np.ndarray, path: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(digits, "encode", fail)
    with pytest.raises(OSError, match="no space left"):
        write_digits(tmp_path, "orbit", **SMALL, seed=1)
    assert hashes(folder) == first
    assert [path.name for path in tmp_path.iterdir()] == ["orbit"]


def test_what_a_user_put_into_the_folder_is_not_removed(tmp_path: Path) -> None:
    folder = write_digits(tmp_path, "orbit", **SMALL)
    (folder / "train" / "notes.txt").write_text("mine")
    with pytest.raises(MVitVideoError, match=r"orbit/train/notes\.txt is not part of the data set to replace"):
        write_digits(tmp_path, "orbit", **SMALL, seed=1)
    assert (folder / "train" / "notes.txt").read_text() == "mine"


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "orbit").mkdir()
    (tmp_path / "orbit" / "mine.mp4").touch()
    with pytest.raises(MVitVideoError, match=r"orbit: has no readable digits\.json; remove it or choose"):
        write_digits(tmp_path, "orbit", **SMALL)
    assert (tmp_path / "orbit" / "mine.mp4").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": "digits"}, "labels='digits' is not a label set; choose one of orbit, pairs"),
        ({"num_train": 3}, "num_train=3, num_val=240: 'orbit' needs 4 videos or more in each"),
        ({"labels": "pairs", "num_val": 7}, "num_train=800, num_val=7: 'pairs' needs 8 videos or more in each"),
        ({"seed": -1}, "seed=-1 must be at least 0 and num_workers=2 at least 1"),
        ({"num_workers": 0}, "seed=0 must be at least 0 and num_workers=0 at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write_digits(tmp_path / "demo", **settings)
    assert str(caught.value) == message
    assert not (tmp_path / "demo").exists()


def test_missing_scikit_learn_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MVitVideoError, match=r"needs scikit-learn: pip install mvit-video\[demo\]$"):
        write_digits(tmp_path, **SMALL)


def run_as_script() -> None:
    runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.mark.parametrize("run", [run_as_script, digits.main])
def test_the_command_writes_the_same_and_reports_mistakes_in_one_line(
    orbit: Path,
    tmp_path: Path,
    run: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["digits", "--root", str(tmp_path), "--num-train", "8", "--num-val"]
    monkeypatch.setattr(sys, "argv", [*command, "8"])
    run()
    assert capsys.readouterr() == (f"{tmp_path / 'orbit'}\n", "")
    assert hashes(tmp_path / "orbit") == hashes(orbit)
    monkeypatch.setattr(sys, "argv", [*command, "1"])
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == "error: num_train=8, num_val=1: 'orbit' needs 4 videos or more in each"


def test_the_module_is_a_command_and_the_demo_looks_where_it_writes() -> None:
    command = [sys.executable, "-m", "mvit_video.data.digits", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "write the videos to ROOT/LABELS (default: data/demo)" in " ".join(done.stdout.split())
    config = (SCRIPT.parents[1] / "configs" / "demo.yaml").read_text()
    assert "train: data/demo/orbit/train.csv" in config


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "write_digits", interrupted)
    monkeypatch.setattr(sys, "argv", ["digits"])
    with pytest.raises(SystemExit) as caught:
        digits.main()
    assert caught.value.code == 130
    assert capsys.readouterr().err == "stopped; no videos are kept, the same command starts again\n"
