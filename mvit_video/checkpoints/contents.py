"""Content of a checkpoint file: the entry that has the weights of the model."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from torch import Tensor

from mvit_video.types import CheckpointError, printable

ARCHITECTURE_KEY = "mvit_video"  # key of the recipe in a Lightning checkpoint
CLASS_NAMES_KEY = "class_names"  # key of a JSON list in the metadata
_WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model", "net", "module")
_AVERAGED = re.compile(r"(^|_)(ema|swa)(_|$)", re.IGNORECASE)
_COUNTER = "n_averaged"  # a tensor of torch's AveragedModel besides its weights
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # control characters, or not text
_MAX_DEPTH = 5  # of entries within entries; a hostile file can contain itself


@dataclass(frozen=True)
class StoredState:
    """Model in a checkpoint.

    Attributes:
        name: the file, or another name for messages.
        tensors: by their names in the file.
        others: names of other entries.
        metadata: texts in a file of this project.
        is_lightning: Lightning wrote it.
        notes: which of several entries was loaded.
        config: settings of SlowFast as text, `cfg` in its files.
    """

    name: str
    tensors: dict[str, Tensor]
    others: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    is_lightning: bool = False
    notes: tuple[str, ...] = ()
    config: str | None = None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes with control characters escaped; None if the file has none.

        Raises:
            CheckpointError: they are not a list of names.
        """
        text = self.metadata.get(CLASS_NAMES_KEY, "null")
        try:
            names = json.loads(text)
        except (ValueError, RecursionError):
            names = text
        if names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            return (
                None if names is None else tuple(printable(name) if _CONTROL.search(name) else name for name in names)
            )
        raise CheckpointError(f"{self.name}: its metadata have no list of names as class_names, got {text[:80]!r}")


def unwrap(name: str, content: Any, use_ema: bool | None = None) -> StoredState:
    """Return the tensors of a model, found under `model_state`, `state_dict` and similar keys.

    Args:
        name: the file, or another name for messages.
        use_ema: see `read_checkpoint`.

    Raises:
        CheckpointError: there are no tensors, or no weights as `use_ema` asks.
    """
    is_lightning = isinstance(content, Mapping) and "pytorch-lightning_version" in content
    metadata = _metadata_of_run(content) if is_lightning else {}
    config = content.get("cfg") if isinstance(content, Mapping) else None
    notes: list[str] = []
    took_average = False
    for _ in range(_MAX_DEPTH):
        found = _entries(content, use_ema)
        if not found:
            break
        key, is_average = found[0]
        took_average = took_average or is_average
        if len(found) > 1 or is_average:
            notes.append(_choice(found))
        content = content[key]
    tensors = {}
    if isinstance(content, Mapping):
        tensors, found = _one_net({str(key): one for key, one in content.items() if isinstance(one, Tensor)}, use_ema)
        if found and not took_average:
            took_average = found[0][1]
            notes.append(_choice(found))
    if use_ema is not None and use_ema != took_average:
        kind = "no averaged weights (EMA)" if use_ema else "averaged weights (EMA) only"
        raise CheckpointError(f"{name}: holds {kind}; leave out use_ema={use_ema}")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{name}: holds a {type(content).__name__}; expected a mapping from names to tensors")
    others = tuple(
        str(key) for key, one in content.items() if isinstance(key, str | int) and not isinstance(one, Tensor)
    )
    tensors = {key: tensor.detach() for key, tensor in tensors.items()}
    config = config if isinstance(config, str) else None
    return StoredState(name, tensors, others, metadata, is_lightning, tuple(notes), config)


def _entries(content: Any, use_ema: bool | None) -> list[tuple[str, bool]]:
    """Return the entries with weights, the chosen one first, and whether each is an average over training."""
    if not isinstance(content, Mapping):
        return []
    plain = [(key, False) for key in _WRAPPERS if _holds_tensors(content.get(key))]
    averaged = [
        (key, True)
        for key, value in content.items()
        if isinstance(key, str) and _AVERAGED.search(key) and _holds_tensors(value)
    ]
    if "averaging_state" in content and _holds_tensors(content.get("current_model_state")):
        # Lightning's WeightAveraging puts the average in the place of the weights
        averaged, plain = [(key, True) for key, _ in plain], [("current_model_state", False)]
        return averaged + plain if use_ema is not False else plain + averaged
    return averaged + plain if use_ema else plain + averaged


def _one_net(tensors: dict[str, Tensor], use_ema: bool | None) -> tuple[dict[str, Tensor], list[tuple[str, bool]]]:
    """Return the tensors of one net, and the choices where the names show averages besides the weights."""
    averages = {key.removesuffix(_COUNTER) for key in tensors if key.rpartition(".")[2] == _COUNTER}
    averages |= {
        f"{first}." for first, dot, _ in (key.partition(".") for key in tensors) if dot and _AVERAGED.search(first)
    }
    if not averages:
        return tensors, []
    averaged = {key: one for key, one in tensors.items() if key.startswith(tuple(averages))}
    plain = {key: one for key, one in tensors.items() if key not in averaged}
    averaged = {key: one for key, one in averaged.items() if key.rpartition(".")[2] != _COUNTER}
    nets = [(plain, "weights", False), (averaged, min(averages).removesuffix(".") or "weights", True)]
    nets = [net for net in nets if net[0]]
    if use_ema:
        nets.reverse()
    return nets[0][0] if nets else {}, [(name, is_average) for _, name, is_average in nets]


def _choice(found: list[tuple[str, bool]]) -> str:
    (taken, is_average), *rest = found
    text = f"took its {taken}" + (", averaged over training" if is_average else "")
    others = [key for key, _ in rest]
    if not others:
        return text
    opposite = next((key for key, average in rest if average != is_average), None)
    hint = f"; use_ema={not is_average} takes {opposite}" if opposite else ""
    return f"{text}, not {' or '.join(others)}{hint}"


def _holds_tensors(value: Any, depth: int = _MAX_DEPTH) -> TypeGuard[Mapping[Any, Any]]:
    """Say whether a mapping, or an entry of weights in it, holds tensors."""
    if not isinstance(value, Mapping) or depth == 0:
        return False
    if any(isinstance(one, Tensor) for one in value.values()):
        return True
    return any(_holds_tensors(value.get(key), depth - 1) for key in _WRAPPERS)


def _metadata_of_run(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of the model in a checkpoint of a run of this project."""
    own, data = content.get(ARCHITECTURE_KEY), content.get("VideoDataModule")
    metadata = {key: value for key, value in own.items() if isinstance(value, str)} if isinstance(own, Mapping) else {}
    names = data.get(CLASS_NAMES_KEY) if isinstance(data, Mapping) else None
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        metadata[CLASS_NAMES_KEY] = json.dumps(names)
    return metadata
