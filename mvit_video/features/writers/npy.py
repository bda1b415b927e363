"""Features as NumPy files, with a JSON file for each video."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mvit_video.features.videos import Video, VideoFeatures, file_name, split_video_name, video_name
from mvit_video.features.windows import Length
from mvit_video.features.writers.parts import Kept
from mvit_video.jobs import Folder, atomic_write, remove_unfinished
from mvit_video.types import ConfigError

_ANY_FPS = 30.0
_TIMES = ("start_seconds", "end_seconds", "center_seconds", "start_frame", "end_frame", "num_padded")
_OF_ALL_VIDEOS = ("model", "checkpoint", "layer", "window", "stride", "crops", "precision", "key")


class NpyWriter:
    """Writer of `<path without suffix>.npy`, float32 `(windows, C)`, as ActionFormer and similar programs read it.

    Maps have the shape `(windows, *shape)`; crops that are kept are the second axis. `<path without suffix>.json` is
    written last, so that it stands for complete features.

    Args:
        record: `Extractor.record`.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.folder, self.record = folder, record
        self._window = Length.parse(record["window"], "window")
        self._stride = Length.parse(record["stride"], "stride")

    def write(self, batch: Sequence[VideoFeatures]) -> None:
        """Write the files of some videos."""
        self.require_free([one.video.name for one in batch])
        files = {self._name(one.video): list(self._files(self._name(one.video))) for one in batch}
        # after a kill it lists our arrays without a JSON file
        journal = self.folder / f".writing-{secrets.token_hex(4)}.json"
        _write_json(journal, {"key": self.record["key"], "files": list(chain(*files.values()))})
        for features in batch:
            name = self._name(features.video)
            for file, array in zip(files[name], self._arrays(features).values(), strict=True):
                with atomic_write(self.folder / file) as unfinished, unfinished.open("wb") as out:
                    np.save(out, array)
            _write_json(self.folder / f"{name}.json", {"files": files[name], **self._describe(features)})
        journal.unlink()

    def require_free(self, videos: Sequence[str]) -> None:
        """Refuse videos that would overwrite the files of another video or program."""
        video_of: dict[str, str] = {}
        for video in videos:
            name = file_name(*split_video_name(video), self._longest_ending)
            files = [self.folder / file for file in (f"{name}.json", *self._files(name))]
            sidecar = self._read(files[0])
            other = video_of.setdefault(name, video if sidecar is None else sidecar.video)
            if other != video:
                raise ConfigError(
                    f"{video}: {files[1]} is for the features of {other}; give the two videos names that differ "
                    "before the suffix, name one video once, or write parquet"
                )
            foreign = next(filter(os.path.lexists, files), None)
            if sidecar is None and foreign is not None:
                raise ConfigError(f"{video}: {foreign} exists and is not of this extraction; move it elsewhere")

    def keep_only(self, listed: Mapping[str, int]) -> Kept:
        """Remove the files of other videos, and arrays that a kill left without a JSON file."""
        kept, damaged, ours = set[str](), list[str](), set[Path]()
        for folder in {path.parent for path in self.folder.rglob("*.json")}:
            remove_unfinished(folder)
        for path in sorted(self.folder.rglob("*.json")):
            sidecar = self._read(path)
            if sidecar is None:
                continue
            arrays = [self.folder / name for name in self._files(sidecar.name)]
            if sidecar.video not in listed:
                for file in (path, *arrays):  # JSON first: without it the rest does not count
                    file.unlink(missing_ok=True)
            elif sidecar.num_windows == listed[sidecar.video] and all(map(_is_readable, arrays)):
                kept.add(sidecar.video)
                ours |= {path, *arrays}
        for video in listed.keys() - kept:
            name = file_name(*split_video_name(video), self._longest_ending)
            for file in (f"{name}.json", *self._files(name)):
                if os.path.lexists(self.folder / file) and self.folder / file not in ours:
                    damaged.append(Folder(self.folder).quarantine(file))
        for journal in filter(Path.is_file, self.folder.glob(".writing-*.json")):
            begun = self._listed_in(journal)
            for file in begun - ours:
                file.unlink(missing_ok=True)
            if begun:
                journal.unlink()
        return Kept(kept, damaged)

    def finish(self) -> None:
        """Keep the files as they are."""

    def _name(self, video: Video) -> str:
        return file_name(video.path, video.span, self._longest_ending)

    def _files(self, name: str) -> Iterator[str]:
        return (f"{name}{ending}.npy" for ending in self._endings)

    @property
    def _endings(self) -> tuple[str, ...]:
        """Endings of the names of a video's arrays."""
        return ("",)

    @property
    def _longest_ending(self) -> str:
        return max((*(f"{ending}.npy" for ending in self._endings), ".json"), key=len)

    def _arrays(self, features: VideoFeatures) -> dict[str, NDArray[Any]]:
        """Return the arrays of a video by the ending of their file's name."""
        return {"": _without_single_crop(features).astype(np.float32, copy=False)}

    def _describe(self, features: VideoFeatures) -> dict[str, Any]:
        array, span = _without_single_crop(features), features.video.span
        axes = ["window"] + ["crop"] * (features.feature.shape[1] > 1)
        axes += ["channel"] if features.feature.ndim == 3 else [f"axis_{i}" for i in range(features.feature.ndim - 2)]
        return {
            "path": features.video.path,
            "span": None if span is None else [span[0], None if span[1] == inf else span[1]],  # JSON has no infinity
            "label": features.video.label,
            **{name: self.record.get(name) for name in _OF_ALL_VIDEOS},
            "fps": features.fps,
            "actionformer": time_grid(features, self._window, self._stride)._asdict(),
            "shape": list(array.shape),
            "axes": axes,
            **{name: getattr(features, name).tolist() for name in _TIMES},
        }

    def _read(self, path: Path) -> _Sidecar | None:
        """Return the content of a JSON file; None if it is damaged or of another extraction."""
        if not path.is_file():  # a pipe would block
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            start, end = found["span"] or (None, None)
            span = None if start is None else (start, inf if end is None else end)
            name = file_name(found["path"], span, self._longest_ending)
            if found["key"] != self.record["key"] or path != self.folder / f"{name}.json":
                return None
            return _Sidecar(name, video_name(found["path"], span), found["shape"][0])
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return None

    def _listed_in(self, journal: Path) -> set[Path]:
        """Return the arrays that a killed process was writing; none if the file is of another extraction."""
        try:
            found = json.loads(journal.read_text(encoding="utf-8"))
            names = found["files"] if found["key"] == self.record["key"] else []
            files = {self.folder / name for name in names}
        except (ValueError, KeyError, TypeError, RecursionError):
            return set()
        is_inside = all(file.is_relative_to(self.folder) and ".." not in file.parts for file in files)
        return files if is_inside and all(file.suffix == ".npy" for file in files) else set()


