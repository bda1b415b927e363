"""Seconds of rows: files of ours, read by a reader that was written to what ActionFormer documents of its input."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mvit_video import save_checkpoint
from mvit_video.features import Extractor, ExtractSettings, Video, VideoFeatures, WindowSpec, windows_of, writer_for
from mvit_video.models import mvit
from mvit_video.models.architecture import Patch, Pooling
from mvit_video.types import ClipSpec

RECORD = {
    "key": "ab12", "model": "mvit_b_16x4", "checkpoint": None, "layer": "pooled", "crops": 1, "precision": "fp32",
    "preprocessing": {}, "feature_shape": [2], "class_names": None,
}  # fmt: skip


class Item(NamedTuple):
    """Features `(C, T)`, and segments `(N, 2)` in rows, as a model would be trained on them."""

    features: NDArray[np.float32]
    segments: NDArray[np.float64]


class ActionFormerReader:
    """Videos that have a file of features, as in ActionFormer's CUSTOM_DATASET.md and the keys of its configs.

    A config gives `feat_folder`, `file_prefix`, `file_ext`, `feat_stride`, `num_frames` and `default_fps`; a JSON file
    in ActivityNet's form each video's `fps` and `annotations` with `segment` in seconds. The file
    `<feat_folder>/<file_prefix><video id><file_ext>` holds rows `(T, C)`, of which row i stands for `num_frames` frames
    from frame `i * feat_stride` on.
    """

    def __init__(self, database: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.config = config
        self.entries = {name: entry for name, entry in database.items() if self._file(name).exists()}

    def __getitem__(self, name: str) -> Item:
        features = np.load(self._file(name)).astype(np.float32)
        assert features.ndim == 2
        seconds = np.array([one["segment"] for one in self.entries[name]["annotations"]]).reshape(-1, 2)
        rows = (seconds * self._fps(name) - 0.5 * self.config["num_frames"]) / self.config["feat_stride"]
        return Item(features.T, rows)

    def seconds(self, name: str, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Times of places among the rows, as detections are turned back into seconds."""
        return (rows * self.config["feat_stride"] + 0.5 * self.config["num_frames"]) / self._fps(name)

    def _fps(self, name: str) -> float:
        return self.config["default_fps"] or self.entries[name]["fps"]

    def _file(self, name: str) -> Path:
        prefix = self.config["file_prefix"] or ""
        return Path(self.config["feat_folder"]) / f"{prefix}{name}{self.config['file_ext']}"


def features_of(path: str, spec: WindowSpec, timestamps: NDArray[np.float64], fps: float) -> VideoFeatures:
    """Rows that hold their own centre and end."""
    windows = windows_of(spec, timestamps, fps, float(timestamps[-1] + 1 / fps))
    feature = np.stack([windows.center_seconds, windows.end_seconds], axis=1)[:, None]
    return VideoFeatures(Video(path, Path(path)), feature, *windows[1:], fps)


def read(folder: Path, annotations: Mapping[str, list[list[float]]]) -> tuple[ActionFormerReader, dict[str, Any]]:
    """A reader with the config that the sidecars give, which is one for all videos, and the sidecars."""
    told = {name: json.loads((folder / f"{name}.json").read_text()) for name in annotations}
    keys = ("feat_stride", "num_frames", "default_fps")
    (shared,) = {tuple(one["actionformer"][key] for key in keys) for one in told.values()}
    config = {**dict(zip(keys, shared, strict=True)), "feat_folder": folder, "file_prefix": None, "file_ext": ".npy"}
    database = {
        name: {"fps": told[name]["fps"], "annotations": [{"segment": segment} for segment in segments]}
        for name, segments in annotations.items()
    }
    return ActionFormerReader(database, config), told


@given(
    fps=st.sampled_from([12.0, 24000 / 1001, 25.0, 30.0, 60.0]),
    num_frames=st.integers(1, 400),
    window=st.sampled_from([None, "64", "16", "2.5s", "0.7s"]),
    stride=st.sampled_from([None, "16", "5", "1s", "0.3s"]),
)
@settings(max_examples=100, deadline=None)
def test_the_seconds_of_every_row_are_right(
    fps: float, num_frames: int, window: str | None, stride: str | None
) -> None:
    spec = WindowSpec.of_clip(ClipSpec(16, 4), window, stride)
    features = features_of("a/x.mp4", spec, np.arange(num_frames) / fps, fps)
    with TemporaryDirectory() as folder:
        writer_for("npy", Path(folder), {**RECORD, "window": str(spec.window), "stride": str(spec.stride)}).write(
            [features]
        )
        reader, told = read(Path(folder), {"a/x": [[0.5, 2.0]]})
        item = reader["a/x"]
    rows = np.arange(item.features.shape[1])
    seconds = reader.seconds("a/x", rows)
    center, end = item.features
    is_whole = features.num_padded == 0
    allowed = told["a/x"]["actionformer"]["max_error_seconds"] + 1e-4
    # a window that counts frames begins with one, wherever the stride in seconds points
    assert allowed < (1.51 if spec.window.in_frames and not spec.stride.in_frames else 0.51) / fps
    np.testing.assert_allclose(seconds[is_whole], center[is_whole], atol=allowed)
    assert (seconds[~is_whole] > center[~is_whole]).all()  # a tail ends where the video does
    assert (end <= num_frames / fps + 1e-5).all()
    first, last = item.segments[0]
    clearly = np.abs(seconds[:, None] - [0.5, 2.0]).min(axis=1) > 1e-4
    np.testing.assert_array_equal(
        ((rows >= first) & (rows <= last))[clearly], ((seconds >= 0.5) & (seconds <= 2.0))[clearly]
    )


