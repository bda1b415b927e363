"""Models by name: YAML names every builder function of a family as `mvit_video.models.<builder>`.

Names are imported when first used: listing the models imports no torch.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from mvit_video.models.families import FAMILIES, variants
from mvit_video.types import lazy_names

if TYPE_CHECKING:
    from mvit_video.models.architecture import BlockSpec, Patch, Pooling, block_table
    from mvit_video.models.families.alternet.net import AlterNet
    from mvit_video.models.families.alternet.variants import *
    from mvit_video.models.families.mvit.net import MViT
    from mvit_video.models.families.mvit.variants import *
    from mvit_video.models.families.mvit.variants_v2 import *
    from mvit_video.models.families.pvt.net import PVT, Pyramid
    from mvit_video.models.families.pvt.variants import *
    from mvit_video.models.family import builders, family_of
    from mvit_video.models.net import Features, VideoNet
    from mvit_video.models.position import Position, PositionKind

__all__ = [
    "FAMILIES",
    "PVT",
    "AlterNet",
    "BlockSpec",
    "Features",
    "MViT",
    "Patch",
    "Pooling",
    "Position",
    "PositionKind",
    "Pyramid",
    "VideoNet",
    "block_table",
    "builders",
    "family_of",
    "list_models",
    "variants",
]


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the models that match a shell pattern, sorted.

    Examples:
        >>> mv.list_models("mvit_b_*x*")
        ['mvit_b_16x4', 'mvit_b_32x3', 'mvit_b_64x3']
    """
    return sorted(name for name in variants() if fnmatchcase(name, pattern))


_load, _ = lazy_names(
    __name__,
    {
        "architecture": "BlockSpec Patch Pooling block_table",
        "families.alternet.net": "AlterNet",
        "families.mvit.net": "MViT",
        "families.pvt.net": "PVT Pyramid",
        "family": "builders family_of",
        "net": "Features VideoNet",
        "position": "Position PositionKind",
    },
)


def __getattr__(name: str) -> Any:
    if name in __all__ or name.startswith("_"):
        return _load(name)
    found = _load("builders")()
    return found[name] if name in found else _load(name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_load("builders")()})
