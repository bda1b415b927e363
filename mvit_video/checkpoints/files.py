"""Checkpoint files: read without running code in them, written atomically; and the weights among their entries."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mvit_video.checkpoints.folders import checkpoint_in
from mvit_video.checkpoints.pickles import MAX_INDEX_BYTES, is_pickle, one_line, parsing, read_pickle
from mvit_video.jobs import atomic_write
from mvit_video.types import CheckpointError, printable

ARCHITECTURE_KEY = "mvit_video"  # key of the recipe in a Lightning checkpoint
CLASS_NAMES_KEY = "class_names"  # key of a JSON list in the metadata
_WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model", "net", "module")
_AVERAGED = re.compile(r"(^|_)(ema|swa)(_|$)", re.IGNORECASE)
_COUNTER = "n_averaged"  # a tensor of torch's AveragedModel besides its weights
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # control characters, or not text
_MAX_DEPTH = 5  # of entries within entries; a hostile file can contain itself
MAX_FILE_BYTES = 16 << 30  # four times the largest published net with its optimizer
MAX_TENSORS = 100_000
_MAX_SHARING = 4  # tensors for one storage, on average
_SMALL_BYTES = 1 << 20  # smaller files are not checked


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


Source: TypeAlias = str | PathLike[str] | Mapping[str, Any] | StoredState


def read_checkpoint(source: Source, *, use_ema: bool | None = None) -> StoredState:
    """Return the tensors of a model in a file or mapping, on the CPU.

    The first bytes of a file show its kind. Pickles are read with `weights_only=True`.

    Args:
        source: file of `torch.save` or safetensors, run folder (its best checkpoint, or the tested one), mapping from
            names to tensors, or the result of an earlier call.
        use_ema: whether to load weights averaged over training; None loads the weights that the file names as the
            model's, and notes others.

    Raises:
        CheckpointError: there is no such file; it is not a checkpoint, cut off, too large, or needs code to be read.
    """
    if isinstance(source, StoredState):
        return source
    if isinstance(source, Mapping):
        with parsing("the state dict"):
            return _checked(unwrap("the state dict", source, use_ema))
    path = Path(source)
    if path.is_dir():
        path = checkpoint_in(path)
    start = first_bytes(path)
    with parsing(str(path)):
        if start[8:9] == b"{":
            return _checked(_read_safetensors(path, int.from_bytes(start[:8], "little")))
        if is_pickle(start):
            content, num_bytes = read_pickle(path)
            return _checked(unwrap(str(path), content, use_ema), num_bytes)
    raise CheckpointError(f"{path}: not a checkpoint; expected a file written by torch.save or safetensors")


def first_bytes(path: Path) -> bytes:
    """Return the first bytes of a file.

    Raises:
        CheckpointError: it is empty, too large, not a regular file, or cannot be read.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):  # a pipe would block
            raise CheckpointError(f"{path}: not a regular file but a pipe or device; copy it to a file first")
        if found.st_size > MAX_FILE_BYTES:
            raise CheckpointError(f"{path}: {found.st_size} bytes; the limit is {MAX_FILE_BYTES}")
        with path.open("rb") as file:
            start = file.read(16)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not start:
        raise CheckpointError(f"{path}: the file is empty")
    return start


def _read_safetensors(path: Path, header_bytes: int) -> StoredState:
    if header_bytes > MAX_INDEX_BYTES:
        raise CheckpointError(f"{path}: a header of {header_bytes} bytes; the limit is {MAX_INDEX_BYTES}")
    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
        _check_count(str(path), len(names))
        return StoredState(
            str(path), {name: file.get_tensor(name) for name in names}, metadata=dict(file.metadata() or {})
        )


def _check_count(name: str, num_tensors: int) -> None:
    if num_tensors > MAX_TENSORS:
        raise CheckpointError(f"{name}: {num_tensors} tensors; the limit is {MAX_TENSORS}")


def _checked(state: StoredState, num_bytes: int | None = None) -> StoredState:
    """Refuse tensors that no model has, before anything is computed from them.

    A tensor can claim more than its storage has, and a storage more than the file has.

    Args:
        num_bytes: bytes in the file.
    """
    name, tensors = state.name, state.tensors
    if not tensors:
        found = f"its entries are {_some(state.others)}" if state.others else "it is empty"
        raise CheckpointError(f"{name}: holds no tensors; {found}")
    _check_count(name, len(tensors))
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise CheckpointError(f"{name}: {key} is sparse or quantised; expected a dense tensor")
        if num_bytes is not None and tensor.is_meta:
            raise CheckpointError(f"{name}: {key} has no values; save a model that is not on the device meta")
    _check_sizes(name, [tensor for tensor in tensors.values() if not tensor.is_meta], num_bytes)
    return state


def _check_sizes(name: str, tensors: list[Tensor], num_bytes: int | None) -> None:
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    held = sum(storages.values()) if num_bytes is None else min(sum(storages.values()), num_bytes)
    limit = min(_MAX_SHARING * held + _SMALL_BYTES, MAX_FILE_BYTES)
    if claimed > limit:
        raise CheckpointError(f"{name}: tensors of {claimed} bytes; the limit is {limit} for {held} bytes of data")


def write_checkpoint(path: str | PathLike[str], write: Callable[[Path], None]) -> None:
    """Write a file atomically with `write`, which gets a temporary path.

    Raises:
        CheckpointError: the folder does not exist, or the file cannot be written.
    """
    if not Path(path).absolute().parent.is_dir():
        raise CheckpointError(f"{path}: cannot be written (no such folder)")
    try:
        with atomic_write(Path(path)) as unfinished:
            write(unfinished)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise CheckpointError(f"{path}: cannot be written ({reason})") from error


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


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
