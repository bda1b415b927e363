"""Evaluation: scores of videos over their views, and what is said and written about them.

Names are loaded when first used: to read and compare what tests left takes neither torch nor Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mvit_video.evaluation.comparison import Comparison, compare_predictions
    from mvit_video.evaluation.gallery import write_gallery
    from mvit_video.evaluation.multiview import MultiViewEvaluation
    from mvit_video.evaluation.result import Evaluation
    from mvit_video.evaluation.scores import VideoViews, ViewScores
    from mvit_video.evaluation.scoring import evaluate

_MODULES = {
    "Comparison": "comparison",
    "Evaluation": "result",
    "MultiViewEvaluation": "multiview",
    "VideoViews": "scores",
    "ViewScores": "scores",
    "compare_predictions": "comparison",
    "evaluate": "scoring",
    "write_gallery": "gallery",
}

__all__ = [
    "Comparison",
    "Evaluation",
    "MultiViewEvaluation",
    "VideoViews",
    "ViewScores",
    "compare_predictions",
    "evaluate",
    "write_gallery",
]


# callbacks of old configs, and what to write in their place
_NOW = {"PredictionWriter": "predictions", "ConfusionMatrix": "confusion"}


def __getattr__(name: str) -> Any:
    if name in _NOW:
        raise AttributeError(f"{name} is now part of MultiViewEvaluation: give it write: [{_NOW[name]}]")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