class _Sidecar(NamedTuple):
    """Content of the JSON file of a video: the name of its files without ending, and its name in the manifest."""

    name: str
    video: str
    num_windows: int


class VideoFeaturesWriter(NpyWriter):
    """Writer of the files of video_features: `<stem>_<layer>.npy`, `<stem>_fps.npy` and `<stem>_timestamps_ms.npy`.

    A time stamp is the end of a window.
    """

    @property
    def _endings(self) -> tuple[str, ...]:
        return (f"_{self.record['layer']}", "_fps", "_timestamps_ms")

    def _arrays(self, features: VideoFeatures) -> dict[str, NDArray[Any]]:
        return {
            f"_{self.record['layer']}": super()._arrays(features)[""],
            "_fps": np.array(features.fps),
            "_timestamps_ms": features.end_seconds * 1000,
        }


class TimeGrid(NamedTuple):
    """Times in the config of ActionFormer: row i has its centre at `(i * feat_stride + num_frames / 2) / fps` seconds.

    Attributes:
        feat_stride: frames from one window to the next, the same for all videos.
        num_frames: frames of a window, the same for all videos.
        default_fps: frames per second; None for windows that count frames, for which the annotations need the `fps` of
            each video.
        max_error_seconds: largest error of the centre of a window within the video: half a frame; more where windows
            count frames and the stride seconds, or where the frame rate varies.
    """

    feat_stride: float
    num_frames: float
    default_fps: float | None
    max_error_seconds: float


def time_grid(features: VideoFeatures, window: Length, stride: Length) -> TimeGrid:
    """Return the grid of the windows of a video, from the start of the first."""
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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _is_readable(array: Path) -> bool:
    """Return whether a file holds as many numbers as its header states."""
    if not array.is_file():  # a pipe would block
        return False
    try:
        np.load(array, mmap_mode="r")
    except (ValueError, EOFError):
        return False
    return True


def _without_single_crop(features: VideoFeatures) -> NDArray[Any]:
    return features.feature[:, 0] if features.feature.shape[1] == 1 else features.feature
