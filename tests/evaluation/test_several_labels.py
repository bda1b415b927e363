"""The multi-view test of videos with several labels each."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import parquet

from mvit_video.data import load_annotations
from mvit_video.evaluation import MultiViewEvaluation
from mvit_video.types import ConfigError
from tests.fixtures.evaluation import MakeData, MakeOracle, RunTest

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]


@pytest.fixture
def several(digits: Path, tmp_path: Path) -> Path:
    """The digits with several labels each; the last one has none."""
    file = tmp_path / "several.jsonl"
    labels = [[0], [1, 2], [2], [0, 2], [1], [2], [0, 1], []]
    table = load_annotations(digits / "val.csv")
    rows = [{"path": str(table.locate(row)), "labels": labels[row]} for row in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_several_labels_are_scored_by_the_largest_score_of_the_views(
    make_data: MakeData,
    run_test: RunTest,
    oracle: MakeOracle,
    several: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Sigmoid(oracle):
        """Sure of each label in one view only, which the largest score of the views tells and their mean does not."""

        def test_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
            sure = (batch.view == 4)[:, None] & (batch.label > 0)
            scores = torch.full((len(batch.label), 4), 0.5)
            scores[:, :3][batch.label == 0] = 0.55
            scores[:, :3][batch.label > 0] = 0.4
            scores[:, :3][sure] = 0.9
            return {"probabilities": scores}

    trainer = run_test(make_data(test=str(several)), Sigmoid())
    assert float(trainer.callback_metrics["test/mAP"]) == 100
    table = parquet.read_table(tmp_path / "run" / "predictions.parquet")
    assert table["label"].to_pylist() == [[0], [1, 2], [2], [0, 2], [1], [2], [0, 1], []]
    assert table["probabilities"][1].as_py() == pytest.approx([0.55, 0.9, 0.9, 0.5])
    assert table.schema.metadata[b"ensemble"] == b"max"
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["metrics"] == {"mAP": 100}
    assert [one["num_videos"] for one in found["classes"]] == [3, 3, 4, 0]
    assert [one["average_precision"] for one in found["classes"]] == [100, 100, 100, None]
    assert not (tmp_path / "run" / "confusion.parquet").exists()
    printed = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "mAP 100.00" in printed
    trainer = run_test(make_data(test=str(several)), Sigmoid(), callbacks=[MultiViewEvaluation(ensemble="sum")])
    assert float(trainer.callback_metrics["test/mAP"]) < 70


def test_several_labels_have_no_confusion_matrix(make_data: MakeData, run_test: RunTest, several: Path) -> None:
    with pytest.raises(ConfigError, match="write=confusion: videos with several labels have no confusion matrix"):
        run_test(make_data(test=str(several)), callbacks=[MultiViewEvaluation(write=["confusion"])])
