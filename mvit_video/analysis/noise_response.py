"""How well a net stands noise of one band of frequencies, in space or in time.

Every band has the same root mean square, so that a band of many frequencies is no louder than one of few. Frequencies
are in units of pi per pixel or per frame.

Letters: B clips, T H W frames and pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor, nn

from mvit_video.analysis.batches import Batch, Score, on_device, score
from mvit_video.analysis.drawing import BLUE, GREY, ORANGE, new_figure, where
from mvit_video.analysis.layers import summary_of, with_summary
from mvit_video.types import THW, ConfigError


class Band(NamedTuple):
    """Frequencies from `low` to `high`, in units of pi."""

    low: float
    high: float

    @property
    def centre(self) -> float:
        """The middle of the band."""
        return (self.low + self.high) / 2


@dataclass(frozen=True)
class NoiseSettings:
    """Which noise is tried.

    Attributes:
        num_bands: bands of equal width, from 0 to 1, along space and along time.
        rms: root mean square of the noise, in units of a normalised pixel.
        seed: of the noise, the same in every band.
    """

    num_bands: int = 5
    rms: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_bands < 1:
            raise ConfigError(f"noise.num_bands must be at least 1, got {self.num_bands}")
        if not self.rms > 0:
            raise ConfigError(f"noise.rms must be above 0, got {self.rms}")

    @property
    def bands(self) -> list[Band]:
        """The bands, from low to high."""
        edges = np.linspace(0, 1, self.num_bands + 1).tolist()
        return [Band(low, high) for low, high in pairwise(edges)]


def band_mask(size: THW, space: Band | None = None, time: Band | None = None) -> Float[Tensor, "T H W"]:
    """How far each frequency of a clip belongs to a band of space, of time, or of both; 1 is wholly.

    A frequency of a clip of n samples stands for a stretch of 2/n: the share of it inside the band counts, so that no
    band is empty however few samples there are. The spatial frequency is the larger of the vertical and horizontal one,
    which makes square rings.
    """
    mask = torch.ones(tuple(size), dtype=torch.float64)
    if time is not None:
        mask = mask * _share(_frequency(size.t), size.t, time)[:, None, None]
    if space is not None:
        ring = torch.maximum(_frequency(size.h)[:, None], _frequency(size.w)[None])
        mask = mask * _share(ring, min(size.h, size.w), space)
    return mask


def band_noise(
    shape: Sequence[int], mask: Float[Tensor, "T H W"], rms: float, generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """Gaussian noise of clips with only the frequencies of a mask; each clip's root mean square is `rms`."""
    white = torch.randn(tuple(shape), generator=generator, dtype=torch.float64)
    noise = torch.fft.ifftn(torch.fft.fftn(white, dim=(-3, -2, -1)) * mask, dim=(-3, -2, -1)).real
    loudness = noise.flatten(1).square().mean(dim=1).sqrt()
    return noise * (rms / loudness).view(-1, *[1] * (noise.ndim - 1))


def noise(model: nn.Module, batches: Sequence[Batch], settings: NoiseSettings = NoiseSettings()) -> pa.Table:
    """Loss and accuracy of a net under noise of one band after the other.

    Columns: axis (space: rings of spatial frequencies, new in every frame; time: temporal frequencies, new in every
    pixel), low, high, centre, loss, top1, signal_to_noise (decibels, of the clips' own content of the band). The
    summary has loss and top1 without noise.

    Source: arXiv:2202.06709 figure 2b, whose code was never published: the trend there is for photographs.
    """
    rows: list[dict[str, object]] = []
    for axis in ("space", "time"):
        for band in settings.bands:
            generator = torch.Generator().manual_seed(settings.seed)
            noisy: list[Batch] = []
            power: list[float] = []
            for clip, target in batches:
                mask = band_mask(THW(*clip.shape[2:]), **{axis: band})
                added = band_noise(clip.shape, mask, settings.rms, generator)
                power.append(_power(clip, mask))
                noisy.append(Batch((clip + added).to(clip), target))
            found = score(model, noisy)
            ratio = 10 * np.log10(max(float(np.mean(power)), 1e-20) / settings.rms**2)
            rows.append(
                {"axis": axis, **band._asdict(), "centre": band.centre, **found._asdict(), "signal_to_noise": ratio}
            )
    return with_summary(pa.Table.from_pylist(rows), **score(model, on_device(model, batches))._asdict())


def draw_noise(table: pa.Table) -> Figure:
    """Accuracy and loss against the band, for space and for time."""
    whole = Score(**summary_of(table))
    figure, (left, right) = new_figure(1, 2)
    for axes, key, clean in ((left, "top1", whole.top1), (right, "loss", whole.loss)):
        for axis, colour in (("space", BLUE), ("time", ORANGE)):
            rows = where(table, axis=axis)
            width = np.array([rows["centre"] - rows["low"], rows["high"] - rows["centre"]])
            label = "spatial frequencies" if axis == "space" else "temporal frequencies"
            axes.errorbar(rows["centre"], rows[key], xerr=width, color=colour, marker="o", capsize=2, label=label)
        axes.axhline(clean, color=GREY, linestyle="--", linewidth=1, label="without noise")
        axes.set_xlabel("band of the noise, in units of π per pixel or frame")
        axes.set_xlim(0, 1)
    left.set_ylabel("top1, percent")
    left.set_ylim(0, 102)
    right.set_ylabel("mean negative log-likelihood")
    left.set_title("Low: noise of this band misleads the net", fontsize=10)
    left.legend(fontsize=9, framealpha=0.9)
    return figure


def _frequency(size: int) -> Tensor:
    return 2 * torch.fft.fftfreq(size, dtype=torch.float64).abs()


def _share(frequency: Tensor, size: int, band: Band) -> Tensor:
    """Share of the stretch of 2/size around each frequency that lies in a band."""
    half = 1 / size
    overlap = (frequency + half).clamp(max=band.high) - (frequency - half).clamp(min=band.low)
    return (overlap / (2 * half)).clamp(0, 1)


def _power(clip: Tensor, mask: Tensor) -> float:
    """Mean square of the content of a mask."""
    transformed = torch.fft.fftn(clip.double().cpu(), dim=(-3, -2, -1), norm="ortho") * mask
    return float(transformed.abs().square().mean())
