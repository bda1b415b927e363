"""The page of a test: what it found out, for people to look at."""

from mvit_video.evaluation.report.page import write_report

__all__ = ["write_report"]
