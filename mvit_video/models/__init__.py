"""Models by name: every builder function of `FAMILIES` is a model that YAML names as `mvit_video.models.<builder>`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from mvit_video.models.architecture import BlockSpec, Patch, Pooling, block_table
from mvit_video.models.families import FAMILIES, builders, family_of, variants
from mvit_video.models.families.alternet.net import AlterNet
from mvit_video.models.families.mvit.net import MViT
from mvit_video.models.families.pvt.net import PVT, Pyramid
from mvit_video.models.net import Features, VideoNet
from mvit_video.models.position import Position, PositionKind

if TYPE_CHECKING:  # for editors; when the program runs, `__getattr__` finds the builders of all families
    from mvit_video.models.families.alternet.variants import *
    from mvit_video.models.families.mvit.variants import *
    from mvit_video.models.families.mvit.variants_cpvt import *
    from mvit_video.models.families.mvit.variants_v2 import *
    from mvit_video.models.families.pvt.variants import *


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models, sorted, that match a shell pattern such as `mvit_b*`."""
    return sorted(name for name in variants() if fnmatchcase(name, pattern))


def __getattr__(name: str) -> Any:
    if name in (found := builders()):
        return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *builders()})


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
