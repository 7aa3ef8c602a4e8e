"""A real terminal with a command in its foreground, under a shell that does job control."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from types import TracebackType

from support.places import ROOT, SUPPORT, WAIT_S
from support.watching import wait_until

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")
INTERRUPT, SUSPEND, QUIT = b"\x03", b"\x1a", b"\x1c"


class Terminal:
    """`procstop ARGS...` on a terminal of 100 by 30. What is written to it is read all the time."""

    def __init__(self, directory: Path, *args: object) -> None:
        self.raw = bytearray()
        self._told = bytearray()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self._before = termios.tcgetattr(slave)
        tell_read, tell_write = os.pipe()
        hear_read, self._hear = os.pipe()
        command = [sys.executable, str(SUPPORT / "shell.py"), str(tell_write), str(hear_read)]
        self._shell = subprocess.Popen(
            [*command, sys.executable, "-m", "procstop", *map(str, args)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            pass_fds=(tell_write, hear_read),
            start_new_session=True,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"},
        )
        for fd in (tell_write, hear_read):
            os.close(fd)
        # Kept open, so that the terminal does not hang up when the command leaves, and its settings can be read.
        self._slave = slave
        self._readers = [
            threading.Thread(target=self._read, args=(self._master, self.raw)),
            threading.Thread(target=self._read, args=(tell_read, self._told)),
        ]
        for reader in self._readers:
            reader.start()
        self._tell_read = tell_read

    def _read(self, fd: int, into: bytearray) -> None:
        while True:
            try:
                data = os.read(fd, 65536)
            except OSError:
                return  # The terminal's other end is closed.
            if not data:
                return
            into += data

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            print(self.text()[-5000:])
        os.close(self._hear)
        if "over" not in self.told() and "started" in self.told():
            subprocess.run(["kill", "-KILL", str(self.pid)], check=False, capture_output=True)
        self._shell.kill()
        self._shell.wait()
        os.close(self._slave)
        for reader in self._readers:
            reader.join(WAIT_S)
        if self._master >= 0:
            os.close(self._master)
        os.close(self._tell_read)

    def close_window(self) -> None:
        """Make the terminal go away, as when its window is closed."""
        master, self._master = self._master, -1
        # A thread that reads keeps the terminal alive: let it see something, so that it looks again.
        os.close(master)
        os.write(self._slave, b"x")

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def text(self) -> str:
        """Return all that was written to the terminal so far, without control sequences."""
        return _ESCAPE.sub("", self.raw.decode("utf-8", "replace"))

    def wait_for(self, text: str) -> None:
        """Wait until a text was written to the terminal."""
        wait_until(lambda: text in self.text(), f"the terminal shows {text!r}; it shows {self.text()[-3000:]!r}")

    def wait_until_running(self, since: int = 0) -> None:
        """Wait until the live view shows a guest that runs, later than the first `since` characters."""
        shown = re.compile(r"  running +\S")
        wait_until(lambda: shown.search(self.text(), since), f"a guest runs; the end is {self.text()[-1000:]!r}")

    def told(self) -> str:
        """Return what the shell has told so far."""
        return self._told.decode()

    def wait_until_told(self, text: str, count: int = 1) -> None:
        """Wait until the shell told something so many times."""
        wait_until(lambda: self.told().count(text) >= count, f"the shell tells {text!r}")

    @property
    def pid(self) -> int:
        """The command's pid."""
        self.wait_until_told("started")
        return int(self.told().split()[1])

    def continue_command(self) -> None:
        """Type `fg`, so to speak."""
        os.write(self._hear, b"\n")

    def end(self) -> int:
        """Wait until the command is over; return its exit code."""
        self.wait_until_told("over")
        return int(self.told().rpartition("over")[2])

    def is_sane(self) -> bool:
        """Tell whether the terminal is as it was: its settings, and the cursor shown."""
        shown = self.raw.rfind(b"\x1b[?25h") >= self.raw.rfind(b"\x1b[?25l")
        return shown and termios.tcgetattr(self._slave) == self._before
