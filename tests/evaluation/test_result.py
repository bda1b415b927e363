"""The result of a test: numbers over the videos with a label, each computed once."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from mvit_video.data import VideoTable
from mvit_video.data.clips.views import UniformViews
from mvit_video.evaluation import result
from mvit_video.evaluation.result import Evaluation, Setting
from mvit_video.evaluation.scores import VideoViews
from mvit_video.evaluation.written_files import write_predictions
from mvit_video.metrics import accuracy, calibration
from mvit_video.runs.results import write_confusion
from mvit_video.types import ClipSpec

SCORES = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]


def make_evaluation(labels: list[int], failures: dict[int, str] | None = None) -> Evaluation:
    paths = pa.array([f"{i}.mp4" for i in range(len(labels))])
    table = VideoTable(paths, np.array(labels), None, Path("videos"))
    video = torch.tensor([row for row in range(len(labels)) if row not in (failures or {})])
    views = VideoViews(video, torch.tensor(SCORES)[: len(video), None])
    return Evaluation(table, Setting(UniformViews(ClipSpec(), 224), "sum"), views, failures or {})


def test_each_number_is_computed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: Counter[str] = Counter()

    def count(module: object, name: str) -> None:
        inner = getattr(module, name)

        def counted(*args: object, **options: object) -> object:
            calls[name] += 1
            return inner(*args, **options)

        monkeypatch.setattr(module, name, counted)

    names = ("label_ranks", "confusion", "class_accuracy")
    for name in names:
        count(accuracy, name)
    count(result, "reliability")
    for name in ("negative_log_likelihood", "brier_score", "calibration_error"):
        count(calibration, name)
    count(result, "join_views")
    evaluation = make_evaluation([0, 1, 1, -1])
    found = evaluation.record()
    assert evaluation.metrics == found["metrics"]
    write_confusion(tmp_path / "confusion.parquet", evaluation.confusion.numpy(), evaluation.table.class_names)
    write_predictions(tmp_path / "predictions.parquet", evaluation)
    assert set(calls.values()) == {1}
    cells = parquet.read_table(tmp_path / "confusion.parquet").to_pylist()
    assert sum(cell["num_videos"] for cell in cells) == 3
    assert [one["num_videos"] for one in found["classes"]] == [1, 2, 0]
    assert found["metrics"]["top1"] == pytest.approx(200 / 3)
    assert [one["accuracy"] for one in found["classes"]] == [100, 50, None]


def test_failed_videos_count_as_wrong_beside_the_others() -> None:
    found = make_evaluation([0, 1, 1, 2, -1], {3: "broken"}).record()
    assert found["videos"] == {
        "expected": 5, "scored": 4, "failed": 1, "missing": 0, "left_out": 0, "without_label": 1, "damaged": 0,
        "too_short": 0, "repeated_views": 0,
    }  # fmt: skip
    assert found["if_failed_are_wrong"] == {"top1": 50, "top5": 75}


def test_without_a_label_nothing_is_known() -> None:
    evaluation = make_evaluation([-1, -1])
    assert math.isnan(evaluation.metrics["top1"])
    found = evaluation.record()
    assert set(found["metrics"].values()) == {None}
    assert found["intervals"] == {"level": 0.95, "method": "Wilson score"}
