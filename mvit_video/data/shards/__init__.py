"""Videos in tar files: a data set in a few large files, on a disk or behind a URL."""

from mvit_video.data.shards.archive import TarArchive
from mvit_video.data.shards.loading import read_shards

__all__ = ["TarArchive", "read_shards"]
