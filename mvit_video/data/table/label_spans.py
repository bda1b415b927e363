"""When in a video each of its labels occurs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mvit_video.data.table.labels import LabelError
from mvit_video.jobs.arrow import compute, first, to_mask

COLUMN = "label_spans"
TYPE = pa.large_list(pa.large_list(pa.float64()))
"""For each label of a video: start, end, start, end ... in seconds."""


def group_labels(
    videos: NDArray[np.int64], labels: NDArray[np.int64], spans: NDArray[np.float64], num_videos: int
) -> tuple[pa.Array, pa.Array]:
    """Return the labels of each video, each once, and the spans of each label.

    Args:
        videos: `(occurrences,)` video in which a label occurs.
        labels: `(occurrences,)`.
        spans: `(occurrences, 2)` seconds.
    """
    pairs, place = np.unique(np.stack([videos, labels]), axis=1, return_inverse=True)
    order = np.argsort(place.reshape(-1), kind="stable")
    times = _offsets(2 * np.bincount(place.reshape(-1), minlength=pairs.shape[1]))
    per_label = pa.LargeListArray.from_arrays(times, pa.array(spans[order].reshape(-1)))
    per_video = _offsets(np.bincount(pairs[0], minlength=num_videos))
    return (
        pa.LargeListArray.from_arrays(per_video, pa.array(pairs[1])),
        pa.LargeListArray.from_arrays(per_video, per_label),
    )


def check_label_spans(spans: pa.Array, labels: pa.ListArray | None, error: LabelError) -> pa.Array | None:
    """Return the spans as a column of a table; None where no label has any.

    Args:
        spans: as a file gives them.
        labels: the labels of each video; None in a table with one label per video.
        error: makes the error about a row.
    """
    if spans.null_count == len(spans):
        return None
    if labels is None:
        raise error(int(spans.is_valid().index(True).as_py()), f"has {COLUMN} but one label; they belong to `labels`")
    try:
        spans = spans.cast(TYPE)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise error(0, f"{COLUMN} is {spans.type}, not a list of seconds for each label") from None
    counts = compute.fill_null(compute.list_value_length(spans), -1)
    bad = first(~to_mask(compute.equal(counts, compute.list_value_length(labels))))
    if bad is not None:
        raise error(bad, f"has {labels[bad].as_py()!r} as labels and other {COLUMN}, {spans[bad].as_py()!r}")
    inner = spans.flatten()
    rows = compute.list_parent_indices(spans).to_numpy()
    lengths = compute.fill_null(compute.list_value_length(inner), 1).to_numpy()
    bad = first((lengths % 2 != 0) | (lengths == 0))
    if bad is None:
        times = inner.flatten().to_numpy(zero_copy_only=False).reshape(-1, 2)
        of_label = np.repeat(np.arange(len(inner)), lengths // 2)
        wrong = first(~((times[:, 0] >= 0) & (times[:, 0] <= times[:, 1])))
        bad = None if wrong is None else int(of_label[wrong])
    if bad is not None:
        raise error(int(rows[bad]), f"{COLUMN} {inner[bad].as_py()!r} are no starts and ends in seconds")
    return spans


def is_label_spans(value: Any) -> bool:
    """Whether a value of JSON is a list of lists of numbers."""
    return isinstance(value, list) and all(
        isinstance(times, list)
        and all(isinstance(time, (int, float)) and not isinstance(time, bool) and abs(time) < 2**53 for time in times)
        for times in value
    )


def _offsets(counts: NDArray[np.int64]) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(counts)]))
