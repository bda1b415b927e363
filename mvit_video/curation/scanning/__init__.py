"""Scan of a data set: which videos can be read, and their properties."""

from mvit_video.curation.scanning.page import write_page
from mvit_video.curation.scanning.scanner import ScanSettings, scan_videos, write_failures, write_manifest
from mvit_video.curation.scanning.summary import Summary, summarise
from mvit_video.curation.scanning.terminal import print_summary

__all__ = [
    "ScanSettings",
    "Summary",
    "print_summary",
    "scan_videos",
    "summarise",
    "write_failures",
    "write_manifest",
    "write_page",
]
