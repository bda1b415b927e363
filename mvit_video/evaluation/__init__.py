"""Evaluation: scores of videos over their views, and what is written about them."""

from mvit_video.evaluation.gallery import write_gallery
from mvit_video.evaluation.metrics import VideoPredictions, VideoScores
from mvit_video.evaluation.multiview import MultiViewEvaluation

__all__ = ["MultiViewEvaluation", "VideoPredictions", "VideoScores", "write_gallery"]
