"""The videos of a data set, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.table.classes import ClassNames
from mvit_video.data.table.files import printable
from mvit_video.data.table.numbering import WrittenLabels
from mvit_video.jobs.arrow import as_strings, compute, is_utf8
from mvit_video.types import AnnotationError


class Archive(Protocol):
    """Where the videos of a table lie, when they are no files of their own."""

    def read(self, row: int) -> bytes:
        """The file of the video in a row."""
        ...

    def version(self, row: int) -> str:
        """Text that differs when the video in a row is another one, as far as its storage says."""
        ...

    def take(self, rows: NDArray[np.int64]) -> Archive:
        """The archive of some of the videos."""
        ...


@dataclass(frozen=True, eq=False)
class VideoTable:
    """Videos in the order of their annotations, held in columns so that ten million cost no Python objects.

    Attributes:
        paths: strings as written, one per video.
        labels: int64 class of each video; -1 where unknown, and everywhere in a table with several labels per video.
        class_names: name of each class; None when the annotations give numbers.
        root: folder that relative paths start from.
        multi_labels: the classes of each video, int64 lists, in a table with several labels per video.
        spans: float64 `(videos, 2)`, start and end in seconds of the part that counts, for trimmed segments of longer
            videos; the end may be infinite, and a row of NaN is the whole video.
        label_spans: when each of the labels of a video occurs: for each label a list of starts and ends in seconds,
            counted from the start of the file; None where labels hold for the whole video.
        archive: reads the videos that are no files of their own.
        index_cache: folder of packet indices that came with the annotations.
        num_missing: videos that the annotations name but that are not under the root, and so not in the table.
        unlabelled_because: why the videos have no labels, for messages; empty where they have some or never could.
        written: labels as the annotations write them; None where `labels` and `class_names` say all of it.
    """

    paths: pa.Array
    labels: NDArray[np.int64]
    class_names: tuple[str, ...] | None
    root: Path
    multi_labels: pa.ListArray | None = None
    spans: NDArray[np.float64] | None = None
    archive: Archive | None = None
    index_cache: Path | None = None
    num_missing: int = 0
    label_spans: pa.Array | None = None
    unlabelled_because: str = ""
    written: WrittenLabels | None = None

    @classmethod
    def of_paths(
        cls, paths: Sequence[str], root: Path, *, archive: Archive | None = None, unlabelled_because: str = ""
    ) -> VideoTable:
        """Return the table of videos whose labels are unknown."""
        strange = next((path for path in paths if not is_utf8(path)), None)
        if strange is not None:
            raise AnnotationError(printable(strange), 0, "its name is no UTF-8; rename it")
        unknown = np.full(len(paths), -1, np.int64)
        return cls(as_strings(paths), unknown, None, root, archive=archive, unlabelled_because=unlabelled_because)

    def __post_init__(self) -> None:
        for column in (self.labels, self.multi_labels, self.spans, self.label_spans):
            if column is not None and len(column) != len(self.paths):
                raise ValueError(f"columns differ in length: {len(self.paths)} paths against {len(column)}")

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"VideoTable({len(self)} videos, {self.num_classes} classes, root={str(self.root)!r})"

    @property
    def num_classes(self) -> int:
        """Classes that the labels speak of: the number of names, or the highest label plus one."""
        if self.class_names is not None:
            return len(self.class_names)
        if self.multi_labels is not None:
            return int(self.multi_labels.flatten().to_numpy().max(initial=-1)) + 1
        return int(self.labels.max()) + 1

    @property
    def is_multilabel(self) -> bool:
        """Whether a video may have several labels, or none."""
        return self.multi_labels is not None

    @property
    def is_unlabelled(self) -> bool:
        """Whether the labels of all videos are unknown."""
        return self.multi_labels is None and not (self.labels >= 0).any()

    @property
    def label_columns(self) -> dict[str, pa.Array]:
        """The class of each video, or the list of its classes, and when these occur, as files keep them."""
        columns = {"label": pa.array(self.labels) if self.multi_labels is None else self.multi_labels}
        return columns if self.label_spans is None else {**columns, "label_spans": self.label_spans}

    def with_classes(self, names: Sequence[str], origin: str = "class_names") -> VideoTable:
        """Return the table with its classes numbered in the order of these names.

        Class numbers keep their values and get names.

        Args:
            origin: where the names come from, for messages.

        Raises:
            AnnotationError: a label is none of the names, or may be the number of one class and the name of another.
        """
        known = ClassNames(tuple(names), origin)
        labels, multi_labels, _ = self._written().number(known, self._label_error)
        return replace(self, labels=labels, multi_labels=multi_labels, class_names=known.names)

    def without_labels(self, names: Sequence[str] | None) -> VideoTable:
        """Return the table with unknown labels, and perhaps the names of the classes that they might have."""
        return replace(
            self,
            labels=np.full(len(self), -1, np.int64),
            multi_labels=None,
            label_spans=None,
            written=None,
            class_names=None if names is None else tuple(names),
        )

    def _written(self) -> WrittenLabels:
        if self.written is not None:
            return self.written
        cells = self.label_columns["label"]
        if self.class_names is None:
            return WrittenLabels(cells)
        names = as_strings(self.class_names)
        if self.multi_labels is None:
            return WrittenLabels(names.take(pa.array(self.labels, mask=self.labels < 0)), are_names=True)
        counts = compute.list_value_length(cells).to_numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int64())
        return WrittenLabels(pa.LargeListArray.from_arrays(offsets, names.take(cells.flatten())), are_names=True)

    def _label_error(self, row: int, reason: str) -> AnnotationError:
        return AnnotationError(self.locate(row), 0, reason)

    def as_multilabel(self) -> VideoTable:
        """Return the table with the one known label of each video as a list."""
        offsets = pa.array(np.arange(len(self) + 1, dtype=np.int32))
        lists = pa.ListArray.from_arrays(offsets, pa.array(self.labels))
        return replace(self, labels=np.full(len(self), -1, np.int64), multi_labels=lists, written=None)

    def label_of(self, row: int) -> int | list[int]:
        """Return the class of a video, -1 where unknown; a list in a table with several labels per video."""
        return int(self.labels[row]) if self.multi_labels is None else self.multi_labels[row].as_py()

    def labels_between(self, row: int, start_seconds: float, end_seconds: float) -> list[int]:
        """Return the classes of a video that occur in a part of it, which may be a single moment."""
        assert self.multi_labels is not None
        assert self.label_spans is not None
        labels, spans = self.multi_labels[row].as_py(), self.label_spans[row].as_py()

        def occurs(times: list[float]) -> bool:
            parts = zip(times[::2], times[1::2], strict=True)
            return any(start <= end_seconds and start_seconds <= end for start, end in parts)

        return [label for label, times in zip(labels, spans, strict=True) if occurs(times)]

    def rows_of(self, label: int) -> NDArray[np.int64]:
        """Rows of the videos with a label."""
        if self.multi_labels is None:
            return (self.labels == label).nonzero()[0]
        is_one = self.multi_labels.flatten().to_numpy() == label
        return compute.list_parent_indices(self.multi_labels).to_numpy()[is_one]

    def path(self, row: int) -> str:
        """Path of a video as the annotations write it."""
        return self.paths[row].as_py()

    def locate(self, row: int) -> Path:
        """Where the video of a row lies."""
        return self.root / self.path(row)

    def source(self, row: int) -> Path | bytes:
        """What to open: where the video lies, or its file's bytes when it lies in an archive."""
        return self.locate(row) if self.archive is None else self.archive.read(row)

    def span(self, row: int) -> tuple[float, float] | None:
        """Start and end in seconds of the part that counts; None is the whole video."""
        if self.spans is None or np.isnan(self.spans[row, 0]):
            return None
        return float(self.spans[row, 0]), float(self.spans[row, 1])

    def take(self, rows: NDArray[np.int64]) -> VideoTable:
        """The table of some of the videos."""
        wanted = pa.array(rows)
        return replace(
            self,
            paths=self.paths.take(wanted),
            labels=self.labels[rows],
            multi_labels=None if self.multi_labels is None else self.multi_labels.take(wanted),
            spans=None if self.spans is None else self.spans[rows],
            label_spans=None if self.label_spans is None else self.label_spans.take(wanted),
            archive=None if self.archive is None else self.archive.take(rows),
            written=None if self.written is None else self.written.take(wanted, are_lists=self.is_multilabel),
        )
