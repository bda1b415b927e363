"""Reads videos that may be bad, in a process that may die of it: jobs as JSON on stdin, a line of JSON for each answer.

`{"mode": "main" | "fork" | "spawn", "jobs": [{"path", "backend", "strict", "as_bytes"}]}`: in this process, or in a
DataLoader worker. What stops without an answer was killed by, or hangs in, the first job that is not answered.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset

from mvit_video.data.readers import open_video
from mvit_video.types import VideoDecodeError

Job = dict[str, Any]


def attempt(job: Job) -> dict[str, Any]:
    """Open a video and read its first, middle and last frame; an error comes back as itself, to cross processes.

    The answer's `seconds` are CPU time, which does not depend on what else the machine does.
    """
    start = time.process_time()
    try:
        source = Path(job["path"]).read_bytes() if job.get("as_bytes") else job["path"]
        with open_video(source, job["backend"], strict=job.get("strict", False)) as reader:
            indices = [0, reader.num_frames // 2, reader.num_frames - 1]
            frames = reader.get_frames(indices)
            answer = {
                "indices": indices,
                "num_frames": reader.num_frames,
                "frames": [hashlib.md5(frame.numpy().tobytes()).hexdigest() for frame in frames],
                "damaged": reader.damaged,
            }
    except Exception as error:
        answer = {"error": error}
    return {**job, **answer, "seconds": time.process_time() - start}


class Attempts(Dataset[dict[str, Any]]):
    """Each item is one job done."""

    def __init__(self, jobs: list[Job]) -> None:
        self.jobs = jobs

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return attempt(self.jobs[i])


def answers(mode: str, jobs: list[Job]) -> Iterator[dict[str, Any]]:
    """In the order of the jobs."""
    if mode == "main":
        return map(attempt, jobs)
    return iter(DataLoader(Attempts(jobs), batch_size=None, num_workers=1, multiprocessing_context=mode))


def as_json(answer: dict[str, Any]) -> str:
    """One line; an error as its type, its text and, when it is ours, its path and reason."""
    error = answer.pop("error", None)
    if error is not None:
        answer["error"] = {"type": type(error).__name__, "text": str(error)}
        if isinstance(error, VideoDecodeError):
            answer["error"] |= {"path": error.path, "reason": error.reason}
    return json.dumps(answer)


def main() -> None:
    request = json.load(sys.stdin)
    for answer in answers(request["mode"], request["jobs"]):
        print(as_json(answer), flush=True)


if __name__ == "__main__":
    main()
