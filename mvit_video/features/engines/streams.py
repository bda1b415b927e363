"""Decoding processes that send a video chunk by chunk, at the pace of the consumer.

`jobs.run_in_processes` gives one result per item; a long video is too large for one.
"""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from mvit_video.features.decoding import Chunk, ReadingRule, read_chunks
from mvit_video.features.videos import Video
from mvit_video.jobs import WorkFailure
from mvit_video.jobs.hangs import wait_unless_hung
from mvit_video.jobs.pool import Child, cause_of_end
from mvit_video.types import VideoDecodeError

_READY = "ready"
_SECONDS_TO_START = 300.0
_SECONDS_TO_END = 10.0
_SECONDS_PER_CHECK = 0.2
_CHUNKS_WAITING = 2


class Whole(NamedTuple):
    """End of a video."""


class Piece(NamedTuple):
    """A chunk of a video, its end, or its failure.

    Attributes:
        number: number of the video; pieces of several videos alternate.
    """

    number: int
    video: Video
    content: Chunk | Whole | WorkFailure


def read_in_processes(
    videos: Iterable[Video], rule: ReadingRule, num_workers: int, limit_seconds: float
) -> Generator[Piece, None, None]:
    """Yield the chunks of videos, in order within each, as they become ready.

    A process that dies or misses its heartbeat is replaced, and its video fails. Processes end with this one.

    Args:
        limit_seconds: CPU time between two chunks, and wall-clock time without CPU time, after which a process counts
            as hung.

    Raises:
        RuntimeError: a process cannot start.
    """
    numbered, lock = enumerate(videos), threading.Lock()

    def draw() -> tuple[int, Video] | None:
        with lock:
            return next(numbered, None)

    pieces: queue.Queue[Piece | BaseException | None] = queue.Queue(_CHUNKS_WAITING)
    readers = [_Reader(draw, rule, limit_seconds, pieces) for _ in range(num_workers)]
    for reader in readers:
        reader.start()
    try:
        running = num_workers
        while running:
            piece = pieces.get()
            if isinstance(piece, BaseException):
                raise piece
            if piece is None:
                running -= 1
            else:
                yield piece
    finally:
        for reader in readers:
            reader.end()
        for reader in readers:
            reader.join(_SECONDS_TO_END)


class _Reader(threading.Thread):
    """Thread that sends videos to a process and receives their chunks."""

    def __init__(
        self,
        draw: Callable[[], tuple[int, Video] | None],
        rule: ReadingRule,
        limit_seconds: float,
        pieces: queue.Queue[Piece | BaseException | None],
    ) -> None:
        super().__init__(daemon=True)
        self._draw, self._rule, self._limit_seconds, self._pieces = draw, rule, limit_seconds, pieces
        self._is_ending = threading.Event()
        self._child: Child | None = None

    def run(self) -> None:
        try:
            while not self._is_ending.is_set() and (drawn := self._draw()) is not None:
                for content in self._contents(drawn[1]):
                    self._put(Piece(*drawn, content))
            self._put(None)
        except BaseException as error:  # the thread that takes the pieces raises it
            self._put(error)
        finally:
            self._stop()

    def end(self) -> None:
        """End the process, and with it the thread."""
        self._is_ending.set()
        if (child := self._child) is not None:
            child.kill()

    def _contents(self, video: Video) -> Iterator[Chunk | Whole | WorkFailure]:
        child = self._start() if self._child is None else self._child
        with suppress(OSError):  # it has just died, as reading will show
            child.connection.send(video)
        while True:
            try:
                if not wait_unless_hung(child.connection.poll, child.watch(self._limit_seconds)):
                    self._stop(grace_seconds=0)
                    yield WorkFailure("time-out", f"no heartbeat for {self._limit_seconds:g} s")
                    return
                content = child.connection.recv()
            except (EOFError, OSError):
                code = self._stop()
                if not self._is_ending.is_set():
                    yield WorkFailure("crash", f"its process ended ({cause_of_end(code)})")
                return
            yield content
            if not isinstance(content, Chunk):
                return

    def _put(self, piece: Piece | BaseException | None) -> None:
        """Wait until there is room or the consumer has ended."""
        while not self._is_ending.is_set():
            with suppress(queue.Full):
                self._pieces.put(piece, timeout=_SECONDS_PER_CHECK)
                return

    def _start(self) -> Child:
        self._child = child = Child(_serve, self._rule, preload=__name__)
        if self._is_ending.is_set():  # while it started, when `end` saw none yet
            child.kill()
        with suppress(EOFError, OSError):
            is_heard = wait_unless_hung(child.connection.poll, child.watch(_SECONDS_TO_START))
            if is_heard and child.connection.recv() == _READY:
                return child
        raise RuntimeError(f"a decoding process ended before it could start ({cause_of_end(self._stop())})")

    def _stop(self, grace_seconds: float = _SECONDS_TO_END) -> int:
        """Wait for the process, kill it after `grace_seconds`, and return its exit code."""
        child, self._child = self._child, None
        return 0 if child is None else child.end(grace_seconds)


def _serve(connection: Connection, rule: ReadingRule) -> None:
    """Read videos; send the chunks of each, and then `Whole` or `WorkFailure`."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it reaches the whole group; the parent decides
    torch.set_num_threads(1)
    connection.send(_READY)
    with suppress(EOFError):  # the parent has no more videos
        while True:
            video: Video = connection.recv()
            try:
                for chunk in read_chunks(video, rule):
                    connection.send(chunk)
                connection.send(Whole())
            except VideoDecodeError as error:
                connection.send(WorkFailure("error", error.reason))
            except Exception as error:  # one video must not stop the others
                connection.send(WorkFailure("error", f"{type(error).__name__}: {error}"))
