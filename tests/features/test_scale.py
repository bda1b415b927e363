"""The estimate for very many videos: what docs/guides/many-machines.md prints is what the simulation says."""

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType

import pytest

from tests.fixtures.places import ROOT


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    file = ROOT / "benchmarks" / "simulate_extraction.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_tables_of_the_document_are_those_of_the_script(simulation: ModuleType) -> None:
    document = (ROOT / "docs" / "guides" / "many-machines.md").read_text(encoding="utf-8")
    for table in simulation.tables():
        assert table in document


@pytest.mark.parametrize(("gpus", "hours"), [(0, 0.5), (2, 0.03)])
def test_every_video_is_done_or_failed_once_whatever_is_lost(simulation: ModuleType, gpus: int, hours: float) -> None:
    plan = simulation.Plan("", num_videos=20_011, num_machines=3, cores=8, gpus=gpus, hours_between_losses=hours)
    result = simulation.Simulation(plan).run()
    assert result.num_done + result.num_failed == plan.num_videos
    assert result.num_losses > 0
    assert 0 < result.num_repeated <= result.num_losses * plan.num_workers
    assert result.num_failed / plan.num_videos == pytest.approx(simulation.RATES["broken"].value, rel=0.2)
    assert result == simulation.Simulation(plan).run()
    assert result != simulation.Simulation(replace(plan, seed=1)).run()


@pytest.mark.parametrize(("gpus", "rate"), [(0, 8.40), (8, 0.09), (1, 0.21 / 8)])
def test_without_mishaps_the_time_is_work_over_workers(
    simulation: ModuleType, monkeypatch: pytest.MonkeyPatch, gpus: int, rate: float
) -> None:
    calm = {name: simulation.RATES[name]._replace(value=1e-12) for name in ("hanging", "start", "give", "write")}
    monkeypatch.setattr(simulation, "RATES", simulation.RATES | calm)
    speed = 1000.0 if gpus == 1 else 100.0  # so fast that decoding bounds it
    plan = simulation.Plan(
        "", num_videos=200_000, cores=64, gpus=gpus, windows_per_second=speed, hours_between_losses=1e9
    )
    expected = 200_000 * rate / (gpus or 64) / 3600
    assert plan.ideal_hours == pytest.approx(expected)
    assert simulation.Simulation(plan).run().hours == pytest.approx(expected, rel=0.01)


def test_one_caller_bounds_any_number_of_machines(simulation: ModuleType) -> None:
    plan = simulation.Plan("", num_videos=200_000, num_machines=64)
    result = simulation.Simulation(plan).run()
    caller = simulation.RATES["give"].value + simulation.RATES["write"].value
    assert result.hours >= 200_000 * caller / 3600 > plan.ideal_hours
    assert result.caller_share > 0.9
