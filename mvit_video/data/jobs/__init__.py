"""Long work on many videos: processes that may crash or hang, results that survive a kill."""

from mvit_video.data.jobs.children import num_cores
from mvit_video.data.jobs.driver import JobStopped, Workers, run_job
from mvit_video.data.jobs.folder import Folder
from mvit_video.data.jobs.ledger import Ledger
from mvit_video.data.jobs.pool import Alive, Trouble, run_in_processes

__all__ = [
    "Alive",
    "Folder",
    "JobStopped",
    "Ledger",
    "Trouble",
    "Workers",
    "num_cores",
    "run_in_processes",
    "run_job",
]
