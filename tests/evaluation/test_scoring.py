"""`mv.evaluate`: the numbers of `mvit-video test` without a trainer, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mvit_video as mv
from mvit_video.data import load_annotations
from mvit_video.metrics.views import join_views
from mvit_video.runs.listing import find_runs
from tests.fixtures.features import WriteRun
from tests.fixtures.training import Run

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


def test_evaluate_gives_the_numbers_of_a_test_run(
    run: Run, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", "--trainer.limit_train_batches=1", "--trainer.max_epochs=1") == 0
    capsys.readouterr()
    assert run("test", "--ckpt_path=last") == 0
    printed = capsys.readouterr().out
    trained, test = (tmp_path / "runs" / "tiny" / f"version_{n}" for n in (0, 1))
    expected: dict[str, Any] = json.loads((test / "metrics.json").read_text())
    states = [(run.name, run.model, run.metric, run.state) for run in find_runs(tmp_path / "runs" / "tiny")]
    assert states == [("version_1", "mvit", "test/top1", "tested"), ("version_0", "mvit", "val/top1", "finished")]
    for source, data in ((trained, digits / "val.csv"), (test, load_annotations(digits / "val.csv"))):
        result = mv.evaluate(source, data, num_clips=2)
        assert result.record() == expected
        for line in str(result).splitlines():
            assert line in printed
    assert repr(result).startswith(f"<Evaluation of 8 videos: top1 {result.metrics['top1']:.4g}, ")
    model = mv.load_model(trained)
    with torch.inference_mode():
        views = [
            model.scores(model.net(model.preprocess(digits / result.table.path(row), num_clips=2)))
            for row in range(len(result.table))
        ]
    joined = join_views(torch.stack(views), "sum", multi_label=False)
    np.testing.assert_allclose(result.probabilities, joined, atol=1e-6)


def test_a_folder_of_classes_is_scored_in_the_order_of_the_model(
    write_run: WriteRun, digits: Path, tmp_path: Path
) -> None:
    names = ["clockwise_3", "counterclockwise_1", "clockwise_1"]
    model = mv.load_model(write_run({}, names))
    with pytest.raises(mv.ConfigError, match=r"data=.*val: class 'counterclockwise_3' is none of .*run; remove or ren"):
        mv.evaluate(model, digits / "val", num_clips=1)
    for name in names:
        (tmp_path / "three" / name).mkdir(parents=True)
        for video in (digits / "val" / name).iterdir():
            (tmp_path / "three" / name / video.name).symlink_to(video)
    result = mv.evaluate(model, tmp_path / "three", num_clips=1, num_crops=3, backend="pyav", num_workers=0)
    assert result.table.class_names == tuple(names)
    for row, label in enumerate(result.label.tolist()):
        assert names[label] == Path(result.table.path(row)).parent.name
    assert result.record()["setting"]["views"] == "1 clip x 3 crops"


def test_labels_that_the_model_does_not_have_are_refused(tiny_checkpoint: Path, digits: Path, tmp_path: Path) -> None:
    with pytest.raises(mv.ConfigError, match=r"data=.*val\.csv: has class 3, .*tiny\.safetensors has 3 classes"):
        mv.evaluate(tiny_checkpoint, digits / "val.csv")
    video = next(digits.glob("val/*/*.mp4"))
    (tmp_path / "many.csv").write_text(f'path,labels\n{video},"[0, 1]"\n')
    with pytest.raises(mv.ConfigError, match=r"has lists of labels per video, .* was trained with one for each"):
        mv.evaluate(tiny_checkpoint, tmp_path / "many.csv")


def test_a_model_of_several_labels_is_scored_by_sigmoids(write_run: WriteRun, digits: Path, tmp_path: Path) -> None:
    run = write_run({}, ["a", "b", "c"])
    (run / "config.yaml").write_text('{"model": {"multi_label": true}, "data": {}}')
    model, videos = mv.load_model(run), sorted(digits.glob("val/*/*.mp4"))[:2]
    (tmp_path / "many.csv").write_text(f'path,labels\n{videos[0]},"[0, 1]"\n{videos[1]},[2]\n')
    result = mv.evaluate(model, tmp_path / "many.csv", num_clips=2, num_workers=0)
    assert list(result.metrics) == ["mAP"]
    assert result.setting.ensemble == "max"
    expected = [model.net(model.preprocess(video, 2)).sigmoid().max(dim=0).values for video in videos]
    torch.testing.assert_close(result.probabilities, torch.stack(expected), rtol=1e-4, atol=1e-5)
    found = mv.classify(videos[0], model, k=3)
    assert abs(float(found.overall.sum()) - 1) > 0.01


def test_a_video_that_cannot_be_read_raises_or_is_listed(tiny_checkpoint: Path, broken: Path) -> None:
    model = mv.load_model(tiny_checkpoint)
    table = load_annotations(broken).without_labels(None)
    with pytest.raises(mv.VideoDecodeError, match=r"broken\.mp4"):
        mv.evaluate(model, table, num_clips=1)
    result = mv.evaluate(model, table, num_clips=1, on_error="skip")
    assert list(result.failures) == [2]
    assert result.counts()["failed"] == 1
