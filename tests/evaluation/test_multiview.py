"""The multi-view test: what it reports, what it writes, and what it refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import auto_cli
from lightning.pytorch import Callback, Trainer
from pyarrow import parquet
from torch.utils.data import DataLoader

from mvit_video.data import load_annotations
from mvit_video.evaluation import MultiViewEvaluation
from mvit_video.types import ConfigError, VideoDecodeError
from tests.fixtures.evaluation import MakeData, MakeOracle, RunTest

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]


def test_reports_and_writes(
    make_data: MakeData,
    run_test: RunTest,
    oracle: MakeOracle,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = make_data(frame_order="reversed")
    trainer = run_test(data, oracle({1: 0, 6: 0}))
    labels = load_annotations(digits / "val.csv").labels.tolist()
    num_right = sum(label == (0 if row in (1, 6) else label) for row, label in enumerate(labels))
    assert float(trainer.callback_metrics["test/top1"]) == 100 * num_right / 8
    names = ("top1", "mean_class", "nll", "brier", "ece")  # four classes: top5 says nothing
    assert set(trainer.callback_metrics) == {f"test/{name}" for name in names}

    printed = capsys.readouterr().out
    assert "top5" not in printed
    for text in ("8 of 8", "2 clips x 3 crops", "reversed", f"{100 * num_right / 8:.2f}", "predictions.parquet"):
        assert text in printed

    table = parquet.read_table(tmp_path / "run" / "predictions.parquet")
    assert table["path"].to_pylist() == load_annotations(digits / "val.csv").paths.to_pylist()
    assert table["label"].to_pylist() == labels
    assert table["prediction"].to_pylist() == [0 if row in (1, 6) else label for row, label in enumerate(labels)]
    assert table["num_views"].to_pylist() == [6] * 8
    assert table["status"].to_pylist() == ["ok"] * 8
    assert table["probabilities"][0].as_py() == pytest.approx([0.7 if c == labels[0] else 0.1 for c in range(4)])
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    names = metadata.pop("class_names", "null")
    assert json.loads(names) == (list(data.class_names) if data.class_names else None)
    assert metadata == {
        "root": str(digits), "protocol": "slowfast", "views": "2 clips x 3 crops", "num_clips": "2", "num_crops": "3",
        "num_frames": "2", "sampling_rate": "8", "target_fps": "30.0", "sampling": "rate", "crop_size": "32",
        "short_side": "32", "frame_order": "reversed", "corruption": "none", "ensemble": "sum",
        "view_scores": "probabilities",
    }  # fmt: skip
    written = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert written == ["confusion.parquet", "metrics.json", "predictions.parquet"]


def test_writes_the_scores_of_each_view(make_data: MakeData, run_test: RunTest, tmp_path: Path) -> None:
    pytest.importorskip("decord")
    run_test(make_data())
    rows = parquet.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()
    for row in rows:
        assert [len(scores) for scores in row["view_scores"]] == [4] * 6
        assert row["view_scores"][5] == pytest.approx([0.7 if c == row["label"] else 0.1 for c in range(4)], rel=1e-3)
        assert (row["start"], row["end"], row["damaged"], row["backend"]) == (None, None, None, "decord")
        # 32 frames at 30 fps, two clips of 16 in which the last of two frames is 15 behind the first
        expected = [[0, 15 / 30]] * 3 + [[16 / 30, 31 / 30]] * 3
        assert row["clip_seconds"] == [pytest.approx(times, abs=1e-3) for times in expected]


def test_records_the_numbers(
    make_data: MakeData, run_test: RunTest, oracle: MakeOracle, digits: Path, tmp_path: Path
) -> None:
    run_test(make_data(), oracle({1: 0, 6: 0}))
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    labels = load_annotations(digits / "val.csv").labels.tolist()
    num_right = sum(label == (0 if row in (1, 6) else label) for row, label in enumerate(labels))
    assert found["videos"] == {
        "expected": 8, "scored": 8, "failed": 0, "missing": 0, "left_out": 0, "without_label": 0, "damaged": 0,
        "too_short": 0, "repeated_views": 0,
    }  # fmt: skip
    assert found["metrics"]["top1"] == 100 * num_right / 8
    assert found["intervals"]["top1"]["low"] < found["metrics"]["top1"] < found["intervals"]["top1"]["high"]
    assert found["metrics"]["ece"] == pytest.approx(abs(100 * num_right / 8 - 70))
    assert sum(one["num_videos"] for one in found["reliability"]) == 8
    assert found["by_views"][-1]["top1"] == found["metrics"]["top1"]
    assert [one["num_videos"] for one in found["classes"]] == [labels.count(c) for c in range(4)]
    assert found["if_failed_are_wrong"] is None
    cells = parquet.read_table(tmp_path / "run" / "confusion.parquet").to_pylist()
    assert sum(cell["num_videos"] for cell in cells if cell["label"] == cell["prediction"]) == num_right
    assert sum(cell["num_videos"] for cell in cells) == 8


@pytest.mark.filterwarnings("ignore:.*ignoring 1 of 9 videos, which are missing:UserWarning")
def test_counts_the_videos_that_are_not_there(
    make_data: MakeData, run_test: RunTest, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = load_annotations(digits / "val.csv")
    videos = [(Path(listed.path(row)).stem, f"class {listed.label_of(row)}") for row in range(8)]
    lines = [f"{label},{name},0,10,val" for name, label in [*videos, ("elsewhere", "class 0")]]
    source = tmp_path / "val.csv"
    source.write_text("\n".join(["label,youtube_id,time_start,time_end,split", *lines]) + "\n")
    run_test(make_data(test=str(source), root=str(digits / "val")))
    printed = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "videos 8 of 8" in printed
    assert "videos missing 1" in printed


def test_lists_a_video_that_cannot_be_read(
    make_data: MakeData, run_test: RunTest, broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = run_test(make_data(test=str(broken), on_error="skip"))
    assert float(trainer.callback_metrics["test/top1"]) == 100
    printed = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "videos 8 of 9" in printed
    assert "videos failed 1" in printed
    row = parquet.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()[2]
    assert (row["path"], row["prediction"], row["probabilities"], row["num_views"]) == ("broken.mp4", -1, None, 0)
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (found["videos"]["expected"], found["videos"]["scored"], found["videos"]["failed"]) == (9, 8, 1)
    assert found["if_failed_are_wrong"]["top1"] == pytest.approx(100 * 8 / 9)
    assert "top1 if failed are wrong 88.89" in printed
    with (tmp_path / "run" / "failures.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"path": "broken.mp4", "reason": row["status"]}]


def test_tells_a_corrupt_an_empty_and_a_short_video_apart(
    make_data: MakeData, run_test: RunTest, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = load_annotations(digits / "val.csv")
    good = table.locate(0).read_bytes()
    (tmp_path / "corrupt.mp4").write_bytes(good[: len(good) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "good.mp4").write_bytes(good)
    (tmp_path / "test.csv").write_text(
        "path,label,start,end\ngood.mp4,0,,\ncorrupt.mp4,1,,\nempty.mp4,2,,\ngood.mp4,1,0,0.1\ngood.mp4,2,50,60\n"
    )
    run_test(make_data(test=str(tmp_path / "test.csv"), on_error="skip"))
    rows = parquet.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()
    assert [row["status"] == "ok" for row in rows] == [True, False, False, True, False]
    assert len({row["status"] for row in rows}) == 4  # a reason for each of the three
    assert "no frame begins between 50 and 60 seconds" in rows[4]["status"]
    assert [(row["start"], row["end"]) for row in rows[3:]] == [(0, 0.1), (50, 60)]
    assert rows[3]["clip_seconds"][0] == pytest.approx([0, 2 / 30], abs=1e-3)  # three frames, the last one repeated
    assert [row["too_short"] for row in rows] == [False, None, None, True, None]
    printed = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "videos 2 of 5 videos failed 3 videos too short for a clip 1" in printed
    with (tmp_path / "run" / "failures.csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["corrupt.mp4", "empty.mp4", "good.mp4"]


def test_stops_at_a_video_that_cannot_be_read(
    make_data: MakeData, run_test: RunTest, broken: Path, tmp_path: Path
) -> None:
    with pytest.raises(VideoDecodeError, match=r"broken\.mp4"):
        run_test(make_data(test=str(broken)))
    assert not (tmp_path / "run").exists()


def test_says_what_a_limit_left_out(make_data: MakeData, run_test: RunTest, tmp_path: Path) -> None:
    run_test(make_data(), limit_test_batches=1)
    status = parquet.read_table(tmp_path / "run" / "predictions.parquet")["status"].to_pylist()
    assert status == ["ok"] * 3 + ["left out by trainer.limit_test_batches"] * 5


def test_lists_a_video_whose_probabilities_are_not_finite(
    make_data: MakeData, run_test: RunTest, oracle: MakeOracle, tmp_path: Path
) -> None:
    class Diverged(oracle):
        def test_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
            outputs = super().test_step(batch, batch_idx)
            outputs["probabilities"][(batch.video == 4) & (batch.view == 1)] = torch.nan
            return outputs

    run_test(make_data(), Diverged())
    status = parquet.read_table(tmp_path / "run" / "predictions.parquet")["status"].to_pylist()
    assert status == ["the model's output is non-finite" if row == 4 else "ok" for row in range(8)]


@pytest.mark.parametrize(
    ("write", "files"),
    [
        (["predictions"], {"predictions.parquet", "failures.csv"}),
        (["confusion"], {"confusion.parquet"}),
        (["metrics", "confusion"], {"metrics.json", "confusion.parquet"}),
        ([], set()),
        (None, {"predictions.parquet", "failures.csv", "confusion.parquet", "metrics.json"}),
    ],
)
def test_writes_what_it_is_told_to(
    write: Any, files: set[str], make_data: MakeData, run_test: RunTest, broken: Path, tmp_path: Path
) -> None:
    callback = MultiViewEvaluation() if write is None else MultiViewEvaluation(write=write)
    trainer = run_test(make_data(test=str(broken), on_error="skip"), callbacks=[callback])
    assert {path.name for path in tmp_path.iterdir()} - {"broken.csv", "broken.mp4"} == files
    assert float(trainer.callback_metrics["test/top1"]) == 100


def test_an_unknown_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"write=\['scores'\]: 'scores' is none of metrics, predictions, confusion"):
        MultiViewEvaluation(write=["scores"])  # type: ignore[list-item]


def test_prints_nothing_where_it_is_told_to(
    make_data: MakeData, run_test: RunTest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = MultiViewEvaluation(tmp_path, with_views=False, write=["predictions"], verbose=False)
    run_test(make_data(), callbacks=[callback])
    assert capsys.readouterr().out == ""
    names = parquet.read_schema(tmp_path / "predictions.parquet").names
    assert not {"view_scores", "clip_seconds"} & set(names)


def test_yaml_makes_the_callback() -> None:
    (evaluation,) = from_yaml("""
        - class_path: mvit_video.evaluation.MultiViewEvaluation
          init_args: {ensemble: max, temperature_from: runs/held_out, write: [metrics, predictions]}
    """)
    assert (evaluation.ensemble, evaluation.temperature_from, evaluation.folder) == ("max", "runs/held_out", None)
    assert evaluation.write == ("metrics", "predictions")


@pytest.mark.parametrize(("old", "file"), [("PredictionWriter", "predictions"), ("ConfusionMatrix", "confusion")])
def test_yaml_of_before_is_told_what_to_write(old: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        from_yaml(f"- class_path: mvit_video.evaluation.{old}")
    told = " ".join(capsys.readouterr().err.split())
    assert f"{old} is now part of MultiViewEvaluation: give it write: [{file}]" in told


def from_yaml(config: str) -> Any:
    def made(callbacks: list[Callback]) -> Any:
        return callbacks

    return auto_cli(made, args=["--callbacks", config], as_positional=False, allow_abbrev=False)


def test_a_second_one_is_refused(make_data: MakeData, run_test: RunTest) -> None:
    with pytest.raises(ConfigError, match="more than one MultiViewEvaluation"):
        run_test(make_data(), callbacks=[MultiViewEvaluation(), MultiViewEvaluation(ensemble="max")])


def test_takes_what_the_loader_tests(make_data: MakeData, oracle: MakeOracle, tmp_path: Path) -> None:
    """Without a data module, and not a loader of anything else."""
    data = make_data()
    data.setup("test")
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=[MultiViewEvaluation(tmp_path)],
    )  # fmt: skip
    trainer.test(oracle(), dataloaders=data.test_dataloader(), verbose=False)
    assert json.loads((tmp_path / "metrics.json").read_text())["setting"]["views"] == "2 clips x 3 crops"
    with pytest.raises(ConfigError, match="MultiViewEvaluation needs one test loader over a VideoDataset with Uniform"):
        trainer.test(oracle(), dataloaders=DataLoader([1]), verbose=False)  # type: ignore[arg-type]


def test_nothing_is_written_in_a_trial_run(make_data: MakeData, run_test: RunTest, tmp_path: Path) -> None:
    run_test(make_data(), callbacks=[MultiViewEvaluation()], fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_mean_of_logits(make_data: MakeData, run_test: RunTest, oracle: MakeOracle, tmp_path: Path) -> None:
    class WithLogits(oracle):
        def test_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
            logits = torch.zeros(len(batch.label), 4)
            logits[:, 0] = batch.view.float()
            return super().test_step(batch, batch_idx) | {"logits": logits}

    run_test(make_data(), WithLogits(), callbacks=[MultiViewEvaluation(tmp_path, ensemble="logit_mean")])
    table = parquet.read_table(tmp_path / "predictions.parquet")
    expected = torch.tensor([2.5, 0, 0, 0]).softmax(dim=0).tolist()
    assert table["probabilities"][3].as_py() == pytest.approx(expected)
    assert [scores[0] for scores in table["view_scores"][3].as_py()] == [0, 1, 2, 3, 4, 5]
    assert table.schema.metadata[b"view_scores"] == b"logits"


def test_mean_of_logits_needs_logits(make_data: MakeData, run_test: RunTest) -> None:
    with pytest.raises(ConfigError, match="ensemble=logit_mean needs logits, which the task's test_step does not"):
        run_test(make_data(), callbacks=[MultiViewEvaluation(ensemble="logit_mean")])


def test_tells_what_a_temperature_does(
    make_data: MakeData,
    run_test: RunTest,
    oracle: MakeOracle,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    held = MultiViewEvaluation(tmp_path / "held", write=["predictions"], verbose=False)
    run_test(make_data(test=str(digits / "train.csv")), oracle(dict.fromkeys((0, 4, 8, 12), 3)), callbacks=[held])
    run_test(make_data(), callbacks=[MultiViewEvaluation(tmp_path / "run", temperature_from=str(tmp_path / "held"))])
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found["metrics"]["ece"] == pytest.approx(30, abs=1e-3)  # as they are
    told = found["temperature"]
    assert (told["num_videos"], told["fitted_on"]) == (16, str(tmp_path / "held" / "predictions.parquet"))
    assert told["value"] != pytest.approx(1, abs=0.05)
    assert told["metrics"]["ece"] != pytest.approx(30, abs=1)
    assert f"at temperature {told['value']:.3f}" in capsys.readouterr().out


def test_no_temperature_from_the_tested_videos(make_data: MakeData, run_test: RunTest, tmp_path: Path) -> None:
    run_test(make_data(), callbacks=[MultiViewEvaluation(tmp_path / "same")])
    with pytest.raises(ConfigError, match=r"\.mp4 is among the videos of this test too; fit to others"):
        run_test(make_data(), callbacks=[MultiViewEvaluation(tmp_path, temperature_from=str(tmp_path / "same"))])


def test_no_temperature_from_nowhere(make_data: MakeData, run_test: RunTest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no predictions\.parquet here"):
        run_test(make_data(), callbacks=[MultiViewEvaluation(tmp_path, temperature_from=str(tmp_path))])