@pytest.mark.parametrize(("window", "stride"), [("8", "4"), ("0.4s", "0.2s")])
def test_what_is_seen_in_a_row_is_when_the_reader_says(window: str, stride: str, tmp_path: Path) -> None:
    """A net's features of a video that turns white after 2 seconds, at 25 frames per second."""
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        for i in range(100):
            picture = np.full((32, 32, 3), 255 if i >= 50 else 0, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    torch.manual_seed(0)
    patch, pooling = Patch((1, 8, 8), (1, 8, 8)), Pooling(stride_kv=(1, 1, 1))
    net = mvit(num_classes=2, num_frames=4, crop_size=16, depths=(1, 1), embed_dim=8, patch=patch, pooling=pooling)
    save_checkpoint(net, tmp_path / "tiny.safetensors")
    settings = ExtractSettings(str(tmp_path / "tiny.safetensors"), window=window, stride=stride, device="cpu")
    extractor = Extractor(settings)
    features = extractor.extract(Video("x.mp4", tmp_path / "x.mp4"))
    writer_for("npy", tmp_path / "features", extractor.record).write([features])
    reader, _ = read(tmp_path / "features", {"x": [[2.0, 4.0]]})
    found, ((first, _),) = reader["x"]
    black, white = found[:, 0], found[:, -1]
    closer_to_white = np.abs(found - white[:, None]).sum(axis=0) < np.abs(found - black[:, None]).sum(axis=0)
    rows = np.arange(found.shape[1])
    is_clear = np.abs(reader.seconds("x", rows) - 2.0) > 0.2  # the window is 0.32 or 0.4 s long
    np.testing.assert_array_equal(closer_to_white[is_clear], (rows >= first)[is_clear])
    assert is_clear.sum() > 15


@pytest.mark.parametrize(("window", "stride"), [("64", "16"), ("2s", "0.5s")])
def test_one_config_holds_for_videos_of_different_rates(window: str, stride: str, tmp_path: Path) -> None:
    spec = WindowSpec.of_clip(ClipSpec(16, 4), window, stride)
    rates = {"a": 25.0, "b": 30000 / 1001}
    videos = [features_of(f"{name}.mp4", spec, np.arange(300) / fps, fps) for name, fps in rates.items()]
    writer_for("npy", tmp_path, {**RECORD, "window": window, "stride": stride}).write(videos)
    reader, _ = read(tmp_path, {features.video.path[0]: [] for features in videos})
    for features in videos:
        name, is_whole = features.video.path[0], features.num_padded == 0
        seconds = reader.seconds(name, np.arange(len(is_whole)))
        np.testing.assert_allclose(seconds[is_whole], features.center_seconds[is_whole], atol=0.02)


def test_a_rate_that_varies_is_told_where_windows_count_frames(tmp_path: Path) -> None:
    timestamps = np.concatenate([np.arange(100) / 30, 100 / 30 + np.arange(100) / 10])
    fps = len(timestamps) / (timestamps[-1] + 1 / 10)
    for window, stride, least, most in (("16", "16", 1.0, 10.0), ("0.5s", "0.5s", 0.0, 1e-4)):
        spec = WindowSpec.of_clip(ClipSpec(16, 4), window, stride)
        features = features_of("x.mp4", spec, timestamps, fps)
        writer_for("npy", tmp_path, {**RECORD, "window": window, "stride": stride}).write([features])
        reader, told = read(tmp_path, {"x": []})
        seconds = reader.seconds("x", np.arange(len(features.feature)))
        is_whole = features.num_padded == 0
        error = np.abs(seconds - features.center_seconds)[is_whole].max()
        assert least <= error <= most
        assert told["x"]["actionformer"]["max_error_seconds"] == pytest.approx(error, abs=1e-5)
