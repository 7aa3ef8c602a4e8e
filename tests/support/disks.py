"""File systems of a test's own: one that is full, one that can only be read."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def own_disk(path: Path, size: str = "64k") -> Iterator[Path]:
    """A file system of its own, with little room; skip the test where nobody may mount one."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "procstop-test", str(path)]
    mount = subprocess.run(command, capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"no right to mount a tmpfs: {mount.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def fill(path: Path) -> None:
    """Write into a file system until it has no room left."""
    with contextlib.suppress(OSError), open(path / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)


@contextlib.contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Let nobody write to a file system, not even root."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
