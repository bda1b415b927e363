"""Studies by name: computation, figure and explanation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import pyarrow as pa
import torch
from matplotlib.figure import Figure
from torch import nn

from mvit_video.analysis.attention_reach import LocalitySettings, distance, draw_distance, draw_locality, locality
from mvit_video.analysis.batches import Batch
from mvit_video.analysis.curvature import HessianSettings, WeightDecay, draw_hessian, hessian
from mvit_video.analysis.feature_maps import draw_fourier, draw_variance, fourier, variance
from mvit_video.analysis.lesions import draw_lesion, lesion
from mvit_video.analysis.loss_landscape import LandscapeSettings, draw_landscape, landscape
from mvit_video.analysis.noise_response import NoiseSettings, draw_noise, noise
from mvit_video.analysis.reconstruction import draw_reduction, reduction
from mvit_video.analysis.reliability import calibration, draw_calibration
from mvit_video.analysis.similarity import cka, draw_cka
from mvit_video.models.net import VideoNet, multiply_adds

_SMALL = 1e9  # multiply-adds of a clip


@dataclass(frozen=True)
class StudySettings:
    """Settings of all studies that have settings."""

    noise: NoiseSettings = field(default_factory=NoiseSettings)
    locality: LocalitySettings = field(default_factory=LocalitySettings)
    hessian: HessianSettings = field(default_factory=HessianSettings)
    landscape: LandscapeSettings = field(default_factory=LandscapeSettings)

    @classmethod
    def of_seed(cls, seed: int) -> StudySettings:
        """Return the defaults with another seed."""
        return cls(NoiseSettings(seed=seed), hessian=HessianSettings(seed=seed), landscape=LandscapeSettings(seed=seed))


@dataclass(frozen=True, eq=False)
class Subject:
    """A net and its clips, which are read when a study first needs them.

    Attributes:
        read_tested: reads clips as in a test.
        read_trained: reads clips as in training, augmented and mixed.
        weight_decay: of the training.
    """

    model: nn.Module
    read_tested: Callable[[], list[Batch]]
    read_trained: Callable[[], list[Batch]]
    weight_decay: WeightDecay = 0.0
    settings: StudySettings = StudySettings()

    @cached_property
    def tested(self) -> list[Batch]:
        """Clips as in a test."""
        return self.read_tested()

    @cached_property
    def trained(self) -> list[Batch]:
        """Clips as in training."""
        return self.read_trained()


class Study(NamedTuple):
    """One study.

    Attributes:
        text: how to read its figure, for people who have not read the papers.
        needs_labels: whether it scores the net.
    """

    title: str
    text: str
    compute: Callable[[Subject], pa.Table]
    draw: Callable[[pa.Table], Figure]
    needs_labels: bool = False


STUDIES = {
    "fourier": Study(
        "Fourier spectra of feature maps",
        "Low frequencies are what is equal over large areas or long times, high ones what changes from cell to cell or "
        "from frame to frame. A steep curve belongs to a smooth map. In the panels on the right, a value that falls in "
        "a layer means that the layer smooths, a value that rises that it sharpens; compare neighbouring layers only. "
        "White noise is at +0.35, not at 0.",
        lambda subject: fourier(subject.model, subject.tested),
        draw_fourier,
    ),
    "variance": Study(
        "Variance of feature maps",
        "Variance over the cells of a frame, and over the frames of a clip. Layers that average lower it, layers that "
        "make cells differ raise it. On the right: the share between the means of the frames, which is what remains of "
        "time after averaging every frame.",
        lambda subject: variance(subject.model, subject.tested),
        draw_variance,
    ),
    "cka": Study(
        "Similarity of layers (CKA)",
        "Centred kernel alignment of every pair of layers: 1 where both see the same clips as similar. Bright blocks "
        "are stages that change little; a dark border is where the representation changes.",
        lambda subject: cka(subject.model, subject.tested),
        draw_cka,
    ),
    "lesion": Study(
        "Lesion study of residual branches",
        "Accuracy and loss of the net without one attention or MLP branch; its skip connection stays. A bar far from "
        "the dashed line is a branch that the net needs.",
        lambda subject: lesion(subject.model, subject.tested),
        draw_lesion,
        needs_labels=True,
    ),
    "noise": Study(
        "Robustness to noise, by frequency band",
        "Noise of equal power in different frequency bands, in space or in time. Where accuracy falls, the net uses "
        "these frequencies, or is misled by them.",
        lambda subject: noise(subject.model, subject.tested, subject.settings.noise),
        draw_noise,
        needs_labels=True,
    ),
    "locality": Study(
        "Accuracy with local attention",
        "The trained net with attention limited to a window around each cell in every layer, without retraining. Class "
        "tokens and pooling before attention still carry information from outside the window.",
        lambda subject: locality(subject.model, subject.tested, subject.settings.locality),
        draw_locality,
        needs_labels=True,
    ),
    "distance": Study(
        "Mean attention distance",
        "Mean distance between a query and its keys, weighted by attention. A head on the dashed line attends "
        "uniformly, a head far below it locally.",
        lambda subject: distance(subject.model, subject.tested),
        draw_distance,
    ),
    "reduction": Study(
        "Information in reduced keys and values",
        "A linear map reconstructs the input tokens of attention from its keys and values, or from the mean of the "
        "tokens of each key, on other clips than the fit. The residual stream keeps all tokens, so what is missing "
        "here is out of reach for this attention only.",
        lambda subject: reduction(subject.model, subject.tested),
        draw_reduction,
    ),
    "calibration": Study(
        "Calibration (reliability diagram)",
        "Single clips by confidence of the prediction. A calibrated net is on the dashed line, an overconfident one "
        "below it. Bars of few clips (right panel) say little.",
        lambda subject: calibration(subject.model, subject.tested),
        draw_calibration,
        needs_labels=True,
    ),
    "hessian": Study(
        "Hessian eigenvalue spectrum",
        "Largest eigenvalues of the Hessian of the training loss with weight decay, for batches of augmented clips. "
        "Negative ones mean a non-convex loss, large positive ones a sharp one. Publications measure them early in "
        "training; at the end their order may be reversed.",
        lambda subject: hessian(subject.model, subject.trained, subject.settings.hessian, subject.weight_decay),
        draw_hessian,
        needs_labels=True,
    ),
    "landscape": Study(
        "Loss landscape",
        "Training loss with weight decay along two random directions. Each filter moves in proportion to its norm, so "
        "that nets with large and small weights are comparable. In a wide, smooth bowl the weights need not be exact.",
        lambda subject: landscape(subject.model, subject.trained, subject.settings.landscape, subject.weight_decay),
        draw_landscape,
        needs_labels=True,
    ),
}


@contextmanager
def one_thread_if_small(net: VideoNet) -> Iterator[None]:
    """Compute with one thread where a clip takes less than a billion multiply-adds.

    Waking threads costs more than the steps of such nets: with two threads on two busy cores the Hessian of the demo's
    net took eight times as long as with one.
    """
    num_threads = torch.get_num_threads()
    if multiply_adds(net) < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
