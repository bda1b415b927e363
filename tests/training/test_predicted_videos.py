"""What `data.predict` takes: annotations, or folders without labels."""

from pathlib import Path

import pytest

from mvit_video.data.settings import ClassSpec
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Annotations of two classes, and folders to predict; no video is opened."""
    for name in ("train/run/a.mp4", "loose/x.mp4", "loose/deep/y.mp4", "named/sit/b.mp4", "other/camera/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "train.csv").write_text("path,label\ntrain/run/a.mp4,run\ntrain/run/a.mp4,sit\n")
    (tmp_path / "paths.csv").write_text("path\nloose/x.mp4\n")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "paths", "labels"),
    [
        ("loose", ["deep/y.mp4", "x.mp4"], [-1, -1]),
        ("named", ["sit/b.mp4"], [1]),
        ("other", ["camera/c.mp4"], [-1]),
        ("train.csv", ["train/run/a.mp4", "train/run/a.mp4"], [0, 1]),
    ],
)
@pytest.mark.parametrize("names", [None, ["run", "sit"]])
def test_folders_need_no_labels(
    source: str, paths: list[str], labels: list[int], names: list[str] | None, folder: Path
) -> None:
    data = VideoDataModule(train=str(folder / "train.csv"), predict=str(folder / source), classes=ClassSpec(names))
    data.setup("predict")
    table = data.tables["predict"]
    assert sorted(table.paths.to_pylist()) == paths
    assert table.labels.tolist() == labels
    assert table.class_names == ("run", "sit")
    assert data.num_classes == 2


def test_without_it_the_videos_of_the_test_are_predicted(folder: Path) -> None:
    data = VideoDataModule(train=str(folder / "train.csv"), test=str(folder / "named"))
    data.setup("predict")
    assert data.tables["predict"].paths.to_pylist() == ["sit/b.mp4"]
    data = VideoDataModule(test=str(folder / "other"), classes=ClassSpec(["run", "sit"]))
    with pytest.raises(Exception, match="camera"):  # a test needs labels
        data.setup("predict")
    data = VideoDataModule(train=str(folder / "train.csv"))
    with pytest.raises(ConfigError, match=r"^data\.predict is not set"):
        data.setup("predict")
