"""Studies of a trained net: what its layers do to clips, what they are worth, and how its loss is curved."""

from mvit_video.analysis.adapter import Feature, branches, iter_features
from mvit_video.analysis.batches import Batch
from mvit_video.analysis.calibration import calibration, draw_calibration
from mvit_video.analysis.cka import cka, draw_cka
from mvit_video.analysis.distance import distance, draw_distance
from mvit_video.analysis.fourier import draw_fourier, fourier
from mvit_video.analysis.hessian import HessianSettings, draw_hessian, hessian
from mvit_video.analysis.landscape import LandscapeSettings, draw_landscape, landscape
from mvit_video.analysis.lesion import draw_lesion, lesion
from mvit_video.analysis.locality import LocalitySettings, draw_locality, locality
from mvit_video.analysis.noise import NoiseSettings, draw_noise, noise
from mvit_video.analysis.reduction import draw_reduction, reduction
from mvit_video.analysis.variance import draw_variance, variance

__all__ = [
    "Batch",
    "Feature",
    "HessianSettings",
    "LandscapeSettings",
    "LocalitySettings",
    "NoiseSettings",
    "branches",
    "calibration",
    "cka",
    "distance",
    "draw_calibration",
    "draw_cka",
    "draw_distance",
    "draw_fourier",
    "draw_hessian",
    "draw_landscape",
    "draw_lesion",
    "draw_locality",
    "draw_noise",
    "draw_reduction",
    "draw_variance",
    "fourier",
    "hessian",
    "iter_features",
    "landscape",
    "lesion",
    "locality",
    "noise",
    "reduction",
    "variance",
]
