"""Describe the machine and the versions of everything measured, without names of hosts, users or paths."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from importlib import metadata

import procstop

PACKAGES = ("wasmer", "wasmtime", "pebble", "extism", "extism-sys", "psutil")
PROGRAMS = {"GNU parallel": "parallel", "GNU coreutils": "timeout"}


def describe() -> tuple[tuple[str, str], ...]:
    """Return names and values."""
    found = [
        ("date", datetime.now(timezone.utc).strftime("%Y-%m-%d")),
        ("CPU", _cpu()),
        ("cores", _cores()),
        ("system", f"{platform.system()} {kernel(platform.release())}, {platform.machine()}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("procstop", procstop.__version__),
    ]
    for package in PACKAGES:
        try:
            found.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    for name, program in PROGRAMS.items():
        version = _program_version(program)
        if version:
            found.append((name, version))
    return tuple(found)


def kernel(release: str) -> str:
    """Return the version in a kernel's release; the rest of it often names whose kernel it is."""
    match = re.match(r"\d+(\.\d+)*", release)
    return match.group() if match else release


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _cores() -> str:
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return f"{usable}, load {os.getloadavg()[0]:.1f} at the start"


def _program_version(program: str) -> str | None:
    path = shutil.which(program)
    if path is None:
        return None
    first = subprocess.run([path, "--version"], capture_output=True, text=True).stdout.splitlines()[:1]
    match = re.search(r"\d[\d.]*\d", first[0]) if first and "GNU" in first[0] else None
    return match.group() if match else None
