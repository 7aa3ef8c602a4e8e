"""A shell as far as job control goes: run one command in the foreground of the terminal on descriptors 0, 1 and 2.

    python shell.py TELL HEAR COMMAND...

It leads a session that has the terminal. It writes a line to the descriptor TELL when the command is started, stopped
or over, and continues a stopped command in the foreground when it reads a line from HEAR.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import termios


def main() -> None:
    """Run the command to its end."""
    tell, hear, *command = sys.argv[1:]
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # A shell is not stopped by taking its own terminal back.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        os.execvp(command[0], command)
    try:
        os.setpgid(child, child)
    except PermissionError:
        pass  # It has executed already, and did it itself.
    say(tell, f"started {child}")
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            say(tell, f"over {os.waitstatus_to_exitcode(status)}")
            return
        os.tcsetpgrp(0, os.getpgrp())
        say(tell, f"stopped {os.WSTOPSIG(status)}")
        if not os.read(int(hear), 100):
            return
        os.tcsetpgrp(0, child)
        os.killpg(child, signal.SIGCONT)


def say(tell: str, text: str) -> None:
    """Tell whoever watches."""
    os.write(int(tell), f"{text}\n".encode())


if __name__ == "__main__":
    main()
