"""Ratios of the decoding benchmark."""

import importlib

import pytest

from tests.fixtures.places import ROOT


@pytest.mark.parametrize(
    ("exact", "last"), [(set(), "none is exact"), ({"SlowFast's way", "torchcodec exact"}, "0.50 torchcodec exact")]
)
def test_ratios_with_and_without_an_exact_peer(exact: set[str], last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    bench_decode = importlib.import_module("bench_decode")
    medians = {"ours, pyav": 10.0, "pytorchvideo": 25.0, "SlowFast's way": 20.0, "torchcodec exact": 5.0}
    assert bench_decode.ratios_to("ours, pyav", medians, exact) == ["2.50", "2.00", last]
