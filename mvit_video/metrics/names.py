"""Names of metrics for people."""

from __future__ import annotations

from collections.abc import Mapping

ACCURACIES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean over classes", "mAP": "mean average precision"}
CALIBRATION = {"nll": "negative log-likelihood", "brier": "Brier score", "ece": "expected calibration error"}


def shown_metrics(metrics: Mapping[str, float | None], num_classes: int) -> dict[str, float | None]:
    """Return the metrics for people: top-5 says nothing of fewer than six classes."""
    return {name: value for name, value in metrics.items() if name != "top5" or num_classes > 5}
