"""Trained models: nets with what they were trained to see, from runs, checkpoints of any format, and names."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import mvit_video as mv
from mvit_video.checkpoints import LoadReport, files, read_checkpoint, save_checkpoint
from mvit_video.data import VideoTable
from mvit_video.data.clips.transforms import Normalize
from mvit_video.data.clips.views import UniformViews
from mvit_video.data.dataset import VideoDataset
from mvit_video.models import mvit, mvitv2_s
from mvit_video.models.published import IMAGENET_MEAN, IMAGENET_STD, TrainingFacts
from mvit_video.runs import load_model
from mvit_video.types import CheckpointError, ConfigError
from tests.fixtures.features import WriteRun

NAMES = ["left", "right", "up"]
RANDOM = "random weights, so its results mean nothing: give a checkpoint or a run folder"
# of a run by an earlier version, as far as a loaded model depends on it
OLD_CONFIG = """
# lightning.pytorch==2.6.6
seed_everything: 0
trainer: {accelerator: cpu, callbacks: null}
model:
  net:
    class_path: mvit_video.models.mvit
    init_args: {num_classes: 3, num_frames: 4, crop_size: 32}
  multi_label: false
data:
  train: data/demo/orbit/train.csv
  allow_outside: false
  class_names: null
  clip: {num_frames: 4, sampling_rate: 2, target_fps: 25.0}
  sampling: rate
  crop_size: 32
  augment: {scale: [0.8, 1.0], flip: 0.0, repeats: 1}
  mean: [0.4, 0.5, 0.6]
  std: [0.2, 0.3, 0.4]
  views: {num_clips: 1, num_crops: 3, short_side: 36}
  val_views: {num_clips: 1, num_crops: 1, short_side: null}
  batch_size: 16
  num_workers: 2
  backend: decord
  decode_short_side: null
  on_error: raise
  frame_order: forward
  corruption: null
  protocol: slowfast
