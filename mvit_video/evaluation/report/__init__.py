"""The page of a test."""

from mvit_video.evaluation.report.page import write_report

__all__ = ["write_report"]
