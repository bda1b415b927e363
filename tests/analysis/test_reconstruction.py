"""Reconstruction of tokens from keys and values."""

import pytest
import torch

from mvit_video.analysis.reconstruction import cells_by_key, draw_reduction, explained, reduction
from mvit_video.models import MViT
from mvit_video.types import THW, ConfigError
from tests.fixtures.nets import MakeBatches


def noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_cells_lie_with_the_key_that_they_are_pooled_to() -> None:
    thw, thw_k = THW(2, 4, 6), THW(1, 2, 3)
    tokens = noise(2, thw.volume, 5, seed=0)
    mean = cells_by_key(tokens, thw, thw_k).unflatten(-1, (8, 5)).mean(dim=2)
    pooled = torch.nn.functional.avg_pool3d(tokens.mT.unflatten(-1, thw), (2, 2, 2))
    torch.testing.assert_close(mean, pooled.flatten(2).mT)


def test_what_is_a_linear_map_is_explained_and_noise_is_not() -> None:
    inputs = noise(600, 6, seed=0)
    assert explained(inputs, inputs @ noise(6, 4, seed=1) + 3, 300) == pytest.approx(1, abs=1e-4)
    assert abs(explained(inputs, noise(600, 4, seed=2), 300)) < 0.1


def test_the_mean_of_independent_cells_explains_the_share_of_one() -> None:
    cells = noise(4000, 4, 1, seed=0)
    assert explained(cells.mean(dim=1), cells.flatten(1), 2000) == pytest.approx(1 / 4, abs=0.02)


def test_keys_that_are_not_reduced_keep_all(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    table = reduction(tiny_v1, make_batches(16, 16))
    rows = table.to_pylist()
    assert [(row["ratio"], row["t"], row["h"], row["w"]) for row in rows] == [(4, 1, 2, 2), (1, 1, 1, 1), (1, 1, 1, 1)]
    assert rows[0]["num_fitted"] == 16 * 16
    for row in rows[1:]:
        assert row["explained_by_mean"] > 0.99
    assert rows[0]["explained_by_mean"] < 0.9
    assert rows[0]["explained"] < 0.9
    assert len(draw_reduction(table).axes) == 1


def test_one_batch_is_too_few(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    with pytest.raises(ConfigError, match="at least 2 batches"):
        reduction(tiny_v1, make_batches(8))
