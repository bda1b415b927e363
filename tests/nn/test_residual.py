from collections.abc import Callable

import pytest
import torch

from mvit_video.nn.residual import BasicBlock, Bottleneck


@pytest.mark.parametrize("make", [BasicBlock, Bottleneck])
@torch.no_grad()
def test_a_dropped_branch_leaves_the_shortcut(make: Callable[..., BasicBlock | Bottleneck]) -> None:
    torch.manual_seed(0)
    block = make(8, 8, drop_path_rate=0.75)
    x = torch.randn(64, 8, 4, 4)
    found = block(x) - x
    block.drop_path.rate = 0.0
    branch = block(x) - x
    kept = found.abs().amax(dim=(1, 2, 3)) > 0
    assert 0 < kept.sum() < 32
    torch.testing.assert_close(found, 4 * branch * kept[:, None, None, None])
    block.drop_path.rate = 0.75
    assert (block.eval()(x) - x).abs().amax(dim=(1, 2, 3)).min() > 0
