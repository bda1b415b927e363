"""Net and input that the settings of SlowFast, text under `cfg` in its checkpoints, describe."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import yaml
from torch import Tensor

from mvit_video.jobs.yaml_files import YamlError, parse_yaml
from mvit_video.models.architecture import UNIT, Patch, Pooling, pool_kernel
from mvit_video.models.families.mvit.inferring import matching_pooling
from mvit_video.models.families.mvit.variants import mvit
from mvit_video.models.families.mvit.variants_v2 import mvitv2
from mvit_video.models.position import PositionKind, joined
from mvit_video.models.published import IMAGE_FACTS, TrainingFacts
from mvit_video.models.recipes import Recipe
from mvit_video.types import THW, CheckpointError, MVitVideoError, printable

# SlowFast's defaults, for files older than a setting; files of facebookresearch/mvit state theirs
_DEFAULTS: dict[str, Any] = {
    "DATA.NUM_FRAMES": 8, "DATA.SAMPLING_RATE": 8, "DATA.TRAIN_CROP_SIZE": 224, "DATA.REVERSE_INPUT_CHANNEL": False,
    "DATA.MEAN": [0.45, 0.45, 0.45], "DATA.STD": [0.225, 0.225, 0.225], "TRAIN.DATASET": "kinetics",
    "MODEL.DROPOUT_RATE": 0.5, "MODEL.HEAD_ACT": "softmax",
    "MVIT.MODE": "conv", "MVIT.CLS_EMBED_ON": True, "MVIT.USE_MEAN_POOLING": False, "MVIT.DIM_MUL_IN_ATT": False,
    "MVIT.PATCH_KERNEL": [3, 7, 7], "MVIT.PATCH_STRIDE": [2, 4, 4], "MVIT.PATCH_PADDING": [2, 4, 4],
    "MVIT.EMBED_DIM": 96, "MVIT.NUM_HEADS": 1, "MVIT.DEPTH": 16, "MVIT.DROPPATH_RATE": 0.1,
    "MVIT.DIM_MUL": [], "MVIT.HEAD_MUL": [], "MVIT.POOL_Q_STRIDE": [], "MVIT.POOL_KV_STRIDE": [],
    "MVIT.POOL_KV_STRIDE_ADAPTIVE": None, "MVIT.POOL_KVQ_KERNEL": None, "MVIT.RESIDUAL_POOLING": False,
    "MVIT.USE_ABS_POS": True, "MVIT.SEP_POS_EMBED": False, "MVIT.REL_POS_SPATIAL": False,
}  # fmt: skip
# the only value here; tensors do not always show another
_FIXED: dict[str, Any] = {
    "MVIT.MLP_RATIO": 4.0, "MVIT.QKV_BIAS": True, "MVIT.NORM": "layernorm", "MVIT.NORM_STEM": False,
    "MVIT.POOL_FIRST": False, "MVIT.LAYER_SCALE_INIT_VALUE": 0.0, "MVIT.USE_FIXED_SINCOS_POS": False,
    "MVIT.REV.ENABLE": False, "DETECTION.ENABLE": False,
}  # fmt: skip
# settings that tensors do not show, and a setting as old as today's eps
_UNTRACED = (
    "MVIT.MODE", "MVIT.USE_MEAN_POOLING", "MVIT.RESIDUAL_POOLING", "DATA.MEAN", "DATA.STD", "DATA.SAMPLING_RATE",
    "MODEL.HEAD_ACT",
)  # fmt: skip
_SINCE_EPS = "MVIT.REL_POS_SPATIAL"
_BGR_DATASETS = ("ssv2", "charades")  # SlowFast reads their frames as BGR
_KERNELS = "MVIT.POOL_{}_KERNEL"
_MAX_BLOCKS = 1000
_MAX_LITERAL = 200  # characters of a value in quotes


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):
    """Loader that reads Python tuples as lists."""


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _Loader.construct_sequence)


class _Settings:
    """Settings by dotted key; each method checks the type."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def states(self, key: str) -> bool:
        """Say whether the text has this setting."""
        return self._find(key) is not _ABSENT

    def get(self, key: str, default: Any = None) -> Any:
        found = self._find(key)
        return _DEFAULTS.get(key, default) if found is _ABSENT else _decoded(found)

    def _find(self, key: str) -> Any:
        found: Any = self._values
        for part in key.split("."):
            if not isinstance(found, Mapping):
                raise _mistake(key, found, "a mapping above it")
            if part not in found:
                return _ABSENT
            found = found[part]
        return found

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise _mistake(key, value, "true or false")
        return value

    def whole(self, key: str, least: int = 1) -> int:
        value = _whole(self.get(key))
        if type(value) is not int or not least <= value <= 10**6:
            raise _mistake(key, value, f"a whole number from {least} to 1000000")
        return value

    def number(self, key: str) -> float:
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _mistake(key, value, "a number")
        return float(value)

    def wholes(self, key: str, value: Any, sizes: Sequence[int]) -> tuple[int, ...]:
        numbers = tuple(map(_whole, value)) if isinstance(value, list | tuple) else ()
        if len(numbers) not in sizes or not all(type(one) is int and 0 <= one <= 10**6 for one in numbers):
            raise _mistake(key, value, f"{' or '.join(map(str, sizes))} whole numbers")
        return numbers

    def rows(self, key: str) -> list[Any]:
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list | tuple) or len(value) > _MAX_BLOCKS:
            raise _mistake(key, value, "a list with an entry for a block")
        return list(value)


