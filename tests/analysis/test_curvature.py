"""Curvature against dense matrices and finite differences."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mvit_video.analysis.batches import Batch
from mvit_video.analysis.curvature import (
    HessianProduct,
    HessianSettings,
    draw_hessian,
    hessian,
    nep_and_ape,
    top_eigenvalues,
)
from mvit_video.analysis.layers import summary_of
from mvit_video.models import MViT
from tests.fixtures.nets import MakeBatches


def gradient_at(net: nn.Module, batch: Batch, shift: torch.Tensor) -> torch.Tensor:
    parameters = list(net.parameters())
    before = nn.utils.parameters_to_vector(parameters).detach().clone()
    nn.utils.vector_to_parameters(before + shift, parameters)
    found = torch.autograd.grad(F.cross_entropy(net(batch.clip), batch.target), parameters, materialize_grads=True)
    nn.utils.vector_to_parameters(before, parameters)
    return nn.utils.parameters_to_vector(found)


@pytest.mark.parametrize("name", ["tiny_v1", "tiny_v2", "tiny_cnn"])
def test_the_product_agrees_with_finite_differences(
    name: str, request: pytest.FixtureRequest, make_batches: MakeBatches
) -> None:
    net: nn.Module = request.getfixturevalue(name)
    (batch,) = make_batches(2)
    product = HessianProduct(net, batch)
    vector = torch.randn(product.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vector /= vector.norm()
    net.eval()
    step = 1e-5
    expected = (gradient_at(net, batch, step * vector) - gradient_at(net, batch, -step * vector)) / (2 * step)
    torch.testing.assert_close(product(vector), expected, rtol=1e-4, atol=1e-7 * float(expected.abs().max()) + 1e-8)


def test_the_product_is_in_eval_mode_and_leaves_the_net_training(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    (batch,) = make_batches(2)
    tiny_v1.train()
    products = [HessianProduct(tiny_v1, batch) for _ in range(2)]
    vector = torch.ones(products[0].size, dtype=torch.float64)
    assert torch.equal(products[0](vector), products[1](vector))
    assert tiny_v1.training
    assert all(parameter.grad is None for parameter in tiny_v1.parameters())


class Small(nn.Module):
    """A net small enough for all of its Hessian, with a layer norm whose input is learned too."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.layers(clip.flatten(1))


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().double()


@pytest.fixture
def small_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(8, 4, 1, 1, 1, generator=generator, dtype=torch.float64)
    return Batch(clip, F.one_hot(torch.arange(8) % 3, 3).double())


def dense(product: HessianProduct) -> torch.Tensor:
    return torch.stack([product(row) for row in torch.eye(product.size, dtype=torch.float64)])


def test_lanczos_finds_the_eigenvalues_of_the_dense_matrix(small: nn.Module, small_batch: Batch) -> None:
    product = HessianProduct(small, small_batch)
    matrix = dense(product)
    torch.testing.assert_close(matrix, matrix.T)
    values = torch.linalg.eigvalsh(matrix)
    expected = values[values.abs().argsort(descending=True)][:5]
    start = torch.randn(product.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = top_eigenvalues(product, start, 5, max_steps=60, tolerance=1e-8)
    assert found.values == pytest.approx(expected.tolist(), rel=1e-9)
    assert max(found.residuals) < 1e-6
    assert found.num_steps <= 60


def test_a_residual_bounds_the_error_of_a_search_that_is_cut_short(small: nn.Module, small_batch: Batch) -> None:
    product = HessianProduct(small, small_batch)
    values = torch.linalg.eigvalsh(dense(product))
    start = torch.randn(product.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = top_eigenvalues(product, start, 3, max_steps=6, tolerance=1e-12)
    for value, residual in zip(found.values, found.residuals, strict=True):
        assert float((values - value).abs().min()) <= residual + 1e-12


def test_values_of_opposite_sign_and_equal_magnitude_are_told_apart() -> None:
    diagonal = torch.tensor([3.0, -3.0, 1.0, 0.5, -0.25], dtype=torch.float64)
    found = top_eigenvalues(lambda v: diagonal * v, torch.ones(5, dtype=torch.float64), 2, max_steps=20, tolerance=1e-9)
    assert sorted(found.values) == pytest.approx([-3, 3])
    assert found.num_steps <= 5


def test_a_product_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        top_eigenvalues(lambda v: v * float("nan"), torch.ones(3), 1, max_steps=3, tolerance=0.1)


def test_weight_decay_shifts_every_eigenvalue_by_itself(small: nn.Module, small_batch: Batch) -> None:
    free, decayed = (dense(HessianProduct(small, small_batch, decay)) for decay in (0.0, 0.05))
    shift = torch.linalg.eigvalsh(decayed) - torch.linalg.eigvalsh(free)
    torch.testing.assert_close(shift, torch.full_like(shift, 0.05), rtol=0, atol=1e-13)


def test_weight_decay_of_groups_is_that_of_their_parameters(small: nn.Module, small_batch: Batch) -> None:
    matrices = [p for p in small.parameters() if p.ndim > 1]
    groups = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": [p for p in small.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    shift = dense(HessianProduct(small, small_batch, groups)) - dense(HessianProduct(small, small_batch))
    expected = torch.cat([p.new_full((p.numel(),), 0.1 if p.ndim > 1 else 0.0) for p in small.parameters()])
    torch.testing.assert_close(shift, expected.diag(), rtol=0, atol=1e-13)


def test_a_study_has_the_values_of_each_batch(tiny_v2: MViT, make_batches: MakeBatches) -> None:
    settings = HessianSettings(num_values=3, max_steps=8)
    table = hessian(tiny_v2, make_batches(3, 2), settings, 0.01)
    assert table["batch"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert (np.abs(table["eigenvalue"].to_numpy())[:-1] >= np.abs(table["eigenvalue"].to_numpy())[1:])[
        [0, 1, 3, 4]
    ].all()
    assert summary_of(table)["clips_per_batch"] == [3, 2]
    assert table.equals(hessian(tiny_v2, make_batches(3, 2), settings, 0.01))
    assert len(draw_hessian(table).axes) == 2


def test_shares_and_means_of_known_values() -> None:
    nep, ape = nep_and_ape([np.array([4.0, -1.0]), np.array([2.0, 3.0]), np.array([-2.0, 1.0])])
    assert nep.value == pytest.approx(2 / 6)
    assert ape.value == pytest.approx((4 + 2 + 3 + 1) / 4)
    assert nep.low == 0
    assert nep.high == pytest.approx(1 / 2)
    assert 1 <= ape.low < ape.value < ape.high <= 4
    nep, ape = nep_and_ape([np.array([-1.0])])
    assert nep.value == 1
    assert np.isnan(ape.value)
