"""The verb `analyse`: files, page, settings of the run, and what it refuses."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import mvit_video as mv
from mvit_video.analysis.batches import TrainingTarget, choose_rows, read_batches
from mvit_video.analysis.report import read_study
from mvit_video.analysis.studies import STUDIES
from mvit_video.cli import main
from mvit_video.data import load_annotations
from mvit_video.data.clips.mixing import Mixing
from mvit_video.data.clips.views import UniformViews
from mvit_video.models import Patch, mvit
from mvit_video.types import ClipSpec, ConfigError, MVitVideoError

CONFIG = """\
model:
  optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.001, weight_decay: 0.05}}
  label_smoothing: 0.1
  mixing: {mixup_alpha: 0.8, cutmix_alpha: 1.0, probability: 1.0, cutmix_share: 0.5}
data:
  clip: {num_frames: 4, sampling_rate: 8, target_fps: 30.0}
  mean: [0.5, 0.5, 0.5]
  augment:
    {scale: [0.8, 1.0], aspect: [0.9, 1.1], flip: 0.0, randaugment: null, repeats: 2,
     erasing: {probability: 0.25, scale: [0.02, 0.3], aspect: [0.3, 3.3]}}
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A net in the folder of its run."""
    torch.manual_seed(0)
    net = mvit(
        num_classes=4, num_frames=4, crop_size=32, depths=(1, 1), embed_dim=8, patch=Patch((1, 8, 8), (1, 8, 8))
    )  # fmt: skip
    file = tmp_path / "run" / "checkpoints" / "net.safetensors"
    file.parent.mkdir(parents=True)
    mv.save_checkpoint(net, file)
    (tmp_path / "run" / "config.yaml").write_text(CONFIG)
    return file


@pytest.fixture
def analyse(checkpoint: Path, digits: Path, tmp_path: Path) -> Callable[..., int]:
    def run(*words: str) -> int:
        own = ["--data", str(digits / "val.csv"), "--out", str(tmp_path / "out"), "--clips", "8", "--batch-size", "4"]
        return main(["analyse", str(checkpoint), *own, *words])

    return run


def test_studies_leave_tables_figures_and_one_page(analyse: Callable[..., int], tmp_path: Path) -> None:
    assert analyse("--study", "variance", "lesion", "landscape") == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "variance.parquet", "variance.png", "lesion.parquet", "lesion.png", "landscape.parquet", "landscape.png",
        "report.html",
    }  # fmt: skip
    page = (out / "report.html").read_text()
    for name in ("variance", "lesion", "landscape"):
        assert STUDIES[name].title in page
    assert page.count("data:image/png;base64,") == 3
    assert not re.search("https?:", page)
    landscape = read_study(out / "landscape.parquet")
    assert landscape is not None
    assert landscape.record["weight_decay"] == 0.05
    assert landscape.record["clips"] == 8
    assert min(landscape.table["l2"].to_pylist()) > 0


def test_what_is_there_is_not_made_again_and_the_page_joins_all(
    analyse: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert analyse("--study", "variance") == 0
    before = (out / "variance.parquet").stat().st_mtime_ns
    (out / "variance.png").unlink()
    (out / "cka.parquet").write_bytes(b"PAR1 cut off")
    assert analyse("--study", "variance", "cka") == 0
    said = capsys.readouterr().out
    assert "variance.parquet, .png  there already" in said
    assert "cka.parquet, .png  made" in said
    assert (out / "variance.parquet").stat().st_mtime_ns == before
    assert (out / "variance.png").exists()
    assert STUDIES["variance"].title in (out / "report.html").read_text()


def test_a_folder_of_another_study_is_refused(analyse: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert analyse("--study", "variance") == 0
    assert analyse("--study", "variance", "--seed", "1") == 2
    assert "variance.parquet was made with seed 0, not 1: give another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--study", "colour"], "--study: invalid choice: 'colour'"),
        (["--clips", "0"], "--clips: must be a whole number above 0, got '0'"),
        (["--data", "nowhere.csv"], "--data nowhere.csv: there is no such file or folder"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str], message: str, analyse: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyse(*words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_model_that_is_not_there_is_told_by_its_argument(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(digits / "val.csv"), "--out", str(tmp_path / "out")]
    assert main(["analyse", "mvit_c", *words]) == 2
    assert "error: RUN|CHECKPOINT mvit_c: neither a file nor a name of a model; did you" in capsys.readouterr().err
    assert main(["analyse", str(tmp_path), *words]) == 2
    assert f"error: RUN|CHECKPOINT {tmp_path}: is a directory without checkpoints/" in capsys.readouterr().err


def test_studies_that_do_not_suit_the_net_are_left_out_unless_they_are_named(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mvit_video.cli.analyse.NAMES", ("variance", "distance"))
    net = mv.create_model("alternet_18", num_classes=4, num_frames=2, crop_size=32, stem_stride=1)
    mv.save_checkpoint(net, tmp_path / "net.safetensors")
    words = [str(tmp_path / "net.safetensors"), "--data", str(digits / "val.csv"), "--out", str(tmp_path / "out")]
    assert main(["analyse", *words, "--clips", "2"]) == 0
    assert "distance is left out: blocks.3.attn: attends within windows" in capsys.readouterr().out
    assert main(["analyse", *words, "--clips", "2", "--study", "distance"]) == 2


def test_a_config_of_something_else_is_told_of(
    checkpoint: Path, analyse: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint.parents[1] / "config.yaml").write_text(CONFIG.replace("flip: 0.0", "flop: 0.0"))
    assert analyse("--study", "variance") == 1
    assert "does not describe a training" in capsys.readouterr().err


def test_targets_are_those_of_training(digits: Path) -> None:
    table = load_annotations(digits / "val.csv")
    views = UniformViews(ClipSpec(2, 8), 32)
    target = TrainingTarget(Mixing(cutmix_alpha=0), label_smoothing=0.2)
    rows = choose_rows(table, 6, 0, labelled=True)
    plain = read_batches(table, views, rows, num_classes=4, batch_size=4)
    mixed = read_batches(table, views, rows, num_classes=4, batch_size=4, target=target)
    assert [len(batch.clip) for batch in plain] == [3, 3]
    assert [int(batch.target.sum()) for batch in plain] == [3, 3]
    for before, after in zip(plain, mixed, strict=True):
        torch.testing.assert_close(after.target.sum(dim=1), torch.ones(3))
        assert float(after.target.min()) >= 0.2 / 4 - 1e-6
        assert not torch.equal(before.clip[0], after.clip[0])
    again = read_batches(table, views, rows, num_classes=4, batch_size=4, target=target)
    assert all(torch.equal(one.clip, other.clip) for one, other in zip(mixed, again, strict=True))


def test_videos_are_drawn_with_a_seed_and_those_without_a_label_left_out(digits: Path) -> None:
    table = load_annotations(digits / "val.csv")
    table.labels[3] = -1
    rows = choose_rows(table, 100, 0, labelled=True)
    assert sorted(rows) == [0, 1, 2, 4, 5, 6, 7]
    assert 3 in choose_rows(table, 100, 0, labelled=False)
    assert np.array_equal(choose_rows(table, 5, 1, labelled=True), choose_rows(table, 5, 1, labelled=True))
    table.labels[:] = -1
    with pytest.raises(ConfigError, match="no video with a known label"):
        choose_rows(table, 5, 0, labelled=True)


def test_videos_that_cannot_be_read_are_left_out(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    good = next((digits / "val").glob("*/*.mp4"))
    (tmp_path / "some.csv").write_text(f"path,label\nbroken.mp4,0\n{good},1\n")
    table = load_annotations(tmp_path / "some.csv", allow_outside=True)
    views = UniformViews(ClipSpec(2, 8), 32)
    (batch,) = read_batches(table, views, [0, 1], num_classes=4, batch_size=2)
    assert batch.target.tolist() == [[0, 1, 0, 0]]
    with pytest.raises(MVitVideoError, match="none of the 1 videos can be read"):
        read_batches(table, views, [0], num_classes=4, batch_size=2)
    with pytest.raises(ConfigError, match="the annotations have label 1, the net 1 classes"):
        read_batches(table, views, [1], num_classes=1, batch_size=2)
