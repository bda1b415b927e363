"""The curvature of the training loss: eigenvalues of largest magnitude of its Hessian, batch by batch.

The loss is that of training: clips as they are augmented and mixed, and the weight decay as `wd / 2 * ||w||^2`.

Letters: B clips, K classes, P parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from mvit_video.analysis.drawing import BLUE, ORANGE, new_figure
from mvit_video.analysis.lanczos import top_eigenvalues
from mvit_video.analysis.layers import summary_of, with_summary
from mvit_video.types import ConfigError

_NUM_RESAMPLES = 2000
WeightDecay = float | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class HessianSettings:
    """How eigenvalues are sought.

    Attributes:
        num_values: eigenvalues of each batch.
        max_steps: products with the Hessian at most, for each batch.
        tolerance: error of a value, as a share of it, that is small enough.
        seed: of the first vectors, and of the bootstrap.
    """

    num_values: int = 5
    max_steps: int = 50
    tolerance: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("num_values", "max_steps"):
            if getattr(self, key) < 1:
                raise ConfigError(f"hessian.{key} must be at least 1, got {getattr(self, key)}")


class HessianProduct:
    """The Hessian of the loss of one batch, in eval mode, times a vector of all trained parameters.

    Backward through backward: forward-mode differentiation of a gradient taken with `jacrev` is wrong through
    `layer_norm`. Attention is computed by its definition, since fused kernels have no second derivative.

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
        """The product."""
        values = list(self._parameters.values())
        found = torch.autograd.grad(
            self._gradient, values, vector, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([one.flatten() for one in found]) + self._decay * vector


class Share(NamedTuple):
    """A number over all eigenvalues with its 95 % bootstrap interval, resampling batches."""

    value: float
    low: float
    high: float


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def decay_of(model: nn.Module, weight_decay: WeightDecay) -> dict[str, float]:
    """Weight decay of each parameter of a model; 0 for those in no group."""
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
    """Eigenvalues of largest magnitude of the Hessian of each batch.

    Columns: batch, rank (0 has the largest magnitude), eigenvalue, residual (the value is off by no more), num_steps.
    The summary has `nep`, the share of negative values, and `ape`, the mean of the positive ones, each with the low and
    high end of a 95 % bootstrap interval over batches, and the sizes of batches.

    Args:
        batches: of the training stream, augmented and mixed; 16 clips each in the publication.
        weight_decay: as in `HessianProduct`.

    Source: arXiv:2202.06709 figure 4 and appendix A.2; Lanczos in the place of power iteration.
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


def nep_and_ape(values: Sequence[NDArray[np.float64]], seed: int = 0) -> tuple[Share, Share]:
    """Share of negative eigenvalues, and mean of the positive ones; not a number where there is none.

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
    """Density of all eigenvalues, those below 0 set off, and the spectrum of each batch."""
    values, summary = table["eigenvalue"].to_numpy(), summary_of(table)
    figure, (left, right) = new_figure(1, 2)
    step = max(float(np.ptp(values)), 1e-12) / min(40, max(10, len(values) // 2))
    edges = step * np.arange(np.floor(values.min() / step), np.ceil(values.max() / step) + 1)  # 0 is one of them
    left.hist(values, bins=edges.tolist(), density=True, color=BLUE, alpha=0.85)
    left.plot(values, np.zeros(len(values)), "|", color="black", markersize=9, clip_on=False)
    if (values < 0).any():
        left.axvspan(left.get_xlim()[0], 0, color=ORANGE, alpha=0.12, linewidth=0, label="negative: not convex")
        left.legend(fontsize=9, framealpha=0.9)
    left.set_xlabel("eigenvalue (a mark for each)")
    left.set_ylabel("density")
    nep, ape = Share(**summary["nep"]), Share(**summary["ape"])
    left.set_title(
        f"negative: {100 * nep.value:.0f} % ({100 * nep.low:.0f}–{100 * nep.high:.0f}), "
        f"mean of the positive: {ape.value:.3g} ({ape.low:.3g}–{ape.high:.3g})",
        fontsize=10,
    )
    right.errorbar(
        table["batch"].to_numpy(),
        values,
        yerr=table["residual"].to_numpy(),
        fmt="o",
        color=BLUE,
        markersize=4,
        capsize=2,
    )
    right.axhline(0, color=ORANGE, linewidth=1)
    right.set_xlabel("batch")
    right.set_ylabel("eigenvalue, bars: its error at most")
    right.set_title(f"{len(values)} values of {len(summary['clips_per_batch'])} batches", fontsize=10)
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _share(part: NDArray[np.float64], whole: NDArray[np.float64], drawn: NDArray[np.int64]) -> Share:
    with np.errstate(invalid="ignore", divide="ignore"):
        value = part.sum() / whole.sum()
        resampled = part[drawn].sum(axis=1) / whole[drawn].sum(axis=1)
    known = resampled[np.isfinite(resampled)]
    if not len(known):
        return Share(float(value), float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return Share(float(value), float(low), float(high))
