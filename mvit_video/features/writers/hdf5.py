"""Features in HDF5 files, a group per video."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mvit_video.features.videos import VideoFeatures, video_name
from mvit_video.features.writers.parts import Damaged, Kept, keep_only_listed
from mvit_video.jobs import Folder, atomic_write
from mvit_video.jobs.folder import new_part
from mvit_video.types import ConfigError

_TIMES = ("start_seconds", "end_seconds", "center_seconds", "start_frame", "end_frame", "num_padded")


class Hdf5Writer:
    """Writer of `part-*.h5`, in which `file["<path>"]` holds a video.

    A group has the data sets `feature`, `(windows, crops, *shape)`, and `start_seconds`, `end_seconds`,
    `center_seconds`, `start_frame`, `end_frame`, `num_padded`, `(windows,)`; and the attributes `path`, `fps`, and
    where known `label` and `span`. The file has the record as attributes.

    Args:
        record: `Extractor.record`.

    Raises:
        ConfigError: h5py is not installed.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any]) -> None:
        self.folder, self.record = folder, record
        try:
            import h5py
        except ImportError as error:
            raise ConfigError("--format hdf5 needs h5py: pip install 'mvit-video[hdf5]'") from error
        self._h5py: Any = h5py

    def write(self, batch: Sequence[VideoFeatures]) -> None:
        """Write some videos to a new file."""
        with self._new_file(new_part("h5")) as file:
            file.attrs.update({key: _attribute(value) for key, value in self.record.items() if value is not None})
            for features in batch:
                video = features.video
                group = file.create_group(video.name)
                group.attrs.update({"path": video.path, "fps": features.fps})
                if video.label is not None:
                    group.attrs["label"] = video.label
                if video.span is not None:
                    group.attrs["span"] = video.span
                group["feature"] = features.feature
                for name in _TIMES:
                    group[name] = getattr(features, name)

    def require_free(self, videos: Sequence[str]) -> None:
        """Refuse two names of one group."""
        video_of: dict[str, str] = {}
        for video in videos:
            group = "/".join(part for part in video.split("/") if part not in ("", "."))
            other = video_of.setdefault(group, video)
            if other != video:
                raise ConfigError(f"{video}: HDF5 takes {other} for the same; name one video once, or write parquet")

    def keep_only(self, listed: Mapping[str, int]) -> Kept:
        """Rewrite the files that hold other videos too, or older features."""
        return keep_only_listed(Folder(self.folder), "h5", listed, self._contents, self._filter)

    def _contents(self, part: str) -> dict[str, int] | None:
        """Return the number of windows of each video in a file; None for a file of another extraction."""
        try:
            with self._h5py.File(self.folder / part, "r") as file:
                if file.attrs.get("key") != self.record["key"]:
                    return None
                groups = _groups(file, self._h5py.Group)
                return {_video_of(group): len(group["feature"]) for _, group in groups}
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            if getattr(error, "errno", None) is not None:  # the disk, not the file
                raise
            raise Damaged from error

    def _filter(self, part: str, videos: set[str]) -> None:
        with self._h5py.File(self.folder / part, "r") as file, self._new_file(part) as copy:
            copy.attrs.update(file.attrs)
            for name, group in _groups(file, self._h5py.Group):
                if _video_of(group) in videos:
                    file.copy(name, copy, name)

    @contextmanager
    def _new_file(self, part: str) -> Iterator[Any]:
        """Open a file in memory, since HDF5 may end the process when it cannot write to a disk; then write it."""
        with self._h5py.File(part, "w", driver="core", backing_store=False) as file:
            yield file
            file.flush()
            image = file.id.get_file_image()
        with atomic_write(self.folder / part) as unfinished:
            unfinished.write_bytes(image)

    def finish(self) -> None:
        """Keep the files as they are."""


def _groups(file: Any, kind: type) -> list[tuple[str, Any]]:
    """Return name and group of each video, whose path may make nested groups."""
    found: list[tuple[str, Any]] = []
    file.visititems(lambda name, item: found.append((name, item)) if isinstance(item, kind) and item.attrs else None)
    return found


def _video_of(group: Any) -> str:
    span = group.attrs.get("span")
    return video_name(group.attrs["path"], None if span is None else tuple(span))


def _attribute(value: Any) -> Any:
    """Return a value of the record as HDF5 stores it, without nesting."""
    return value if isinstance(value, (str, int, float)) else json.dumps(value)
