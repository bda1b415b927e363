"""Which videos there are and what they show, read from the files and folders that say it."""

from mvit_video.data.annotations.reading import load_annotations, may_exist

__all__ = ["load_annotations", "may_exist"]
