"""The data module: its settings, and the loaders of each stage."""

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch

from mvit_video.data import ClipBatch
from mvit_video.data.clips.transforms import Augment
from mvit_video.data.settings import InputSpec, LoadingSpec
from mvit_video.training.datamodule import VideoDataModule
from mvit_video.types import AnnotationError, ClipSpec, ConfigError, Corruption, ViewSpec
from tests.fixtures.data import Listed

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),  # Lightning, of loaders with 0 or 1 worker
]

LOADING = LoadingSpec(2, num_workers=0)
SMALL: dict = {"clip": ClipSpec(2, 2), "input": InputSpec(32), "loading": LOADING}


def test_workers_change_nothing(listed: Listed) -> None:
    source = listed(0, 1, 2, 0, 1)

    def batches(num_workers: int) -> list[list[ClipBatch]]:
        data = VideoDataModule(
            train=source, val=source, **SMALL | {"loading": LoadingSpec(2, num_workers=num_workers), "seed": 3}
        )
        data.setup("fit")
        loader = data.train_dataloader()
        epochs = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            epochs.append(list(loader))
        return epochs

    alone, shared = batches(0), batches(2)
    assert [len(epoch) for epoch in alone] == [2, 2]
    for one, two in zip(alone[0] + alone[1], shared[0] + shared[1], strict=True):
        for left, right in zip(one[:4], two[:4], strict=True):
            assert torch.equal(left, right)
    assert not torch.equal(alone[0][0].clip, alone[1][0].clip)


def test_loaders_of_each_stage(listed: Listed) -> None:
    source = listed(0, 1, 2)
    data = VideoDataModule(train=source, val=source, views=ViewSpec(2, 3), **SMALL)
    data.setup("fit")
    assert [tuple(batch.clip.shape) for batch in data.train_dataloader()] == [(2, 3, 2, 32, 32)]
    validation = list(data.val_dataloader())
    assert [batch.video.tolist() for batch in validation] == [[0, 1], [2]]
    assert [batch.view.tolist() for batch in validation] == [[0, 0], [0]]
    data.setup("test")
    test = list(data.test_dataloader())
    assert [batch.video.tolist() for batch in test] == [[row] * 6 for row in range(3)]
    assert test[0].view.tolist() == list(range(6))
    assert set(data.tables) == {"train", "val", "test"}
    assert (data.num_classes, data.class_names) == (3, None)


def test_missing_data_is_one_line_that_helps(listed: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the demo's data may lie in the folder that the tests are run in
    data = VideoDataModule(**SMALL)
    with pytest.raises(
        ConfigError, match=r"data\.train is not set.*docs/guides/videos\.md.*configs/demo\.yaml uses .*digits`"
    ) as caught:
        data.setup("fit")
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"data\.test is not set"):
        data.setup("test")
    data = VideoDataModule(train="nowhere/k400.csv", **SMALL)
    with pytest.raises(ConfigError, match=r"there is no nowhere/k400\.csv; docs/guides/videos\.md.*demo\.yaml"):
        data.setup("fit")
    for root in ("data/demo", "/my videos/data/demo"):
        data = VideoDataModule(train=f"{root}/pairs/train.csv", **SMALL)
        command = re.escape(f"`python -m mvit_video.data.digits --root {shlex.quote(root)} --labels pairs` writes it")
        with pytest.raises(ConfigError, match=rf"there is no {root}/pairs/train\.csv; {command}"):
            data.setup("fit")
    data = VideoDataModule(train=listed(0, 1), val=str(tmp_path / "val.csv"), **SMALL)
    with pytest.raises(ConfigError, match=r"data\.val: there is no .*val\.csv"):
        data.setup("fit")
    (tmp_path / "bad.txt").write_text("a.mp4\n")
    with pytest.raises(AnnotationError, match=r"bad\.txt:1"):
        VideoDataModule(train=str(tmp_path / "bad.txt"), **SMALL).setup("fit")


