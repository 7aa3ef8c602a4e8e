"""Where procstop keeps what is not part of a job."""

from __future__ import annotations

import platformdirs


def cache_directory() -> str:
    """Return the directory of the artifact cache, which need not exist: under XDG_CACHE_HOME or its like."""
    return str(platformdirs.user_cache_path("procstop") / "artifacts")
