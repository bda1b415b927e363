"""Noise of bands: its loudness, its frequencies, its seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvit_video.analysis.batches import score
from mvit_video.analysis.layers import summary_of
from mvit_video.analysis.noise_response import Band, NoiseSettings, band_mask, band_noise, draw_noise, noise
from mvit_video.models import MViT
from mvit_video.types import THW, ConfigError
from tests.fixtures.nets import MakeBatches

SIZES = st.builds(THW, st.integers(1, 9), st.integers(2, 12), st.integers(2, 12))


@given(SIZES, st.integers(1, 8))
def test_bands_share_every_frequency_out_and_none_is_empty(size: THW, num_bands: int) -> None:
    bands = NoiseSettings(num_bands=num_bands).bands
    for axis in ("space", "time"):
        masks = torch.stack([band_mask(size, **{axis: band}) for band in bands])
        assert float(masks.max()) <= 1
        whole = masks.sum(dim=0)
        inside = (whole > 0.5 - 1e-9) & (whole < 1 + 1e-9)  # the ends of the axis lie half outside
        assert inside.all()
        if axis == "space" or size.t > 1:
            assert (masks.flatten(1).amax(dim=1) > 0).all()


@given(SIZES, st.integers(0, 4), st.integers(0, 50))
def test_every_band_is_as_loud(size: THW, band: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = band_mask(size, space=NoiseSettings().bands[band])
    found = band_noise((2, 3, *size), mask, 0.4, generator)
    assert found.is_floating_point()
    torch.testing.assert_close(found.flatten(1).square().mean(dim=1).sqrt(), torch.full((2,), 0.4, dtype=torch.float64))


def test_noise_has_the_frequencies_of_its_band_alone() -> None:
    size = THW(8, 16, 12)
    for bands in ({"space": Band(0.4, 0.6)}, {"time": Band(0.4, 0.6)}, {"space": Band(0.5, 1), "time": Band(0, 0.3)}):
        mask = band_mask(size, **bands)
        found = band_noise((1, 3, *size), mask, 1.0, torch.Generator().manual_seed(0))
        power = torch.fft.fftn(found, dim=(-3, -2, -1)).abs().square().sum(dim=(0, 1))
        assert float(power[mask == 0].sum() / power.sum()) < 1e-24
        assert (mask > 0).any()
        assert (mask == 0).any()


def test_the_filtered_noise_is_real_before_its_imaginary_part_is_left_out() -> None:
    mask = band_mask(THW(5, 8, 7), space=Band(0.2, 0.7), time=Band(0.3, 0.9))
    white = torch.randn(5, 8, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.fft.ifftn(torch.fft.fftn(white) * mask).imag.abs().max() < 1e-14


def test_a_study_is_repeated_exactly_and_knows_the_net_without_noise(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    batches, settings = make_batches(3, 2), NoiseSettings(num_bands=3)
    table = noise(tiny_v1, batches, settings)
    assert table.equals(noise(tiny_v1, batches, settings))
    assert table["axis"].to_pylist() == ["space"] * 3 + ["time"] * 3
    assert table["centre"].to_pylist()[:3] == pytest.approx([1 / 6, 1 / 2, 5 / 6])
    assert summary_of(table) == score(tiny_v1, batches)._asdict()
    assert len(draw_noise(table).axes) == 2


def test_silent_noise_changes_nothing(tiny_v1: MViT, make_batches: MakeBatches) -> None:
    batches = make_batches(3)
    table = noise(tiny_v1, batches, NoiseSettings(rms=1e-12))
    assert table["loss"].to_pylist() == pytest.approx([score(tiny_v1, batches).loss] * 10, rel=1e-9)


@pytest.mark.parametrize(("setting", "value"), [("num_bands", 0), ("rms", 0.0)])
def test_impossible_noise_is_refused(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"noise\.{setting} must be .* got {value}"):
        NoiseSettings(**{setting: value})
