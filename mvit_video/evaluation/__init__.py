"""Evaluation: scores of videos over their views, and what is said and written about them."""

from mvit_video.evaluation.curves import accuracy_by_views
from mvit_video.evaluation.gallery import write_gallery
from mvit_video.evaluation.loading import Predictions, load_predictions
from mvit_video.evaluation.multiview import ConfusionMatrix, MultiViewEvaluation, PredictionWriter
from mvit_video.evaluation.scores import Ensemble, VideoViews, ViewScores, combine

__all__ = [
    "ConfusionMatrix",
    "Ensemble",
    "MultiViewEvaluation",
    "PredictionWriter",
    "Predictions",
    "VideoViews",
    "ViewScores",
    "accuracy_by_views",
    "combine",
    "load_predictions",
    "write_gallery",
]
