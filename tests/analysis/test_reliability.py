import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error

from mvit_video.analysis import Batch, calibration, draw_calibration
from mvit_video.analysis.layers import summary_of
from mvit_video.models import MViT
from tests.fixtures.nets import MakeBatches


class Says(nn.Module):
    """Answers with logits that are written in the first pixels of a clip."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, clip: Tensor) -> Tensor:
        return self.scale * clip[:, 0, 0, 0, :2]


def said(probabilities: list[float], label: list[int]) -> list[Batch]:
    """Clips of which the net gives class 0 these probabilities."""
    clip = torch.zeros(len(label), 3, 1, 2, 2, dtype=torch.float64)
    first = torch.tensor(probabilities, dtype=torch.float64)
    clip[:, 0, 0, 0] = torch.stack([first, 1 - first], dim=1).log().clamp(min=-800)
    target = nn.functional.one_hot(torch.tensor(label), 2).double()
    return [Batch(*pair) for pair in zip(clip.split(2), target.split(2), strict=True)]


def test_numbers_of_clips_worked_out_by_hand() -> None:
    table = calibration(Says().double(), said([0.95, 0.75, 0.75, 0.25], [0, 0, 1, 1]))
    bins = {round(row["low"], 1): row for row in table.to_pylist() if row["num_clips"]}
    assert {low: (row["num_clips"], row["accuracy"]) for low, row in bins.items()} == {0.7: (3, 2 / 3), 0.9: (1, 1.0)}
    assert bins[0.7]["confidence"] == pytest.approx(0.75)
    found = summary_of(table)
    assert found["top1"] == 75
    assert found["ece"] == pytest.approx(100 * (3 * (0.75 - 2 / 3) + 0.05) / 4, abs=1e-4)
    assert found["signed_ece"] == pytest.approx(100 * (0.8 - 0.75), abs=1e-4)
    assert (found["sure"], found["top1_of_sure"], found["unsure_of_wrong"]) == (25, 100, 100)
    assert found["nll"] == pytest.approx(-np.log([0.95, 0.75, 0.25, 0.75]).mean(), rel=1e-5)
    assert found["brier"] == pytest.approx(2 * (0.05**2 + 0.25**2 + 0.75**2 + 0.25**2) / 4, rel=1e-5)


def test_a_confidence_of_exactly_1_counts() -> None:
    assert summary_of(calibration(Says().double(), said([1.0], [1])))["ece"] == 100


def test_agrees_with_torchmetrics(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    batches = make_batches(12, 12)
    with torch.no_grad():
        logits = torch.cat([tiny_v1.eval()(batch.clip) for batch in batches])
    label = torch.cat([batch.target for batch in batches]).argmax(dim=1)
    expected = multiclass_calibration_error(logits.softmax(dim=1), label, num_classes=3, n_bins=10)
    # single precision of the probabilities
    assert summary_of(calibration(tiny_v1, batches))["ece"] == pytest.approx(100 * float(expected), abs=1e-4)


def test_the_figure_has_empty_bins_and_names_its_axes() -> None:
    left, right = draw_calibration(calibration(Says().double(), said([0.95, 0.3], [0, 0]))).axes
    assert len(left.patches) == len(right.patches) == 10
    assert "confidence" in left.get_xlabel()
    heights = [bar.get_height() for bar in right.patches if isinstance(bar, Rectangle)]
    assert sum(heights) == pytest.approx(100)
