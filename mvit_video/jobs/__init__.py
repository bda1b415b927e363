"""Files that long work writes: complete or absent, whatever happens to the process or the machine."""

from mvit_video.jobs.csv_files import write_rows
from mvit_video.jobs.files import (
    atomic_write,
    fitting_name,
    is_unfinished,
    lock,
    move_into_place,
    remove_unfinished,
    require_writable,
    scratch_folder,
)

__all__ = [
    "atomic_write",
    "fitting_name",
    "is_unfinished",
    "lock",
    "move_into_place",
    "remove_unfinished",
    "require_writable",
    "scratch_folder",
    "write_rows",
]