_ABSENT = object()


def _decoded(value: Any) -> Any:
    """Return text such as `1e-5` and `(3, 7, 7)` as a Python literal, as SlowFast reads it."""
    if isinstance(value, str) and len(value) <= _MAX_LITERAL:
        with suppress(SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
            return ast.literal_eval(value)
    return value


def _whole(value: Any) -> Any:
    """Return a float without a fraction as an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _mistake(key: str, value: Any, expected: str) -> CheckpointError:
    return CheckpointError(f"its cfg has {key}={printable(repr(value), 80)}, expected {expected}")


def _settings(text: str) -> _Settings:
    try:
        values = parse_yaml(text, lambda text: yaml.load(text, _Loader))
    except YamlError as error:
        raise CheckpointError(f"its cfg cannot be read ({printable(str(error), 200)})") from error
    if not isinstance(values, Mapping) or not isinstance(values.get("MVIT"), Mapping):
        raise CheckpointError("its cfg has no settings of an MViT (MVIT)")
    return _Settings(values)


def facts_in_config(text: str) -> TrainingFacts:
    """Return mean, standard deviation (RGB), sampling rate and activation in settings of SlowFast.

    Raises:
        CheckpointError: the text is not settings of SlowFast.
    """
    settings = _settings(text)
    activation = settings.get("MODEL.HEAD_ACT") or "none"
    mean, std = (settings.get(f"DATA.{key}") for key in ("MEAN", "STD"))
    if settings.get("TRAIN.DATASET") in _BGR_DATASETS and settings.flag("DATA.REVERSE_INPUT_CHANNEL"):
        # SlowFast reverses the channels after it normalises
        mean, std = (one[::-1] if isinstance(one, list | tuple) else one for one in (mean, std))
    _, is_image = _patch(settings)
    rate = IMAGE_FACTS.sampling_rate if is_image else settings.whole("DATA.SAMPLING_RATE")
    try:
        return TrainingFacts.checked(mean, std, rate, "softmax" if activation == "none" else activation)
    except (ArithmeticError, ValueError) as error:
        raise CheckpointError(f"its cfg does not describe the input of a net ({printable(str(error), 200)})") from error


def unstated_in_config(text: str) -> dict[str, str]:
    """Return a line for each argument that neither tensors nor these (old) settings show.

    Raises:
        CheckpointError: the text is not settings of SlowFast.
    """
    settings, lines = _settings(text), {}
    untraced = [key for key in _UNTRACED if key != "DATA.SAMPLING_RATE" or len(settings.rows("MVIT.PATCH_KERNEL")) > 2]
    if absent := [key for key in untraced if not settings.states(key)]:  # an image has no rate
        values = ", ".join(f"{key}={_DEFAULTS[key]}" for key in absent)
        lines["cfg"] = f"its cfg does not state these settings; assumed as SlowFast's defaults: {values}"
    if not settings.states(_SINCE_EPS):
        lines["norm_eps"] = (
            f"pooling.norm_eps is not in its cfg; assumed {Pooling.norm_eps:g} (SlowFast had 1e-05 before June 2022, "
            "the time of this cfg)"
        )
    return lines


def recipe_in_config(text: str, tensors: Mapping[str, Tensor]) -> Recipe:
    """Return the recipe of the net that settings of SlowFast or facebookresearch/mvit describe.

    Args:
        tensors: of the checkpoint, by our names; blocks and channels must be those of the settings.

    Raises:
        CheckpointError: the text is not settings of SlowFast, or this project has no such net.

    Source: `slowfast/models/video_model_builder.py`, MViT; tests/models/families/mvit/test_slowfast_config.py.
    """
    num_blocks = sum(f"blocks.{i}.norm1.weight" in tensors for i in range(len(tensors)))
    num_classes, embed_dim = _rows_of(tensors, "head.projection.weight"), _rows_of(tensors, "patch_embed.proj.weight")
    settings = _settings(text)
    for key, only in _FIXED.items():
        if (found := settings.get(key, only)) != only:
            raise CheckpointError(f"its cfg has {key}={printable(repr(found), 80)}; nets here have {only}")
    for key, held in (("MVIT.DEPTH", num_blocks), ("MVIT.EMBED_DIM", embed_dim)):
        if settings.whole(key) != held:
            raise CheckpointError(f"its cfg has {key}={settings.whole(key)}, its tensors have {held}")
    patch, is_image = _patch(settings)
    has_token = settings.flag("MVIT.CLS_EMBED_ON")
    kinds: list[PositionKind] = []
    if settings.flag("MVIT.USE_ABS_POS"):
        kinds.append("separable" if settings.flag("MVIT.SEP_POS_EMBED") else "joint")
    if settings.flag("MVIT.REL_POS_SPATIAL"):
        kinds.append("relative")
    depths = _depths(settings, num_blocks)
    arguments: dict[str, Any] = {
        "num_classes": num_classes,
        "num_frames": 1 if is_image else settings.whole("DATA.NUM_FRAMES"),
        "crop_size": settings.whole("DATA.TRAIN_CROP_SIZE"),
        "depths": depths,
        "embed_dim": embed_dim,
        "num_heads": settings.whole("MVIT.NUM_HEADS"),
        "patch": patch,
        "pooling": _pooling(settings, depths),
        "position": joined(kinds),
        "class_token": has_token,
        "head_pool": "mean_of_patches" if settings.flag("MVIT.USE_MEAN_POOLING") else "cls" if has_token else "gap",
        "drop_path_rate": settings.number("MVIT.DROPPATH_RATE"),
        "dropout": settings.number("MODEL.DROPOUT_RATE"),
    }
    in_attention = settings.flag("MVIT.DIM_MUL_IN_ATT")
    if not in_attention and "relative" not in kinds:
        return Recipe(mvit, arguments)
    return Recipe(mvitv2, arguments | {"expand_in_attention": in_attention or len(depths) == 1})


def _rows_of(tensors: Mapping[str, Tensor], key: str) -> int:
    tensor = tensors.get(key)
    return tensor.shape[0] if tensor is not None and tensor.ndim else 0


def _patch(settings: _Settings) -> tuple[Patch, bool]:
    """Return the cubes of the stem, and whether the net takes images."""
    kernel, stride, padding = (
        settings.wholes(f"MVIT.PATCH_{key}", settings.get(f"MVIT.PATCH_{key}"), (2, 3))
        for key in ("KERNEL", "STRIDE", "PADDING")
    )
    expected = tuple(0 if k == s else k // 2 for k, s in zip(kernel, stride, strict=False))
    if padding != expected:
        raise CheckpointError(f"its cfg has MVIT.PATCH_PADDING={list(padding)}; nets here have {list(expected)}")
    is_image = len(kernel) == 2
    try:
        return Patch(_thw(kernel), _thw(stride)), is_image
    except MVitVideoError as error:
        raise CheckpointError(f"its cfg describes no stem ({error})") from error


def _thw(numbers: Sequence[int]) -> THW:
    """Return a size; without a time, as for images, its time is 1."""
    return THW(*(1,) * (3 - len(numbers)), *numbers)


def _depths(settings: _Settings, num_blocks: int) -> tuple[int, ...]:
    """Return the blocks of each stage; a stage begins where channels and heads double."""
    found = []
    for key in ("MVIT.DIM_MUL", "MVIT.HEAD_MUL"):
        rows = settings.rows(key)
        if not all(isinstance(row, list | tuple) and len(row) == 2 and row[1] == 2.0 for row in rows):
            raise _mistake(key, rows, "pairs of a block and 2.0")
        found.append([row[0] for row in rows])
    starts = [0, *found[0], num_blocks]
    if found[0] != found[1] or any(type(start) is not int for start in starts):
        raise CheckpointError("its cfg doubles channels (MVIT.DIM_MUL) and heads (MVIT.HEAD_MUL) at different blocks")
    if any(start >= end for start, end in pairwise(starts)):
        raise CheckpointError(f"its cfg has MVIT.DIM_MUL at blocks {found[0]} of {num_blocks}, which are no stages")
    return tuple(end - start for start, end in pairwise(starts))


def _pooling(settings: _Settings, depths: tuple[int, ...]) -> Any:
    """Return the pooling whose blocks are as SlowFast makes them of its settings."""
    num_blocks, mode = sum(depths), settings.get("MVIT.MODE")
    if mode not in ("conv", "max", "avg"):
        raise _mistake("MVIT.MODE", mode, "conv, max or avg")
    strides_q = _rows(settings, "MVIT.POOL_Q_STRIDE", num_blocks)
    strides_kv = _rows(settings, "MVIT.POOL_KV_STRIDE", num_blocks)
    adaptive = settings.get("MVIT.POOL_KV_STRIDE_ADAPTIVE")
    if adaptive is not None:
        stride = _thw(settings.wholes("MVIT.POOL_KV_STRIDE_ADAPTIVE", adaptive, (2, 3)))
        strides_kv = {}
        for block in range(num_blocks):
            stride = THW(*(max(kv // q, 1) for kv, q in zip(stride, strides_q.get(block, UNIT), strict=True)))
            strides_kv[block] = stride
    kernels_q = _kernels(settings, "Q", strides_q, num_blocks)
    kernels_kv = _kernels(settings, "KV", strides_kv, num_blocks)
    seen = []
    for block in range(num_blocks):
        kernel_q, kernel_kv = kernels_q.get(block), kernels_kv.get(block)
        stride_kv = strides_kv.get(block, UNIT) if kernel_kv else UNIT
        seen.append((kernel_q, strides_q.get(block, UNIT), kernel_kv, stride_kv))
    try:
        pooling = matching_pooling(
            depths,
            lambda spec: (spec.kernel_q, spec.stride_q, spec.kernel_kv, spec.stride_kv if spec.kernel_kv else UNIT),
            seen,
            kernels={kernel for block in seen for kernel in (block[0], block[2]) if kernel},
            strides_q=[seen[depths[0]][1] if len(depths) > 1 else THW(1, 2, 2)],
            strides_kv=[seen[0][3] if seen[0][2] else None],
            mode=mode,
            residual=settings.flag("MVIT.RESIDUAL_POOLING"),
        )
    except MVitVideoError as error:
        raise CheckpointError(f"its cfg describes no pools ({error})") from error
    if pooling is None:
        raise CheckpointError(
            "its cfg has pools (MVIT.POOL_Q_STRIDE, MVIT.POOL_KV_STRIDE) that follow no rule of nets here"
        )
    return pooling


def _kernels(settings: _Settings, letters: str, strides: Mapping[int, THW], num_blocks: int) -> dict[int, THW | None]:
    """Return the kernel of each block that pools queries, or keys and values; settings of June 2021 list them."""
    if settings.states(_KERNELS.format(letters)):
        kernels: dict[int, THW | None] = {**_rows(settings, _KERNELS.format(letters), num_blocks)}
    else:
        kernel = settings.get("MVIT.POOL_KVQ_KERNEL")
        kernel = None if kernel is None else _thw(settings.wholes("MVIT.POOL_KVQ_KERNEL", kernel, (2, 3)))
        kernels = dict.fromkeys(strides, kernel)
    return {block: pool_kernel(strides.get(block, UNIT), kernel, at_stride_1=True) for block, kernel in kernels.items()}


def _rows(settings: _Settings, key: str, num_blocks: int) -> dict[int, THW]:
    """Return stride or kernel by block; the first settings have a row for every block, empty for none."""
    found = settings.rows(key)
    if settings.states(_KERNELS.format("KV")) and all(isinstance(row, list) and len(row) in (0, 3) for row in found):
        found = [[block, *row] for block, row in enumerate(found) if row]
    rows = [settings.wholes(key, row, (3, 4)) for row in found]
    if any(row[0] >= num_blocks or min(row[1:]) < 1 for row in rows):
        raise _mistake(key, rows, f"rows of a block below {num_blocks} and three numbers, at least 1")
    return {row[0]: _thw(row[1:]) for row in rows}