ckpt_path: null
"""


def test_a_run_by_an_earlier_version_opens(write_run: WriteRun, tmp_path: Path) -> None:
    run = write_run({}, NAMES)
    (run / "config.yaml").write_text(OLD_CONFIG)
    found = load_model(run)
    assert found.preprocessing.clip == mv.ClipSpec(4, 2, 25.0)
    assert (found.preprocessing.input.crop_size, found.preprocessing.short_side()) == (32, 36)
    assert (found.preprocessing.input.mean, found.preprocessing.input.std) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    assert (found.class_names, found.multi_label, found.name) == (tuple(NAMES), False, str(run))
    assert isinstance(found.report, LoadReport)
    assert (found.report.missing, found.report.unexpected) == ([], [])
    assert found.net(torch.zeros(1, 3, 4, 32, 32)).shape == (1, 3)
    test = tmp_path / "version_1"  # a test of it
    test.mkdir()
    (test / "run.json").write_text(json.dumps({"checkpoint": str(run / "checkpoints" / "last.ckpt")}))
    (test / "config.yaml").write_text(OLD_CONFIG)
    assert load_model(test).digest() == found.digest()


# of a run by this version, likewise
NEW_DATA = {
    "train": "data/demo/orbit/train.csv", "classes": {"names": None},
    "clip": {"num_frames": 4, "sampling_rate": 2, "target_fps": 25.0, "sampling": "rate"},
    "input": {"crop_size": 32, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "decode_short_side": None},
    "views": {
        "num_clips": 1, "num_crops": 3, "short_side": 36, "protocol": "slowfast", "frame_order": "forward",
        "corruption": None,
    },
    "loading": {"batch_size": 16, "num_workers": 2, "backend": "decord", "on_error": "raise"},
}  # fmt: skip


def test_both_layouts_of_a_config_say_the_same(write_run: WriteRun) -> None:
    run = write_run(NEW_DATA, NAMES)
    new = load_model(run).preprocessing
    (run / "config.yaml").write_text(OLD_CONFIG)
    assert load_model(run).preprocessing == new
    assert (new.input.crop_size, new.short_side(), new.input.mean) == (32, 36, (0.4, 0.5, 0.6))


def test_no_file_is_read_twice(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    first_bytes = files.first_bytes
    monkeypatch.setattr(files, "first_bytes", lambda path: read.append(path) or first_bytes(path))
    load_model(tiny_checkpoint)
    mv.create_model(checkpoint=tiny_checkpoint)
    mv.create_model("mvit_b_16x4", num_classes=3, num_frames=4, crop_size=32)
    assert read == [tiny_checkpoint] * 2


def test_a_run_folder_tells_clips_scale_and_classes(write_run: WriteRun, tmp_path: Path) -> None:
    data = {
        "clip": {"num_frames": 4, "sampling_rate": 2, "target_fps": 15.0}, "mean": [0.1, 0.2, 0.3], "std": [1, 1, 2],
        "views": {"short_side": 40},
    }  # fmt: skip
    run = write_run(data, ["left", "right", "up"])
    for model in (run, run / "checkpoints" / "last.ckpt"):
        trained = load_model(str(model))
        assert trained.class_names == ("left", "right", "up")
        assert trained.notes == ()
        found = trained.preprocessing
        assert (found.clip.sampling_rate, found.clip.target_fps, found.short_side()) == (2, 15.0, 40)
        assert (found.input.mean, found.input.std, found.input.crop_size) == ((0.1, 0.2, 0.3), (1, 1, 2), 32)
    (run / "config.yaml").write_text("data: {clip: {num_frames: 8}}")
    with pytest.raises(CheckpointError, match=r"config beside .*num_frames=8, the net has 4"):
        load_model(str(run))
    code = f"{{class_path: os.mkdir, init_args: {{path: {tmp_path}/ran}}}}"
    (run / "config.yaml").write_text(f"{{model: {{net: {code}, optimizer: {code}}}, trainer: {{callbacks: [{code}]}}}}")
    assert load_model(str(run)).checkpoint is not None
    assert not (tmp_path / "ran").exists()  # a config that is read for its sizes is never executed
    (run / "config.yaml").write_text("data: {views: {short_side: x}}")
    with pytest.raises(CheckpointError, match=r"config beside .*data.views.short_side='x': expected a whole number"):
        load_model(str(run))
    (run / "config.yaml").write_text("[" * 10_000)
    with pytest.raises(CheckpointError, match=r"config.yaml: line 1: more than 50 levels"):
        load_model(str(run))
    with pytest.raises(ConfigError, match=r"source=.*: is a directory without checkpoints/best\.ckpt or last\.ckpt"):
        load_model(str(tmp_path))
    (tmp_path / "run.json").write_text('{"checkpoint": "runs/gone/version_0/checkpoints/last.ckpt"}')
    with pytest.raises(
        ConfigError, match=r"a test of runs/gone/version_0/checkpoints/last\.ckpt, which no longer exists"
    ):
        load_model(str(tmp_path))


def test_the_folder_of_a_test_stands_for_the_checkpoint_that_it_tested(
    write_run: WriteRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever one stands: its path is relative to where the test was started."""
    run = write_run({"mean": [0.1, 0.2, 0.3]}, ["left", "right", "up"])
    test = tmp_path / "run_of_test"
    test.mkdir()
    (test / "run.json").write_text('{"checkpoint": "run/checkpoints/last.ckpt"}')
    monkeypatch.chdir(test)
    trained = load_model(str(test))
    assert trained.checkpoint is not None
    assert trained.checkpoint.samefile(run / "checkpoints" / "last.ckpt")
    assert (trained.class_names, trained.preprocessing.input.mean) == (("left", "right", "up"), (0.1, 0.2, 0.3))


