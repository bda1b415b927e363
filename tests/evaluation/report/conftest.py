"""Runs with known scores, and a browser without a window."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console

from mvit_video.data.annotations import VideoTable
from mvit_video.data.clips.views import UniformViews
from mvit_video.evaluation.predictions import write_predictions, write_record
from mvit_video.evaluation.report import write_report
from mvit_video.evaluation.result import Decoding, Evaluation, Setting
from mvit_video.evaluation.scores import VideoViews
from mvit_video.types import ClipSpec, ViewSpec

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_JSON = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes what a test with the given probabilities leaves; a label of -1 is unknown."""

    def make(
        probabilities: Any,
        labels: Sequence[Any],
        names: Sequence[str] | None = None,
        paths: Sequence[str] | None = None,
        root: Path | None = None,
        failures: dict[int, str] | None = None,
        decodings: dict[int, Decoding] | None = None,
        spans: Any = None,
        views: ViewSpec | None = None,
    ) -> Path:
        failures, views = failures or {}, views or ViewSpec(2)
        folder = tmp_path_factory.mktemp("run")
        is_multilabel = any(isinstance(label, list) for label in labels)
        table = VideoTable(
            paths=pa.array(paths or [f"videos/{i}.mp4" for i in range(len(labels))]),
            labels=np.full(len(labels), -1) if is_multilabel else np.array(labels),
            class_names=None if names is None else tuple(names),
            root=root or folder / "nowhere",
            multi_labels=pa.array(labels, pa.list_(pa.int64())) if is_multilabel else None,
            spans=None if spans is None else np.array(spans, dtype=float),
        )
        video = torch.tensor([row for row in range(len(labels)) if row not in failures], dtype=torch.long)
        scores = torch.as_tensor(np.asarray(probabilities), dtype=torch.float32)[video]
        setting = Setting(UniformViews(ClipSpec(), 224, views), "max" if is_multilabel else "sum")
        kept = VideoViews(video, scores[:, None].expand(-1, views.num_views, -1))
        evaluation = Evaluation(table, setting, kept, failures, decodings=decodings or {})
        write_predictions(folder / "predictions.parquet", evaluation, with_views=False)
        write_record(folder / "metrics.json", evaluation.record())
        (folder / "config.yaml").write_text("seed_everything: 3\n")
        about = {"command": "mvit-video test", "seed": 3, "checkpoint": "best.ckpt", "versions": {"torch": "2.x"}}
        (folder / "run.json").write_text(json.dumps(about))
        (folder / "decoding.csv").write_text("split,backend,reason,videos\ntest,decord,as asked,12\n")
        return folder

    return make


@pytest.fixture(scope="session")
def make_page(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Writes the page of a run and returns its text."""

    def make(folder: Path) -> str:
        page = tmp_path_factory.mktemp("page") / "report.html"
        write_report(folder, page, Console(quiet=True))
        return page.read_text("utf-8")

    return make


@pytest.fixture(scope="session")
def data_of() -> Callable[[str], dict[str, Any]]:
    """What the scripts of a page are given."""

    def find(page: str) -> dict[str, Any]:
        match = _JSON.search(page)
        assert match is not None
        return json.loads(match[1])

    return find


class Seen(NamedTuple):
    """What a script in the page returned, and what the browser complained of."""

    answer: Any
    complaints: list[str]


@pytest.fixture(scope="session")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Seen]:
    """Opens a page without a window, runs a script that returns a value, and says what it returned."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium")

    def run(page: str, script: str, width: int = 1280) -> Seen:
        folder = tmp_path_factory.mktemp("browser")
        file = folder / "opened.html"
        ask = (
            "<script>addEventListener('load', () => setTimeout(async () => { let answer; "
            f"try {{ answer = await (async () => {{ {script} }})(); }} "
            "catch (error) { answer = `failed: ${error}`; } "
            "const told = document.createElement('pre'); told.id = 'answer'; "
            "told.textContent = JSON.stringify(answer ?? null); "
            "document.documentElement.replaceChildren(told); }, 200));"
            "</script></body>"
        )
        file.write_text(page.replace("</body>", ask), "utf-8")
        for budget in (8, 32, 128, 512):  # seconds; they may run out before a busy machine has decoded the pictures
            done = subprocess.run(
                [
                    str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                    f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--enable-logging=stderr",
                    f"--virtual-time-budget={1000 * budget}", "--dump-dom", file.as_uri(),
                ],
                capture_output=True, text=True, timeout=600, check=True,
            )  # fmt: skip
            if told := re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL):
                complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
                return Seen(json.loads(unescape(told[1])), complaints)
        raise AssertionError(f"the script did not answer: {done.stderr[-2000:]}")

    return run
