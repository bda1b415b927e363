import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from mvit_video.features import search
from mvit_video.features.search import Neighbours, nearest_rows, vote
from mvit_video.types import ConfigError


def brute_force(
    queries: np.ndarray, vectors: np.ndarray, k: int, file: np.ndarray, without: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sorts all cosines; equal ones in the order of the rows."""
    one, other = queries.astype(np.float64), vectors.astype(np.float64)
    norms = [np.maximum(np.linalg.norm(each, axis=1), 1e-300) for each in (one, other)]
    rows, similarities = [], []
    for q in range(len(one)):
        cosines = np.array([one[q] @ row for row in other]) / norms[0][q] / norms[1]
        cosines = np.where(file == without[q], -np.inf, cosines).round(12)
        order = np.lexsort((np.arange(len(other)), -cosines))[: min(k, len(other))]
        rows.append(np.where(cosines[order] == -np.inf, -1, order))
        similarities.append(cosines[order])
    return np.array(rows), np.array(similarities)


@given(
    st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 6), st.integers(1, 8), st.integers(1, 45),
    st.integers(1, 9), st.integers(1, 4), st.sampled_from([np.float16, np.float32]),
)  # fmt: skip
def test_search_equals_brute_force_whatever_the_blocks(
    seed: int, num_rows: int, num_queries: int, num_channels: int, k: int, block: int, queries_at_once: int, kind: type
) -> None:
    rng = np.random.default_rng(seed)
    # small whole numbers: many rows point in the very same direction, and some are zero
    vectors = rng.integers(-2, 3, (num_rows, num_channels)).astype(kind)
    queries = rng.integers(-2, 3, (num_queries, num_channels)).astype(kind)
    file, without = rng.integers(0, 4, num_rows), rng.integers(-1, 4, num_queries)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_ROWS_PER_BLOCK", block)
        patch.setattr(search, "_QUERIES_PER_PASS", queries_at_once)
        patch.setattr(search, "_PAIRS_PER_STEP", 3)
        found = nearest_rows(queries, vectors, k, file=file, without=without)
    rows, similarities = brute_force(queries, vectors, k, file, without)
    np.testing.assert_allclose(found.similarity, similarities, atol=1e-9)
    # two directions may be equal in numbers but not in the last bit, so rows are compared by what they score
    empty = rows == -1
    np.testing.assert_array_equal(found.row == -1, empty)
    for q in range(num_queries):
        own = found.row[q][~empty[q]]
        assert len(set(own.tolist())) == len(own)
        assert not (file[own] == without[q]).any()


def test_equal_vectors_come_in_the_order_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_ROWS_PER_BLOCK", 3)
    vectors = np.tile(np.array([[0.1, 0.7, 0.3], [1, 0, 0]], np.float32), (5, 1))
    assert nearest_rows(vectors[:1], vectors, 7).row.tolist() == [[0, 2, 4, 6, 8, 1, 3]]


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_search_equals_nearest_neighbours_of_scikit_learn(kind: type) -> None:
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(n, 96)).astype(kind) for n in (20_000, 300))
    found = nearest_rows(queries, vectors, 10)
    peer = NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(vectors.astype(np.float64))
    distance, row = peer.kneighbors(queries.astype(np.float64))
    np.testing.assert_array_equal(found.row, row)
    np.testing.assert_allclose(found.similarity, 1 - distance, atol=1e-12)


def test_rows_that_single_precision_cannot_tell_apart_come_in_their_true_order() -> None:
    rng = np.random.default_rng(0)
    vectors = (1 + 1e-4 * rng.normal(size=(2000, 256))).astype(np.float32)
    query = np.ones((1, 256), np.float32)
    doubles = vectors.astype(np.float64)
    cosines = doubles.sum(axis=1) / np.linalg.norm(doubles, axis=1) / 16
    assert len(np.unique(cosines.astype(np.float32))) < 20
    assert nearest_rows(query, vectors, 50).row.tolist() == [np.argsort(-cosines, kind="stable")[:50].tolist()]


def test_a_row_that_is_not_finite_is_never_found_and_a_query_is_refused() -> None:
    vectors = np.array([[np.inf, 1], [np.nan, 1], [1, 1], [0, 0]], np.float16)
    found = nearest_rows(np.array([[1.0, 0.0]]), vectors, 4)
    assert found.row.tolist() == [[2, 3, -1, -1]]
    assert found.similarity[0, :2] == pytest.approx([0.5**0.5, 0])
    with pytest.raises(ConfigError, match="NaN or infinite"):
        nearest_rows(vectors[:1], vectors, 1)
    with pytest.raises(ConfigError, match="the query has 3 channels, the features 2"):
        nearest_rows(np.ones((1, 3)), vectors, 1)


def test_votes_are_weighted_by_similarity() -> None:
    neighbours = Neighbours(
        np.array([[0, 1, 2], [3, 2, -1], [3, -1, -1]]),
        np.array([[0.9, 0.8, 0.1], [0.5, 0.4, -np.inf], [0.5, -np.inf, -np.inf]]),
    )
    label = np.array([2, 0, 0, -1])
    weights = np.exp(np.array([0.9, 0.8, 0.1]) / 0.5)
    expected = [[(weights[1] + weights[2]) / weights.sum(), 0, weights[0] / weights.sum()], [1, 0, 0], [1 / 3] * 3]
    np.testing.assert_allclose(vote(neighbours, label, 3, temperature=0.5), expected, rtol=1e-12)


def test_votes_at_a_tiny_temperature_stay_finite() -> None:
    neighbours = Neighbours(np.array([[0, 1]]), np.array([[-0.5, -0.6]]))
    np.testing.assert_allclose(vote(neighbours, np.array([1, 0]), 2, temperature=1e-4), [[0, 1]], atol=1e-300)
