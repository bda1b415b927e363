"""Table of a robustness run, over the videos that have a score in every setting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.evaluation.robustness.running import PLAIN, RobustnessSetting, Study, seconds_of
from mvit_video.metrics.accuracy import class_precision, label_ranks, mean_known
from mvit_video.metrics.intervals import share_interval
from mvit_video.metrics.views import Ensemble, chosen_views, describe_views, fewer_views, join_views
from mvit_video.runs.predictions import Predictions, load_predictions
from mvit_video.types import MVitVideoError, ViewSpec

SCHEMA = pa.schema(
    [
        ("study", pa.string()), ("setting", pa.string()), ("severity", pa.int32()), ("metric", pa.string()),
        ("value", pa.float64()), ("low", pa.float64()), ("high", pa.float64()), ("num_videos", pa.int64()),
        ("seconds", pa.float64()),
    ]
)  # fmt: skip


class _Case(NamedTuple):
    """A setting and its probabilities, `(V, C)`."""

    study: Study
    setting: str
    severity: int | None
    seconds: float | None
    probabilities: Tensor


def robustness_table(
    folder: Path, studies: Sequence[Study], settings: Sequence[RobustnessSetting], gigaflops: float
) -> pa.Table:
    """Return a row of every metric of every setting.

    Columns: `study`; `setting`, such as "reversed", "blur" or "3 clips x 1 crop"; `severity` of a corruption, else
    null; `metric`: "top1" and "top5", or "mAP" of videos with several labels; `value` in percent; `low` and `high` of
    its 95% interval, null for mAP; `num_videos`, the same in every row; `seconds` of the test, null where scores of
    another test were used. The metadata has `gigaflops_per_view`, giga multiply-adds, and
    `num_classes`.

    Raises:
        MVitVideoError: the settings were tested on different videos, or no video has a score in all of them.
    """
    first = load_predictions(PLAIN.folder(folder))
    tests = {setting: first if setting.is_plain else load_predictions(setting.folder(folder)) for setting in settings}
    for test in tests.values():
        if test.keys != first.keys or not np.array_equal(test.label, first.label):
            raise MVitVideoError(f"{test.file}: other videos than in {first.file}; remove {folder} and run again")
    common = np.logical_and.reduce([test.scored for test in tests.values()])
    if not first.is_multilabel:
        common &= first.label >= 0
    if not common.any():
        raise MVitVideoError(f"{folder}: no video with a label has a score in all of {len(tests)} settings")
    label = _labels(first, common)
    rows = [
        {
            "study": case.study, "setting": case.setting, "severity": case.severity, **found,
            "num_videos": int(common.sum()), "seconds": case.seconds,
        }
        for case in _cases(folder, studies, tests, common)
        for found in _numbers(case.probabilities, label)
    ]  # fmt: skip
    about = {"gigaflops_per_view": str(gigaflops), "num_classes": str(first.probabilities.shape[1])}
    return pa.Table.from_pylist(rows, SCHEMA.with_metadata(about))


def _cases(
    folder: Path, studies: Sequence[Study], tests: dict[RobustnessSetting, Predictions], common: NDArray[np.bool_]
) -> Iterator[_Case]:
    for study in studies:
        if study == "views":
            yield from _view_cases(tests[PLAIN], common)
            continue
        for setting, test in tests.items():
            if setting.study not in (None, study):
                continue
            name = "none" if setting.is_plain and study == "corruptions" else setting.name
            probabilities = torch.from_numpy(test.probabilities[common[test.scored]])
            yield _Case(study, name, setting.severity, seconds_of(setting, folder), probabilities)


def _view_cases(plain: Predictions, common: NDArray[np.bool_]) -> Iterator[_Case]:
    setting = plain.metadata
    views = ViewSpec(int(setting["num_clips"]), int(setting["num_crops"]))
    ensemble: Any = setting["ensemble"]
    for fewer in fewer_views(views):
        chosen = chosen_views(views, fewer.num_clips, fewer.num_crops).tolist()
        blocks = _view_blocks(plain, common, chosen, ensemble)
        yield _Case("views", describe_views(fewer), None, None, torch.cat(list(blocks)))


def _view_blocks(
    plain: Predictions, common: NDArray[np.bool_], chosen: list[int], ensemble: Ensemble
) -> Iterator[Tensor]:
    """Yield probabilities from some of the views, a block of videos at a time: all views at once may not fit."""
    for scores in plain.view_scores(common):
        yield join_views(torch.from_numpy(scores), ensemble, multi_label=plain.is_multilabel, views=chosen)


def _labels(plain: Predictions, common: NDArray[np.bool_]) -> Tensor:
    if not plain.is_multilabel:
        return torch.from_numpy(plain.label[common])
    rows = common.nonzero()[0].tolist()
    labels = torch.zeros(len(rows), plain.probabilities.shape[1], dtype=torch.uint8)
    for label, row in zip(labels, rows, strict=True):
        label[plain.labels[row]] = 1
    return labels


def _numbers(probabilities: Tensor, label: Tensor) -> Iterator[dict[str, Any]]:
    if label.ndim == 2:
        value = float(mean_known(class_precision(probabilities, label)))
        yield {"metric": "mAP", "value": value, "low": None, "high": None}
        return
    ranks = label_ranks(probabilities, label)
    for k in (1, 5):
        num_hits = int((ranks < k).sum())
        bounds = share_interval(num_hits, len(ranks))
        yield {"metric": f"top{k}", "value": 100 * num_hits / len(ranks), **bounds._asdict()}
