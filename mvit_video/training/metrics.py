"""Metrics over clips, as training and validation see them, in percent."""

from __future__ import annotations

import warnings
from typing import cast

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MultilabelAveragePrecision


class PercentCorrect(MulticlassAccuracy):
    """Clips whose label is among the `top_k` most probable classes."""

    def __init__(self, num_classes: int, top_k: int) -> None:
        super().__init__(num_classes, top_k=min(top_k, num_classes), average="micro", validate_args=False)

    def compute(self) -> Tensor:
        """Percent of all clips since the last reset, over all processes."""
        return 100 * super().compute()


class PercentMeanPrecision(MultilabelAveragePrecision):
    """Mean over the classes of the average precision, for clips with any number of labels."""

    num_shown: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average=None, validate_args=False)
        self.add_state("num_shown", torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Takes logits and labels, `(N, num_classes)`."""
        super().update(preds.float().sigmoid(), target.long())
        self.num_shown += target.long().sum(dim=0)

    def compute(self) -> Tensor:
        """Percent over all clips since the last reset; classes that none of them shows are left out."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No positive samples found in target")
            precision = cast(Tensor, super().compute())
        return 100 * precision[self.num_shown > 0].mean()


def validation_metrics(num_classes: int, multi_label: bool) -> dict[str, Metric]:
    """Metrics by the name that they are logged under; the first one chooses the best checkpoint."""
    if multi_label:
        return {"val/mAP": PercentMeanPrecision(num_classes)}
    return {"val/top1": PercentCorrect(num_classes, top_k=1), "val/top5": PercentCorrect(num_classes, top_k=5)}
