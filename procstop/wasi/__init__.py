"""WASI preview 1 for both engines, so that a guest sees the same files, errnos, clocks and exits on each.

A path never leads out of its preopened directory, whatever links, `..` and other processes do (`resolve`);
nothing that a guest passes causes more than an errno (`calls`); sleeps and waits are the host's, so that a
guest can be stopped in them (`polling`). Errnos follow wasmtime's where POSIX leaves a choice.

`Wasi(host, args, env, preopens).functions("wasi_snapshot_preview1")` is the import table.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from procstop.wasi import abi
from procstop.wasi.calls import guarded
from procstop.wasi.descriptors import Preopen
from procstop.wasi.directories import Directories
from procstop.wasi.files import Files
from procstop.wasi.paths import Paths
from procstop.wasi.polling import Polling
from procstop.wasi.process import Process
from procstop.wasi.state import Host

__all__ = ["VERSIONS", "Host", "Preopen", "Wasi"]

VERSIONS = tuple(abi.LAYOUTS)
"""The import module names that `Wasi.functions` knows."""

Function = tuple[tuple[str, ...], tuple[str, ...], Callable[..., int]]


class Wasi(Process, Files, Directories, Paths, Polling):
    """One guest's WASI: its descriptors, arguments and environment; `open_files` is how many it may open at a time, and
    `file_size` how large, in bytes, a file may get that it writes; None is no limit.

    Raise OSError when a preopen is no directory, ValueError for a NUL in a name, argument or variable.
    """

    def functions(self, version: str) -> dict[str, Function]:
        """Name to (parameter types, result types, callable), for one of `VERSIONS`; KeyError for another."""
        missing = abi.LAYOUTS[version].missing
        return {name: self.function(version, name) for name in abi.SIGNATURES if name not in missing}

    def function(self, version: str, name: str) -> Function:
        """One entry of `functions`: a module imports a few, and to make all of them takes its time."""
        # A module may import both snapshots: two views of one guest, with the same descriptors.
        snapshot = copy.copy(self)
        snapshot.layout = abi.LAYOUTS[version]
        signature = abi.SIGNATURES[name]
        parameters = tuple("i64" if kind == "I" else "i32" for kind in signature)
        results = () if name == "proc_exit" else ("i32",)
        return parameters, results, guarded(getattr(snapshot, name), signature)
