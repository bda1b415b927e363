"""Evaluation: scores of videos over their views, and what is said and written about them.

Names are loaded when first used: to read and compare what tests left takes neither torch nor Lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mvit_video.types import lazy_names

if TYPE_CHECKING:
    from mvit_video.evaluation.comparison import Comparison, compare_predictions
    from mvit_video.evaluation.gallery import write_gallery
    from mvit_video.evaluation.multiview import MultiViewEvaluation
    from mvit_video.evaluation.result import Evaluation
    from mvit_video.evaluation.scores import VideoViews, ViewScores
    from mvit_video.evaluation.scoring import evaluate

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

_load, __dir__ = lazy_names(
    __name__,
    {
        "comparison": "Comparison compare_predictions",
        "gallery": "write_gallery",
        "multiview": "MultiViewEvaluation",
        "result": "Evaluation",
        "scores": "VideoViews ViewScores",
        "scoring": "evaluate",
    },
)
# callbacks of old configs, and what to write in their place
_NOW = {"PredictionWriter": "predictions", "ConfusionMatrix": "confusion"}


def __getattr__(name: str) -> Any:
    if name in _NOW:
        raise AttributeError(f"{name} is now part of MultiViewEvaluation: give it write: [{_NOW[name]}]")
    return _load(name)
