"""Files of `torch.save`: read without running code in them, and without trust in the sizes that they claim."""

from __future__ import annotations

import argparse
import math
import mmap
import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch

from mvit_video.types import CheckpointError, MVitVideoError

MAX_INDEX_BYTES = 64 << 20  # names and descriptions of tensors
MAX_RATIO = 10  # unpacked size over file size: weights hardly compress
_ARCHIVE, _PICKLE = b"PK\x03\x04", b"\x80"
_REMEDY = "save its tensors alone with torch.save"
_SIZED = b"\nbytearray\n"  # it reserves as much memory as the file says


class _UnreadError(Exception):
    """Value that is not read; the text names it."""


class _DType:
    """Replacement of `numpy.dtype`, whose `__setstate__` checks nothing."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def real(self) -> np.dtype[Any]:
        """Return the data type.

        Raises:
            _UnreadError: it is not of numbers, texts or objects.
        """
        if self.order not in ("<", ">", "=", "|") or not re.fullmatch(r"[biufcSUO]\d{1,6}", self.code):
            raise _UnreadError(f"holds NumPy values of type {self.code!r}")
        return np.dtype(self.order.replace("|", "=") + self.code)


class _Array(np.ndarray):
    """Replacement of `numpy.ndarray`, whose `__setstate__` trusts sizes."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        _, shape, dtype, is_fortran, data = state
        real, num_values = dtype.real(), math.prod(shape)
        expected = num_values if real.hasobject else num_values * real.itemsize
        if type(data) is not (list if real.hasobject else bytes) or len(data) != expected or min(shape, default=0) < 0:
            raise ValueError("a NumPy array has another size than its values")
        super().__setstate__((1, shape, real, bool(is_fortran), data))  # pyright: ignore[reportArgumentType]


def _scalar(dtype: _DType, data: bytes) -> Any:
    """Make a NumPy scalar."""
    return np.frombuffer(data, dtype.real(), count=1)[0]


def _no_bytes() -> bytes:
    """Replace `bytes`, which pickles call for empty bytes and which reserves memory for a number."""
    return b""


def _empty_array(*_: Any) -> _Array:
    """Make a NumPy array, which gets shape and values later."""
    return _Array((0,))


# plain values that training scripts save with the weights
_PLAIN: list[Any] = [
    argparse.Namespace,
    (_DType, "numpy.dtype"),
    (_Array, "numpy.ndarray"),
    (_no_bytes, "builtins.bytes"),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_empty_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((PurePosixPath, f"{module}.{name}") for module in ("pathlib", "pathlib._local")
      for name in ("PosixPath", "PurePosixPath")),
    *((PureWindowsPath, f"{module}.{name}") for module in ("pathlib", "pathlib._local")
      for name in ("WindowsPath", "PureWindowsPath")),
]  # fmt: skip


@contextmanager
def parsing(name: str) -> Iterator[None]:
    """Turn errors of parsing foreign bytes into one line that names the file.

    Raises:
        CheckpointError: instead of an error of another library.
    """
    try:
        yield
    except MVitVideoError:
        raise
    except OSError as error:
        raise CheckpointError(f"{name}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # damaged or hostile bytes can fail in any way
        raise CheckpointError(f"{name}: cut off or damaged ({one_line(error)})") from error


def is_pickle(start: bytes) -> bool:
    """Say whether a file with this beginning is of `torch.save`."""
    return start.startswith((_ARCHIVE, _PICKLE))


def read_pickle(path: Path, *, map_location: Any = "cpu", lazily: bool = True) -> tuple[Any, int]:
    """Return the content of a file of `torch.save`, and its unpacked size in bytes.

    Args:
        map_location: see `torch.load`.
        lazily: read tensors when they are used, if the file allows it.

    Raises:
        CheckpointError: the file is cut off, needs code to be read, or claims more than it holds.
    """
    with parsing(str(path)):
        with path.open("rb") as file:
            is_archive = file.read(len(_ARCHIVE)) == _ARCHIVE
            num_bytes, can_map = (
                _measured_archive(path) if is_archive else (_measured_stream(path, file.fileno()), False)
            )
        with torch.serialization.safe_globals(_PLAIN):
            try:
                if path.suffix == ".safetensors":  # torch would go by the name
                    with path.open("rb") as file:
                        return torch.load(file, map_location=map_location, weights_only=True), num_bytes
                mapped = lazily and can_map and map_location == "cpu"
                content = torch.load(path, map_location=map_location, weights_only=True, mmap=mapped)
            except pickle.UnpicklingError as error:
                raise _explained(path, error) from error
            except _UnreadError as error:
                raise CheckpointError(f"{path}: {error}, which are not read; {_REMEDY}") from error
    return content, num_bytes


def _explained(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    wanted = re.search(r"GLOBAL (?P<name>[\w.]+)", str(error))
    if not wanted and "Can only build" not in str(error):
        return CheckpointError(f"{path}: cut off or damaged")
    what = f" ({wanted['name'].rstrip('.')})" if wanted else ""
    return CheckpointError(f"{path}: needs code to be read{what}, which is never run; {_REMEDY}")


def _measured_stream(path: Path, descriptor: int) -> int:
    """Return the size of a file that is not an archive, which is not compressed."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
        if content.find(_SIZED) >= 0:
            raise _sized(path)
        return len(content)


def _measured_archive(path: Path) -> tuple[int, bool]:
    """Return the unpacked size of an archive of `torch.save`, and whether it is not compressed.

    Raises:
        CheckpointError: it is another archive, or claims more than it can hold.
    """
    file_bytes = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        names = [record.filename.partition("/")[2] for record in records]
        if "constants.pkl" in names:
            raise CheckpointError(f"{path}: a TorchScript program, which is code; save its state_dict() instead")
        if "data.pkl" not in names:
            raise CheckpointError(f"{path}: not a checkpoint but another kind of archive; expected one of torch.save")
        index = records[names.index("data.pkl")]
        if index.file_size > MAX_INDEX_BYTES:
            raise CheckpointError(
                f"{path}: its index unpacks to {index.file_size} bytes; the limit is {MAX_INDEX_BYTES}"
            )
        plain = all(record.compress_type == zipfile.ZIP_STORED for record in records)
        limit = file_bytes * (1 if plain else MAX_RATIO)
        claimed = sum(record.file_size for record in records)
        if claimed > limit:
            held = f"a file of {file_bytes} bytes" + ("" if plain else f", compressed, can hold {limit}")
            raise CheckpointError(f"{path}: claims {claimed} bytes, more than {held}")
        with archive.open(index) as file:  # without the last byte, at which a missing checksum would raise
            if _SIZED in file.read(max(index.file_size - 1, 0)):
                raise _sized(path)
    return claimed, plain


def _sized(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: holds a bytearray, which is not read; {_REMEDY}")


def one_line(error: Exception) -> str:
    """Return the text of an error as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
