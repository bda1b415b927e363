"""Robustness: what is tested, what is not tested again, and numbers over the videos that every setting could score."""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pytest
import torch
from lightning.pytorch import Trainer
from pyarrow import parquet
from torch import Tensor, nn

from mvit_video.data.dataset import ClipBatch
from mvit_video.evaluation import MultiViewEvaluation
from mvit_video.evaluation.robustness.figure import draw_robustness, write_robustness
from mvit_video.evaluation.robustness.running import (
    PLAIN,
    RobustnessSetting,
    find_robustness_run,
    robustness_key,
    run_settings,
    settings_of,
)
from mvit_video.evaluation.robustness.running import write_robustness_record as write_record
from mvit_video.evaluation.robustness.table import SCHEMA, robustness_table
from mvit_video.metrics.intervals import share_interval
from mvit_video.metrics.views import accuracy_by_views
from mvit_video.models.net import VideoNet, multiply_adds
from mvit_video.types import ConfigError, Corruption, MVitVideoError, ViewSpec
from tests.fixtures.evaluation import MakeData, MakeOracle


class Score(Protocol):
    def __call__(self, settings: Any = ..., **changes: Any) -> Any: ...


pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]
SETTINGS = [
    PLAIN,
    RobustnessSetting("frame_order", "reversed"),
    RobustnessSetting("corruptions", corruption=Corruption("blur", 5)),
]


class SmallNet(VideoNet):
    num_classes = 4

    def __init__(self) -> None:
        super().__init__(num_classes=4, num_frames=2, crop_size=32, dropout=0.0)
        self.head = nn.Linear(3 * 2 * 32 * 32, 4)

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(clip.flatten(1))


@pytest.fixture
def score(make_data: MakeData, oracle: MakeOracle, tmp_path: Path) -> Score:
    """Runs settings; returns what was tested, clip by clip, in each call."""

    class Spy(oracle):
        """Right when frames go forward; has no answer about video 4 when they go backward."""

        def __init__(self) -> None:
            super().__init__()
            self.net = SmallNet()
            self.seen: list[tuple[str, Any]] = []

        def test_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Tensor]:
            rule = self.trainer.datamodule.test_views.views  # type: ignore[union-attr]
            self.seen.append((f"{rule.frame_order} {rule.corruption}", batch.clip))
            outputs = super().test_step(batch, batch_idx)
            if rule.frame_order == "reversed":
                outputs["probabilities"] = outputs["probabilities"].roll(1, dims=1)
                outputs["probabilities"][batch.video == 4] = torch.nan
            return outputs

    def run(
        settings: list[RobustnessSetting] = SETTINGS, callbacks: Any = None, **changes: Any
    ) -> dict[str, list[Tensor]]:
        task = Spy()
        trainer = Trainer(
            accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False, default_root_dir=tmp_path,
            callbacks=callbacks or [MultiViewEvaluation()],
        )  # fmt: skip
        data = make_data(**changes)
        assert run_settings(trainer, task, data, settings, tmp_path / "run", None) == pytest.approx(24576 / 1e9)
        assert (data.test_views.views.frame_order, data.test_views.views.corruption) == ("forward", None)
        found: dict[str, list[Tensor]] = {}
        for name, clip in task.seen:
            found.setdefault(name, []).append(clip)
        return found

    return run


def test_settings_of_studies() -> None:
    names = [str(setting) for setting in settings_of(["frame_order", "corruptions"], [5, 2])]
    assert names[:6] == [
        "plain",
        "frames shuffled",
        "frames reversed",
        "frames frozen",
        "gaussian_noise 2",
        "gaussian_noise 5",
    ]
    assert len(names) == len(set(names)) == 4 + 5 * 2
    assert settings_of(["views"]) == [PLAIN]
    assert len({setting.mark(Path("run")) for setting in settings_of(["frame_order", "corruptions"])}) == 29


