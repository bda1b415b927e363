"""Pool of actors of a Ray cluster, which replaces dead actors."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

from mvit_video.jobs import WorkFailure
from mvit_video.types import MVitVideoError

Item = TypeVar("Item")
Result = TypeVar("Result")

VERSION = version("mvit-video")
# one runs and one waits, so that a worker is never idle
_TASKS_PER_WORKER = 2
_SECONDS_TO_START = 300.0
_SECONDS_PER_CHECK = 1.0
_DEATHS_OF_AN_ITEM = 3
_DEATHS_AT_START = 3
_GIVEN_UP = f"its process ended {_DEATHS_OF_AN_ITEM} times: it crashed, ran out of memory, or gave no heartbeat"


class Start(NamedTuple):
    """First message of an actor."""

    node: str
    address: str
    version: str
    key: str
    failure: str


class _Task(NamedTuple):
    number: int
    item: Any


@dataclass
class _Worker:
    """An actor and its tasks in their order."""

    handle: Any
    node: str | None = None
    tasks: dict[int, _Task] = field(default_factory=dict)


class Pool(Generic[Item, Result]):
    """Actors with the methods `begin() -> Start` and `work(item)`.

    Other actors do the tasks of a lost machine. An item at which actors die several times fails.

    Args:
        ray: the module, connected to a cluster.
        start: makes an actor.
        key: key of the results that the actors must have.
    """

    def __init__(self, ray: Any, start: Callable[[], Any], key: str, num_workers: int) -> None:
        self._ray, self._start_actor, self._key, self._num_workers = ray, start, key, num_workers
        self._numbers = count()
        self._workers: dict[int, _Worker] = {}
        self._answers: SimpleQueue[tuple[int, int | None, Future[Any]]] = SimpleQueue()
        self._again: deque[_Task] = deque()
        self._deaths: dict[int, int] = {}
        self._deaths_at_start = 0
        self._is_exhausted = False
        self._without_worker_since = time.monotonic()

    def outcomes(self, items: Iterable[Item]) -> Iterator[tuple[Item, Result | WorkFailure]]:
        """Yield the result of `work` on each item, or its failure, as they become ready."""
        new = map(_Task, count(), items)
        for _ in range(self._num_workers):
            self._start()
        while not self._is_finished:
            worker_number, task_number, answer = self._next_answer()
            worker = self._workers.get(worker_number)
            if worker is None:
                continue  # it was lost, and others have its tasks
            try:
                value = answer.result()
            except self._ray.exceptions.RayError as error:
                given_up = self._lose(worker_number, error)
                if given_up is not None:
                    yield given_up
            else:
                if task_number is None:
                    self._welcome(worker, Start(*value))
                else:
                    yield worker.tasks.pop(task_number).item, value
            for number in [worker_number] if worker_number in self._workers and not self._again else self._workers:
                self._give(number, new)

    @property
    def _is_finished(self) -> bool:
        return self._is_exhausted and not self._again and not any(worker.tasks for worker in self._workers.values())

    def end(self) -> None:
        """End the actors."""
        for worker in self._workers.values():
            self._ray.kill(worker.handle)
        self._workers.clear()

    def _start(self) -> None:
        number, handle = next(self._numbers), self._start_actor()
        self._workers[number] = _Worker(handle)
        self._listen(number, None, handle.begin.remote())

    def _listen(self, worker: int, task: int | None, answer: Any) -> None:
        answer.future().add_done_callback(lambda future: self._answers.put((worker, task, future)))

    def _next_answer(self) -> tuple[int, int | None, Future[Any]]:
        while True:
            try:
                return self._answers.get(timeout=_SECONDS_PER_CHECK)
            except Empty:
                if any(worker.node for worker in self._workers.values()):
                    self._without_worker_since = time.monotonic()
                elif time.monotonic() - self._without_worker_since > _SECONDS_TO_START:
                    free, cpus = (
                        resources().get("CPU", 0)
                        for resources in (self._ray.available_resources, self._ray.cluster_resources)
                    )
                    raise MVitVideoError(
                        f"none of {self._num_workers} workers could start in {_SECONDS_TO_START:.0f} s: {free:g} of "
                        f"the cluster's {cpus:g} CPUs are free, a worker needs 1; the same command resumes"
                    ) from None

    def _welcome(self, worker: _Worker, start: Start) -> None:
        """Accept an actor that has started.

        Raises:
            MVitVideoError: it cannot work, or has another version or key.
        """
        if start.failure:
            raise MVitVideoError(f"machine {start.address}: {start.failure}")
        if (start.version, start.key) != (VERSION, self._key):
            raise MVitVideoError(
                f"machine {start.address} has mvit_video {start.version} and key {start.key[:12]}, this one "
                f"{VERSION} and {self._key[:12]}; give all machines the same package and the same checkpoint"
            )
        worker.node = start.node
        self._deaths_at_start = 0

    def _give(self, number: int, new: Iterator[_Task]) -> None:
        """Give a worker as many tasks as it takes."""
        worker = self._workers[number]
        while worker.node and len(worker.tasks) < _TASKS_PER_WORKER:
            task = self._again.popleft() if self._again else next(new, None)
            if task is None:
                self._is_exhausted = True
                return
            worker.tasks[task.number] = task
            self._listen(number, task.number, worker.handle.work.remote(task.item))

    def _lose(self, number: int, error: Exception) -> tuple[Item, WorkFailure] | None:
        """Replace a worker that died; return its item if too many workers died at it.

        Raises:
            MVitVideoError: workers die before they can start.
        """
        worker = self._workers.pop(number)
        self._ray.kill(worker.handle)
        self._start()
        has_machine = any(node["NodeID"] == worker.node and node["Alive"] for node in self._ray.nodes())
        if worker.node is None:
            self._deaths_at_start += 1
            if self._deaths_at_start >= _DEATHS_AT_START:
                raise MVitVideoError(f"workers die before they can start: {str(error).partition(chr(10))[0]}")
        tasks = list(worker.tasks.values())
        given_up = None
        if tasks and has_machine:
            first = tasks[0]
            self._deaths[first.number] = self._deaths.get(first.number, 0) + 1
            if self._deaths[first.number] >= _DEATHS_OF_AN_ITEM:
                del tasks[0]
                given_up = first.item, WorkFailure("crash", _GIVEN_UP)
        self._again.extend(tasks)
        return given_up
