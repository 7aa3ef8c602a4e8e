"""What a test may not leave behind: children, descriptors, threads, temporary files."""

from __future__ import annotations

import gc
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

from support.places import below


@dataclass
class Belongings:
    """What this process has at one moment."""

    children: dict[int, str]
    descriptors: dict[int, str]
    threads: set[threading.Thread]
    files: set[str]

    @classmethod
    def now(cls, directory: Path) -> Belongings:
        """Take stock; `directory` is where temporary files are made."""
        return cls(_children(), _descriptors(), set(threading.enumerate()), set(os.listdir(directory)))

    def left_since(self, before: Belongings) -> list[str]:
        """Say in a line each what is here and was not before."""
        said = [f"child {pid}: {what}" for pid, what in self.children.items() if pid not in before.children]
        said += [
            f"descriptor {fd}: {target}"
            for fd, target in self.descriptors.items()
            if before.descriptors.get(fd) != target
        ]
        said += [f"thread {thread.name}" for thread in self.threads - before.threads]
        said += [f"temporary file {name}" for name in sorted(self.files - before.files)]
        return said


def _children() -> dict[int, str]:
    found = {}
    for child in below():
        try:
            found[child.pid] = f"{child.status()} {' '.join(child.cmdline())[:200]}"
        except psutil.ZombieProcess:
            found[child.pid] = "zombie"
        except (psutil.NoSuchProcess, IndexError):
            # Only a child of a child can vanish by itself; ours would stay as a zombie.
            continue
    return found


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # The one that listed the others.
    return found


def left_behind(before: Belongings, directory: Path) -> list[str]:
    """Say what was left since `before`; what only waits for the collector of garbage is not."""
    left = Belongings.now(directory).left_since(before)
    if left:
        gc.collect()
        left = Belongings.now(directory).left_since(before)
    return left
