import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform

from mvit_video.data.clips.randaugment import GREY, _transform, randaugment_clip
from mvit_video.types import ConfigError

POLICY = "rand-m7-n4-mstd0.5-inc1"


def frames(num_frames: int = 4) -> torch.Tensor:
    x, y = np.meshgrid(np.arange(40), np.arange(32))
    picture = np.stack([6 * x, 8 * y, 3 * (x + y)], axis=-1).astype(np.uint8)
    return torch.from_numpy(np.stack([picture] * num_frames))


def test_every_frame_gets_the_same_operations() -> None:
    rng, clip = np.random.default_rng(0), frames()
    changed = [randaugment_clip(clip, POLICY, rng) for _ in range(20)]
    for out in changed:
        assert out.shape == clip.shape
        assert out.dtype == torch.uint8
        assert (out == out[:1]).all()
    assert sum(not torch.equal(out, clip) for out in changed) > 12
    assert len({out.numpy().tobytes() for out in changed}) > 12


@pytest.mark.parametrize("seed", range(12))
def test_one_frame_is_timms(seed: int) -> None:
    clip = frames(2)
    drawn = int(np.random.default_rng(seed).integers(2**32))
    random.seed(drawn)
    np.random.seed(drawn)
    timms = rand_augment_transform(POLICY, {"interpolation": Image.Resampling.BICUBIC})
    expected = np.asarray(timms(Image.fromarray(clip[0].numpy())))
    assert np.array_equal(randaugment_clip(clip, POLICY, np.random.default_rng(seed))[1].numpy(), expected)


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "rand-m10-n4-mmax20-inc1", "rand-m10-n4"])
def test_an_image_without_bits_is_black(policy: str) -> None:
    """Half of the draws at these magnitudes leave no bit, or fewer than none; others leave more than there are."""
    transform = _transform(policy, GREY)
    posterize = [one for one in transform.ops if one.name.startswith("Posterize")]
    assert len(posterize) == 1
    image = Image.fromarray(frames(1)[0].numpy())
    for magnitude in (0, 5, 9.9, 10, 20, 30):
        (bits,) = posterize[0].level_fn(magnitude, posterize[0].hparams)
        mask = 256 - 2 ** (8 - min(bits, 8)) if bits > 0 else 0
        assert np.array_equal(posterize[0].aug_fn(image, bits, **posterize[0].kwargs), np.asarray(image) & mask)


def test_many_draws_of_the_image_recipe() -> None:
    rng, image = np.random.default_rng(0), frames(1)[:, ::4, ::4].contiguous()
    for _ in range(200):
        randaugment_clip(image, "rand-m10-n4-mstd0.5-inc1", rng)


def test_chance_comes_from_the_generator_alone() -> None:
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.rand()
    random.seed(5)
    np.random.seed(5)
    first = randaugment_clip(frames(), POLICY, np.random.default_rng(3))
    assert (random.random(), np.random.rand()) == expected
    random.seed(6)
    assert torch.equal(first, randaugment_clip(frames(), POLICY, np.random.default_rng(3)))


@pytest.mark.parametrize("policy", ["foo", "rand-x7-q", "rand-mfive"])
def test_unknown_policies(policy: str) -> None:
    with pytest.raises(ConfigError, match=f"augment.randaugment='{policy}' is not a policy"):
        randaugment_clip(frames(), policy, np.random.default_rng(0))
