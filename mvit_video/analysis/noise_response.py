"""Robustness to noise of one frequency band, in space or in time.

The noise of every band has the same root mean square. Frequencies are in units of pi per pixel or per frame.

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

from mvit_video.analysis.batches import Batch, on_device, score
from mvit_video.analysis.drawing import score_panels, where
from mvit_video.analysis.layers import summary_of, with_summary
from mvit_video.pages.figures import BLUE, GREY, ORANGE
from mvit_video.types import THW, ConfigError


class Band(NamedTuple):
    """Frequencies from `low` to `high`, in units of pi."""

    low: float
    high: float

    @property
    def centre(self) -> float:
        """Centre of the band."""
        return (self.low + self.high) / 2


@dataclass(frozen=True)
class NoiseSettings:
    """Noise to test.

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
        """Bands from low to high."""
        edges = np.linspace(0, 1, self.num_bands + 1).tolist()
        return [Band(low, high) for low, high in pairwise(edges)]


def band_mask(size: THW, space: Band | None = None, time: Band | None = None) -> Float[Tensor, "T H W"]:
    """Return the share of each frequency of a clip that is inside a band of space, of time, or of both.

    A frequency of n samples is an interval of width 2/n, so that no band is empty however few samples there are. The
    spatial frequency is the larger of the vertical and the horizontal one, which makes square rings.
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
    """Return Gaussian noise for clips with only the frequencies of a mask; each clip's root mean square is `rms`."""
    white = torch.randn(tuple(shape), generator=generator, dtype=torch.float64)
    noise = torch.fft.ifftn(torch.fft.fftn(white, dim=(-3, -2, -1)) * mask, dim=(-3, -2, -1)).real
    level = noise.flatten(1).square().mean(dim=1).sqrt()
    return noise * (rms / level).view(-1, *[1] * (noise.ndim - 1))


def noise(model: nn.Module, batches: Sequence[Batch], settings: NoiseSettings = NoiseSettings()) -> pa.Table:
    """Return loss and accuracy of a net under noise of each band.

    Columns: axis (space: rings of spatial frequencies, new in every frame; time: temporal frequencies, new in every
    pixel), low, high, centre, loss, top1, signal_to_noise (decibels, of the clips' own content of the band). The
    summary has loss and top1 without noise.

    Source: arXiv:2202.06709 figure 2b, for photographs; its code is not published.
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
    """Draw accuracy and loss against the band, for space and for time."""
    clean = summary_of(table)
    figure, panels = score_panels("band of the noise, in units of π per pixel or frame")
    for key, axes in panels.items():
        for axis, colour, label in (("space", BLUE, "spatial frequencies"), ("time", ORANGE, "temporal frequencies")):
            rows = where(table, axis=axis)
            width = np.array([rows["centre"] - rows["low"], rows["high"] - rows["centre"]])
            axes.errorbar(rows["centre"], rows[key], xerr=width, color=colour, marker="o", capsize=2, label=label)
        axes.axhline(clean[key], color=GREY, linestyle="--", linewidth=1, label="without noise")
        axes.set_xlim(0, 1)
    panels["top1"].set_title("Low: noise of this band misleads the net", fontsize=10)
    panels["top1"].legend(fontsize=9, framealpha=0.9)
    return figure


def _frequency(size: int) -> Tensor:
    return 2 * torch.fft.fftfreq(size, dtype=torch.float64).abs()


def _share(frequency: Tensor, size: int, band: Band) -> Tensor:
    """Return the share of the interval of width 2/size around each frequency that is inside a band."""
    half = 1 / size
    overlap = (frequency + half).clamp(max=band.high) - (frequency - half).clamp(min=band.low)
    return (overlap / (2 * half)).clamp(0, 1)


def _power(clip: Tensor, mask: Tensor) -> float:
    """Return the mean square of the content of a mask."""
    transformed = torch.fft.fftn(clip.double().cpu(), dim=(-3, -2, -1), norm="ortho") * mask
    return float(transformed.abs().square().mean())
