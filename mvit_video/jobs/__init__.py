"""Long jobs over many files: worker processes that may crash or hang, atomic files, and results that survive a kill."""

from mvit_video.jobs.driver import JobStopped, Workers, run_job
from mvit_video.jobs.files import (
    atomic_write,
    fitting_name,
    is_unfinished,
    lock,
    move_into_place,
    remove_unfinished,
    require_writable,
    scratch_folder,
    write_rows,
)
from mvit_video.jobs.folder import Folder, Ledger
from mvit_video.jobs.pool import Heartbeat, WorkFailure, num_cores, run_in_processes

__all__ = [
    "Folder",
    "Heartbeat",
    "JobStopped",
    "Ledger",
    "WorkFailure",
    "Workers",
    "atomic_write",
    "fitting_name",
    "is_unfinished",
    "lock",
    "move_into_place",
    "num_cores",
    "remove_unfinished",
    "require_writable",
    "run_in_processes",
    "run_job",
    "scratch_folder",
    "write_rows",
]
