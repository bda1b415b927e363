from collections.abc import Iterator

import pytest
import torch

from mvit_video.analysis.studies import one_thread_if_small
from mvit_video.checkpoints import create_model
from mvit_video.models import MViT


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("model", "expected"), [("mvit_b_16x4", 2), ("tiny_v1", 1)])
def test_a_small_net_computes_with_one_thread_and_leaves_the_number_as_it_was(
    tiny_v1: MViT, model: str, expected: int
) -> None:
    with torch.device("meta"):
        net = tiny_v1 if model == "tiny_v1" else create_model(model)
    with one_thread_if_small(net):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 2


def test_the_number_of_threads_comes_back_after_an_error(tiny_v1: MViT) -> None:
    with pytest.raises(RuntimeError, match="stop"), one_thread_if_small(tiny_v1):
        raise RuntimeError("stop")
    assert torch.get_num_threads() == 2
