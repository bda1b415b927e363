"""Checkpoint files: read without running code in them, written atomically."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mvit_video.checkpoints.contents import StoredState, unwrap
from mvit_video.checkpoints.folders import checkpoint_in
from mvit_video.checkpoints.pickles import MAX_INDEX_BYTES, is_pickle, one_line, parsing, read_pickle
from mvit_video.jobs import atomic_write
from mvit_video.types import CheckpointError

Source: TypeAlias = str | PathLike[str] | Mapping[str, Any] | StoredState

MAX_FILE_BYTES = 16 << 30  # four times the largest published net with its optimizer
MAX_TENSORS = 100_000
_MAX_SHARING = 4  # tensors for one storage, on average
_SMALL_BYTES = 1 << 20  # smaller files are not checked


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
