"""Arithmetic on scores: accuracy, average precision, calibration, intervals, views.

Names are loaded when first used: intervals need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvit_video.metrics.accuracy import (
        class_accuracy,
        class_precision,
        confusion,
        is_scored,
        label_ranks,
        mean_known,
        share_within,
    )
    from mvit_video.metrics.calibration import (
        Bin,
        apply_temperature,
        brier_score,
        calibration_error,
        fit_temperature,
        negative_log_likelihood,
        reliability,
    )
    from mvit_video.metrics.intervals import (
        LEVEL,
        METHOD,
        Interval,
        mcnemar_exact,
        mean_class_interval,
        paired_interval,
        share_interval,
    )
    from mvit_video.metrics.views import (
        Ensemble,
        accuracy_by_views,
        chosen_views,
        describe_views,
        fewer_views,
        join_views,
    )

__all__ = [
    "LEVEL", "METHOD", "Bin", "Ensemble", "Interval", "accuracy_by_views", "apply_temperature", "brier_score",
    "calibration_error", "chosen_views", "class_accuracy", "class_precision", "confusion", "describe_views",
    "fewer_views", "fit_temperature", "is_scored", "join_views", "label_ranks", "mcnemar_exact", "mean_class_interval",
    "mean_known", "negative_log_likelihood", "paired_interval", "reliability", "share_interval", "share_within",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in ("intervals", "accuracy", "calibration", "views"):
            if hasattr(found := import_module(f"{__name__}.{module}"), name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
