"""Checkpoint files: read without running anything that they contain, written complete or not at all."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mvit_video.jobs import atomic_write
from mvit_video.types import CheckpointError

Source: TypeAlias = str | PathLike[str] | Mapping[str, Any]

MAX_FILE_BYTES = 16 << 30  # four times the largest published net with its optimiser
MAX_INDEX_BYTES = 64 << 20  # the part of a file that names and describes tensors
MAX_TENSORS = 100_000
ARCHITECTURE_KEY = "mvit_video"  # of the builder and its arguments in a Lightning checkpoint
_WRAPPERS = ("model_state", "model_state_dict", "state_dict", "model", "net")


@dataclass(frozen=True)
class StoredState:
    """What a checkpoint holds of a model.

    Attributes:
        name: the file, or what stands for it, for messages.
        tensors: by the names that the file gives them.
        others: names of entries beside them that are no tensors.
        metadata: texts that a file of this project carries.
        is_lightning: Lightning wrote it.
    """

    name: str
    tensors: dict[str, Tensor]
    others: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    is_lightning: bool = False


def read_checkpoint(source: Source) -> StoredState:
    """The tensors of a model in a file or mapping, on the CPU; taken out of `model_state`, `state_dict` and their like.

    The kind of a file is known by its first bytes. Pickles are read with `weights_only=True`.

    Args:
        source: path of a file of `torch.save` or safetensors, or a mapping from names to tensors.

    Raises:
        CheckpointError: there is no such file; it is no checkpoint, cut off, too large, or needs code to be read.
    """
    if isinstance(source, Mapping):
        return _checked(_unwrapped("the state dict", source))
    path = Path(source)
    start = _first_bytes(path)
    if start[8:9] == b"{":
        tensors, metadata = _read_safetensors(path)
        return _checked(StoredState(str(path), tensors, metadata=metadata))
    if start.startswith(b"PK\x03\x04"):
        return _checked(_unwrapped(str(path), _read_pickle(path, mmap=_is_plain_archive(path))))
    if start.startswith(b"\x80"):
        return _checked(_unwrapped(str(path), _read_pickle(path, mmap=False)))
    raise CheckpointError(f"{path}: not a checkpoint; expected a file written by torch.save or safetensors")


def _first_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CheckpointError(f"{path}: {path.stat().st_size} bytes; the limit is {MAX_FILE_BYTES}")
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror or error}") from error
    if not start:
        raise CheckpointError(f"{path}: the file is empty")
    return start


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) > MAX_TENSORS:
                raise CheckpointError(f"{path}: {len(names)} tensors; the limit is {MAX_TENSORS}")
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except SafetensorError as error:
        raise CheckpointError(f"{path}: cut off or damaged ({_one_line(error)})") from error


def _is_plain_archive(path: Path) -> bool:
    """Whether the records of an archive of `torch.save` lie in it uncompressed, so that they can be mapped.

    Raises:
        CheckpointError: it is cut off, none of `torch.save`, or unpacks to more than the limit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise CheckpointError(f"{path}: cut off or damaged ({_one_line(error)})") from error
    names = [record.filename.partition("/")[2] for record in records]
    if "constants.pkl" in names:
        raise CheckpointError(f"{path}: a TorchScript program, which is code; save its state_dict() instead")
    if "data.pkl" not in names:
        raise CheckpointError(f"{path}: not a checkpoint but another kind of archive; expected one of torch.save")
    index_bytes = records[names.index("data.pkl")].file_size
    if sum(record.file_size for record in records) > MAX_FILE_BYTES or index_bytes > MAX_INDEX_BYTES:
        raise CheckpointError(f"{path}: unpacks to more than the limit of {MAX_FILE_BYTES} bytes")
    return all(record.compress_type == zipfile.ZIP_STORED for record in records)


def _read_pickle(path: Path, mmap: bool) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # plain values, which training scripts leave
            if path.suffix == ".safetensors":  # by whose name torch would be misled
                with path.open("rb") as file:
                    return torch.load(file, map_location="cpu", weights_only=True)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (?P<name>[\w.]+)", str(error))
        if wanted or "Can only build" in str(error):
            what = f" ({wanted['name'].rstrip('.')})" if wanted else ""
            raise CheckpointError(
                f"{path}: needs code to be read{what}, which is never run; save its tensors alone with torch.save"
            ) from error
        raise CheckpointError(f"{path}: cut off or damaged") from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise CheckpointError(f"{path}: cut off or damaged ({_one_line(error)})") from error


def _unwrapped(name: str, content: Any) -> StoredState:
    is_lightning = isinstance(content, Mapping) and "pytorch-lightning_version" in content
    metadata = content.get(ARCHITECTURE_KEY, {}) if is_lightning else {}
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{name}: holds a {type(content).__name__}; expected a mapping from names to tensors")
    tensors = {str(key): value.detach() for key, value in content.items() if isinstance(value, Tensor)}
    others = tuple(str(key) for key in content if str(key) not in tensors)
    if not tensors:
        found = f"its entries are {_some(others)}" if others else "it is empty"
        raise CheckpointError(f"{name}: holds no tensors; {found}")
    return StoredState(name, tensors, others, {str(k): str(v) for k, v in dict(metadata).items()}, is_lightning)


def _checked(state: StoredState) -> StoredState:
    """Refuses what no model consists of, before anything is computed from it.

    A tensor can claim a size that its storage does not have, so that claimed sizes are limited too.
    """
    tensors = state.tensors
    if len(tensors) > MAX_TENSORS:
        raise CheckpointError(f"{state.name}: {len(tensors)} tensors; the limit is {MAX_TENSORS}")
    for key, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise CheckpointError(f"{state.name}: {key} is sparse or quantised; expected a dense tensor")
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if claimed > MAX_FILE_BYTES:
        raise CheckpointError(f"{state.name}: tensors of {claimed} bytes; the limit is {MAX_FILE_BYTES}")
    return state


def write_checkpoint(path: str | PathLike[str], write: Callable[[Path], None]) -> None:
    """Have `write` make a temporary file, and put it at `path` once it is complete.

    Raises:
        CheckpointError: the folder does not exist, or the file cannot be written.
    """
    if not Path(path).absolute().parent.is_dir():
        raise CheckpointError(f"{path}: cannot be written (no such folder)")
    try:
        with atomic_write(Path(path)) as unfinished:
            write(unfinished)
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or _one_line(error)
        raise CheckpointError(f"{path}: cannot be written ({reason})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
