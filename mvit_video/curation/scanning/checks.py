"""Check of one video."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args, get_type_hints

import av
import pyarrow as pa

from mvit_video.data.readers import Backend, IndexCache, open_video
from mvit_video.data.readers.source import Source, container_by_signature
from mvit_video.data.readers.stream import DecodeFailed, OpenStream
from mvit_video.jobs.files import size_and_time
from mvit_video.types import VideoDecodeError

Kind = Literal[
    "missing", "empty", "truncated", "no video stream", "unsupported codec", "too short", "wrong header", "damaged",
    "time-out", "other",
]  # fmt: skip
KINDS: dict[Kind, str] = {
    "missing": "the file does not exist",
    "empty": "the file has no bytes",
    "truncated": "the end of the file is missing",
    "no video stream": "the file has no video",
    "unsupported codec": "no installed library decodes it",
    "too short": "the video or segment is shorter than --min-seconds",
    "wrong header": "the header states another number of frames or seconds; the frames are right",
    "damaged": "frames do not decode, or decode with concealed errors",
    "time-out": "the decoder did not return",
    "other": "any other problem",
}
CONCEALED = "frames decode, but with errors that the decoder conceals"
# problems of the machine rather than the file
TRIED_AGAIN: tuple[Kind, ...] = ("time-out", "other")
# containers that state lengths in a header; in others the demuxer guesses them
_STATES_LENGTH = {"mov", "matroska", "avi"}
_FRAMES_PER_SIGN = 64
_FROM_READER = (
    "num_frames", "fps", "duration_seconds", "height", "width", "codec", "container", "backend", "backend_reason",
)  # fmt: skip
# messages of the readers before they decode
_KIND_OF_REASON: dict[str, Kind] = {
    "no such file": "missing",
    "is an empty file": "empty",
    "no video stream": "no video stream",
    "no decoder for its codec": "unsupported codec",
}


@dataclass(frozen=True)
class Check:
    """Result for one video; `CHECK_SCHEMA` has the same columns.

    Attributes:
        path: path of the file.
        size: bytes; None if there is no file.
        mtime_ns: modification time.
        asked_backend: requested library.
        is_full: whether every frame was decoded.
        is_usable: whether training can read it.
        kind: kind of problem, None if there is none; a usable video may have a wrong header or concealed damage.
        reason: the problem in words.
        damaged: whether errors were concealed in decoded frames.
        sha256: hash of the file, if it was read.
    """

    path: str
    size: int | None
    mtime_ns: int | None
    asked_backend: Backend
    is_full: bool
    is_usable: bool = True
    kind: Kind | None = None
    reason: str = ""
    num_frames: int | None = None
    fps: float | None = None
    duration_seconds: float | None = None
    height: int | None = None
    width: int | None = None
    codec: str | None = None
    container: str | None = None
    backend: str | None = None
    backend_reason: str | None = None
    damaged: bool = False
    sha256: str | None = None

    def failed(self, kind: Kind, reason: str) -> Check:
        """Return the check of a video that training cannot read."""
        return replace(self, is_usable=False, kind=kind, reason=" ".join(reason.split()))

    def flawed(self, kind: Kind, reason: str) -> Check:
        """Return the check of a usable video with a problem."""
        return replace(self, kind=kind, reason=reason)


def schema_of(row: type, **others: pa.DataType) -> pa.Schema:
    """Return the Arrow schema of a dataclass of strings, numbers and booleans; `others` are types of other fields."""
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return pa.schema({name: others.get(name) or kinds[_plain(hint)] for name, hint in get_type_hints(row).items()})


def _plain(hint: Any) -> Any:
    """Return the type of a hint such as `int`, `int | None` or `Literal["a"]`."""
    inner = [one for one in get_args(hint) if one is not type(None)]
    return _plain(inner[0]) if inner else hint if isinstance(hint, type) else type(hint)


CHECK_SCHEMA = schema_of(Check, height=pa.int32(), width=pa.int32())


@dataclass(frozen=True)
class Checker:
    """Check of videos in a worker process.

    Attributes:
        backend: library of the training to come.
        is_full: decode every frame, not only the first, middle and last, and hash the file.
        index_cache: keeps the packet index of every video for training.
    """

    backend: Backend
    is_full: bool
    index_cache: IndexCache

    def __call__(self, path: str, heartbeat: Callable[[], None]) -> Check:
        """Check a video, with heartbeats between long steps."""
        check, header = inspect(path, self.backend, is_full=self.is_full)
        if header is None:
            return check
        try:
            if self.is_full:
                check = replace(check, sha256=hash_file(path, heartbeat))
            return self._check_content(check, header, heartbeat)
        except OSError as error:
            return check.failed("other", f"cannot be read ({error.strerror or error})")

    def _check_content(self, check: Check, header: Header, heartbeat: Callable[[], None]) -> Check:
        try:
            # only opens the video, to choose the backend; PyAV decodes below, since it reports damage
            with open_video(check.path, self.backend, index_cache=self.index_cache) as reader:
                check = replace(check, **{name: getattr(reader, name) for name in _FROM_READER})
            heartbeat()
            wrong = _wrong_header(header, check)
            if header.missing_bytes and wrong:
                raise VideoDecodeError(check.path, wrong)
            check = self._decode(check, heartbeat)
        except VideoDecodeError as error:
            return undecodable(check, header, error.reason)
        if check.damaged:
            return check.flawed("damaged", CONCEALED)
        return check.flawed("wrong header", wrong) if wrong else check

    def _decode(self, check: Check, heartbeat: Callable[[], None]) -> Check:
        """Decode three frames, or all."""
        num_frames = check.num_frames or 0
        with open_video(check.path, "pyav", index_cache=self.index_cache) as reader:
            reader.get_frames(sorted({0, num_frames // 2, num_frames - 1}))
            check = replace(check, damaged=reader.damaged)
        heartbeat()
        if not self.is_full:
            return check
        decoded, is_damaged = decode_all(check.path, heartbeat)
        if decoded < num_frames:
            raise VideoDecodeError(check.path, f"only {decoded} of {num_frames} frames decode")
        return replace(check, damaged=check.damaged or is_damaged)


@dataclass(frozen=True)
class Header:
    """Header of a container.

    Attributes:
        num_frames: number of frames; 0 if unknown.
        duration_seconds: duration; None if unknown.
        missing_bytes: bytes that are missing at the end of the file.
    """

    num_frames: int
    duration_seconds: float | None
    missing_bytes: int


def inspect(path: str, backend: Backend = "pyav", *, is_full: bool = False) -> tuple[Check, Header | None]:
    """Return the check of a video before its packets are read, and its header; None if it cannot be decoded."""
    check = Check(path, *size_and_time(path), backend, is_full)
    num_missing = 0
    try:
        if os.path.isfile(path):
            num_missing = missing_bytes(Path(path))
        with OpenStream(Source(path)) as opened:
            header = _read_header(opened, num_missing)
    except VideoDecodeError as error:
        kind = _KIND_OF_REASON.get(error.reason)
        if kind is not None:
            return check.failed(kind, error.reason), None
        if num_missing:
            return check.failed("truncated", f"{error.reason}; its last {num_missing} bytes are missing"), None
        return check.failed("other", error.reason), None
    except OSError as error:
        return check.failed("other", f"cannot be read ({error.strerror or error})"), None
    return check, header


def undecodable(check: Check, header: Header, reason: str) -> Check:
    """Return the check of a video with missing frames."""
    if not header.missing_bytes:
        return check.failed("damaged", reason)
    missing = "" if "truncated" in reason else f"; its last {header.missing_bytes} bytes are missing"
    return check.failed("truncated", reason + missing)


def _read_header(opened: OpenStream, num_missing: int) -> Header:
    container, stream = opened.container, opened.stream
    if container.format.name.split(",")[0] not in _STATES_LENGTH:
        return Header(0, None, num_missing)
    duration = None
    if stream.duration and opened.time_base:
        duration = float(stream.duration * opened.time_base)
    elif container.duration and len(container.streams) == 1:
        duration = (container.duration - max(container.start_time or 0, 0)) / av.time_base
    return Header(stream.frames, duration, num_missing)


def hash_file(path: str, heartbeat: Callable[[], None]) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            heartbeat()
    return digest.hexdigest()


def decode_all(path: str, heartbeat: Callable[[], None]) -> tuple[int, bool]:
    """Return the number of frames of a sequential decode, and whether errors were concealed."""
    for conceal in (False, True):
        num_frames = 0
        try:
            with OpenStream(Source(path), conceal=conceal) as opened:
                for _ in opened.frames(opened.packets()):
                    num_frames += 1
                    if num_frames % _FRAMES_PER_SIGN == 0:
                        heartbeat()
            return num_frames, conceal
        except DecodeFailed as error:
            reason = f"decoding ends after {num_frames} frames ({error})"
    raise VideoDecodeError(path, reason)


def _wrong_header(header: Header, check: Check) -> str:
    """Describe how the header contradicts the frames; empty if it does not."""
    num_frames, duration = check.num_frames or 0, check.duration_seconds or 0.0
    if header.num_frames and header.num_frames != num_frames:
        stored = _count_packets(check.path)  # edit lists hide frames that the header counts
        if stored != header.num_frames:
            return f"its header states {header.num_frames} frames, there are {stored}"
    elif not header.num_frames and header.duration_seconds is not None:
        declared = header.duration_seconds
        # headers are inexact, but if the end is missing every frame counts
        tolerance = 1.5 / (check.fps or 1) if header.missing_bytes else max(0.5, 0.1 * duration)
        if abs(declared - duration) > tolerance:
            return f"its header states {declared:.2f} s, there are {duration:.2f} s"
    return ""


def _count_packets(path: str) -> int:
    with OpenStream(Source(path)) as opened:
        return sum(packet.size > 0 for packet in opened.packets())


# required boxes; others are padding or remains of editors
_MP4_NEEDED = {b"mdat", b"moov", b"moof"}
_SEGMENT = b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> int:
    """Return the bytes missing at the end of an MP4, Matroska or AVI file; 0 if it is complete or unknown."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0)
        kind = container_by_signature(head)
        if kind == "mov":
            end = _mp4_end(file, size)
        elif kind == "matroska":
            end = _matroska_end(file)
        elif kind == "avi":
            end = 8 + int.from_bytes(head[4:8], "little")
        else:
            end = 0
    return max(0, end - size)


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Return the end of the last required box."""
    start = end = 0
    while start < size:
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            break
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0 is to the end of the file
            break
        start += length
        if header[4:8] in _MP4_NEEDED:
            end = start
    return end


def _matroska_end(file: BinaryIO) -> int:
    """Return the end of the segment; 0 if its length is unknown, as in a stream that was not closed."""
    file.seek(4)
    length = _ebml_number(file)
    if length is None:
        return 0
    file.seek(length, 1)
    if file.read(4) != _SEGMENT:
        return 0
    length = _ebml_number(file)
    return 0 if length is None else file.tell() + length


def _ebml_number(file: BinaryIO) -> int | None:
    """Read a number whose leading zero bits give its bytes; None if it is all ones or missing."""
    first = file.read(1)
    if not first or first == b"\0":
        return None
    num_more = 8 - first[0].bit_length()
    rest = file.read(num_more)
    bits = 7 * (num_more + 1)
    number = int.from_bytes(first + rest, "big") & ((1 << bits) - 1)
    return None if len(rest) < num_more or number == (1 << bits) - 1 else number
