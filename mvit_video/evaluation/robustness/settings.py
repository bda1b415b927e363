"""Settings that a robustness run tests, and their folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mvit_video.types import NUM_SEVERITIES, ConfigError, Corruption, CorruptionKind, FrameOrder

Study = Literal["views", "frame_order", "corruptions"]
STUDIES: tuple[Study, ...] = get_args(Study)
SEVERITIES = tuple(range(1, NUM_SEVERITIES + 1))


@dataclass(frozen=True)
class RobustnessSetting:
    """A change of the frames of a test; the plain test, which changes nothing, is part of every study.

    Attributes:
        study: which it belongs to.
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
        """Severity of the corruption, if there is one."""
        return None if self.corruption is None else self.corruption.severity

    def __str__(self) -> str:
        if self.is_plain:
            return "plain"
        return f"frames {self.frame_order}" if self.corruption is None else str(self.corruption)

    def folder(self, run: Path) -> Path:
        """Return the folder of its predictions; that of the plain test is the run folder."""
        return run if self.is_plain else self.mark(run).parent

    def mark(self, run: Path) -> Path:
        """Return the file that marks the setting as tested."""
        return run / "robustness" / str(self).replace(" ", "_") / "setting.json"


PLAIN = RobustnessSetting()


def settings_of(studies: Sequence[Study], severities: Sequence[int] = SEVERITIES) -> list[RobustnessSetting]:
    """Return the settings to test, the plain one first.

    Raises:
        ConfigError: a study or a severity is named twice, or there is no such severity.
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
