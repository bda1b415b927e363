"""Videos in tar files: a data set in a few large files, on a disk or behind a URL."""

from mvit_video.data.shards.archive import TarArchive
from mvit_video.data.shards.loading import load_shards
from mvit_video.data.shards.packing import PackFailure, PackReport, PackSettings, pack

__all__ = ["PackFailure", "PackReport", "PackSettings", "TarArchive", "load_shards", "pack"]