def test_what_the_weights_were_trained_with_is_in_the_file_or_assumed_and_said(tmp_path: Path) -> None:
    small: dict[str, Any] = {"num_classes": 3, "crop_size": 32, "depths": (1, 1), "embed_dim": 8}
    save_checkpoint(
        mvit(num_frames=4, **small), tmp_path / "a.pt", facts=TrainingFacts((0.1, 0.2, 0.3), (1.0, 1.0, 2.0), 2)
    )
    trained = load_model(str(tmp_path / "a.pt"))
    found = trained.preprocessing
    assert (found.input.mean, found.input.std, found.clip.sampling_rate) == ((0.1, 0.2, 0.3), (1.0, 1.0, 2.0), 2)
    assert (trained.notes, trained.multi_label) == ((), False)
    save_checkpoint(mvitv2_s(**small), tmp_path / "image.pt")  # every net of images was trained with ImageNet's
    trained = load_model(str(tmp_path / "image.pt"))
    assert (trained.preprocessing.input.mean, trained.preprocessing.input.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert len(trained.notes) == 1
    assert "are not in the file; assumed as published for images: mean=(0.485, 0.456, 0.406)" in trained.notes[0]
    with torch.device("meta"):
        trained = load_model("mvitv2_t")
    assert trained.preprocessing.input.mean == IMAGENET_MEAN


def test_the_choice_between_weights_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights = mvit(num_classes=3, num_frames=4, crop_size=32, depths=(1, 1), embed_dim=8).state_dict()
    torch.save({"model": weights, "model_ema": weights}, tmp_path / "net.pth")
    load_model(str(tmp_path / "net.pth"))
    assert "took its model, not model_ema; mvit-video convert " in caplog.text
    assert "net.pth OUT --to mvit_video --use-ema takes model_ema" in caplog.text


def test_a_run_of_several_labels_has_sigmoids(write_run: WriteRun) -> None:
    run = write_run({"mean": [0.1, 0.2, 0.3]}, ["left", "right", "up"])
    assert not load_model(str(run)).multi_label
    config = {"model": {"multi_label": True}, "data": {"mean": [0.1, 0.2, 0.3]}}
    (run / "config.yaml").write_text(json.dumps(config))
    assert load_model(str(run)).multi_label


def test_names_tell_their_clips_and_have_the_same_weights_every_time() -> None:
    first, second = (load_model("mvit_b_32x3") for _ in range(2))
    assert first.preprocessing.clip.sampling_rate == 3
    assert first.digest() == second.digest()
    assert "random weights" in first.notes[0]


def test_names_of_a_file_that_are_none_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    net = mv.create_model(checkpoint=tiny_checkpoint)
    mv.save_checkpoint(net, tmp_path / "net.safetensors", class_names=NAMES)
    content = (tmp_path / "net.safetensors").read_bytes()
    (tmp_path / "net.safetensors").write_bytes(content.replace(b'\\"left\\"', b"[[[1]]] "))
    mv.save_checkpoint(net, tmp_path / "shown.safetensors", class_names=["a\x1b[31m", "b\xa0c", "\ud800"])
    assert read_checkpoint(tmp_path / "shown.safetensors").class_names == ("a\\x1b[31m", "b\xa0c", "\\ud800")
    with pytest.raises(mv.CheckpointError, match=r"its metadata have no list of names as class_names, got '\[\[\[\[1"):
        load_model(str(tmp_path / "net.safetensors"))


def test_given_names_stand_for_those_of_the_checkpoint(write_run: WriteRun) -> None:
    run = str(write_run({}, NAMES))
    assert load_model(run, class_names=["a", "b", "c"]).class_names == ("a", "b", "c")
    with pytest.raises(mv.ConfigError, match=r"class_names holds 2 names, source=.*run has 3 classes"):
        load_model(run, class_names=["a", "b"])


def test_a_saved_model_is_the_same_model(write_run: WriteRun, tmp_path: Path) -> None:
    data = {
        "clip": {"num_frames": 4, "sampling_rate": 2, "target_fps": 15.0, "sampling": "segments"},
        "mean": [0.1, 0.2, 0.3], "views": {"short_side": 40, "interpolation": "bicubic"},
    }  # fmt: skip
    run = write_run(data, NAMES)
    (run / "config.yaml").write_text(json.dumps({"data": data, "model": {"multi_label": True}}))
    trained = load_model(run)
    trained.save(tmp_path / "new" / "saved")
    found = load_model(tmp_path / "new" / "saved")
    assert (found.preprocessing, found.class_names, found.multi_label) == (trained.preprocessing, tuple(NAMES), True)
    assert found.notes == () == trained.notes
    clip = torch.rand(2, 3, 4, 32, 32)
    assert torch.equal(found.net(clip), trained.net(clip))
    assert not torch.allclose(found.scores(found.net(clip)).sum(dim=1), torch.ones(2))
    (tmp_path / "new" / "saved" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"saved/config\.json: cannot be read"):
        load_model(tmp_path / "new" / "saved")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"file/saved: cannot be written"):
        trained.save(tmp_path / "file" / "saved")


