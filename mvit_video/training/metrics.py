"""Metrics over clips, as training and validation see them."""

from __future__ import annotations

from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy


class PercentCorrect(MulticlassAccuracy):
    """Clips whose label is among the `top_k` most probable classes, in percent."""

    def __init__(self, num_classes: int, top_k: int) -> None:
        super().__init__(num_classes, top_k=min(top_k, num_classes), average="micro", validate_args=False)

    def compute(self) -> Tensor:
        """Percent of all clips since the last reset, over all processes."""
        return 100 * super().compute()
