"""The supervisor's end of a guardian: news out, nothing comes back, nothing waited for."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping

from procstop.process.child import LOADER, Child, SpawnError, file_of, start

MOST_OWED = 1000
"""News that may wait for a guardian that does not listen."""
_LAST_WAIT_S = 2.0


class Guardian(Child):
    """A guardian at work; `told` maps pids to the news of them that it is to know from the beginning.

    News are lines without their end, as `procstop.guardian` draws them up. Of two about one pid that could not be sent
    yet the later is enough. Raise `SpawnError` where there can be no guardian, with nothing left behind.
    """

    def __init__(self, run: str, told: Mapping[int, str]) -> None:
        self._owed = dict(told)
        self._most_owed = len(told) + MOST_OWED
        with contextlib.ExitStack() as stack:
            try:
                self._errors = stack.enter_context(file_of(b""))
                theirs, self._pipe = os.pipe()
            except OSError as error:
                raise SpawnError(f"cannot start a guardian: {error.strerror}", error) from error
            stack.callback(os.close, self._pipe)
            try:
                os.set_blocking(self._pipe, False)
                # Before it starts: whatever happens to us from then on, it knows whom to look for.
                os.write(self._pipe, f"run {run}\n".encode())
                self.flush()
                popen, pidfd = start(
                    "guardian",
                    (theirs,),
                    guarded=False,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors.fileno(),
                    # Without the run's mark: it is no prey of its own.
                    env=LOADER,
                )
            finally:
                os.close(theirs)
            stack.pop_all()
        super().__init__(popen.pid, pidfd, popen)

    def tell(self, pid: int, news: str) -> None:
        """Tell it of a process, now or by a later `flush`."""
        self._owed[pid] = news
        self.flush()

    def flush(self) -> None:
        """Send what it was not told yet, as far as the pipe has room."""
        while self._owed:
            pid, news = next(iter(self._owed.items()))
            try:
                # Shorter than PIPE_BUF, so it is written whole or not at all.
                os.write(self._pipe, f"{news}\n".encode())
            except OSError:
                return  # Full; or it is dead, of which its pidfd tells.
            del self._owed[pid]

    @property
    def is_owed(self) -> bool:
        """Tell whether there is news that it was not told yet."""
        return bool(self._owed)

    @property
    def lags(self) -> bool:
        """Tell whether that is more than it was to know from the beginning, by as much as may wait."""
        return len(self._owed) > self._most_owed

    def kill(self) -> None:
        """SIGKILL; it has nothing to save."""
        self.signal(signal.SIGKILL)

    def end(self) -> bool:
        """Kill and reap it, which takes a moment; return whether it is gone. What it guarded must be."""
        self.kill()
        if self.ended is None and self.pidfd is not None:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            poller.poll(_LAST_WAIT_S * 1000)
        until = time.monotonic() + _LAST_WAIT_S
        while self.reap() is None:
            if self.pidfd is not None or time.monotonic() > until:
                return False
            # Nothing tells of its end where there are no pidfds.
            time.sleep(0.0005)
        return True

    def last_words(self) -> str:
        """Return the last line that it wrote to standard error."""
        return self._errors.last_line()

    def close(self) -> None:
        """Close what is held of it; if it lives, it takes that for our end."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        self._errors.close()
        super().close()
