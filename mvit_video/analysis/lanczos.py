"""Eigenvalues of largest magnitude of a matrix that is only known by its products."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_STEPS_BETWEEN_CHECKS = 5


class Eigenvalues(NamedTuple):
    """What Lanczos found.

    Attributes:
        values: those of largest magnitude, the largest first.
        residuals: of each, the norm of `A y - value y` for its unit vector y: the value is off by no more.
        num_steps: products that it took, without those of the residuals.
    """

    values: list[float]
    residuals: list[float]
    num_steps: int


def top_eigenvalues(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    num_values: int,
    *,
    max_steps: int,
    tolerance: float,
) -> Eigenvalues:
    """Eigenvalues of largest magnitude of a symmetric matrix, by Lanczos with full re-orthogonalisation.

    Values of nearly the same magnitude and opposite sign, between which power iteration hovers, are told apart. A
    multiple value is found once.

    Args:
        product: the matrix times a vector.
        start: any vector that is not orthogonal to what is sought, such as a random one.
        tolerance: ends the search once the error of every value is below this share of it.

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
            raise ValueError("the product with the Hessian is not finite")
        tridiagonal[steps, steps] = float(image @ vector)
        known = basis[: steps + 1]
        for _ in range(2):  # once leaves what rounding has put there
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


def _ritz(tridiagonal: np.ndarray, num_values: int) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(tridiagonal)
    order = np.argsort(-np.abs(values))[:num_values]
    return values[order], vectors[:, order]
