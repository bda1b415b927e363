"""The studies by name: how each is made, drawn and explained."""

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

from mvit_video.analysis.attention_distance import distance, draw_distance
from mvit_video.analysis.batches import Batch
from mvit_video.analysis.curvature import HessianSettings, WeightDecay, draw_hessian, hessian
from mvit_video.analysis.feature_variance import draw_variance, variance
from mvit_video.analysis.lesions import draw_lesion, lesion
from mvit_video.analysis.local_attention import LocalitySettings, draw_locality, locality
from mvit_video.analysis.loss_landscape import LandscapeSettings, draw_landscape, landscape
from mvit_video.analysis.noise_response import NoiseSettings, draw_noise, noise
from mvit_video.analysis.reconstruction import draw_reduction, reduction
from mvit_video.analysis.reliability import calibration, draw_calibration
from mvit_video.analysis.similarity import cka, draw_cka
from mvit_video.analysis.spectra import draw_fourier, fourier
from mvit_video.models.net import VideoNet, multiply_adds

_SMALL = 1e9  # multiply-adds of a clip


@dataclass(frozen=True)
class StudySettings:
    """Settings of all studies that have some."""

    noise: NoiseSettings = field(default_factory=NoiseSettings)
    locality: LocalitySettings = field(default_factory=LocalitySettings)
    hessian: HessianSettings = field(default_factory=HessianSettings)
    landscape: LandscapeSettings = field(default_factory=LandscapeSettings)

    @classmethod
    def of_seed(cls, seed: int) -> StudySettings:
        """The defaults with another seed."""
        return cls(NoiseSettings(seed=seed), hessian=HessianSettings(seed=seed), landscape=LandscapeSettings(seed=seed))


@dataclass(frozen=True, eq=False)
class Subject:
    """A net and the clips to study it with, which are read when a study first asks for them.

    Attributes:
        read_tested: reads clips as they are tested.
        read_trained: reads clips as they are trained on: augmented and mixed.
        weight_decay: of the training, for the loss that is minimised.
    """

    model: nn.Module
    read_tested: Callable[[], list[Batch]]
    read_trained: Callable[[], list[Batch]]
    weight_decay: WeightDecay = 0.0
    settings: StudySettings = StudySettings()

    @cached_property
    def tested(self) -> list[Batch]:
        """Clips as they are tested."""
        return self.read_tested()

    @cached_property
    def trained(self) -> list[Batch]:
        """Clips as they are trained on."""
        return self.read_trained()


class Study(NamedTuple):
    """One study.

    Attributes:
        text: what its figure shows, for a reader who has not read the papers.
        needs_labels: whether it scores the net.
    """

    title: str
    text: str
    compute: Callable[[Subject], pa.Table]
    draw: Callable[[pa.Table], Figure]
    needs_labels: bool = False


STUDIES = {
    "fourier": Study(
        "Frequencies that each layer keeps",
        "Feature maps after every layer are taken apart into frequencies: low ones are what is alike over large "
        "areas or long times, high ones what changes from cell to cell or from frame to frame. A curve that falls"
        " steeply belongs to smooth maps. On the right, a fall across a stretch means that this layer smooths, a "
        "rise that it sharpens; compare the two ends of a stretch, not layers far apart. White noise would lie "
        "near +0.35, not at 0.",
        lambda subject: fourier(subject.model, subject.tested),
        draw_fourier,
    ),
    "variance": Study(
        "Spread of the feature maps",
        "How much a map differs over the cells of a frame, and over the frames of a clip. Averaging layers lower "
        "it, layers that set cells apart raise it. The right panel tells how much of the whole lies between the "
        "means of the frames, which is what is left of time once every frame is averaged.",
        lambda subject: variance(subject.model, subject.tested),
        draw_variance,
    ),
    "cka": Study(
        "Layers that represent clips alike",
        "For every pair of layers, whether two clips that are near each other in one are so in the other. Blocks "
        "of bright cells are stages that change little; a dark border is a place where the representation "
        "changes.",
        lambda subject: cka(subject.model, subject.tested),
        draw_cka,
    ),
    "lesion": Study(
        "What each branch is worth",
        "The net is tested again without one attention or one MLP, whose skip connection stays. A bar far from "
        "the dashed line is a branch that the net relies on.",
        lambda subject: lesion(subject.model, subject.tested),
        draw_lesion,
        needs_labels=True,
    ),
    "noise": Study(
        "Noise of one band of frequencies",
        "Noise of the same loudness but of different frequencies is added to the clips: slow or fast in space, or"
        " slow or fast in time. Where accuracy falls, the net uses what lies at these frequencies, or is misled "
        "by it.",
        lambda subject: noise(subject.model, subject.tested, subject.settings.noise),
        draw_noise,
        needs_labels=True,
    ),
    "locality": Study(
        "Attention in a window",
        "The trained net is tested with attention cut to a window around each cell, in every layer; it was not "
        "trained that way. Class tokens, and poolings before attention, still carry what lies beyond the window.",
        lambda subject: locality(subject.model, subject.tested, subject.settings.locality),
        draw_locality,
        needs_labels=True,
    ),
    "distance": Study(
        "How far attention looks",
        "The mean distance between a cell and what it attends to, weighted by the attention. A head on the dashed"
        " line attends to everything alike; one far below it attends to what is near.",
        lambda subject: distance(subject.model, subject.tested),
        draw_distance,
    ),
    "reduction": Study(
        "What keys and values keep of the tokens",
        "Attention may have fewer keys and values than there are tokens. A linear map tries to reconstruct the tokens "
        "that entered from the keys and values, on clips that it was not fitted to; beside it, the same from the plain "
        "mean of the tokens that share a key. The residual stream keeps all tokens, so what is missing here is out of "
        "reach for this attention only.",
        lambda subject: reduction(subject.model, subject.tested),
        draw_reduction,
    ),
    "calibration": Study(
        "Whether the net is right as often as it says",
        "Single clips are sorted by how probable the net calls its prediction. Bars on the dashed line would be a net "
        "that is right as often as it says; below it, one that is too sure. A bar of few clips, see the right panel, "
        "tells little.",
        lambda subject: calibration(subject.model, subject.tested),
        draw_calibration,
        needs_labels=True,
    ),
    "hessian": Study(
        "Curvature of the training loss",
        "The largest curvatures of the loss, for one batch of augmented training clips after the other, weight "
        "decay included. Negative ones mean that the loss is not convex there; large positive ones, that it is "
        "steep-walled. Publications look at them early in training; at its end their order may be the reverse.",
        lambda subject: hessian(subject.model, subject.trained, subject.settings.hessian, subject.weight_decay),
        draw_hessian,
        needs_labels=True,
    ),
    "landscape": Study(
        "The loss around the trained net",
        "The training loss, weight decay included, as the weights move along two random directions; each filter "
        "moves in proportion to its own length, so that nets with large and small weights can be compared. A "
        "wide, smooth bowl is a net whose weights need not be exact.",
        lambda subject: landscape(subject.model, subject.trained, subject.settings.landscape, subject.weight_decay),
        draw_landscape,
        needs_labels=True,
    ),
}


@contextmanager
def one_thread_if_small(net: VideoNet) -> Iterator[None]:
    """Computes with one thread where a clip takes less than a billion multiply-adds, on a CPU.

    The steps of such nets are over sooner than threads are woken: with two threads on two busy cores the Hessian of the
    demo's net took eight times as long as with one.
    """
    num_threads = torch.get_num_threads()
    if multiply_adds(net) < _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
