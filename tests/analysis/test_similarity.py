"""Alignment: identities, and the definition by loops."""

import numpy as np
import pytest
import torch

from mvit_video.analysis.similarity import MiniBatchCka, cka, draw_cka, unbiased_hsic
from mvit_video.models import MViT
from mvit_video.types import ConfigError
from tests.fixtures.nets import MakeBatches


def features(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def aligned(*batches: list[torch.Tensor]) -> torch.Tensor:
    alignment = MiniBatchCka()
    for batch in batches:
        alignment.add(batch)
    return alignment.result()


def test_the_criterion_is_that_of_its_definition() -> None:
    x, y = features(6, 4, seed=0), features(6, 7, seed=1)
    k, m = x @ x.T, y @ y.T
    n, matched, crossed = 6, 0.0, 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                matched += float(k[i, j] * m[j, i])
                crossed += sum(float(k[i, j] * m[j, q]) for q in range(n) if q != j)
    sums = sum(float(k[i, j]) for i in range(n) for j in range(n) if i != j)
    others = sum(float(m[i, j]) for i in range(n) for j in range(n) if i != j)
    expected = (matched + sums * others / ((n - 1) * (n - 2)) - 2 / (n - 2) * crossed) / (n * (n - 3))
    assert float(unbiased_hsic(k, m)) == pytest.approx(expected, rel=1e-12)


def test_a_layer_is_wholly_like_itself_and_like_its_rotations() -> None:
    x = features(12, 5, seed=0)
    rotation = torch.linalg.qr(features(5, 5, seed=1)).Q
    found = aligned([x, 3 * x @ rotation + features(1, 5, seed=2)])
    torch.testing.assert_close(found, torch.ones(2, 2, dtype=torch.float64))


def test_independent_layers_are_unrelated() -> None:
    batches = [[features(32, 20, seed=2 * i), features(32, 20, seed=2 * i + 1)] for i in range(20)]
    assert abs(float(aligned(*batches)[0, 1])) < 0.05


def test_the_criterion_is_averaged_before_the_ratio_is_taken() -> None:
    batches = [[features(8, 3, seed=2 * i), features(8, 3, seed=2 * i).square() + 0.1 * i] for i in range(3)]
    total = torch.zeros(2, 2, dtype=torch.float64)
    for batch in batches:
        for i in range(2):
            for j in range(2):
                total[i, j] += unbiased_hsic(batch[i] @ batch[i].T, batch[j] @ batch[j].T)
    expected = total[0, 1] / (total[0, 0] * total[1, 1]).sqrt()
    torch.testing.assert_close(aligned(*batches)[0, 1], expected)


def test_a_study_is_symmetric_and_leaves_out_a_small_last_batch(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    table = cka(tiny_v1, make_batches(5, 6, 2))
    values = table["cka"].to_numpy().reshape(7, 7)
    np.testing.assert_allclose(values, values.T)
    np.testing.assert_allclose(values.diagonal(), 1)
    assert table["first_name"].to_pylist()[:2] == ["embed", "embed"]
    assert len(draw_cka(table).axes) == 2
    with pytest.raises(ConfigError, match="at least 4 clips, got one of 3"):
        cka(tiny_v1, make_batches(3))
