"""Predictions are read back as they were written, and refused in one line where they cannot be what they claim."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mvit_video.runs import Predictions, load_predictions, save_predictions
from mvit_video.runs.predictions import COLUMNS, in_words, list_column
from mvit_video.types import ConfigError, MVitVideoError

SCORES = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], np.float32)
VIEWS = np.stack([SCORES, SCORES[:, ::-1]], axis=1).astype(np.float16)
THERE = np.array([True, False, True])
SETTING = {"num_clips": 2, "root": Path("/videos")}


def columns(**changes: Any) -> dict[str, Any]:
    """Three videos, the second of which has no score; None leaves a column out."""
    found = {
        "path": ["a.mp4", "b.mp4", "c.mp4"], "start": pa.array([None, 1.5, 2.0]), "end": pa.array([None, 3.0, None]),
        "label": [0, 1, -1], "prediction": [0, -1, 2], "probabilities": list_column(SCORES, THERE),
        "num_views": [2, 0, 2], "status": ["ok", "is an empty file", "ok"], "backend": ["decord", None, "pyav"],
        "damaged": pa.array([None, None, True]), "too_short": pa.array([False, None, True]),
        "view_scores": list_column(VIEWS, THERE), "clip_seconds": list_column(np.zeros((2, 2, 2)), THERE),
    } | changes  # fmt: skip
    return {name: column for name, column in found.items() if column is not None}


def save(folder: Path, setting: Mapping[str, Any] = SETTING, **changes: Any) -> Predictions:
    save_predictions(folder / "predictions.parquet", [columns(**changes)], setting, ["x", "y", "z"])
    return load_predictions(folder)


def test_every_column_is_read_back(tmp_path: Path) -> None:
    found = save(tmp_path)
    assert parquet.read_schema(found.file).names == list(COLUMNS)
    assert found.keys == [("a.mp4", None, None), ("b.mp4", 1.5, 3.0), ("c.mp4", 2.0, None)]
    assert [in_words(key) for key in found.keys[1:]] == ["b.mp4 (1.5 seconds to 3)", "c.mp4 (2 seconds to the end)"]
    assert (found.label.tolist(), found.labels) == ([0, 1, -1], [[0], [1], []])
    assert (found.prediction.tolist(), found.scored.tolist()) == ([0, -1, 2], THERE.tolist())
    assert np.array_equal(found.probabilities, SCORES)
    assert (found.status, found.class_names) == (["ok", "is an empty file", "ok"], ["x", "y", "z"])
    assert (found.metadata["num_clips"], found.metadata["root"]) == ("2", "/videos")
    assert (found.flags("damaged").tolist(), found.flags("too_short").tolist()) == ([False, False, True],) * 2
    assert load_predictions(found.file, ["i", "j", "k"]).class_names == ["i", "j", "k"]


def test_scores_of_views_are_read_for_the_wanted_videos_alone(tmp_path: Path) -> None:
    found = save(tmp_path)
    assert np.array_equal(np.concatenate(list(found.view_scores(THERE))), VIEWS.astype(np.float32))
    (last,) = found.view_scores(np.array([False, False, True]))
    assert np.array_equal(last, VIEWS[1:].astype(np.float32))
    with pytest.raises(MVitVideoError, match=r"predictions.parquet: the scores of each view were not kept"):
        list(save(tmp_path, view_scores=None).view_scores(THERE))


def test_groups_are_rows_of_one_file(tmp_path: Path) -> None:
    """Whose first group has no score, and so nothing that shows the number of classes."""
    unscored = columns(prediction=[-1, -1, -1], probabilities=list_column(SCORES[:0], np.zeros(3, np.bool_)))
    names = [name for name, column in COLUMNS.items() if column.is_required]
    groups = [{name: group[name] for name in names} for group in (unscored, columns())]
    save_predictions(tmp_path / "predictions.parquet", groups, SETTING)
    found = load_predictions(tmp_path)
    assert (len(found.keys), found.class_names, found.probabilities.shape) == (6, None, (2, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.parquet"]
    assert not found.flags("damaged").any()


def test_several_labels(tmp_path: Path) -> None:
    found = save(tmp_path, label=pa.array([[0, 2], [], None], pa.list_(pa.int64())))
    assert (found.is_multilabel, found.labels, found.label.tolist()) == (True, [[0, 2], [], []], [-1] * 3)


def test_a_score_that_is_not_finite_is_none(tmp_path: Path) -> None:
    scores = SCORES.copy()
    scores[0, 1] = np.nan
    assert save(tmp_path, probabilities=list_column(scores, THERE)).scored.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prediction": ["0", "1", "2"]}, "column prediction holds .*string, expected whole numbers"),
        ({"probabilities": [0.1, 0.2, 0.3]}, "column probabilities holds double, expected lists of numbers"),
        ({"label": [0.5, 1.0, 2.0]}, "column label holds double, expected whole numbers or lists of them"),
        ({"start": None}, "these are no predictions of a test, start is missing"),
    ],
)
def test_wrong_columns_are_neither_written_nor_read(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(MVitVideoError, match=rf"predictions.parquet: {message}"):
        save(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []
    table = pa.table(columns(**changes), metadata={"num_clips": "1"})
    parquet.write_table(table, tmp_path / "predictions.parquet")
    with pytest.raises(MVitVideoError, match=rf"predictions.parquet: {message}"):
        load_predictions(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": ["a", None, "c"]}, "column path has rows without a value"),
        ({"label": pa.array([None, 0, 1])}, "column label has rows without a value"),
        ({"label": [0, 1, 3]}, "class 3 is named, the scores are of 3 classes"),
        ({"prediction": [0, -1, 7]}, "class 7 is named, the scores are of 3 classes"),
        ({"probabilities": pa.array([[0.5], None, [0.1, 0.9]])}, "probabilities holds lists of different lengths"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(MVitVideoError, match=message):
        save(tmp_path, **changes)


def test_metadata_of_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MVitVideoError, match="num_clips is missing"):
        save(tmp_path, {"root": "/videos"})
    for text in ("[1]", "{", "[" * 100_000):
        table = pa.table(columns(), metadata={"num_clips": "1", "class_names": text})
        parquet.write_table(table, tmp_path / "predictions.parquet")
        with pytest.raises(MVitVideoError, match="no list of names as class_names"):
            load_predictions(tmp_path)
    assert load_predictions(tmp_path / "predictions.parquet", ["x", "y", "z"]).class_names == ["x", "y", "z"]


def test_a_small_file_that_claims_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    table = pa.table(columns()).take(pa.array(np.ones(3_000_000, np.int32)))
    group = dict(zip(table.column_names, table.columns, strict=True))
    save_predictions(tmp_path / "predictions.parquet", [group], SETTING)
    with pytest.raises(MVitVideoError, match=r"claims 3,000,000 values and .* write fewer or smaller"):
        load_predictions(tmp_path)


def test_equal_scores_of_many_videos_take_no_space_and_are_read(tmp_path: Path) -> None:
    there = np.ones(9000, np.bool_)
    scores = np.full((9000, 400), 1 / 400, np.float32)
    table = pa.table(columns()).take(pa.array(np.zeros(9000, np.int32)))
    group = dict(zip(table.column_names, table.columns, strict=True))
    views = {"probabilities": list_column(scores, there), "view_scores": list_column(scores[:, None], there)}
    save_predictions(tmp_path / "predictions.parquet", [group | views], SETTING)
    assert (tmp_path / "predictions.parquet").stat().st_size < 300_000
    found = load_predictions(tmp_path)
    assert found.probabilities.shape == (9000, 400)
    assert sum(len(part) for part in found.view_scores(there)) == 9000


def test_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no predictions\.parquet here; give the folder of a test"):
        load_predictions(tmp_path)
    (tmp_path / "predictions.parquet").mkdir()
    with pytest.raises(MVitVideoError, match=r"predictions\.parquet: is a folder, not a file"):
        load_predictions(tmp_path)
    (tmp_path / "text.parquet").write_text(json.dumps({}))
    with pytest.raises(MVitVideoError, match=r"text\.parquet: cannot be read as Parquet"):
        load_predictions(tmp_path / "text.parquet")
