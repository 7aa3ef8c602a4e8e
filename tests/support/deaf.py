"""A host module that ignores SIGTERM and blocks."""

import os
import signal


def work() -> None:
    """Ignore SIGTERM, say so, and wait for ever."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, b"deaf\n")
    os.read(os.pipe()[0], 1)


imports = {"env.work": work}
