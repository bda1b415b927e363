"""NumPy and HDF5 files as downstream tools find them."""

import builtins
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet as pq

from mvit_video.features import Video, VideoFeatures, writer_for
from mvit_video.features.videos import file_name, video_name
from mvit_video.types import ConfigError

RECORD = {
    "key": "ab12", "model": "mvit_b_16x4", "checkpoint": None, "layer": "pooled", "window": "64", "stride": "16",
    "crops": 1, "precision": "fp32", "preprocessing": {"crop_size": 224}, "feature_shape": [3], "class_names": None,
}  # fmt: skip
FORMATS = ("npy", "video_features", "hdf5")


def features_of(
    path: str,
    *,
    span: tuple[float, float] | None = None,
    num_windows: int = 4,
    num_crops: int = 1,
    shape: tuple[int, ...] = (3,),
    fps: float = 25.0,
    value: float = 0.0,
) -> VideoFeatures:
    """Windows of 64 frames, 16 apart; the last one reaches 8 frames beyond the end."""
    start_frame = 16 * np.arange(num_windows)
    end_frame = start_frame + 64
    num_padded = np.zeros(num_windows, np.int32)
    num_padded[-1], end_frame[-1] = 2, end_frame[-1] - 8
    size = (num_windows, num_crops, *shape)
    start, end = start_frame / fps, end_frame / fps
    return VideoFeatures(
        Video(path, Path(path), 1, span), np.arange(math.prod(size), dtype=np.float32).reshape(size) + value,
        start, end, (start + end) / 2, start_frame, end_frame, num_padded, fps,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def videos_in(folder: Path, form: str) -> dict[str, NDArray[Any]]:
    """Features of every video in a folder, by the name that it has there."""
    if form != "hdf5":
        end = ".npy" if form == "npy" else "_pooled.npy"
        files = folder.rglob(f"*{end}")
        return {file.relative_to(folder).as_posix().removesuffix(end): np.load(file) for file in files}
    found: dict[str, NDArray[Any]] = {}
    for part in sorted(folder.glob("*.h5")):
        with h5py.File(part) as file:
            names: list[str] = []
            file.visit(names.append)
            for name in names:
                if name.endswith("/feature"):
                    assert name not in found
                    found[name.removesuffix("/feature")] = file[name][:, 0]
    return found


def test_npy_holds_rows_of_float32_and_the_sidecar_all_else(tmp_path: Path) -> None:
    video = features_of("a/x.mp4")
    writer_for("npy", tmp_path, RECORD).write([video])
    assert sorted(contents(tmp_path)) == ["a/x.json", "a/x.npy"]
    stored = np.load(tmp_path / "a/x.npy")
    assert (stored.dtype, stored.shape) == (np.float32, (4, 3))
    np.testing.assert_array_equal(stored, video.feature[:, 0])
    told = json.loads((tmp_path / "a/x.json").read_text())
    assert told["files"] == ["a/x.npy"]
    assert (told["path"], told["span"], told["label"], told["fps"]) == ("a/x.mp4", None, 1, 25.0)
    assert (told["model"], told["layer"], told["key"], told["window"]) == ("mvit_b_16x4", "pooled", "ab12", "64")
    assert (told["shape"], told["axes"]) == ([4, 3], ["window", "channel"])
    assert told["start_frame"] == [0, 16, 32, 48]
    assert told["end_seconds"] == pytest.approx([2.56, 3.2, 3.84, 4.16])
    assert told["num_padded"] == [0, 0, 0, 2]


def test_kept_crops_and_maps_have_axes_of_their_own(tmp_path: Path) -> None:
    writer = writer_for("npy", tmp_path, RECORD)
    writer.write([features_of("crops.mp4", num_crops=3), features_of("map.mp4", shape=(5, 2, 2, 2))])
    assert np.load(tmp_path / "crops.npy").shape == (4, 3, 3)
    assert json.loads((tmp_path / "crops.json").read_text())["axes"] == ["window", "crop", "channel"]
    assert np.load(tmp_path / "map.npy").shape == (4, 5, 2, 2, 2)
    assert json.loads((tmp_path / "map.json").read_text())["axes"] == ["window", "axis_0", "axis_1", "axis_2", "axis_3"]


def test_video_features_layout(tmp_path: Path) -> None:
    writer_for("video_features", tmp_path, RECORD).write([features_of("a/x.mp4")])
    assert sorted(contents(tmp_path)) == ["a/x.json", "a/x_fps.npy", "a/x_pooled.npy", "a/x_timestamps_ms.npy"]
    assert np.load(tmp_path / "a/x_pooled.npy").shape == (4, 3)
    assert np.load(tmp_path / "a/x_fps.npy") == 25.0
    np.testing.assert_allclose(np.load(tmp_path / "a/x_timestamps_ms.npy"), [2560, 3200, 3840, 4160])


def test_hdf5_has_a_group_per_video(tmp_path: Path) -> None:
    writer = writer_for("hdf5", tmp_path, RECORD)
    writer.write([features_of("a/x.mp4", num_crops=3), features_of("/b/y.mp4", span=(1.5, math.inf))])
    (part,) = tmp_path.glob("part-*.h5")
    with h5py.File(part) as file:
        group = file["a/x.mp4"]
        assert group["feature"].shape == (4, 3, 3)
        assert list(group["start_frame"]) == [0, 16, 32, 48]
        np.testing.assert_allclose(group["center_seconds"], features_of("a/x.mp4").center_seconds)
        assert dict(group.attrs) == {"path": "a/x.mp4", "fps": 25.0, "label": 1}
        assert list(file["/b/y.mp4#t=1.5,end"].attrs["span"]) == [1.5, math.inf]
        assert file.attrs["key"] == "ab12"
        assert json.loads(file.attrs["preprocessing"]) == {"crop_size": 224}


@pytest.mark.parametrize("form", FORMATS)
def test_half_precision_and_videos_of_one_name_in_two_folders(form: str, tmp_path: Path) -> None:
    one, other = features_of("a/x.mp4"), features_of("b/x.mp4", value=100)
    part = features_of("b/x.mp4", span=(2.0, 7.25), value=200)
    halves = [replace(video, feature=video.feature.astype(np.float16)) for video in (one, other)]
    writer_for(form, tmp_path, RECORD).write([*halves, part])
    found = videos_in(tmp_path, form)
    names = file_name if form != "hdf5" else video_name
    assert found.keys() == {names("a/x.mp4", None), names("b/x.mp4", None), names("b/x.mp4", (2.0, 7.25))}
    for video in (one, other, part):
        np.testing.assert_array_equal(found[names(video.video.path, video.video.span)], video.feature[:, 0])


@pytest.mark.parametrize("form", FORMATS)
def test_only_what_is_listed_stays_and_of_it_the_newest(form: str, tmp_path: Path) -> None:
    writer = writer_for(form, tmp_path, RECORD)
    writer.write([features_of("a/x.mp4"), features_of("gone.mp4")])
    writer.write([features_of("a/x.mp4", value=7), features_of("b.mp4", span=(1.0, math.inf))])
    writer.write([features_of("also_gone.mp4")])
    writer_for(form, tmp_path, RECORD).keep_only({"a/x.mp4": 4, video_name("b.mp4", (1.0, math.inf)): 4})
    found = videos_in(tmp_path, form)
    assert len(found) == 2
    np.testing.assert_array_equal(found["a/x" if form != "hdf5" else "a/x.mp4"], features_of("", value=7).feature[:, 0])
    before = contents(tmp_path)
    writer.keep_only({"a/x.mp4": 4, video_name("b.mp4", (1.0, math.inf)): 4})
    writer.finish()
    assert contents(tmp_path) == before
    writer.keep_only({})
    assert not contents(tmp_path)


@pytest.mark.parametrize("form", FORMATS)
def test_a_write_that_breaks_off_leaves_nothing_that_counts(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move, num_calls = os.replace, 0

    def fail_at_the_last(*names: Any) -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == {"npy": 3, "video_features": 5, "hdf5": 1}[form]:
            raise OSError(28, "No space left on device")
        move(*names)

    monkeypatch.setattr("mvit_video.jobs.files.os.replace", fail_at_the_last)
    writer = writer_for(form, tmp_path, RECORD)
    with pytest.raises(OSError, match="No space left"):
        writer.write([features_of("a/x.mp4")])
    assert not [name for name in contents(tmp_path) if name.endswith(("x.json", ".h5", ".unfinished"))]
    writer.keep_only({})
    assert not contents(tmp_path)


def damage(file: Path, how: str) -> None:
    if how == "removed":
        file.unlink()
    elif how == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        file.write_bytes(b"nothing of the kind")


@pytest.mark.parametrize("how", ["removed", "cut", "overwritten"])
@pytest.mark.parametrize("form", ["parquet", *FORMATS, "sidecar"])
def test_lost_and_damaged_files_are_noticed_and_moved_away(form: str, how: str, tmp_path: Path) -> None:
    folder = tmp_path / "features"
    writer = writer_for("npy" if form == "sidecar" else form, folder, RECORD)
    writer.write([features_of("a/x.mp4")])
    writer.write([features_of("b.mp4")])
    listed = {"a/x.mp4": 4, "b.mp4": 4}
    assert writer.keep_only(listed) == ({"a/x.mp4", "b.mp4"}, [])
    before = contents(folder)
    pattern = {"npy": "b.npy", "video_features": "b_*.npy", "sidecar": "b.json"}.get(form, "part-*")
    damage(max(folder.glob(pattern)), how)
    kept, damaged = writer.keep_only(listed)
    assert kept == {"a/x.mp4"}
    assert all(Path(file).is_relative_to(tmp_path / "damaged") and Path(file).exists() for file in damaged)
    assert bool(damaged) == (how != "removed" or form in (*FORMATS[:2], "sidecar"))  # what belongs to a lost file too
    assert contents(folder).items() < before.items()
    assert writer.keep_only(listed) == ({"a/x.mp4"}, [])
    writer.write([features_of("b.mp4")])
    assert len(contents(folder)) == len(before)
    assert writer.keep_only(listed).videos == listed.keys()


@pytest.mark.parametrize("form", ["parquet", *FORMATS])
def test_a_video_with_fewer_windows_than_are_listed_is_not_kept(form: str, tmp_path: Path) -> None:
    writer = writer_for(form, tmp_path / "features", RECORD)
    writer.write([features_of("a.mp4", num_crops=3), features_of("b.mp4", num_windows=3)])
    assert writer.keep_only({"a.mp4": 4, "b.mp4": 4}).videos == {"a.mp4"}


@pytest.mark.parametrize("form", ["parquet", *FORMATS])
def test_files_of_others_stay(form: str, tmp_path: Path) -> None:
    writer_for(form, tmp_path, RECORD | {"key": "of another extraction"}).write([features_of("other.mp4")])
    (tmp_path / "mine.npy").write_bytes(b"mine")
    (tmp_path / "notes.json").write_text('{"files": ["../secret.npy", "mine.npy"], "key": "ab12", "span": null}')
    for suffix in ("parquet", "h5"):
        (tmp_path / f"part-mine.{suffix}").write_bytes(b"mine")
    pq.write_table(pa.table({"video": ["mine.mp4"], "crop": [0]}), tmp_path / "part-1.parquet")
    (tmp_path.parent / "secret.npy").write_bytes(b"secret")
    (tmp_path / ".writing-1.json").write_text('{"files": ["../secret.npy", "/etc/hostname"], "key": "ab12"}')
    foreign = contents(tmp_path)
    writer = writer_for(form, tmp_path, RECORD)
    writer.write([features_of("x.mp4"), features_of("y.mp4")])
    writer.keep_only({"x.mp4": 4})
    writer.finish()
    writer.keep_only({})
    assert contents(tmp_path) == foreign
    assert (tmp_path.parent / "secret.npy").read_bytes() == b"secret"


@pytest.mark.parametrize("form", ["npy", "video_features"])
def test_a_file_of_others_is_never_replaced(form: str, tmp_path: Path) -> None:
    writer = writer_for(form, tmp_path, RECORD)
    name = "x.npy" if form == "npy" else "x_fps.npy"
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ConfigError, match=rf"^x\.mp4: .*/{name} exists and is not of this extraction; move it"):
        writer.write([features_of("x.mp4")])
    assert contents(tmp_path) == {name: b"mine"}


@pytest.mark.parametrize("form", ["npy", "video_features"])
@pytest.mark.parametrize("length", [239, 251])
def test_a_video_may_have_the_longest_name(form: str, length: int, tmp_path: Path) -> None:
    writer = writer_for(form, tmp_path, RECORD)
    one, other = ("\N{HIRAGANA LETTER A}" * (length // 3) + letter + ".mp4" for letter in "ab")
    writer.write([features_of(one), features_of(other, value=1, span=(1.0, 2.5))])
    assert writer.keep_only({one: 4, video_name(other, (1.0, 2.5)): 4}) == ({one, video_name(other, (1.0, 2.5))}, [])
    assert {json.loads(file.read_text())["path"] for file in tmp_path.glob("*.json")} == {one, other}
    assert length > 239 or (form == "npy") == (tmp_path / one).with_suffix(".npy").exists()


def test_a_video_never_replaces_another(tmp_path: Path) -> None:
    writer = writer_for("npy", tmp_path, RECORD)
    writer.write([features_of("a/x.mp4")])
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=r"^a/x\.avi: .*a/x\.npy is for the features of a/x\.mp4; give the two"):
        writer.write([features_of("a/x.avi")])
    assert contents(tmp_path) == before
    # what an earlier version lost is no reason to move the files of the other
    assert writer.keep_only({"a/x.avi": 4, "a/x.mp4": 4}) == ({"a/x.mp4"}, [])
    assert contents(tmp_path) == before
    writer.write([features_of("a/x.mp4", value=1)])
    assert contents(tmp_path) != before


@pytest.mark.parametrize(
    ("form", "names"),
    [("npy", ("a.mp4", "a.avi")), ("video_features", ("./a.mp4", "a.mp4")), ("hdf5", ("./a.mp4", "a.mp4"))],
)
def test_two_videos_of_one_name_in_a_batch_are_refused(form: str, names: tuple[str, str], tmp_path: Path) -> None:
    writer = writer_for(form, tmp_path, RECORD)
    with pytest.raises(ConfigError, match=rf"^{re.escape(names[1])}: .*{re.escape(names[0])}"):
        writer.require_free(names)
    assert contents(tmp_path) == {}
    writer_for("parquet", tmp_path, RECORD).require_free(names)


@pytest.mark.parametrize("form", ["npy", "hdf5", "parquet"])
def test_pipes_folders_and_links_to_nothing_are_no_features(form: str, tmp_path: Path) -> None:
    writer = writer_for(form, tmp_path / "features", RECORD)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        writer.write([features_of(name)])
    files = sorted(path for path in (tmp_path / "features").iterdir() if path.suffix in (".npy", ".h5", ".parquet"))
    for file in files:
        file.unlink()
    os.mkfifo(files[0])
    files[1].mkdir()
    files[2].symlink_to(tmp_path / "nothing")
    assert writer.keep_only({"a.mp4": 4, "b.mp4": 4, "c.mp4": 4}).videos == set()
    writer.write([features_of("a.mp4")])
    assert writer.keep_only({"a.mp4": 4}).videos == {"a.mp4"}


@pytest.mark.parametrize(
    ("path", "span", "name"),
    [
        ("a/b.c.mp4", None, "a/b.c"),
        ("/videos/a.mp4", None, "videos/a"),
        ("../../a.mp4", None, "_/_/a"),
        ("./a", None, "a"),
        ("a.mp4", (0.0, math.inf), "a_0_end"),
        ("a.mp4", (12.5, 100.0), "a_12.5_100"),
    ],
)
def test_files_lie_in_the_folder_wherever_the_video_lies(
    path: str, span: tuple[float, float] | None, name: str
) -> None:
    assert file_name(path, span) == name


def test_hdf5_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_import: Callable[..., Any] = builtins.__import__

    def without_h5py(name: str, *args: Any, **options: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return really_import(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_h5py)
    with pytest.raises(ConfigError, match=r"^--format hdf5 needs h5py: pip install 'mvit-video\[hdf5\]'$"):
        writer_for("hdf5", tmp_path, RECORD)
