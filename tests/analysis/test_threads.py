from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mvit_video.analysis.threads import one_thread_if_small


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("channels", "expected"), [(4, 1), (2048, 2)])
def test_a_small_net_computes_with_one_thread_and_leaves_the_number_as_it_was(channels: int, expected: int) -> None:
    # 3 * channels multiply-adds for each of 8 * 224 * 224 cells: 5 million, and 2.5 billion
    net = nn.Conv3d(3, channels, 1)
    with one_thread_if_small(net, (8, 224, 224)):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 2


def test_the_number_of_threads_comes_back_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="stop"), one_thread_if_small(nn.Conv3d(3, 4, 1), (2, 8, 8)):
        raise RuntimeError("stop")
    assert torch.get_num_threads() == 2
