"""Videos in tar files, on a disk or at a URL."""

from mvit_video.data.shards.archive import TarArchive, read_shards

__all__ = ["TarArchive", "read_shards"]
