"""A folder of one's own: which videos train, which validate, with nothing but `data.root` set."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.cli import main
from mvit_video.data import VideoTable
from mvit_video.data.settings import InputSpec, LoadingSpec
from mvit_video.data.splits import hold_out
from mvit_video.jobs.arrow import as_strings
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import ClipSpec, ConfigError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:data.train has one class only"),
    pytest.mark.filterwarnings("ignore:data.val. . classes have a single video"),
]

SMALL: dict = {"clip": ClipSpec(2, 2), "input": InputSpec(32), "loading": LoadingSpec(2, num_workers=0)}


@pytest.fixture
def make_folder(tmp_path: Path, barcode_video: Path) -> Callable[..., Path]:
    def make(**counts: int) -> Path:
        for name, count in counts.items():
            folder = tmp_path / "videos" / name.replace("__", "/")
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.mp4").symlink_to(barcode_video)
        return tmp_path / "videos"

    return make


def paths(data: VideoDataModule, split: str) -> set[str]:
    return set(data.tables[split].paths.to_pylist())  # type: ignore[index]


def test_a_fifth_of_each_class_is_held_out(make_folder: Callable[..., Path]) -> None:
    root = make_folder(bow=10, run=3, sit=1)
    data = VideoDataModule(root=str(root), **SMALL)
    data.setup("fit")
    data.setup("test")
    train, val = paths(data, "train"), paths(data, "val")
    assert {name: sum(path.startswith(name) for path in val) for name in ("bow", "run", "sit")} == {
        "bow": 2, "run": 1, "sit": 0,
    }  # fmt: skip
    assert not train & val
    assert len(train | val) == 14
    assert paths(data, "test") == val
    assert data.class_names == ("bow", "run", "sit")
    again = VideoDataModule(root=str(root), **SMALL)
    again.setup("test")
    assert paths(again, "test") == val
    assert again.tables["test"].labels.tolist() == data.tables["test"].labels.tolist()


def test_folders_named_after_the_splits(make_folder: Callable[..., Path]) -> None:
    root = make_folder(train__bow=2, train__run=2, val__bow=1, val__run=1)
    data = VideoDataModule(root=str(root), **SMALL)
    data.setup("fit")
    data.setup("test")
    assert (len(data.tables["train"]), len(data.tables["val"]), len(data.tables["test"])) == (4, 2, 2)


@pytest.mark.parametrize("val", ["validate", "valid", "Validation", "VAL", "dev"])
@pytest.mark.parametrize("test", ["test", "testing", "Tests"])
def test_splits_have_other_names_too(make_folder: Callable[..., Path], val: str, test: str) -> None:
    root = make_folder(Training__bow=2, **{f"{val}__bow": 1, f"{test}__bow": 3})
    data = VideoDataModule(root=str(root), **SMALL)
    data.setup("fit")
    data.setup("test")
    assert (len(data.tables["train"]), len(data.tables["val"]), len(data.tables["test"])) == (2, 1, 3)


def test_two_folders_of_one_split_are_refused(make_folder: Callable[..., Path]) -> None:
    root = make_folder(train__bow=2, val__bow=1, validation__bow=1)
    with pytest.raises(ConfigError, match=r"has both 'val' and 'validation' for val; rename one, or set data\.train"):
        VideoDataModule(root=str(root), **SMALL)


def test_folders_that_are_no_split_are_named(make_folder: Callable[..., Path]) -> None:
    root = make_folder(train__bow=2, held_back__bow=1, test=3)
    with pytest.warns(UserWarning, match=r"ignoring folders that are not a split .*: held_back, test$"):
        VideoDataModule(root=str(root), **SMALL)


def test_a_folder_for_training_alone_is_divided(make_folder: Callable[..., Path]) -> None:
    data = VideoDataModule(root=str(make_folder(train__bow=5, train__run=5)), **SMALL)
    data.setup("fit")
    data.setup("test")
    assert (len(data.tables["train"]), len(data.tables["val"]), len(data.tables["test"])) == (8, 2, 2)


def test_a_test_folder_is_tested_whole(make_folder: Callable[..., Path]) -> None:
    data = VideoDataModule(root=str(make_folder(train__bow=5, train__run=5, test__bow=3, test__run=1)), **SMALL)
    data.setup("fit")
    data.setup("test")
    assert (len(data.tables["train"]), len(data.tables["val"]), len(data.tables["test"])) == (8, 2, 4)


def test_a_class_may_be_called_train(make_folder: Callable[..., Path]) -> None:
    data = VideoDataModule(root=str(make_folder(car=5, train=5)), **SMALL)
    data.setup("fit")
    assert data.class_names == ("car", "train")


def test_shards_are_divided_too(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    assert main(["pack", str(make_folder(bow=5, run=5)), "--out", str(tmp_path / "shards")]) == 0
    data = VideoDataModule(root=str(tmp_path / "shards"), **SMALL)
    data.setup("fit")
    assert (len(data.tables["train"]), len(data.tables["val"])) == (8, 2)
    (item,) = (data.val_dataloader().dataset[0, row] for row in [1])
    assert (item.failure, item.label) == (None, 1)


def test_nothing_is_held_out_of_single_videos(make_folder: Callable[..., Path]) -> None:
    data = VideoDataModule(root=str(make_folder(bow=1, run=1)), **SMALL)
    with pytest.warns(UserWarning, match=r"data.val: every class has a single video, .* this run has no validation"):
        data.setup("fit")
    assert (len(data.tables["train"]), len(data.tables["val"])) == (2, 0)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"run": 4}, "data.train has one class only, run: a model that learns nothing also scores 100"),
        ({"run": 6, "jump": 1}, "data.val: 1 classes have a single video, so they are missing in validation"),
        ({"run": 2, "jump": 2}, None),
    ],
)
def test_data_whose_scores_say_little_are_warned_of(
    make_folder: Callable[..., Path], recwarn: pytest.WarningsRecorder, counts: dict[str, int], message: str | None
) -> None:
    VideoDataModule(root=str(make_folder(**counts)), **SMALL | {"loading": LoadingSpec(1, num_workers=0)}).setup("fit")
    texts = [str(warning.message) for warning in recwarn]
    assert texts == ([] if message is None else [message])


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*nothing"):
        VideoDataModule(root=str(tmp_path / "nothing"), **SMALL).setup("fit")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_the_split_is_a_partition_and_leaves_every_class_in_training(labels: list[int]) -> None:
    table = VideoTable(as_strings([f"{i}.mp4" for i in range(len(labels))]), np.array(labels), None, Path())
    train, held = hold_out(table)
    assert sorted([*train, *held]) == list(range(len(labels)))
    for label in set(labels):
        count = labels.count(label)
        assert (table.labels[held] == label).sum() == (0 if count == 1 else -(-count // 5))
