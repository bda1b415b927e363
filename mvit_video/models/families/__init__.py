"""All families of models, a package each; reading their published facts imports no torch."""

from __future__ import annotations

from importlib import import_module

from mvit_video.models.published import Variant

# The only list of them: packages with `family.FAMILY` and `published.PUBLISHED`.
FAMILIES = [f"{__name__}.{family}" for family in ("mvit", "pvt", "alternet")]


def variants() -> dict[str, Variant]:
    """Return the published facts of every named model."""
    return {name: one for package in FAMILIES for name, one in import_module(f"{package}.published").PUBLISHED.items()}