@pytest.mark.parametrize(
    ("studies", "severities", "message"),
    [
        (["order"], [1], r"--studies takes one or more of views, frame_order, corruptions, each once, got \['order'\]"),
        (["views", "views"], [1], "--studies takes"),
        (["views"], [0], r"--severities takes one or more of 1, 2, 3, 4, 5, each once, got \[0\]"),
        ([], [1], "--studies takes"),
    ],
)
def test_unknown_studies_are_refused(studies: Any, severities: list[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(studies, severities)


def test_every_setting_is_tested_once(score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = score()
    assert list(seen) == ["forward None", "reversed None", "forward blur 5"]
    plain, reverse, blurred = (torch.cat(clips) for clips in seen.values())
    assert torch.equal(reverse, plain.flip(2))
    assert (blurred - plain).abs().mean() > 0.1
    printed = capsys.readouterr().out
    assert "setting 3 of 3: blur 5" in printed
    assert printed.count("Multi-view test") == 1  # of the plain one
    names = sorted(path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*.*"))
    assert names == [
        "confusion.parquet", "metrics.json", "predictions.parquet", "robustness/blur_5/predictions.parquet",
        "robustness/blur_5/setting.json", "robustness/frames_reversed/failures.csv",
        "robustness/frames_reversed/predictions.parquet", "robustness/frames_reversed/setting.json",
        "robustness/plain/setting.json",
    ]  # fmt: skip
    metadata = parquet.read_schema(tmp_path / "run" / "robustness" / "blur_5" / "predictions.parquet").metadata
    assert metadata[b"corruption"] == b"blur 5"


def test_finished_settings_are_not_tested_again(score: Score, tmp_path: Path) -> None:
    score(SETTINGS[:2])
    before = (tmp_path / "run" / "predictions.parquet").stat().st_mtime_ns
    assert list(score()) == ["forward blur 5"]
    assert score() == {}
    assert (tmp_path / "run" / "predictions.parquet").stat().st_mtime_ns == before


def test_the_settings_of_the_callback_are_those_of_every_test(score: Score, tmp_path: Path) -> None:
    score(callbacks=[MultiViewEvaluation(ensemble="max", with_views=False)])
    folders = [setting.folder(tmp_path / "run") for setting in SETTINGS]
    schemas = [parquet.read_schema(folder / "predictions.parquet") for folder in folders]
    assert [schema.metadata[b"ensemble"] for schema in schemas] == [b"max"] * 3
    assert ["view_scores" in schema.names for schema in schemas] == [True, False, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_order": "reversed"}, "data.views.frame_order=reversed: a robustness run changes it"),
        (
            {"corruption": Corruption("blur", 2)},
            "data.views.corruption=blur 2: a robustness run changes it for each setting",
        ),
    ],
)
def test_what_the_verb_sets_is_not_set_beside(score: Score, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        score(**changes)


def test_all_settings_count_the_same_videos(score: Score, tmp_path: Path) -> None:
    """Video 4 has no score in one setting, so it counts in none."""
    score()
    table = robustness_table(tmp_path / "run", ["views", "frame_order", "corruptions"], SETTINGS, 1.5)
    assert table.schema.equals(SCHEMA)
    assert table.schema.metadata == {b"gigaflops_per_view": b"1.5", b"num_classes": b"4"}
    rows = table.to_pylist()
    assert {row["num_videos"] for row in rows} == {7}
    top1 = {(row["study"], row["setting"], row["severity"]): row for row in rows if row["metric"] == "top1"}
    assert [*top1] == [
        *(("views", f"{k} clip{'s' * (k > 1)} x {s} crop{'s' * (s > 1)}", None) for s in (1, 3) for k in (1, 2)),
        ("frame_order", "forward", None), ("frame_order", "reversed", None), ("corruptions", "none", None),
        ("corruptions", "blur", 5),
    ]  # fmt: skip
    assert [row["value"] for row in top1.values()] == [100] * 5 + [0] + [100] * 2
    assert top1["frame_order", "reversed", None]["low"] == 0
    marks = [json.loads(setting.mark(tmp_path / "run").read_text())["seconds"] for setting in SETTINGS]
    assert [row["seconds"] for row in top1.values()] == [None] * 4 + [marks[0], marks[1], marks[0], marks[2]]
    write_robustness(tmp_path, table)
    assert parquet.read_table(tmp_path / "robustness.parquet").equals(table, check_metadata=True)


def test_views_are_those_of_accuracy_by_views(score: Score, oracle: MakeOracle, tmp_path: Path) -> None:
    score([PLAIN])
    file = tmp_path / "run" / "predictions.parquet"
    stored = parquet.read_table(file)
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(4), (8, 6)).astype(np.float16)
    column = pa.array([list(video) for video in scores], pa.list_(pa.list_(pa.float16())))
    parquet.write_table(stored.set_column(stored.schema.get_field_index("view_scores"), "view_scores", column), file)
    rows = robustness_table(tmp_path / "run", ["views"], [PLAIN], 1.0).to_pylist()
    label = torch.tensor(stored["label"].to_pylist())
    points = accuracy_by_views(torch.from_numpy(scores.astype(np.float32)), label, ViewSpec(2, 3))
    for metric in ("top1", "top5"):
        some = [row for row in rows if row["metric"] == metric]
        assert [row["value"] for row in some] == [point[metric] for point in points]
        for row in some:
            assert (row["low"], row["high"]) == share_interval(round(row["value"] * 8 / 100), 8)


def test_other_videos_are_refused(score: Score, tmp_path: Path, digits: Path) -> None:
    score(SETTINGS[:1])
    score(SETTINGS[:2], test=str(digits / "train.csv"))
    with pytest.raises(MVitVideoError, match=r"frames_reversed/predictions\.parquet: other videos than in .*run again"):
        robustness_table(tmp_path / "run", ["frame_order"], SETTINGS[:2], 1.0)


def test_multiply_adds_are_counted_without_touching_the_net() -> None:
    net = SmallNet().train()
    weight = net.head.weight
    assert multiply_adds(net) == pytest.approx(3 * 2 * 32 * 32 * 4)
    assert net.head.weight is weight
    assert net.training


def test_a_run_is_found_by_what_it_tests(tmp_path: Path) -> None:
    config = {
        "model": {"net": {"class_path": "a"}, "optimizer": 1}, "data": {"val": "a.csv", "loading": {"num_workers": 2}},
        "trainer": {"precision": "32"},
    }  # fmt: skip
    checkpoint = tmp_path / "a.ckpt"
    checkpoint.write_bytes(b"weights")
    key = robustness_key(config, checkpoint)
    assert key == robustness_key({**config, "data": {"val": "a.csv", "loading": {"num_workers": 0}}}, checkpoint)
    assert key != robustness_key({**config, "data": {"val": "b.csv"}}, checkpoint)
    assert key != robustness_key({**config, "trainer": {"precision": "bf16-mixed"}}, checkpoint)
    assert key != robustness_key(config, None)
    checkpoint.write_bytes(b"other weights")
    assert key != robustness_key(config, checkpoint)
    assert find_robustness_run(tmp_path, key) is None
    for number, written in ((0, key), (1, "another")):
        write_record(tmp_path / f"version_{number}", written)
    (tmp_path / "version_2").mkdir()
    (tmp_path / "version_2" / "robustness.json").write_text("{")
    assert find_robustness_run(tmp_path, key) == tmp_path / "version_0"


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    made: list[dict[str, Any]] = []

    def add(study: str, setting: str, severity: int | None, value: float) -> None:
        row = {"study": study, "setting": setting, "severity": severity, "num_videos": 100, "seconds": 1.0}
        made.append({**row, "metric": "top1", "value": value, "low": value - 5, "high": value + 5})
        made.append({**row, "metric": "top5", "value": 99.0, "low": 98.0, "high": 100.0})

    for clips in (1, 2, 3):
        add("views", f"{clips} clips x 1 crop", None, 60 + clips)
        add("views", f"{clips} clips x 3 crops", None, 62 + clips)
    for order, value in (("forward", 63), ("shuffled", 55), ("reversed", 58), ("frozen", 40)):
        add("frame_order", order, None, value)
    add("corruptions", "none", None, 63)
    for severity in (1, 3):
        add("corruptions", "blur", severity, 60 - severity)
    return pa.Table.from_pylist(made, SCHEMA.with_metadata({"gigaflops_per_view": "70.5", "num_classes": "5"}))


def test_the_figure_says_what_its_axes_are(rows: pa.Table, tmp_path: Path) -> None:
    figure = draw_robustness(rows)
    views, orders, corruptions = figure.axes
    assert [axes.get_title() for axes in figure.axes] == [
        "Views of each video",
        "Order of the frames",
        "Corrupted clips",
    ]
    assert {axes.get_ylabel() for axes in figure.axes} == {"top1, %"}
    assert "GFLOPs per video, 70.5 per view" in views.get_xlabel()
    one, three = (line for line in views.get_lines() if line.get_label() in ("centre crop", "3 crops"))
    assert one.get_xdata().tolist() == [70.5, 141, 211.5]
    assert three.get_xdata().tolist() == [211.5, 423, 634.5]
    assert three.get_ydata().tolist() == [63, 64, 65]
    assert [text.get_text() for text in orders.get_xticklabels()] == ["forward", "shuffled", "reversed", "frozen"]
    assert [bar.get_height() for bar in orders.patches] == [63, 55, 58, 40]
    assert corruptions.get_lines()[0].get_ydata().tolist() == [63, 59, 57]
    assert [text.get_text() for text in corruptions.get_xticklabels()] == ["none", "1", "3"]
    assert [axes.get_ylim()[1] <= 100 for axes in figure.axes] == [True] * 3
    chance = [axes.get_lines()[-1].get_ydata() for axes in (orders, corruptions)]
    assert chance == [[20, 20]] * 2
    assert "chance" not in [line.get_label() for line in views.get_lines()]  # far below
    write_robustness(tmp_path, rows)
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_has_a_panel_for_each_study(rows: pa.Table) -> None:
    some = rows.filter(pa.compute.equal(rows["study"], "frame_order"))
    assert [axes.get_title() for axes in draw_robustness(some).axes] == ["Order of the frames"]
    without = [replace_bounds(row) for row in some.to_pylist()]
    figure = draw_robustness(pa.Table.from_pylist(without, some.schema))
    assert [axes.get_ylabel() for axes in figure.axes] == ["mAP, %"]


def replace_bounds(row: dict[str, Any]) -> dict[str, Any]:
    """As of videos with several labels."""
    return {**row, "metric": "mAP", "low": None, "high": None}
