"""The learning rate: literal values of the published recipe, and the laws of its shape."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.training import Schedule
from mvit_video.types import ConfigError

KINETICS = Schedule(warmup_epochs=30, start_factor=0.01, end_factor=0.01)
factors = st.floats(0, 1)
schedules = st.builds(Schedule, warmup_epochs=st.floats(0, 50), start_factor=factors, end_factor=factors)


@pytest.mark.parametrize(
    ("epoch", "lr"),
    [
        (0, 1.6e-5),
        (15, 8.08e-4),  # half-way up
        (30, 1.6e-3),
        (115, 8.08e-4),  # half-way down: the cosine covers epochs 30 to 200
        (200, 1.6e-5),
        (72.5, 1.6e-5 + (1.6e-3 - 1.6e-5) * (1 + math.sqrt(0.5)) / 2),
    ],
)
def test_kinetics_recipe(epoch: float, lr: float) -> None:
    assert 1.6e-3 * KINETICS.factor(epoch, max_epochs=200) == pytest.approx(lr, rel=1e-12)


@given(schedules, st.floats(51, 300), st.floats(0, 1))
def test_stays_between_its_ends_and_the_peak(schedule: Schedule, max_epochs: float, part: float) -> None:
    factor = schedule.factor(part * max_epochs, max_epochs)
    assert min(schedule.start_factor, schedule.end_factor) - 1e-12 <= factor <= 1 + 1e-12


@given(schedules, st.floats(51, 300), st.floats(0, 1))
def test_moves_no_faster_than_its_slopes(schedule: Schedule, max_epochs: float, part: float) -> None:
    step = 1e-3
    epoch = part * (max_epochs - step)
    jump = abs(schedule.factor(epoch + step, max_epochs) - schedule.factor(epoch, max_epochs))
    warmup_slope = 1 / schedule.warmup_epochs if schedule.warmup_epochs else 0
    cosine_slope = math.pi / 2 / (max_epochs - schedule.warmup_epochs)
    # A warm-up shorter than the step is a jump by design.
    assert schedule.warmup_epochs < step or jump <= step * (warmup_slope + cosine_slope) + 1e-9


@given(schedules, st.floats(51, 300))
def test_rises_then_falls(schedule: Schedule, max_epochs: float) -> None:
    points = [(epoch, schedule.factor(epoch, max_epochs)) for epoch in np.linspace(0, max_epochs, 41)]
    for (before, a), (after, b) in pairwise(points):
        if after < schedule.warmup_epochs:
            assert b >= a - 1e-12
        if before >= schedule.warmup_epochs:
            assert b <= a + 1e-12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_epochs": -1}, r"model\.schedule\.warmup_epochs must be at least 0, got -1"),
        ({"start_factor": 1.5}, r"model\.schedule\.start_factor is a fraction of the learning rate, 0 to 1, got 1\.5"),
        ({"end_factor": math.nan}, r"model\.schedule\.end_factor .* got nan"),
    ],
)
def test_refuses_impossible_values(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Schedule(**settings)
