"""Start processes, signal their trees, and prove that they are gone.

`child` starts, watches and reaps children; `worker` has the workers' pipes and trees; `server`, `compiler` and
`guardian` are our ends of fork servers, compilers and guardians; `tree` finds what lives below a process. psutil is
used here and nowhere else.
"""

from procstop.messages import TOKEN
from procstop.process.child import (
    PACKAGE_ROOT,
    Ended,
    SpawnError,
    file_of,
    is_stranger,
    open_pidfd,
    python_command,
    readable,
    run_helper,
)
from procstop.process.tree import GONE, Process, adopted, descendants, has_our_limit, remove_orphans, send
from procstop.process.worker import Pipes, Worker, marked_with, spawn_worker

__all__ = [
    "GONE",
    "PACKAGE_ROOT",
    "TOKEN",
    "Ended",
    "Pipes",
    "Process",
    "SpawnError",
    "Worker",
    "adopted",
    "descendants",
    "file_of",
    "has_our_limit",
    "is_stranger",
    "marked_with",
    "open_pidfd",
    "python_command",
    "readable",
    "remove_orphans",
    "run_helper",
    "send",
    "spawn_worker",
]
