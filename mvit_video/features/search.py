"""Exact search for the rows of a matrix with the largest cosine.

Letters: Q queries, R rows, C channels, k neighbours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mvit_video.types import ConfigError

_ROWS_PER_BLOCK, _QUERIES_PER_PASS = 8192, 256
_PAIRS_PER_STEP = 4096
_ROUNDING = 2.0**-24  # of single precision


class Neighbours(NamedTuple):
    """Nearest rows of each query, the nearest first.

    Attributes:
        row: `(Q, k)`; -1 where there are fewer.
        similarity: `(Q, k)` cosine, -1 to 1; minus infinity where there are fewer.
    """

    row: NDArray[np.int64]
    similarity: NDArray[np.float64]


def nearest_rows(
    queries: NDArray[Any],
    vectors: NDArray[Any],
    k: int,
    *,
    file: NDArray[np.int64] | None = None,
    without: NDArray[np.int64] | None = None,
) -> Neighbours:
    """Return the k rows with the largest cosine, equal ones in the order of the rows.

    Single precision chooses candidates block by block; their cosines are computed in double precision, so that neither
    the size of a block nor the order of the rows changes the result. The matrix is read once for 256 queries. A vector
    of zeros has the cosine 0 with every other; a vector with NaN or infinity is never found.

    Args:
        queries: `(Q, C)`.
        vectors: `(R, C)`, mapped or in memory.
        file: `(R,)` number of the file of each row.
        without: `(Q,)` number of a file whose rows are excluded; -1 for none.

    Raises:
        ConfigError: queries and rows differ in their channels, or a query has NaN or infinity.
    """
    if queries.shape[1] != vectors.shape[1]:
        raise ConfigError(f"the query has {queries.shape[1]} channels, the features {vectors.shape[1]}; use one model")
    exact = queries.astype(np.float64)
    if not np.isfinite(exact).all():
        raise ConfigError("the query's features are NaN or infinite; extract them in a higher precision")
    exact /= np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    k = min(k, len(vectors))
    found = Neighbours(np.full((len(exact), k), -1), np.full((len(exact), k), -np.inf))
    for start in range(0, len(exact), _QUERIES_PER_PASS):
        some = slice(start, start + _QUERIES_PER_PASS)
        best = Neighbours(found.row[some], found.similarity[some])
        for first in range(0, len(vectors), _ROWS_PER_BLOCK):
            block = vectors[first : first + _ROWS_PER_BLOCK]
            rough = _rough_cosines(exact[some], block)
            if file is not None and without is not None:
                rough[torch.from_numpy(without[some, None] == file[first : first + len(block)])] = -torch.inf
            query, row = _candidates(rough, best, vectors.shape[1])
            best = _merged(best, query, row + first, _cosines(exact[some], block, query, row))
        found.row[some], found.similarity[some] = best
    return found


def _rough_cosines(queries: NDArray[np.float64], block: NDArray[Any]) -> Tensor:
    rows = torch.from_numpy(np.array(block, copy=True)).float()  # a copy, since torch warns of what is mapped read-only
    norms = torch.linalg.vector_norm(rows, dim=1).clamp_min_(torch.finfo(torch.float32).tiny)
    return (torch.from_numpy(queries).float() @ rows.T).div_(norms).nan_to_num_(nan=-torch.inf, posinf=-torch.inf)


def _candidates(rough: Tensor, best: Neighbours, num_channels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of query and row that can be among the best within the error of single precision."""
    k = best.row.shape[1]
    slack = 4 * (num_channels + 8) * _ROUNDING
    least = torch.from_numpy(best.similarity[:, -1])
    if k <= rough.shape[1]:
        least = torch.maximum(least, rough.topk(k, dim=1).values[:, -1].double())
    is_near = (rough.double() >= (least - slack)[:, None]) & (rough > -torch.inf)
    query, row = is_near.nonzero(as_tuple=True)
    return query.numpy(), row.numpy()


def _cosines(
    queries: NDArray[np.float64], block: NDArray[Any], query: NDArray[np.int64], row: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the cosine of each pair; equal vectors give equal bits."""
    cosines = np.empty(len(query))
    for start in range(0, len(query), _PAIRS_PER_STEP):
        some = slice(start, start + _PAIRS_PER_STEP)
        rows = block[row[some]].astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        dots = np.einsum("ij,ij->i", queries[query[some]], rows)
        cosines[some] = dots / np.maximum(norms, np.finfo(np.float64).tiny)
    return cosines


def _merged(
    best: Neighbours, query: NDArray[np.int64], row: NDArray[np.int64], similarity: NDArray[np.float64]
) -> Neighbours:
    """Return the best of the rows so far and of new pairs."""
    num_queries, k = best.row.shape
    queries = np.concatenate([np.repeat(np.arange(num_queries), k), query])
    rows = np.concatenate([best.row.ravel(), row])
    similarities = np.concatenate([best.similarity.ravel(), similarity])
    order = np.lexsort((rows, -similarities, queries))
    starts = np.searchsorted(queries[order], np.arange(num_queries))
    chosen = order[starts[:, None] + np.arange(k)]
    return Neighbours(rows[chosen], similarities[chosen])


def vote(neighbours: Neighbours, label: NDArray[np.int64], num_classes: int, temperature: float) -> NDArray[np.float64]:
    """Return the share of each class among the neighbours, weighted by exp(cosine / temperature), `(Q, num_classes)`.

    Neighbours without a label have no vote; a query without a neighbour gives every class the same share.

    Args:
        label: `(R,)` class of each row, -1 where unknown.

    Source: instance discrimination (arXiv:1805.01978) section 3.4; tests/features/test_search.py.
    """
    has_vote = (neighbours.row >= 0) & (label[neighbours.row] >= 0)
    peak = np.where(has_vote, neighbours.similarity, -np.inf).max(axis=1, keepdims=True)
    distance = np.where(has_vote, neighbours.similarity, 0.0) - np.where(np.isfinite(peak), peak, 0.0)
    weights = np.where(has_vote, np.exp(distance / temperature), 0.0)
    votes = np.zeros((len(neighbours.row), num_classes))
    np.add.at(votes, (np.arange(len(votes))[:, None], np.where(has_vote, label[neighbours.row], 0)), weights)
    totals = votes.sum(axis=1, keepdims=True)
    return np.divide(votes, totals, out=np.full_like(votes, 1 / num_classes), where=totals > 0)
