"""Settings of a robustness run, and the tests of one model in each of them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mvit_video.evaluation.multiview import MultiViewEvaluation
from mvit_video.jobs.files import read_json_object, write_json_object
from mvit_video.models.net import multiply_adds
from mvit_video.runs.folder import versions
from mvit_video.runs.results import ROBUSTNESS_KEY
from mvit_video.types import NUM_SEVERITIES, ConfigError, Corruption, CorruptionKind, FrameOrder

Study = Literal["views", "frame_order", "corruptions"]
STUDIES: tuple[Study, ...] = get_args(Study)
SEVERITIES = tuple(range(1, NUM_SEVERITIES + 1))
# settings of the data without an effect on a test
_IMMATERIAL = {
    "train", "augment", "val_views", "batch_size", "test_batch_size", "num_workers", "index_cache", "max_failure_rate",
}  # fmt: skip


@dataclass(frozen=True)
class RobustnessSetting:
    """A change of the frames of a test; every study includes the plain test.

    Attributes:
        study: None for the plain test.
    """

    study: Study | None = None
    frame_order: FrameOrder = "forward"
    corruption: Corruption | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is changed."""
        return self.study is None

    @property
    def name(self) -> str:
        """Name within the study."""
        return self.frame_order if self.corruption is None else self.corruption.kind

    @property
    def severity(self) -> int | None:
        """Severity of the corruption, None without one."""
        return None if self.corruption is None else self.corruption.severity

    def __str__(self) -> str:
        if self.is_plain:
            return "plain"
        return f"frames {self.frame_order}" if self.corruption is None else str(self.corruption)

    def folder(self, run: Path) -> Path:
        """Return the folder of the predictions; the run folder for the plain test."""
        return run if self.is_plain else self.mark(run).parent

    def mark(self, run: Path) -> Path:
        """Return the file that marks the setting as tested."""
        return run / "robustness" / str(self).replace(" ", "_") / "setting.json"


PLAIN = RobustnessSetting()


def settings_of(studies: Sequence[Study], severities: Sequence[int] = SEVERITIES) -> list[RobustnessSetting]:
    """Return the settings to test, the plain one first.

    Raises:
        ConfigError: a study or a severity is unknown or repeated.
    """
    for key, given, known in (("studies", studies, STUDIES), ("severities", severities, SEVERITIES)):
        if not given or len(set(given)) < len(given) or not set(given) <= set(known):
            raise ConfigError(
                f"--{key} takes one or more of {', '.join(map(str, known))}, each once, got {list(given)}"
            )
    settings = [PLAIN]
    if "frame_order" in studies:
        settings += [RobustnessSetting("frame_order", order) for order in get_args(FrameOrder) if order != "forward"]
    if "corruptions" in studies:
        kinds = get_args(CorruptionKind)
        settings += [
            RobustnessSetting("corruptions", corruption=Corruption(kind, severity))
            for kind in kinds
            for severity in sorted(severities)
        ]
    return settings


def robustness_key(config: dict[str, Any], checkpoint: Path | None) -> str:
    """Return a digest of the weights, the videos and the settings of a test.

    Args:
        config: `model`, `data` and `trainer` of a run, as in its `config.yaml`.
        checkpoint: file or folder of the weights; None where `model` names them.
    """
    trainer = config.get("trainer") or {}
    parts = {
        "net": {name: config["model"].get(name) for name in ("net", "multi_label", "init_from")},
        "data": _material(config["data"]),
        "trainer": {name: trainer.get(name) for name in ("precision", "limit_test_batches", "callbacks")},
        "seed": config.get("seed_everything"),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    if checkpoint is not None:
        for file in sorted(checkpoint.rglob("*")) if checkpoint.is_dir() else [checkpoint]:
            if file.is_file():
                with file.open("rb") as content:
                    while block := content.read(2**22):
                        digest.update(block)
    return digest.hexdigest()


def _material(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the data that affect a test."""
    kept = {name: value for name, value in data.items() if name not in _IMMATERIAL}
    return {name: _material(value) if name == "loading" else value for name, value in kept.items()}


def find_robustness_run(root: Path, key: str) -> Path | None:
    """Return the newest run folder under `root` with a robustness run of this key."""
    found = [record for run in versions(root) if _read(record := run / ROBUSTNESS_KEY).get("key") == key]
    return max(found, key=lambda record: record.stat().st_mtime_ns).parent if found else None


def write_robustness_record(folder: Path, key: str) -> None:
    """Mark a run folder, so that `find_robustness_run` finds it."""
    write_json_object(folder / ROBUSTNESS_KEY, {"key": key})


def run_settings(
    trainer: Any, task: Any, data: Any, settings: Sequence[RobustnessSetting], folder: Path, ckpt_path: str | None
) -> float:
    """Test every setting that `folder` does not have yet, and return the giga multiply-adds of one view.

    Args:
        trainer: `lightning.Trainer` with a `MultiViewEvaluation` for the plain test; all settings use its ensemble.

    Raises:
        ConfigError: the data settings already change frames.
    """
    rule = data.test_views
    views = rule.views
    for key, value, plain in (("frame_order", views.frame_order, "forward"), ("corruption", views.corruption, None)):
        if value != plain:
            raise ConfigError(f"data.views.{key}={value}: a robustness run changes it for each setting; remove the key")
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
        ckpt_path = None  # the weights are loaded
        seconds = time.perf_counter() - start
        if trainer.is_global_zero:
            write_json_object(setting.mark(folder), {"seconds": seconds})
            print(f"setting {number} of {len(missing)}: {setting}, {seconds:.1f} s", flush=True)
    trainer.callbacks, data.test_views = callbacks, rule
    return gigaflops


def seconds_of(setting: RobustnessSetting, folder: Path) -> float | None:
    """Return how long the test took; None where it has not finished."""
    return _read(setting.mark(folder)).get("seconds")


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json_object(file)
    except (OSError, ValueError):
        return {}
