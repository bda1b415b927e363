"""One test after the other, with one model; what was tested before is not tested again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mvit_video.evaluation.multiview import MultiViewEvaluation
from mvit_video.evaluation.robustness.settings import RobustnessSetting
from mvit_video.jobs.json_files import read_json_object, write_json_object
from mvit_video.models.net import multiply_adds
from mvit_video.runs.folder import versions
from mvit_video.types import ConfigError

RECORD = "robustness.json"
# what changes nothing of what is tested
_IMMATERIAL = {
    "train", "augment", "val_views", "batch_size", "test_batch_size", "num_workers", "index_cache", "max_failure_rate",
}  # fmt: skip


def robustness_key(config: dict[str, Any], checkpoint: Path | None) -> str:
    """The same for the same weights, videos and way of testing.

    Args:
        config: `model`, `data` and `trainer` of a run, as in its `config.yaml`.
        checkpoint: file of the weights, or a folder of them; None where `model` says what they are.
    """
    trainer = config.get("trainer") or {}
    told = {
        "net": {name: config["model"].get(name) for name in ("net", "multi_label", "init_from")},
        "data": _material(config["data"]),
        "trainer": {name: trainer.get(name) for name in ("precision", "limit_test_batches", "callbacks")},
        "seed": config.get("seed_everything"),
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    if checkpoint is not None:
        for file in sorted(checkpoint.rglob("*")) if checkpoint.is_dir() else [checkpoint]:
            if file.is_file():
                with file.open("rb") as content:
                    while block := content.read(2**22):
                        digest.update(block)
    return digest.hexdigest()


def _material(data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the data without those that change nothing of what is tested."""
    told = {name: value for name, value in data.items() if name not in _IMMATERIAL}
    return {name: _material(value) if name == "loading" else value for name, value in told.items()}


def find_robustness_run(root: Path, key: str) -> Path | None:
    """The newest run folder under `root` that holds a robustness run of this key."""
    found = [record for run in versions(root) if _read(record := run / RECORD).get("key") == key]
    return max(found, key=lambda record: record.stat().st_mtime_ns).parent if found else None


def write_robustness_record(folder: Path, key: str) -> None:
    """Makes a run folder one that `find_robustness_run` finds."""
    write_json_object(folder / RECORD, {"key": key})


def run_settings(
    trainer: Any, task: Any, data: Any, settings: Sequence[RobustnessSetting], folder: Path, ckpt_path: str | None
) -> float:
    """Tests every setting that `folder` does not hold yet; returns the giga multiply-adds of one view.

    Args:
        trainer: a `lightning.Trainer` whose callbacks have a `MultiViewEvaluation`, which does the plain test; its
            ensemble is that of every setting.

    Raises:
        ConfigError: the data settings change frames already.
    """
    rule = data.test_views
    views = rule.views
    for key, value, plain in (("frame_order", views.frame_order, "forward"), ("corruption", views.corruption, None)):
        if value != plain:
            raise ConfigError(f"data.views.{key}={value}: robustness sets it for each setting; remove it")
    gigaflops = multiply_adds(task.net) / 1e9
    callbacks = trainer.callbacks
    evaluation = next(one for one in callbacks if isinstance(one, MultiViewEvaluation))
    evaluation.folder, evaluation.with_views = folder, True
    others = [one for one in callbacks if one is not evaluation]
    missing = [setting for setting in settings if not setting.mark(folder).exists()]
    for number, setting in enumerate(missing, 1):
        changed = replace(views, frame_order=setting.frame_order, corruption=setting.corruption)
        data.test_views = replace(rule, views=changed)
        writer = MultiViewEvaluation(
            setting.folder(folder), evaluation.ensemble, with_views=False, write=["predictions"], verbose=False
        )
        trainer.callbacks = callbacks if setting.is_plain else [*others, writer]
        start = time.perf_counter()
        trainer.test(task, datamodule=data, ckpt_path=ckpt_path, verbose=False)
        ckpt_path = None  # the weights are there
        seconds = time.perf_counter() - start
        if trainer.is_global_zero:
            write_json_object(setting.mark(folder), {"seconds": seconds})
            print(f"setting {number} of {len(missing)}: {setting}, {seconds:.1f} s", flush=True)
    trainer.callbacks, data.test_views = callbacks, rule
    return gigaflops


def seconds_of(setting: RobustnessSetting, folder: Path) -> float | None:
    """How long the test took; None where it was not finished."""
    return _read(setting.mark(folder)).get("seconds")


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json_object(file)
    except (OSError, ValueError):
        return {}
