"""Table of the videos of a data set."""

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
    """Storage of videos that are not separate files.

    `read` returns the bytes of the video in a row, `version` a text that changes with its content, `take` the archive
    of some rows.
    """

    def read(self, row: int) -> bytes: ...

    def version(self, row: int) -> str: ...

    def take(self, rows: NDArray[np.int64]) -> Archive: ...


@dataclass(frozen=True, eq=False)
class VideoTable:
    """Videos in the order of their annotations, as columns, so that ten million rows need no Python objects.

    Attributes:
        paths: path of each video, as written.
        labels: int64 class of each video; -1 is unknown, and everywhere in a multi-label table.
        class_names: class names; None if the annotations have numbers.
        root: folder of relative paths.
        multi_labels: int64 list of the classes of each video, in a multi-label table.
        spans: float64 `(videos, 2)`, start and end in seconds of segments of longer videos; the end may be infinite,
            a row of NaN is the complete video.
        label_spans: for each label of a video a list of starts and ends in seconds since the start of the file; None
            if labels hold for the complete video.
        archive: reads videos that are not separate files.
        index_cache: folder of packet indices that comes with the annotations.
        num_missing: videos of the annotations that are missing under the root and in the table.
        unlabelled_because: why the videos have no labels, for messages.
        written: labels as written; None if `labels` and `class_names` hold the same information.
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
            raise AnnotationError(printable(strange), 0, "its name is not UTF-8; rename it")
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
        """Number of class names, or the highest label plus one."""
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
        """Columns `label` and `label_spans` for files."""
        columns = {"label": pa.array(self.labels) if self.multi_labels is None else self.multi_labels}
        return columns if self.label_spans is None else {**columns, "label_spans": self.label_spans}

    @property
    def span_columns(self) -> dict[str, pa.Array]:
        """Columns `start` and `end` for files, in seconds; null is the complete video."""
        spans = np.full((len(self), 2), np.nan) if self.spans is None else self.spans
        return {name: pa.array(spans[:, i], from_pandas=True) for i, name in enumerate(("start", "end"))}

    def with_classes(self, names: Sequence[str], origin: str = "class_names") -> VideoTable:
        """Return the table with classes numbered in the order of these names; class numbers keep their values.

        Args:
            origin: source of the names, for messages.

        Raises:
            AnnotationError: a label is not a class, or is the number of one class and the name of another.
        """
        known = ClassNames(tuple(names), origin)
        labels, multi_labels, _ = self._written().number(known, self._label_error)
        return replace(self, labels=labels, multi_labels=multi_labels, class_names=known.names)

    def without_labels(self, names: Sequence[str] | None) -> VideoTable:
        """Return the table with unknown labels, and perhaps class names."""
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
        """Return the class of a video, -1 if unknown; a list in a multi-label table."""
        return int(self.labels[row]) if self.multi_labels is None else self.multi_labels[row].as_py()

    def labels_between(self, row: int, start_seconds: float, end_seconds: float) -> list[int]:
        """Return the classes that occur in a part of a video, which may be a single moment."""
        assert self.multi_labels is not None
        assert self.label_spans is not None
        labels, spans = self.multi_labels[row].as_py(), self.label_spans[row].as_py()

        def occurs(times: list[float]) -> bool:
            parts = zip(times[::2], times[1::2], strict=True)
            return any(start <= end_seconds and start_seconds <= end for start, end in parts)

        return [label for label, times in zip(labels, spans, strict=True) if occurs(times)]

    def rows_of(self, label: int) -> NDArray[np.int64]:
        """Return the rows of the videos with a label."""
        if self.multi_labels is None:
            return (self.labels == label).nonzero()[0]
        is_one = self.multi_labels.flatten().to_numpy() == label
        return compute.list_parent_indices(self.multi_labels).to_numpy()[is_one]

    def path(self, row: int) -> str:
        """Return the path of a video as written."""
        return self.paths[row].as_py()

    def locate(self, row: int) -> Path:
        """Return the path of the video in a row, from the root."""
        return self.root / self.path(row)

    def source(self, row: int) -> Path | bytes:
        """Return the path of a video, or its bytes if it is in an archive."""
        return self.locate(row) if self.archive is None else self.archive.read(row)

    def span(self, row: int) -> tuple[float, float] | None:
        """Return start and end of a segment in seconds; None is the complete video."""
        if self.spans is None or np.isnan(self.spans[row, 0]):
            return None
        return float(self.spans[row, 0]), float(self.spans[row, 1])

    def take(self, rows: NDArray[np.int64]) -> VideoTable:
        """Return the table of some videos."""
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
