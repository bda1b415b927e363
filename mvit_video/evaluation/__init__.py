"""Evaluation: scores of videos over their views, and what is said and written about them.

Names are loaded when first used: to read and compare what tests left takes neither torch nor Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvit_video.evaluation.comparison import Comparison, compare_predictions
    from mvit_video.evaluation.curves import accuracy_by_views
    from mvit_video.evaluation.gallery import write_gallery
    from mvit_video.evaluation.loading import Predictions, load_predictions
    from mvit_video.evaluation.multiview import ConfusionMatrix, MultiViewEvaluation, PredictionWriter
    from mvit_video.evaluation.scores import VideoViews, ViewScores

_MODULES = {
    "Comparison": "comparison",
    "ConfusionMatrix": "multiview",
    "MultiViewEvaluation": "multiview",
    "PredictionWriter": "multiview",
    "Predictions": "loading",
    "VideoViews": "scores",
    "ViewScores": "scores",
    "accuracy_by_views": "curves",
    "compare_predictions": "comparison",
    "load_predictions": "loading",
    "write_gallery": "gallery",
}

__all__ = [
    "Comparison",
    "ConfusionMatrix",
    "MultiViewEvaluation",
    "PredictionWriter",
    "Predictions",
    "VideoViews",
    "ViewScores",
    "accuracy_by_views",
    "compare_predictions",
    "load_predictions",
    "write_gallery",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
