"""The data module: labels and names of classes of all splits."""

import json
from pathlib import Path

import pytest
import torch

from mvit_video.data.settings import ClassSpec, InputSpec, LoadingSpec
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import AnnotationError, ClipSpec, ConfigError
from tests.fixtures.data import Listed

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # Lightning, of loaders with 0 or 1 worker
]

SMALL: dict = {"clip": ClipSpec(2, 2), "input": InputSpec(32), "loading": LoadingSpec(2, num_workers=0)}


def test_classes_are_those_of_all_annotations(listed: Listed) -> None:
    data = VideoDataModule(train=listed(0, 1, name="a.txt"), val=listed(0, 4, name="b.txt"), **SMALL)
    data.setup("fit")
    assert data.num_classes == 5
    data = VideoDataModule(train=listed("run", "hop", name="a.txt"), val=listed("hop", "run", name="b.txt"), **SMALL)
    data.setup("test")
    assert data.class_names == ("hop", "run")
    assert data.num_classes == 2


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_class_that_is_not_trained_is_refused(listed: Listed, stage: str) -> None:
    val = listed("run", "hop", "sit", name="a.txt")
    data = VideoDataModule(train=listed("run", "hop", name="b.txt"), val=val, **SMALL)
    with pytest.raises(
        ConfigError, match=r"data\.(val|test) has the class 'sit', which is not in data\.train"
    ) as caught:
        data.setup(stage)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_a_part_of_the_classes_is_numbered_as_in_training(listed: Listed, stage: str) -> None:
    train = listed("run", "hop", "sit", name="a.txt")
    data = VideoDataModule(train=train, val=listed("sit", "hop", name="b.txt"), **SMALL)
    data.setup(stage)
    table = data.tables["test" if stage == "test" else "val"]
    assert data.class_names == table.class_names == ("hop", "run", "sit")
    assert table.labels.tolist() == [2, 0]


def test_given_class_names_number_all_splits(listed: Listed, tmp_path: Path) -> None:
    names = ["sit", "run", "hop"]
    (tmp_path / "names.txt").write_text("\n".join(names))
    train, val = listed("run", "hop", name="a.txt"), listed("sit", "hop", name="b.txt")
    for given in (names, str(tmp_path / "names.txt")):
        data = VideoDataModule(train=train, val=val, classes=ClassSpec(given), **SMALL)
        data.setup("fit")
        assert data.class_names == tuple(names)
        assert [table.labels.tolist() for table in data.tables.values()] == [[1, 2], [0, 2]]
    with pytest.raises(AnnotationError, match=r"b\.txt:1: .*'sit'"):
        VideoDataModule(train=train, val=val, classes=ClassSpec(names[1:]), **SMALL).setup("fit")


def test_training_takes_one_kind_of_label(listed: Listed) -> None:
    data = VideoDataModule(train=listed("run", "hop", name="a.txt"), val=listed(0, 1, name="b.txt"), **SMALL)
    with pytest.raises(ConfigError, match=r"data\.train has class names but data\.val has class numbers"):
        data.setup("fit")


def test_a_test_set_is_no_business_of_other_splits(listed: Listed, tmp_path: Path) -> None:
    named, numbered = listed("run", "hop", name="a.txt"), listed(0, 900, name="b.txt")
    (tmp_path / "broken.txt").write_text("a.mp4\n")
    for other in (named, numbered, str(tmp_path / "broken.txt"), str(tmp_path / "missing.txt")):
        for labels in ([3, 1], [-1, -1]):
            data = VideoDataModule(train=other, val=other, test=listed(*labels, name="test.txt"), **SMALL)
            data.setup("test")
            assert data.tables["test"].labels.tolist() == labels
            assert (data.class_names, data.num_classes) == (None, max(labels) + 1)
    data = VideoDataModule(train=numbered, test=named, **SMALL)
    data.setup("test")
    assert data.class_names == ("hop", "run")


def test_training_needs_labels(listed: Listed) -> None:
    with pytest.raises(ConfigError, match=r"1\.mp4 has label -1"):
        VideoDataModule(train=listed(0, -1), **SMALL).setup("fit")


def test_several_labels_per_video(listed: Listed, tmp_path: Path) -> None:
    listed(0, 0, 0)
    rows = [("0.mp4", [0, 2]), ("1.mp4", []), ("2.mp4", [1])]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps({"path": p, "label": n}) + "\n" for p, n in rows))
    data = VideoDataModule(train=str(tmp_path / "many.jsonl"), val=str(tmp_path / "many.jsonl"), **SMALL)
    data.setup("fit")
    assert data.is_multilabel
    assert data.num_classes == 3
    assert data.example_of(2) == "data.train: 0.mp4"
    with pytest.raises(ValueError, match="no video has label 3"):
        data.example_of(3)
    labels = torch.cat([batch.label for batch in data.val_dataloader()])
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_one_label_beside_lists_is_a_list_of_one(listed: Listed, tmp_path: Path) -> None:
    val = listed(1, 0, 3)
    (tmp_path / "train.txt").write_text("0.mp4\t0,2\n1.mp4\t1\n2.mp4\t2\n")
    data = VideoDataModule(train=str(tmp_path / "train.txt"), val=val, **SMALL)
    data.setup("fit")
    table = data.tables["val"]
    assert [table.label_of(row) for row in range(3)] == [[1], [0], [3]]
    assert table.rows_of(3).tolist() == [2]
    labels = torch.cat([batch.label for batch in data.val_dataloader()])
    assert labels.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    data = VideoDataModule(train=val, val=str(tmp_path / "train.txt"), **SMALL)
    data.setup("fit")
    assert data.tables["train"].is_multilabel
    data = VideoDataModule(train=str(tmp_path / "train.txt"), val=listed(1, -1, name="unknown.txt"), **SMALL)
    with pytest.raises(ConfigError, match=r"data\.val: 1\.mp4 has label -1 .* have lists of labels; write its labels"):
        data.setup("fit")


def test_an_example_of_a_label_names_split_and_path(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label\na.mp4,0\nb.mp4,7\n")
    data = VideoDataModule(train=str(tmp_path / "train.csv"), loading=LoadingSpec(1))
    data.setup("fit")
    assert data.example_of(7) == "data.train: b.mp4"
    with pytest.raises(ValueError, match="no video has label 3"):
        data.example_of(3)
