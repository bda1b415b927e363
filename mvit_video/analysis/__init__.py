"""Studies of a trained net: feature maps, residual branches, attention, calibration, curvature of the loss."""

from mvit_video.analysis.adapter import Feature, branches, iter_features
from mvit_video.analysis.attention_reach import LocalitySettings, distance, draw_distance, draw_locality, locality
from mvit_video.analysis.batches import Batch
from mvit_video.analysis.curvature import HessianSettings, draw_hessian, hessian
from mvit_video.analysis.feature_maps import draw_fourier, draw_variance, fourier, variance
from mvit_video.analysis.lesions import draw_lesion, lesion
from mvit_video.analysis.loss_landscape import LandscapeSettings, draw_landscape, landscape
from mvit_video.analysis.noise_response import NoiseSettings, draw_noise, noise
from mvit_video.analysis.reconstruction import draw_reduction, reduction
from mvit_video.analysis.reliability import calibration, draw_calibration
from mvit_video.analysis.similarity import cka, draw_cka

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