def test_batches_of_a_few_videos_shrink_and_say_so(listed: Listed) -> None:
    data = VideoDataModule(
        train=listed(0, 1), augment=Augment(repeats=3), **SMALL | {"loading": LoadingSpec(4, num_workers=0)}
    )
    assert data.clips_per_batch == 12
    with pytest.warns(
        UserWarning, match=r"data\.loading\.batch_size=4 on 1 device\(s\) is more than the 2 videos .* have 2"
    ):
        data.setup("fit")
    assert data.clips_per_batch == 6
    assert [len(batch.label) for batch in data.train_dataloader()] == [6]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, r"data\.seed .* got -1"),
        ({"views": ViewSpec(short_side=16)}, r"data\.views\.short_side=16 is below data\.input\.crop_size=32"),
        ({"val_views": ViewSpec(short_side=8)}, r"data\.val_views\.short_side=8 is below data\.input\.crop_size=32"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VideoDataModule(**SMALL | settings)


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (LoadingSpec, {"batch_size": 0}, r"loading\.batch_size must be at least 1, got 0"),
        (LoadingSpec, {"test_batch_size": 0}, r"loading\.test_batch_size .* got 0"),
        (LoadingSpec, {"num_workers": -1}, r"loading\.num_workers must be at least 0, got -1"),
        (LoadingSpec, {"max_failure_rate": 1.5}, r"loading\.max_failure_rate must be between 0 and 1, got 1\.5"),
        (InputSpec, {"crop_size": 0}, r"input\.crop_size .* got 0"),
        (InputSpec, {"crop_size": 32, "decode_short_side": 31}, r"input\.decode_short_side=31 is below .*crop_size=32"),
        (ViewSpec, {"frame_order": "back"}, r"views\.frame_order must be one of forward, .* got 'back'"),
        (ViewSpec, {"protocol": "own"}, r"views\.protocol must be one of slowfast, .* got 'own'"),
        (ClipSpec, {"sampling": "often"}, r"clip\.sampling must be one of rate, segments or .*, got 'often'"),
    ],
)
def test_impossible_groups_are_refused(make: Callable[..., object], settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_the_seed_is_that_of_the_run_unless_given(listed: Listed, monkeypatch: pytest.MonkeyPatch) -> None:
    source = listed(*range(8))
    monkeypatch.setenv("PL_SEED_WORKERS", "0")  # both are put back behind the test
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")

    def order(seed: int | None = None) -> list[int]:
        data = VideoDataModule(train=source, seed=seed, **SMALL)
        data.setup("fit")
        return [row for _, row in data.train_dataloader().sampler]  # type: ignore[misc]

    L.seed_everything(7, verbose=False)
    assert order() == order(7) != order(0)
    monkeypatch.delenv("PL_GLOBAL_SEED")
    assert order() == order(0)


@pytest.mark.parametrize(
    ("sampler", "arguments", "num_clips"),
    [("RandomMultiClipSampler", {"num_clips": 2}, 12), ("UniformClipSampler", {}, None)],
)
def test_a_named_clip_sampler_sets_the_clips_of_a_batch(
    listed: Listed, sampler: str, arguments: dict[str, int], num_clips: int | None
) -> None:
    pytest.importorskip("pytorchvideo", reason="pytorchvideo is not installed")
    spec = {"class_path": f"pytorchvideo.data.clip_sampling.{sampler}", "init_args": arguments}
    settings = SMALL | {"clip": ClipSpec(4, 1, sampling=spec), "loading": LoadingSpec(2, num_workers=0)}
    data = VideoDataModule(train=listed(0, 1), val=listed(0, 1), augment=Augment(repeats=3), **settings)
    assert data.clips_per_batch == num_clips
    data.setup("fit")
    clip = next(iter(data.train_dataloader())).clip
    assert len(clip) == num_clips or (num_clips is None and len(clip) > 12)
    assert len(next(iter(data.val_dataloader())).clip) == 2


def test_segments_are_chosen_by_one_key(listed: Listed) -> None:
    source, clip = listed(0, 1), ClipSpec(4, 1)
    segments = replace(clip, sampling="segments")
    data = VideoDataModule(train=source, val=source, views=ViewSpec(1, 3), **SMALL | {"clip": segments})
    assert {rule.clip for rule in (data.train_view, data.val_views, data.test_views)} == {segments}
    data.setup("fit")
    in_segments = next(iter(data.val_dataloader())).clip
    data = VideoDataModule(train=source, val=source, views=ViewSpec(1, 3), **SMALL | {"clip": clip})
    data.setup("fit")
    assert not torch.equal(in_segments, next(iter(data.val_dataloader())).clip)
    with pytest.raises(ConfigError, match=r"views\.num_clips=5.*set views\.num_clips to 1"):
        VideoDataModule(**SMALL | {"clip": segments})


def test_decoding_is_set_by_keys(listed: Listed, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    loading = replace(LOADING, index_cache=str(folder), backend="pyav")
    data = VideoDataModule(
        test=listed(0, 1), clip=ClipSpec(2, 2), input=InputSpec(32, decode_short_side=40), loading=loading
    )
    data.setup("test")
    loader = data.test_dataloader()
    assert (loader.dataset.short_side, loader.dataset.backend) == (40, "pyav")
    assert [batch.decodes[0].backend for batch in loader] == ["pyav"] * 2
    loader.dataset.index_cache.flush()
    assert any(folder.iterdir())


def test_a_cache_that_came_with_the_annotations_is_taken(listed: Listed, tmp_path: Path) -> None:
    data = VideoDataModule(test=listed(0, 1), **SMALL)
    data.setup("test")
    assert data.test_dataloader().dataset.index_cache is None
    data.tables["test"] = replace(data.tables["test"], index_cache=tmp_path / "index")
    assert data.test_dataloader().dataset.index_cache.folder == tmp_path / "index"
    data.loading = replace(data.loading, index_cache=str(tmp_path / "own"))
    assert data.test_dataloader().dataset.index_cache.folder == tmp_path / "own"


def test_videos_outside_of_the_root_need_leave(listed: Listed, tmp_path: Path) -> None:
    listed(0)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "a.txt").write_text("../0.mp4 0\n")
    source = str(tmp_path / "lists" / "a.txt")
    with pytest.raises(AnnotationError, match=r"a\.txt:1: .*'\.\./0\.mp4'"):
        VideoDataModule(test=source, **SMALL).setup("test")
    data = VideoDataModule(test=source, **SMALL | {"loading": replace(LOADING, allow_outside=True)})
    data.setup("test")
    assert len(next(iter(data.test_dataloader())).decodes) == 1


def test_validation_takes_the_views_it_is_given(listed: Listed) -> None:
    source = listed(0, 1, 2)
    settings = SMALL | {"loading": LoadingSpec(6, num_workers=0)}
    data = VideoDataModule(val=source, val_views=ViewSpec(2, 3), **settings)
    data.setup("validate")
    batches = list(data.val_dataloader())
    assert [batch.video.tolist() for batch in batches] == [[row] * 6 for row in range(3)]  # six clips in a batch
    assert data.val_views == replace(data.test_views, views=ViewSpec(2, 3))
    wide = VideoDataModule(val=source, val_views=ViewSpec(3, 3), **settings)
    wide.setup("validate")
    assert [len(batch.clip) for batch in wide.val_dataloader()] == [9] * 3


def test_random_validation_is_another_clip_in_every_epoch_and_the_same_in_every_run(listed: Listed) -> None:
    source = listed(0, 1)

    def clips(epoch: int) -> torch.Tensor:
        data = VideoDataModule(val=source, val_views="random", **SMALL)
        data.setup("validate")
        loader = data.val_dataloader()
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        (batch,) = loader
        assert batch.view.tolist() == [0, 0]
        return batch.clip

    assert torch.equal(clips(0), clips(0))
    assert not torch.equal(clips(0), clips(1))


def test_corruption_is_of_the_test_alone(listed: Listed) -> None:
    source = listed(0, 1)
    plain = VideoDataModule(val=source, views=ViewSpec(1), **SMALL)
    noisy = VideoDataModule(val=source, views=ViewSpec(1, corruption=Corruption("gaussian_noise", 2)), **SMALL)
    for data in (plain, noisy):
        for stage in ("validate", "test"):
            data.setup(stage)
    clean, same = (next(iter(data.val_dataloader())).clip for data in (plain, noisy))
    assert torch.equal(clean, same)
    clean, changed = (next(iter(data.test_dataloader())).clip for data in (plain, noisy))
    assert (clean - changed).abs().mean() > 0.1
