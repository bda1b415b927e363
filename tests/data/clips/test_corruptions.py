"""Damage to clips: what each kind does, more of it with every severity, from the given generator alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mvit_video.data import VideoDataset, VideoTable
from mvit_video.data.clips.corruptions import DROPPED, NOISE_STD, corrupt_clip
from mvit_video.data.clips.transforms import Normalize
from mvit_video.data.clips.views import UniformViews
from mvit_video.types import ClipSpec, ConfigError, Corruption, CorruptionKind, ViewSpec

KINDS = get_args(CorruptionKind)
BYTES = Normalize(mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255))


def scene(num_frames: int = 16, height: int = 64, width: int = 80) -> Tensor:
    """A bright square that moves over a texture."""
    texture = np.random.default_rng(0).integers(60, 120, (height // 8, width // 8, 3), dtype=np.uint8)
    frames = np.stack([texture.repeat(8, axis=0).repeat(8, axis=1)] * num_frames)
    for i in range(num_frames):
        frames[i, 20:40, 2 * i : 2 * i + 20] = 230
    return torch.from_numpy(frames)


def damaged(kind: CorruptionKind, severity: int, frames: Tensor, seed: int = 0) -> Tensor:
    return corrupt_clip(frames, Corruption(kind, severity), np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_every_severity_changes_more(kind: CorruptionKind) -> None:
    frames = scene()
    before = frames.clone()
    differences = []
    for severity in range(1, 6):
        shown = damaged(kind, severity, frames)
        assert shown.shape == frames.shape
        assert shown.dtype == torch.uint8
        differences.append(float((shown.float() - frames.float()).abs().mean()))
    assert differences == sorted(differences)
    assert 0 < differences[0] < differences[-1] / 2
    assert torch.equal(frames, before)


@pytest.mark.parametrize("kind", KINDS)
def test_chance_comes_from_the_generator_alone(kind: CorruptionKind) -> None:
    frames, state = scene(), torch.get_rng_state()
    first = damaged(kind, 3, frames)
    assert torch.equal(torch.get_rng_state(), state)
    for size in (100, 10_000, 1_000_000):  # what lay in the memory before must not matter either
        leftovers = [torch.full((size,), size % 251, dtype=torch.uint8) for _ in range(50)]
        del leftovers
        assert torch.equal(first, damaged(kind, 3, frames))
    has_chance = kind in ("gaussian_noise", "shot_noise", "frame_drop")
    assert torch.equal(first, damaged(kind, 3, frames, seed=1)) != has_chance


@pytest.mark.parametrize("kind", KINDS)
@given(num_frames=st.integers(1, 5), height=st.integers(4, 21), width=st.integers(4, 21), severity=st.integers(1, 5))
def test_any_size_is_taken(kind: CorruptionKind, num_frames: int, height: int, width: int, severity: int) -> None:
    frames = torch.full((num_frames, height, width, 3), 128, dtype=torch.uint8)
    shown = damaged(kind, severity, frames)
    assert shown.shape == frames.shape
    if kind in ("blur", "frame_drop"):  # nothing of one colour can be seen of them
        assert torch.equal(shown, frames)


@pytest.mark.parametrize("severity", range(1, 6))
def test_noise_is_as_strong_as_it_says(severity: int) -> None:
    grey = torch.full((4, 64, 64, 3), 127, dtype=torch.uint8)
    low = damaged("gaussian_noise", severity, grey).double()
    inside = (low > 0) & (low < 255)
    # of a normal distribution, the share within 127 of the middle
    expected = torch.erf(torch.tensor(127 / (255 * NOISE_STD[severity - 1]) / 2**0.5)).item()
    assert inside.double().mean().item() == pytest.approx(expected, abs=0.01)
    shot = damaged("shot_noise", severity, grey).double()
    assert shot.mean().item() == pytest.approx(127, abs=0.2 * 127)
    assert shot.std() > damaged("shot_noise", max(1, severity - 1), grey).double().std() - 1


@given(st.integers(1, 32), st.integers(1, 5), st.integers(0, 10**6))
def test_dropped_frames_show_the_one_before(num_frames: int, severity: int, seed: int) -> None:
    frames = torch.arange(num_frames, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)
    shown = damaged("frame_drop", severity, frames, seed)[:, 0, 0, 0].tolist()
    kept = sorted(set(shown))
    assert kept[0] == 0
    assert num_frames - len(kept) == round((num_frames - 1) * DROPPED[severity - 1])
    assert shown == [max(k for k in kept if k <= i) for i in range(num_frames)]


def test_blur_takes_what_is_fine_and_keeps_what_is_bright() -> None:
    stripes = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 200
    shown = damaged("blur", 1, stripes).float()
    assert shown.std() < 3
    assert shown.mean().item() == pytest.approx(100, abs=1)
    turned = damaged("blur", 4, scene().transpose(1, 2))
    assert (turned.transpose(1, 2).float() - damaged("blur", 4, scene()).float()).abs().max() <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "fog"}, "corruption.kind must be one of gaussian_noise, shot_noise, .* got 'fog'"),
        ({"kind": "blur", "severity": 6}, "corruption.severity must be from 1 to 5, got 6"),
        ({"kind": "blur", "severity": 0}, "corruption.severity must be from 1 to 5, got 0"),
    ],
)
def test_impossible_corruptions_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Corruption(**settings)


class Numbered:
    """A video of 60 frames, each as bright as four times its number."""

    num_frames, fps, duration_seconds, height, width = 60, 30.0, 2.0, 16, 16
    timestamps = np.arange(60) / 30

    def get_frames(self, indices: Sequence[int]) -> Tensor:
        return (4 * torch.as_tensor(np.asarray(indices))).to(torch.uint8)[:, None, None, None].expand(-1, 16, 16, 3)


def views_of(**changes: Any) -> Tensor:
    rule = UniformViews(ClipSpec(8, 4), 16, ViewSpec(3, 1, **changes), BYTES)
    return rule(cast(Any, Numbered()), np.random.default_rng(0)).clip[:, 0, :, 0, 0].round().long()


def test_each_clip_is_damaged_by_itself_in_the_order_of_time() -> None:
    plain = views_of()
    dropped = views_of(corruption=Corruption("frame_drop", 3))
    assert (dropped[:, 0] == plain[:, 0]).all()
    assert (dropped.diff(dim=1) >= 0).all()
    lost = dropped != plain
    assert lost.sum(dim=1).tolist() == [3, 3, 3]
    assert not torch.equal(lost[0], lost[1])
    rng = np.random.default_rng(0)
    by_hand = [corrupt_clip(clip[:, None, None, None], Corruption("frame_drop", 3), rng)[:, 0, 0, 0] for clip in plain]
    assert torch.equal(dropped, torch.stack(by_hand))
    assert torch.equal(views_of(corruption=Corruption("frame_drop", 3), frame_order="reversed"), dropped.flip(1))


def test_severities_of_a_video_share_their_chance() -> None:
    plain = views_of()
    one, two = (views_of(corruption=Corruption("gaussian_noise", severity)) - plain for severity in (1, 2))
    inside = (plain > 120) & (plain < 140)
    assert inside.any()
    assert (one[inside].sign() == two[inside].sign()).all()


def test_the_frames_are_damaged_in_the_size_that_is_cropped(barcode_video: Path) -> None:
    """A blur of two pixels in a frame of 64 would be one of a pixel in 32."""
    table = VideoTable(pa.array([barcode_video.name]), np.array([0]), None, barcode_video.parent)
    plain, blurred = (
        VideoDataset(table, UniformViews(ClipSpec(4, 3), 32, ViewSpec(2, 1, 32, corruption=corruption), BYTES))[0].clip
        for corruption in (None, Corruption("blur", 2))
    )
    by_hand = torch.stack(
        [
            corrupt_clip(clip, Corruption("blur", 2), np.random.default_rng(0))
            for clip in plain.permute(0, 2, 3, 4, 1).round().byte()
        ]
    )
    inside = (slice(None), slice(None), slice(8, 24), slice(8, 24))  # the crop has edges that the frame has not
    assert (by_hand[inside].float() - blurred.permute(0, 2, 3, 4, 1)[inside]).abs().max() <= 1
