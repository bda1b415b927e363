"""Features as NumPy files, those of a video beside a JSON file that says what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.features.windows import Length
from mvit_video.features.writers.naming import file_name, group_name
from mvit_video.jobs import atomic_write
from mvit_video.types import ConfigError

if TYPE_CHECKING:
    from mvit_video.features.videos import VideoFeatures

_ANY_FPS = 30.0
_TIMES = ("start_seconds", "end_seconds", "center_seconds", "start_frame", "end_frame", "num_padded")
_OF_ALL_VIDEOS = ("model", "checkpoint", "layer", "window", "stride", "crops", "precision", "key")


class NpyWriter:
    """Writes `<path without suffix>.npy`, float32 `(windows, C)`, as ActionFormer and its relatives read it.

    Features that are maps have `(windows, *shape)`, and crops that are kept stand behind the windows. The file
    `<path without suffix>.json` comes last, so that a video has it only when its features are whole.

    Args:
        folder: where the files go, in folders as the videos lie.
        record: what is true of all videos, as `Extractor.record` has it.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.folder, self.record = folder, record
        self._window = Length.parse(record["window"], "window")
        self._stride = Length.parse(record["stride"], "stride")

    def write(self, batch: Sequence[VideoFeatures]) -> None:
        """Writes the files of some videos.

        Raises:
            ConfigError: another video has files of the same name.
        """
        for features in batch:
            name = file_name(features.video.path, features.video.span)
            sidecar = self.folder / f"{name}.json"
            self._refuse_foreign(sidecar, features)
            arrays = {f"{name}{suffix}.npy": array for suffix, array in self._arrays(features).items()}
            for file_of_array, array in arrays.items():
                with atomic_write(self.folder / file_of_array) as unfinished, unfinished.open("wb") as file:
                    np.save(file, array)
            with atomic_write(sidecar) as unfinished:
                text = json.dumps({"files": list(arrays), **self._describe(features)}, indent=1, allow_nan=False)
                unfinished.write_text(text + "\n", encoding="utf-8")

    def keep_only(self, videos: pa.StringArray) -> None:
        """Removes the files of other videos, and what a kill left without a JSON file."""
        wanted, kept = set(videos.to_pylist()), set()
        for sidecar in self.folder.rglob("*.json"):
            found = json.loads(sidecar.read_text(encoding="utf-8"))
            start, end = found["span"] or (None, None)
            span = None if start is None else (start, inf if end is None else end)
            if group_name(found["path"], span) in wanted:
                kept |= {sidecar, *(self.folder / name for name in found["files"])}
        for pattern in ("*.json", "*.npy"):  # JSON first: without it the rest does not count
            for file in self.folder.rglob(pattern):
                if file not in kept:
                    file.unlink()

    def finish(self) -> None:
        """Does nothing: each file is as it stays."""

    def _arrays(self, features: VideoFeatures) -> dict[str, NDArray[Any]]:
        """Arrays of a video by the end of their file's name."""
        return {"": _without_single_crop(features).astype(np.float32, copy=False)}

    def _describe(self, features: VideoFeatures) -> dict[str, Any]:
        array = _without_single_crop(features)
        axes = ["window"] + ["crop"] * (features.feature.shape[1] > 1)
        axes += ["channel"] if features.feature.ndim == 3 else [f"axis_{i}" for i in range(features.feature.ndim - 2)]
        return {
            **_identity(features),
            "label": features.video.label,
            **{name: self.record.get(name) for name in _OF_ALL_VIDEOS},
            "fps": features.fps,
            "actionformer": time_grid(features, self._window, self._stride)._asdict(),
            "shape": list(array.shape),
            "axes": axes,
            **{name: getattr(features, name).tolist() for name in _TIMES},
        }

    def _refuse_foreign(self, sidecar: Path, features: VideoFeatures) -> None:
        if not sidecar.exists():
            return
        found, wanted = json.loads(sidecar.read_text(encoding="utf-8")), _identity(features)
        if any(found[key] != value for key, value in wanted.items()):
            raise ConfigError(
                f"{wanted['path']}: {sidecar.with_suffix('.npy')} holds the features of {found['path']}; give the two "
                "videos names that differ before the suffix, or write parquet"
            )


class VideoFeaturesWriter(NpyWriter):
    """Writes the files of video_features: `<stem>_<layer>.npy`, `<stem>_fps.npy` and `<stem>_timestamps_ms.npy`.

    A time stamp is when the window ends.
    """

    def _arrays(self, features: VideoFeatures) -> dict[str, NDArray[Any]]:
        return {
            f"_{self.record['layer']}": super()._arrays(features)[""],
            "_fps": np.array(features.fps),
            "_timestamps_ms": features.end_seconds * 1000,
        }


class TimeGrid(NamedTuple):
    """Times as ActionFormer computes them: row i is centred at `(i * feat_stride + num_frames / 2) / fps` seconds.

    Attributes:
        feat_stride: frames from one window to the next; the same for all videos, as its config wants it.
        num_frames: frames of a window, likewise.
        default_fps: frames per second, likewise; None where the windows count frames of the video, so that the
            annotations have to give the `fps` of each.
        max_error_seconds: by how much this misses the centre of a window that lies whole in the video, at most: half a
            frame; more where windows count frames and the stride seconds, or where the rate of the video varies.
    """

    feat_stride: float
    num_frames: float
    default_fps: float | None
    max_error_seconds: float


def time_grid(features: VideoFeatures, window: Length, stride: Length) -> TimeGrid:
    """The grid of the windows of a video, from the start of the first."""
    default_fps = None if window.in_frames and stride.in_frames else _ANY_FPS
    fps = default_fps or features.fps
    num_frames, feat_stride = (
        length.value if default_fps is None else _seconds(length, features.fps) * fps for length in (window, stride)
    )
    computed = features.start_seconds[0] + (np.arange(len(features.feature)) * feat_stride + num_frames / 2) / fps
    error = np.abs(computed - features.center_seconds)[features.num_padded == 0].max(initial=0.0)
    return TimeGrid(round(feat_stride, 6), round(num_frames, 6), default_fps, round(float(error), 6))


def _seconds(length: Length, fps: float) -> float:
    return length.value / fps if length.in_frames else length.value


def _identity(features: VideoFeatures) -> dict[str, Any]:
    """What the sidecar calls the video; JSON has no infinity."""
    span = features.video.span
    ends = None if span is None else [span[0], None if span[1] == inf else span[1]]
    return {"path": features.video.path, "span": ends}


def _without_single_crop(features: VideoFeatures) -> NDArray[Any]:
    return features.feature[:, 0] if features.feature.shape[1] == 1 else features.feature