def test_a_run_with_a_sampler_of_clips_is_tested_at_its_rate(write_run: WriteRun, tmp_path: Path) -> None:
    sampler = {"class_path": "pytorchvideo.data.clip_sampling.RandomClipSampler", "init_args": {"clip_duration": 1.0}}
    trained = load_model(write_run({"clip": {"num_frames": 4, "sampling_rate": 2, "sampling": sampler}}, NAMES))
    assert trained.preprocessing.clip.sampling == sampler
    assert trained.preprocessing.test_views(num_clips=2, num_crops=1).num_frames == 4
    trained.save(tmp_path / "saved")
    assert load_model(tmp_path / "saved").preprocessing == trained.preprocessing


def test_a_saved_model_of_random_weights_still_warns(tmp_path: Path) -> None:
    load_model("pvt_v2_b0").save(tmp_path)
    assert load_model(tmp_path).notes[0].endswith(RANDOM)


def test_a_model_prints_what_it_is(write_run: WriteRun) -> None:
    run = write_run({"clip": {"num_frames": 4, "sampling_rate": 2}}, ["left", "right", "up\n"])
    trained = load_model(run)
    assert str(trained).splitlines() == [
        str(run), "  model    mvit, 0.03 M parameters", "  classes  3: left, right, up\\n",
        "  clip     4 frames, 2 apart at 30 fps; crops of 32 pixels from a short side of 36 (bilinear)",
        "  scores   softmax", f"  weights  {run}/checkpoints/last.ckpt",
    ]  # fmt: skip
    assert repr(trained) == f"<TrainedModel '{run}': mvit, 3 classes, clips 4x2 of 32 pixels>"
    assert load_model(trained) is trained


def test_preprocessing_makes_the_views_of_a_test(write_run: WriteRun, digits: Path) -> None:
    data = {
        "clip": {"num_frames": 4, "sampling_rate": 2}, "mean": [0.1, 0.2, 0.3],
        "views": {"short_side": 40, "frame_order": "reversed", "num_clips": 7},
    }  # fmt: skip
    trained, video = load_model(write_run(data, NAMES)), min(digits.glob("val/*/*.mp4"))
    clips = trained.preprocess(video, num_clips=2, num_crops=3)
    views = UniformViews(
        mv.ClipSpec(4, 2), 32, mv.ViewSpec(2, 3, short_side=40), Normalize((0.1, 0.2, 0.3), (0.225, 0.225, 0.225))
    )
    expected = VideoDataset(VideoTable.of_paths([str(video)], Path()), views, backend="pyav")[0]
    assert torch.equal(clips, expected.clip)
    assert torch.equal(trained.preprocess(video.read_bytes(), 2, 3), clips)
    assert trained.net(clips).shape == (6, 3)
    assert not trained.net.training


def test_random_weights_are_told_of_by_every_verb_that_loads_them(
    tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the log, since a verb can forget to print notes."""
    load_model("pvt_v2_b0")
    told = [(one.levelno, one.getMessage()) for one in caplog.records if "random" in one.getMessage()]
    assert told == [(logging.WARNING, f"pvt_v2_b0 has {RANDOM}")]
    caplog.clear()
    load_model(str(tiny_checkpoint))
    assert "random" not in caplog.text
