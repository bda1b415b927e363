"""The recipe of a checkpoint's net: as the file states it, or inferred from its tensors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mvit_video.checkpoints.pickles import one_line, parsing
from mvit_video.checkpoints.translation import Translation
from mvit_video.models.family import UntracedError, builders
from mvit_video.models.recipes import Recipe
from mvit_video.types import CheckpointError

_HINT = "name the model: create_model(name, checkpoint=...)"


class UnknownArchitectureError(CheckpointError):
    """The tensors do not tell the architecture, and nothing else does: the user has to name the model."""


def infer_architecture(
    checkpoint: Translation, *, num_frames: int | None = None, crop_size: int | None = None
) -> tuple[Recipe, list[str]]:
    """Return the recipe that a checkpoint states, or else that its tensors tell, and lines on what was assumed.

    Args:
        num_frames: frames of a clip, for a checkpoint whose positions do not tell.
        crop_size: height and width in pixels, also.

    Raises:
        CheckpointError: what it states is not what it holds.
        UnknownArchitectureError: its tensors do not tell, or no net with published strides has tensors of these shapes.
    """
    with parsing(checkpoint.name):
        stated = stated_recipe(checkpoint)
        if stated is not None:
            return stated, []
        weights, tensors = checkpoint.family.weights, checkpoint.tensors
        try:
            recipe, notes = weights.infer(tensors, checkpoint.format, num_frames=num_frames, crop_size=crop_size)
            if difference := recipe.first_difference({key: tensor.shape for key, tensor in tensors.items()}):
                depths = recipe.arguments.get("depths")
                raise UntracedError(f"as {recipe.name} of depths {depths}, {difference}")
        except UntracedError as error:
            reason = f"{checkpoint.name}: the architecture cannot be inferred: {error}"
            raise UnknownArchitectureError(reason, _HINT) from error
    return recipe, notes


def stated_recipe(checkpoint: Translation) -> Recipe | None:
    """Return the recipe that the metadata of a file of this project or the settings of another code base state.

    Raises:
        CheckpointError: what they state is not what the file holds, or no net here.
    """
    tensors, is_ours = checkpoint.tensors, "builder" in checkpoint.metadata
    what = "metadata" if is_ours else "cfg"
    try:
        if is_ours:
            recipe = Recipe.from_metadata(checkpoint.metadata, builders())
        elif checkpoint.settings is not None and checkpoint.config is not None:
            recipe = checkpoint.settings.recipe(checkpoint.config, tensors)
        else:
            return None
        _check_depths(recipe, tensors, what)
        if difference := _difference(recipe, tensors, what):
            raise CheckpointError(f"its {what} and its tensors disagree: {difference}")
    except CheckpointError as error:
        if is_ours:
            raise CheckpointError(f"{checkpoint.name}: {error}") from error
        raise UnknownArchitectureError(f"{checkpoint.name}: {error}", _HINT) from error
    return recipe


def _check_depths(recipe: Recipe, tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse to build more blocks than a file holds, for builders that take the blocks of each stage as `depths`."""
    depths = recipe.arguments.get("depths", ())
    if not isinstance(depths, tuple) or not all(type(depth) is int and depth > 0 for depth in depths):
        raise CheckpointError(
            "its metadata name no model that can be built "
            f"(depths {str(depths)[:80]}, expected numbers of blocks)"
        )  # fmt: skip
    num_blocks = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})
    if depths and sum(depths) != num_blocks:
        raise CheckpointError(f"its {what} have depths {depths}, it has {num_blocks}")


def _difference(recipe: Recipe, tensors: Mapping[str, Tensor], what: str) -> str | None:
    try:
        return recipe.first_difference({key: tensor.shape for key, tensor in tensors.items()})
    except Exception as error:  # arguments of a file can be anything
        raise CheckpointError(f"its {what} name no model that can be built ({one_line(error)})") from error
