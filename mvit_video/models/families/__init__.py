"""All families of models: a folder each, with the net, its named variants, and weights of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mvit_video.models.families.alternet import FAMILY as ALTERNET
from mvit_video.models.families.mvit import FAMILY as MVIT
from mvit_video.models.families.pvt import FAMILY as PVT
from mvit_video.models.family import Family
from mvit_video.models.published import Variant

FAMILIES: list[Family] = [MVIT, PVT, ALTERNET]  # the only list of them


def builders() -> dict[str, Callable[..., Any]]:
    """Return every builder function that YAML and checkpoints can name."""
    return {name: build for family in FAMILIES for name, build in family.builders.items()}


def variants() -> dict[str, Variant]:
    """Return every named model."""
    return {name: one for family in FAMILIES for name, one in family.variants.items()}


def family_of(net: object) -> Family | None:
    """Return the family of a net; None for a net of none."""
    return next((family for family in FAMILIES if isinstance(net, family.net)), None)
