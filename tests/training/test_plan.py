"""The callbacks and loggers of each kind of run."""

from pathlib import Path

import pytest
from lightning.pytorch import Callback

from mvit_video.training import RunPlan, run_loggers
from mvit_video.training.stopping import StopBetweenSteps

RECORD, LISTS = ["RunRecord"], ["DecodingRecord", "FailureList"]
TIMES, GUARDS = ["Throughput", "StepTimes", "EpochLine", "StopBetweenSteps"], ["StopAtFailureRate", "StopAtNonFinite"]
KEPT = ["LastCheckpoint", "BestCheckpoint"]


def names(callbacks: list[Callback]) -> list[str]:
    return [type(callback).__name__ for callback in callbacks]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "tiny" / "version_3"


def test_a_training_is_watched_then_saved(folder: Path) -> None:
    callbacks = RunPlan(folder, 3, "last.ckpt").fit(
        StopBetweenSteps(Path("last.ckpt")), max_failure_rate=0.25, checkpoint_every_n_steps=50
    )
    assert names(callbacks) == [*RECORD, *LISTS, *TIMES, "Curves", *GUARDS, "StepSeed", *KEPT]
    found = dict(zip(names(callbacks), callbacks, strict=True))
    assert found["StopAtFailureRate"].highest == 0.25
    assert found["StopAtNonFinite"].path == folder / "checkpoints" / "last_good.ckpt"
    assert (found["StepSeed"].seed, found["LastCheckpoint"].every_n_steps) == (3, 50)
    assert not folder.exists()  # until the run begins


@pytest.mark.parametrize(
    ("plan", "keep", "expected"),
    [
        (RunPlan(None, 3, None), True, [*TIMES, *GUARDS, "StepSeed", *KEPT]),
        (RunPlan(None, None, None), False, [*TIMES, *GUARDS]),
        (RunPlan(Path("run"), None, None), False, [*RECORD, *LISTS, *TIMES, "Curves", *GUARDS]),
    ],
)
def test_a_training_without_folder_seed_or_checkpoints(plan: RunPlan, keep: bool, expected: list[str]) -> None:
    assert names(plan.fit(StopBetweenSteps(Path("last.ckpt")), max_failure_rate=0.1, keep_checkpoints=keep)) == expected


def test_an_evaluation_lists_its_own_failures(folder: Path) -> None:
    evaluation, plan = Callback(), RunPlan(folder, None, None)
    assert names(plan.record()) == RECORD
    assert names(plan.score()) == [*RECORD, *LISTS]
    scored = plan.score(evaluation)
    assert names(scored) == [*RECORD, "Callback", "DecodingRecord"]
    assert scored[1] is evaluation
    assert RunPlan(None, 3, None).score(evaluation) == [evaluation]


def test_loggers_write_into_the_folder_of_the_run(folder: Path) -> None:
    loggers = run_loggers(folder)
    assert [type(logger).__name__ for logger in loggers] == ["MetricsLogger", "EventLogger"]
    assert {logger.log_dir for logger in loggers} == {str(folder)}
