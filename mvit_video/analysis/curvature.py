"""Curvature of the training loss: top eigenvalues of its Hessian, batch by batch.

The loss is that of training: of augmented and mixed clips, with weight decay as `wd / 2 * ||w||^2`.

Letters: B clips, K classes, P parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mvit_video.analysis.adapter import evaluating
from mvit_video.analysis.batches import Batch, on_device
from mvit_video.analysis.drawing import describe
from mvit_video.analysis.layers import summary_of, with_summary
from mvit_video.pages.figures import BLUE, ORANGE, new_figure
from mvit_video.types import ConfigError

_NUM_RESAMPLES = 2000
_STEPS_BETWEEN_CHECKS = 5
Floats = NDArray[np.float64]
WeightDecay = float | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class HessianSettings:
    """Settings of the search for eigenvalues.

    Attributes:
        num_values: eigenvalues of each batch.
        max_steps: most products with the Hessian for each batch.
        tolerance: relative error of a value that is small enough.
        seed: of the first vectors and of the bootstrap.
    """

    num_values: int = 5
    max_steps: int = 50
    tolerance: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("num_values", "max_steps"):
            if getattr(self, key) < 1:
                raise ConfigError(f"hessian.{key} must be at least 1, got {getattr(self, key)}")


class Eigenvalues(NamedTuple):
    """Eigenvalues of largest magnitude.

    Attributes:
        values: the largest magnitude first.
        residuals: norm of `A y - value y` for each unit eigenvector y, a bound on the error of the value.
        num_steps: products that were computed, without those of the residuals.
    """

    values: list[float]
    residuals: list[float]
    num_steps: int


def top_eigenvalues(
    product: Callable[[Tensor], Tensor], start: Tensor, num_values: int, *, max_steps: int, tolerance: float
) -> Eigenvalues:
    """Return the eigenvalues of largest magnitude of a symmetric matrix: Lanczos with full re-orthogonalisation.

    Unlike power iteration it separates values of nearly equal magnitude and opposite sign. A multiple eigenvalue is
    found once.

    Args:
        product: the matrix times a vector.
        start: a random vector.
        tolerance: relative error of every value that ends the search.

    Raises:
        ValueError: a product holds NaN or infinity.
    """
    max_steps = min(max_steps, start.numel())
    basis = torch.empty(max_steps, start.numel(), dtype=start.dtype, device=start.device)
    tridiagonal = np.zeros((max_steps, max_steps))
    vector, steps, below = start / start.norm(), 0, 0.0
    while steps < max_steps:
        basis[steps] = vector
        image = product(vector)
        if not image.isfinite().all():
            raise ValueError("the product with the Hessian is NaN or infinite")
        tridiagonal[steps, steps] = float(image @ vector)
        known = basis[: steps + 1]
        for _ in range(2):  # once leaves rounding errors
            image = image - known.mT @ (known @ image)
        below = float(image.norm())
        steps += 1
        is_exhausted = below <= torch.finfo(start.dtype).eps * max(1.0, float(np.abs(tridiagonal).max()))
        if is_exhausted or (steps % _STEPS_BETWEEN_CHECKS == 0 and steps >= num_values):
            values, vectors = _ritz(tridiagonal[:steps, :steps], num_values)
            if is_exhausted or (below * np.abs(vectors[-1]) <= tolerance * np.abs(values)).all():
                break
        if steps < max_steps:
            tridiagonal[steps, steps - 1] = tridiagonal[steps - 1, steps] = below
            vector = image / below
    values, vectors = _ritz(tridiagonal[:steps, :steps], num_values)
    residuals = []
    for value, weights in zip(values, vectors.T, strict=True):
        y = basis[:steps].mT @ torch.as_tensor(weights, dtype=start.dtype, device=start.device)
        residuals.append(float((product(y) - float(value) * y).norm()))
    return Eigenvalues(values.tolist(), residuals, steps)


def _ritz(tridiagonal: Floats, num_values: int) -> tuple[Floats, Floats]:
    values, vectors = np.linalg.eigh(tridiagonal)
    order = np.argsort(-np.abs(values))[:num_values]
    return values[order], vectors[:, order]


class HessianProduct:
    """The Hessian of the loss of one batch, in eval mode, times a vector of all trained parameters.

    It uses backward through backward, because forward-mode differentiation of a `jacrev` gradient is wrong through
    `layer_norm`, and plain attention, because fused kernels have no second derivative.

    Args:
        weight_decay: one for all parameters, or the parameter groups of an optimiser.
    """

    def __init__(self, model: nn.Module, batch: Batch, weight_decay: WeightDecay = 0.0) -> None:
        self._parameters = trained_parameters(model)
        decay = decay_of(model, weight_decay)
        self._decay = torch.cat([p.new_full((p.numel(),), decay[name]) for name, p in self._parameters.items()])
        values = list(self._parameters.values())
        with evaluating(model), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            loss = F.cross_entropy(model(batch.clip), batch.target)
            gradients = torch.autograd.grad(loss, values, create_graph=True, allow_unused=True, materialize_grads=True)
        self._gradient = torch.cat([gradient.flatten() for gradient in gradients])

    @property
    def size(self) -> int:
        """Number of parameters."""
        return len(self._gradient)

    def __call__(self, vector: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """Return the product."""
        values = list(self._parameters.values())
        found = torch.autograd.grad(
            self._gradient, values, vector, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([one.flatten() for one in found]) + self._decay * vector


class Share(NamedTuple):
    """A number over all eigenvalues with its 95 % bootstrap interval over batches."""

    value: float
    low: float
    high: float


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def decay_of(model: nn.Module, weight_decay: WeightDecay) -> dict[str, float]:
    """Return the weight decay of each parameter; 0 for a parameter in no group."""
    if isinstance(weight_decay, (int, float)):
        return dict.fromkeys(trained_parameters(model), float(weight_decay))
    by_parameter = {id(p): float(group["weight_decay"]) for group in weight_decay for p in group["params"]}
    return {name: by_parameter.get(id(parameter), 0.0) for name, parameter in model.named_parameters()}


def hessian(
    model: nn.Module,
    batches: Iterable[Batch],
    settings: HessianSettings = HessianSettings(),
    weight_decay: WeightDecay = 0.0,
) -> pa.Table:
    """Return the eigenvalues of largest magnitude of the Hessian of each batch.

    Columns: batch, rank (0 has the largest magnitude), eigenvalue, residual (bound on its error), num_steps. The
    summary has `nep`, the share of negative values, and `ape`, the mean of the positive ones, each with a 95 %
    bootstrap interval over batches, and the sizes of batches.

    Args:
        batches: of the training stream, augmented and mixed; 16 clips each in the publication.
        weight_decay: as in `HessianProduct`.

    Source: arXiv:2202.06709 figure 4 and appendix A.2, with Lanczos instead of power iteration.
    """
    rows: list[dict[str, object]] = []
    sizes: list[int] = []
    generator = torch.Generator().manual_seed(settings.seed)
    for i, batch in enumerate(on_device(model, batches)):
        product = HessianProduct(model, batch, weight_decay)
        start = torch.randn(product.size, generator=generator).to(batch.clip)
        found = top_eigenvalues(
            product, start, settings.num_values, max_steps=settings.max_steps, tolerance=settings.tolerance
        )
        for rank, (value, residual) in enumerate(zip(found.values, found.residuals, strict=True)):
            place = {"batch": i, "rank": rank}
            rows.append({**place, "eigenvalue": value, "residual": residual, "num_steps": found.num_steps})
        sizes.append(len(batch.clip))
    table = pa.Table.from_pylist(rows)
    values = [table["eigenvalue"].to_numpy()[table["batch"].to_numpy() == i] for i in range(len(sizes))]
    nep, ape = nep_and_ape(values, settings.seed)
    return with_summary(table, nep=nep._asdict(), ape=ape._asdict(), clips_per_batch=sizes)


def nep_and_ape(values: Sequence[Floats], seed: int = 0) -> tuple[Share, Share]:
    """Return the share of negative eigenvalues, and the mean of the positive ones; NaN where there is none.

    Args:
        values: of each batch.
    """
    rng = np.random.default_rng(seed)
    negative = np.array([(one < 0).sum() for one in values], dtype=float)
    positive = np.array([(one > 0).sum() for one in values], dtype=float)
    height = np.array([one[one > 0].sum() for one in values])
    count = np.array([len(one) for one in values], dtype=float)
    drawn = rng.integers(len(values), size=(_NUM_RESAMPLES, len(values)))
    return _share(negative, count, drawn), _share(height, positive, drawn)


def draw_hessian(table: pa.Table) -> Figure:
    """Draw the density of all eigenvalues, negative ones shaded, and the spectrum of each batch."""
    values, summary = table["eigenvalue"].to_numpy(), summary_of(table)
    figure, (left, right) = new_figure(1, 2)
    step = max(float(np.ptp(values)), 1e-12) / min(40, max(10, len(values) // 2))
    edges = step * np.arange(np.floor(values.min() / step), np.ceil(values.max() / step) + 1)  # 0 is one of them
    left.hist(values, bins=edges.tolist(), density=True, color=BLUE, alpha=0.85)
    left.plot(values, np.zeros(len(values)), "|", color="black", markersize=9, clip_on=False)
    if (values < 0).any():
        left.axvspan(left.get_xlim()[0], 0, color=ORANGE, alpha=0.12, linewidth=0, label="negative: not convex")
    nep, ape = Share(**summary["nep"]), Share(**summary["ape"])
    title = (
        f"negative: {100 * nep.value:.0f} % ({100 * nep.low:.0f}–{100 * nep.high:.0f}), "
        f"mean of the positive: {ape.value:.3g} ({ape.low:.3g}–{ape.high:.3g})"
    )
    describe(left, title, x="eigenvalue (a mark for each)", y="density", legend=bool((values < 0).any()))
    batch, error = table["batch"].to_numpy(), table["residual"].to_numpy()
    right.errorbar(batch, values, yerr=error, fmt="o", color=BLUE, markersize=4, capsize=2)
    right.axhline(0, color=ORANGE, linewidth=1)
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    title = f"{len(values)} eigenvalues of {len(summary['clips_per_batch'])} batches"
    describe(right, title, x="batch", y="eigenvalue (bars: bound on its error)")
    return figure


def _share(part: Floats, whole: Floats, drawn: NDArray[np.int64]) -> Share:
    with np.errstate(invalid="ignore", divide="ignore"):
        value = part.sum() / whole.sum()
        resampled = part[drawn].sum(axis=1) / whole[drawn].sum(axis=1)
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return Share(float(value), float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return Share(float(value), float(low), float(high))
