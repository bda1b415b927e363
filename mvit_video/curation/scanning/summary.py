"""Summary of a manifest: counts, classes, duplicates, distributions."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.curation.scanning.checks import KINDS
from mvit_video.data.table.classes import describe_label
from mvit_video.jobs.arrow import compute, joined, matches


class KindCount(NamedTuple):
    """Number of videos with one kind of problem."""

    kind: str
    num_failed: int
    num_usable: int
    meaning: str


class BackendCount(NamedTuple):
    """Number of videos that a backend decodes for a reason."""

    backend: str
    reason: str
    num_videos: int


class Duplicates(NamedTuple):
    """Files with equal bytes, or rows of the same file and segment."""

    paths: list[str]
    labels: list[str]

    @property
    def is_contradictory(self) -> bool:
        """Whether they have different labels."""
        return len(set(self.labels)) > 1


@dataclass(frozen=True)
class Summary:
    """Summary of a manifest; classes, backends and distributions are of usable videos.

    Attributes:
        num_rows: rows of the annotations.
        num_usable: rows that training can read.
        kinds: problems, the most frequent first.
        classes: usable videos of each class, the largest class first; empty without labels.
        num_unlabelled: usable videos without a label.
        duplicates: groups of equal files or rows, contradictory labels first.
        sizes: videos of each "width x height", the most frequent first.
        codecs: videos of each codec.
        containers: videos of each container.
    """

    num_rows: int
    num_usable: int
    kinds: list[KindCount]
    backends: list[BackendCount]
    classes: list[tuple[str, int]]
    num_unlabelled: int
    duplicates: list[Duplicates]
    durations_seconds: NDArray[np.float64]
    fps: NDArray[np.float64]
    sizes: list[tuple[str, int]]
    codecs: list[tuple[str, int]]
    containers: list[tuple[str, int]]
    num_bytes: int

    @property
    def num_failed(self) -> int:
        """Rows that training cannot read."""
        return self.num_rows - self.num_usable


def summarise(manifest: pa.Table, class_names: tuple[str, ...] | None) -> Summary:
    """Return the summary of a manifest."""
    usable = manifest.filter(compute.equal(manifest["status"], "ok"))
    sizes = [f"{width} x {height}" for width, height in zip(*_columns(usable, "width", "height"), strict=True)]
    labels = usable["label"].combine_chunks()
    numbers = (labels.flatten() if pa.types.is_list(labels.type) else labels).to_numpy(zero_copy_only=False)
    return Summary(
        num_rows=manifest.num_rows,
        num_usable=usable.num_rows,
        kinds=_count_kinds(manifest),
        backends=_count_backends(usable),
        classes=_count_classes(numbers, class_names),
        num_unlabelled=int((numbers < 0).sum()),
        duplicates=_find_duplicates(manifest, class_names),
        durations_seconds=usable["duration_seconds"].to_numpy(),
        fps=usable["fps"].to_numpy(),
        sizes=Counter(sizes).most_common(),
        codecs=Counter(usable["codec"].to_pylist()).most_common(),
        containers=Counter(usable["container"].to_pylist()).most_common(),
        num_bytes=compute.sum(usable["size"]).as_py() or 0,
    )


def histogram(values: NDArray[np.float64], num_bins: int) -> list[tuple[str, float, float, int]]:
    """Return name, start, end and number of values of each bin.

    Few distinct values are a bin each. Otherwise bins have equal widths, except the last if there is a long tail.
    """
    found, counts = np.unique(values.round(2), return_counts=True)
    if len(found) <= num_bins:
        return [(f"{value:g}", value, value, int(number)) for value, number in zip(found, counts, strict=True)]
    tail = float(np.percentile(values, 99))
    top = tail if values.max() > 1.5 * tail else float(values.max())
    counts, edges = np.histogram(values.clip(max=top), bins=num_bins)
    ends = [*edges[1:-1], float(values.max())]
    rows = zip(edges[:-1], ends, edges[1:], counts, strict=True)
    return [(f"{low:.1f} to {end:.1f}", low, high, int(number)) for low, end, high, number in rows]


def _columns(table: pa.Table, *names: str) -> list[list]:
    return [table[name].to_pylist() for name in names]


def _count_kinds(manifest: pa.Table) -> list[KindCount]:
    wrong = manifest.filter(compute.is_valid(manifest["kind"]))
    counts = Counter(zip(*_columns(wrong, "kind", "status"), strict=True))
    rows = [
        KindCount(kind, counts[kind, "failed"], counts[kind, "ok"], meaning)
        for kind, meaning in KINDS.items()
        if counts[kind, "failed"] or counts[kind, "ok"]
    ]
    return sorted(rows, key=lambda row: -row.num_failed - row.num_usable)


def _count_backends(usable: pa.Table) -> list[BackendCount]:
    """Count backends and reasons; numbers in reasons are ignored."""
    reasons = [re.sub(r"\b\d+\b", "N", reason or "") for reason in usable["backend_reason"].to_pylist()]
    counts = Counter(zip(usable["backend"].to_pylist(), reasons, strict=True))
    return [BackendCount(backend, reason, number) for (backend, reason), number in counts.most_common()]


def _count_classes(numbers: NDArray[np.int64], class_names: tuple[str, ...] | None) -> list[tuple[str, int]]:
    """Count the usable videos of each class, including empty classes."""
    labelled = numbers[numbers >= 0]
    counts = np.bincount(labelled, minlength=len(class_names or ()))
    order = np.argsort(-counts, kind="stable")
    return [(describe_label(int(label), class_names), int(counts[label])) for label in order]


def _find_duplicates(manifest: pa.Table, class_names: tuple[str, ...] | None) -> list[Duplicates]:
    manifest = _with_one_spelling(manifest)
    found = [*_equal_files(manifest, class_names), *_repeated_rows(manifest, class_names)]
    return sorted(found, key=lambda group: (not group.is_contradictory, -len(group.paths), group.paths))


def _with_one_spelling(manifest: pa.Table) -> pa.Table:
    """Write each path from the root on, without `.` and `..`, so that equal paths are equal texts."""
    if not matches(joined(manifest["path"]), r"^/|(^|/)\.{0,2}/").any():
        return manifest
    root = (manifest.schema.metadata or {}).get(b"root", b"").decode()
    full = [posixpath.normpath(posixpath.join(root, path)) for path in manifest["path"].to_pylist()]
    paths = [path.removeprefix(f"{root}/") for path in full]
    return manifest.set_column(manifest.schema.get_field_index("path"), "path", pa.array(paths, pa.large_string()))


def _equal_files(manifest: pa.Table, class_names: tuple[str, ...] | None) -> list[Duplicates]:
    hashed = manifest.select(["path", "label", "sha256"]).filter(compute.is_valid(manifest["sha256"]))
    groups: dict[str, dict[tuple[str, str], None]] = {}  # a file has several labels where its segments have
    for path, label, digest in zip(*_columns(hashed, "path", "label", "sha256"), strict=True):
        groups.setdefault(digest, {})[path, describe_label(label, class_names)] = None
    return [_duplicates(list(group)) for group in groups.values() if len({path for path, _ in group}) > 1]


def _repeated_rows(manifest: pa.Table, class_names: tuple[str, ...] | None) -> list[Duplicates]:
    """Find files, or segments of files, that several rows name."""
    keys = {name: manifest[name] for name in ("path", "start", "end") if name in manifest.column_names}
    rows = pa.table({**keys, "row": np.arange(len(manifest))})
    counts = rows.group_by(list(keys)).aggregate([("row", "list")])
    repeated = counts.filter(compute.greater(compute.list_value_length(counts["row_list"]), 1))
    found: list[Duplicates] = []
    for path, numbers in zip(*_columns(repeated, "path", "row_list"), strict=True):
        labels = manifest["label"].take(pa.array(numbers)).to_pylist()
        found.append(_duplicates([(path, describe_label(label, class_names)) for label in labels]))
    return found


def _duplicates(pairs: list[tuple[str, str]]) -> Duplicates:
    paths, labels = zip(*pairs, strict=True)
    return Duplicates(list(paths), list(labels))
