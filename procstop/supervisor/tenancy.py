"""What a run changes of its process while it goes on: it takes in the orphans of workers, and may open more files.

Several runs of one process share both; the last of them that ends puts back what was there before the first.
"""

from __future__ import annotations

import resource
import threading

from procstop import linux

_DESCRIPTORS_EACH = 8
"""What an attempt takes of the supervisor's descriptors: pipes, a pidfd, files for its output."""
_OWN_DESCRIPTORS = 256

_lock = threading.Lock()
_runs = 0
_was_subreaper = False
_limit_before = (0, 0)


def enter(concurrency: int) -> None:
    """Begin a run of so many attempts side by side."""
    global _runs, _was_subreaper, _limit_before
    with _lock:
        if _runs == 0:
            _was_subreaper = linux.is_child_subreaper()
            _limit_before = resource.getrlimit(resource.RLIMIT_NOFILE)
            linux.set_child_subreaper(True)
        _runs += 1
        _raise_descriptor_limit(_OWN_DESCRIPTORS + _DESCRIPTORS_EACH * concurrency)


def leave() -> None:
    """End a run."""
    global _runs
    with _lock:
        _runs -= 1
        if _runs == 0:
            resource.setrlimit(resource.RLIMIT_NOFILE, _limit_before)
            if not _was_subreaper:
                linux.set_child_subreaper(False)


def _raise_descriptor_limit(wanted: int) -> None:
    """Let this process have so many descriptors, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, more), hard))
