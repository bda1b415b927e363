"""Spectra against their closed forms."""

import math

import numpy as np
import pytest
import torch

from mvit_video.analysis.batches import Batch
from mvit_video.analysis.feature_maps import draw_fourier, fourier, frequencies, map_spectra
from mvit_video.models import MViT
from tests.fixtures.nets import MakeBatches


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_last_frequency_of_an_even_size_is_nyquists() -> None:
    assert frequencies(8).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert frequencies(7).tolist() == [0, 2 / 7, 4 / 7, 6 / 7]
    assert frequencies(1).tolist() == [0]


def test_white_noise_lies_half_a_log_of_two_above_its_mean_and_its_nyquist() -> None:
    found = map_spectra(noise(8, 256, 8, 14, 14))
    for direction in ("height", "width", "diagonal", "time"):
        delta = found[direction].delta
        np.testing.assert_allclose(delta[1:-1], 0.5 * math.log(2), atol=0.03)
        assert abs(delta[-1]) < 0.03, direction


@pytest.mark.parametrize(("axis", "direction", "size"), [(2, "time", 8), (3, "height", 12), (4, "width", 10)])
def test_a_cosine_has_its_peak_at_its_frequency(axis: int, direction: str, size: int) -> None:
    shape = [1, 1, 8, 12, 10]
    places = torch.arange(size, dtype=torch.float64).view([size if i == axis else 1 for i in range(5)])
    for k in range(1, size // 2 + 1):
        spectrum = map_spectra(torch.cos(2 * torch.pi * k * places / size).expand(shape))[direction]
        along = spectrum.time if direction == "time" else spectrum.space
        assert along[spectrum.values.argmax()] == 2 * k / size


def test_a_box_blur_changes_the_diagonal_by_its_own_curve() -> None:
    maps = noise(2, 4, 3, 14, 14)
    blurred = (maps + maps.roll(1, 3) + maps.roll(1, 4) + maps.roll((1, 1), (3, 4))) / 4
    before, after = map_spectra(maps)["diagonal"], map_spectra(blurred)["diagonal"]
    expected = 2 * np.log(np.abs(np.cos(np.pi * np.arange(7) / 14)))
    np.testing.assert_allclose((after.delta - before.delta)[:7], expected, atol=1e-4)  # without Nyquist, which is gone


def test_a_blur_over_time_changes_time_alone() -> None:
    maps = noise(2, 4, 8, 6, 6)
    blurred = (maps + maps.roll(1, 2)) / 2
    before, after = map_spectra(maps), map_spectra(blurred)
    expected = np.log(np.abs(np.cos(np.pi * np.arange(4) / 8)))
    np.testing.assert_allclose((after["time"].delta - before["time"].delta)[:4], expected, atol=1e-4)
    joint = {key: one["joint"].values.reshape(5, -1) for key, one in (("before", before), ("after", after))}
    np.testing.assert_allclose(joint["after"][0], joint["before"][0], atol=1e-9)
    np.testing.assert_allclose(
        joint["after"][1:4] - joint["before"][1:4], expected[1:, None].repeat(joint["before"].shape[1], 1), atol=1e-3
    )


def test_the_diagonal_of_a_map_that_is_not_square_keeps_equal_frequencies() -> None:
    rows = torch.arange(8, dtype=torch.float64)[:, None]
    columns = torch.arange(16, dtype=torch.float64)
    wave = torch.cos(2 * torch.pi * (2 * rows / 8 + 4 * columns / 16)).expand(1, 1, 1, 8, 16)
    spectrum = map_spectra(wave)["diagonal"]
    assert spectrum.space.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert spectrum.space[spectrum.values.argmax()] == 0.5
    assert "reference" not in map_spectra(wave)


def test_the_ring_of_a_wave_is_that_of_its_radius() -> None:
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    wave = torch.cos(2 * torch.pi * (3 * rows + 4 * columns) / 16).expand(1, 1, 1, 16, 16)
    spectrum = map_spectra(wave)["radial"]
    assert spectrum.space[spectrum.values.argmax()] == 5 * 2 / 16


def test_the_reference_mode_is_the_half_diagonal_of_the_notebook() -> None:
    maps = noise(2, 3, 1, 14, 14).float()
    modulus = torch.fft.fft2(maps[:, :, 0])
    logs = torch.roll((modulus.abs() + 1e-6).log(), (7, 7), (2, 3)).mean(dim=(0, 1))
    half = logs.diagonal()[7:]
    reference = map_spectra(maps)["reference"]
    np.testing.assert_allclose(reference.delta, half - half[0], atol=1e-5)
    assert len(reference.space) == 7
    assert reference.space[-1] == 1


def test_a_study_tells_every_layer_and_does_not_depend_on_the_batches(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    (whole,) = make_batches(4)
    parts = [Batch(whole.clip[:3], whole.target[:3]), Batch(whole.clip[3:], whole.target[3:])]
    table, by_parts = fourier(tiny_v1, [whole]), fourier(tiny_v1, parts)
    assert sorted(set(table["sample"].to_pylist())) == list(range(7))
    np.testing.assert_allclose(by_parts["delta"].to_numpy(), table["delta"].to_numpy(), atol=1e-9)
    assert len(draw_fourier(table).axes) == 10  # six panels, four colour bars
