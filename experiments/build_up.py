"""How AlterNet is built: attention put into a ResNet from its end, as long as it helps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

NumPairs = tuple[int, ...]


class Step(NamedTuple):
    """One net that was tried.

    Attributes:
        num_pairs: pairs of convolution and attention at the end of each stage, see `AlterNet`.
        score: how good it is.
        is_kept: whether the search went on from it.
    """

    num_pairs: NumPairs
    score: float
    is_kept: bool


def build_up(score: Callable[[NumPairs], float], depths: Sequence[int]) -> list[Step]:
    """Search for the places of attention, greedily.

    It begins with the convolutions alone. From the last stage on, the last convolution of the next pair of blocks
    becomes attention; where that does not help, or no pair is left, the stage before it is next.

    Args:
        score: trains and scores the net with so many pairs; higher is better.
        depths: blocks in each stage.

    Returns: the nets in the order in which they were tried; the last that is kept is the result.

    Source: How Do Vision Transformers Work? (arXiv:2202.06709) section 5.
    """
    pairs = [0] * len(depths)
    best = score(tuple(pairs))
    steps = [Step(tuple(pairs), best, is_kept=True)]
    for stage in reversed(range(len(depths))):
        while 2 * (pairs[stage] + 1) <= depths[stage]:
            tried = (*pairs[:stage], pairs[stage] + 1, *pairs[stage + 1 :])
            found = score(tried)
            steps.append(Step(tried, found, is_kept=found > best))
            if found <= best:
                break
            pairs[stage], best = tried[stage], found
    return steps
