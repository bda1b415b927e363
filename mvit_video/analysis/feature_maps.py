"""Maps of every layer: Fourier spectra and variances, over space, over time and over both.

An amplitude is the mean, over clips and channels, of the log modulus of the Fourier transform, relative to frequency 0.
Frequencies are in units of pi per cell: 1 is the Nyquist frequency. White noise gives 0.5 ln 2, not 0: amplitudes at
frequencies with a complex transform are that much above those with a real one.

Letters: B clips, C channels, T H W grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor, nn

from mvit_video.analysis.batches import Batch
from mvit_video.analysis.drawing import depth_colours, describe, kind_legend, layers_of, plot_runs, shade_kinds, where
from mvit_video.analysis.layers import measure_layers
from mvit_video.pages.figures import BLUE, ORANGE, new_figure

_FLOOR = 1e-6  # as in the reference
_DELTA = "log amplitude, relative to frequency 0"
Plane = NDArray[np.float64]


class Variances(NamedTuple):
    """Mean over clips and channels of the variance of a map.

    Attributes:
        space: over the cells of each frame, unbiased, as in the reference.
        time: over the frames of each cell, unbiased; NaN for one frame.
        within_frames: over the cells of each frame, biased.
        between_frames: of the means of the frames, biased.
        total: over all cells and frames, biased: the sum of the last two.
    """

    space: float
    time: float
    within_frames: float
    between_frames: float
    total: float


def map_variances(maps: Float[Tensor, "B C T H W"]) -> Variances:
    """Return the variances of maps; NaN over space for one cell, and over time for one frame."""
    maps = maps.double()
    frames = maps.flatten(3)
    num_frames, num_cells = frames.shape[2:]
    within = frames.var(dim=3, correction=0)
    return Variances(
        space=float(within.mean()) * num_cells / (num_cells - 1) if num_cells > 1 else float("nan"),
        time=float(maps.var(dim=2).mean()) if num_frames > 1 else float("nan"),
        within_frames=float(within.mean()),
        between_frames=float(frames.mean(dim=3).var(dim=2, correction=0).mean()),
        total=float(maps.flatten(2).var(dim=2, correction=0).mean()),
    )


def variance(model: nn.Module, batches: Iterable[Batch]) -> pa.Table:
    """Return the variances of maps after every residual sum.

    Columns: sample (0 is the stem), name, kind, C, T, H, W, depth (0 at the stem, 1 at the last layer), and the fields
    of `Variances`.

    Source: arXiv:2202.06709 figure 9; the law of total variance splits it for clips
    (tests/analysis/test_feature_variance.py).
    """

    def measure(maps: Tensor) -> dict[str, NDArray[np.float64]]:
        return {name: np.array(value) for name, value in map_variances(maps)._asdict().items()}

    layers = measure_layers(model, batches, measure)
    last = max(len(layers) - 1, 1)
    return pa.Table.from_pylist(
        [
            {**layer.record, "depth": layer.sample / last, **{name: float(one) for name, one in layer.values.items()}}
            for layer in layers
        ]
    )


def draw_variance(table: pa.Table) -> Figure:
    """Draw the variance over space and over time, and its share between frames, over the layers."""
    layers = layers_of(table)
    columns = {name: table[name].to_numpy() for name in Variances._fields}
    figure, (left, right) = new_figure(1, 2)
    for name, colour, what in (("space", BLUE, "over the cells of a frame"), ("time", ORANGE, "over the frames")):
        plot_runs(left, layers.runs, columns[name], colour, what)
    share = columns["between_frames"] / np.maximum(columns["total"], np.finfo(float).tiny)
    plot_runs(right, layers.runs, 100 * share, ORANGE)
    for axes in (left, right):
        shade_kinds(axes, layers.kinds)
        axes.set_ylim(bottom=0)
    x = left.get_xlabel()
    describe(
        left,
        "Rising: the layer adds variance; falling: it averages",
        x=x,
        y="variance, mean over channels",
        legend=True,
    )
    describe(right, "Share of variance between the means of the frames", x=x, y="% of the total variance")
    kind_legend(figure, layers.kinds)
    return figure


class Spectrum(NamedTuple):
    """Log amplitudes along one direction.

    Attributes:
        space: spatial frequency of each value, in units of pi.
        time: temporal frequency of each value.
        values: log amplitudes.
    """

    space: Plane
    time: Plane
    values: Plane

    @property
    def delta(self) -> Plane:
        """Log amplitudes relative to frequency 0, which is the first."""
        return self.values - self.values[0]


def frequencies(size: int) -> Plane:
    """Return the frequencies of a real signal of `size` samples, in units of pi; the last of an even size is 1."""
    return 2 * np.arange(size // 2 + 1) / size


def log_amplitude(maps: Float[Tensor, "B C T H W"], axes: tuple[int, ...]) -> Tensor:
    """Return the mean over all other axes of the log modulus of the transform over `axes`; frequency 0 comes first."""
    modulus = torch.fft.fftn(maps.double(), dim=axes).abs()
    rest = [axis for axis in range(maps.ndim) if axis not in axes]
    return (modulus + _FLOOR).log().mean(dim=rest)


def map_spectra(maps: Float[Tensor, "B C T H W"]) -> dict[str, Spectrum]:
    """Return the spectra of maps: `height`, `width`, `diagonal` and `radial` per frame, `time`, and `joint`.

    `diagonal` is the mean of both diagonals, with the longer axis interpolated where height and width differ. `radial`
    values are means over rings as wide as a step of the shorter axis. `joint` has a ring for each spatial and a row for
    each temporal frequency, row after row. Square maps have `reference` too.
    """
    plane = log_amplitude(maps, (3, 4)).cpu().numpy()
    line = log_amplitude(maps, (2,)).cpu().numpy()
    volume = log_amplitude(maps, (2, 3, 4)).cpu().numpy()
    num_t, (num_h, num_w) = len(line), plane.shape
    high, wide, when = frequencies(num_h), frequencies(num_w), frequencies(num_t)
    found = {
        "height": _along_space(high, plane[: len(high), 0]),
        "width": _along_space(wide, plane[0, : len(wide)]),
        "diagonal": _diagonal(plane),
        "radial": _along_space(*_rings(plane)),
        "time": Spectrum(np.zeros_like(when), when, line[: len(when)]),
    }
    rows = [_rings(volume[k])[1] for k in range(len(when))]
    radii = _rings(volume[0])[0]
    found["joint"] = Spectrum(np.tile(radii, len(when)), np.repeat(when, len(radii)), np.concatenate(rows))
    if num_h == num_w > 1:
        values = plane.diagonal()[: (num_h + 1) // 2]
        found["reference"] = _along_space(np.linspace(0, 1, len(values)), values)
    return found


def fourier(model: nn.Module, batches: Iterable[Batch]) -> pa.Table:
    """Return the spectra of maps after every residual sum.

    Columns: sample (0 is the stem), name, kind, C, T, H, W, direction, space and time (frequencies in units of pi),
    log_amplitude, delta (log amplitude relative to frequency 0). The direction `reference` is the half diagonal of the
    reference notebook with its axis, where the last bin below Nyquist is 1.

    Source: arXiv:2202.06709 figures 2a and 8; closed forms in tests/analysis/test_spectra.py.
    """
    axes: dict[tuple[int, ...], dict[str, Spectrum]] = {}

    def measure(maps: Tensor) -> dict[str, Plane]:
        found = map_spectra(maps)
        axes[tuple(maps.shape[2:])] = found
        return {direction: spectrum.values for direction, spectrum in found.items()}

    rows: list[dict[str, object]] = []
    for layer in measure_layers(model, batches, measure):
        for direction, values in layer.values.items():
            spectrum = axes[layer.size[1:]][direction]._replace(values=values)
            for space, time, value, delta in zip(*spectrum, spectrum.delta, strict=True):
                place = {"direction": direction, "space": space, "time": time}
                rows.append({**layer.record, **place, "log_amplitude": value, "delta": delta})
    return pa.Table.from_pylist(rows)


def draw_fourier(table: pa.Table) -> Figure:
    """Draw curves of all layers over spatial and temporal frequency, their ends over the layers, and joint maps."""
    layers = layers_of(table)
    figure, axes = new_figure(3, 2)
    for row, (direction, axis, what) in enumerate([("diagonal", "space", "spatial"), ("time", "time", "temporal")]):
        curves = [where(table, sample=i, direction=direction) for i in range(len(layers.names))]
        for curve, colour in zip(curves, depth_colours(len(curves)), strict=True):
            axes[2 * row].plot(curve[axis], curve["delta"], color=colour, linewidth=1.2, marker=".", markersize=4)
        title, x = (
            f"Fourier spectrum over {what} frequency, a curve per layer",
            f"{what} frequency, units of π per cell",
        )
        describe(axes[2 * row], title, x=x, y=_DELTA)
        _add_depth_bar(figure, axes[2 * row], len(curves))
        plot_runs(axes[2 * row + 1], layers.runs, [float(curve["delta"][-1]) for curve in curves], BLUE)
        shade_kinds(axes[2 * row + 1], layers.kinds)
        title = f"Highest {what} frequency (falling: the layer smooths)"
        describe(axes[2 * row + 1], title, x=axes[2 * row + 1].get_xlabel(), y=_DELTA)
    joints = [where(table, sample=i, direction="joint") for i in (0, len(layers.names) - 1)]
    ends = min(joint["delta"].min() for joint in joints), max(joint["delta"].max() for joint in joints)
    for place, joint, name in zip(axes[4:], joints, ("the stem", "the last layer"), strict=True):
        _draw_joint(figure, place, joint, ends, f"Spectrum over space and time, {name}")
    kind_legend(figure, layers.kinds)
    return figure


def _add_depth_bar(figure: Figure, axes: Axes, num_layers: int) -> None:
    colours = ListedColormap(depth_colours(num_layers))
    bar = figure.colorbar(ScalarMappable(Normalize(0, max(num_layers - 1, 1)), colours), ax=axes, pad=0.02)
    bar.set_label("layer", fontsize=9)
    bar.locator = MaxNLocator(integer=True)
    bar.update_ticks()


def _draw_joint(
    figure: Figure, axes: Axes, joint: dict[str, NDArray[np.float64]], ends: tuple[float, float], title: str
) -> None:
    radii, when = np.unique(joint["space"]), np.unique(joint["time"])
    values = joint["delta"].reshape(len(when), len(radii))
    image = axes.imshow(values, origin="lower", aspect="auto", cmap="viridis", vmin=ends[0], vmax=ends[1])
    axes.set_xticks(range(len(radii)), [f"{value:.2f}" for value in radii], rotation=0 if len(radii) < 10 else 90)
    axes.set_yticks(range(len(when)), [f"{value:.2f}" for value in when])
    describe(axes, title, x="spatial frequency (any direction), units of π", y="temporal frequency, units of π")
    figure.colorbar(image, ax=axes, pad=0.02).set_label(_DELTA, fontsize=9)


def _along_space(space: Plane, values: Plane) -> Spectrum:
    return Spectrum(space, np.zeros_like(space), values)


def _diagonal(plane: Plane) -> Spectrum:
    """Return the mean of the two diagonals, where both frequencies are equal or opposite."""
    shorter = min(plane.shape)
    steps = np.arange(shorter // 2 + 1)
    values = [_at(plane, steps * plane.shape[0] / shorter, sign * steps * plane.shape[1] / shorter) for sign in (1, -1)]
    return _along_space(frequencies(shorter), np.mean(values, axis=0))


def _at(plane: Plane, rows: Plane, columns: Plane) -> Plane:
    """Return values between the cells of a periodic plane, linear along both axes."""
    low_row, low_column = np.floor(rows).astype(int), np.floor(columns).astype(int)
    total = np.zeros(len(rows))
    for row, row_share in ((low_row, 1 - (rows - low_row)), (low_row + 1, rows - low_row)):
        for column, share in ((low_column, 1 - (columns - low_column)), (low_column + 1, columns - low_column)):
            total += row_share * share * plane[row % plane.shape[0], column % plane.shape[1]]
    return total


def _rings(plane: Plane) -> tuple[Plane, Plane]:
    """Return the radii and the mean over each ring; the first ring is frequency 0 alone."""
    rows, columns = (2 * np.abs(np.fft.fftfreq(size)) for size in plane.shape)
    radius = np.hypot(rows[:, None], columns[None])
    step = 2 / min((size for size in plane.shape if size > 1), default=2)
    ring = np.rint(radius / step).astype(int).ravel()
    count = np.bincount(ring)
    filled = np.flatnonzero(count)
    means = np.bincount(ring, weights=plane.ravel())[filled] / count[filled]
    return (step * filled).astype(np.float64), means.astype(np.float64)
