"""Run WebAssembly jobs that always stop.

Everything public is here: `run`, `start`, `run_async` and `run_module` run jobs; `Job`, `Task` and their parts
describe them; `load_job` reads a job file; records say what happened. Names load when they are first used, so that
a worker, which needs few of them, starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from procstop.platforms import check_platform

__version__ = "0.1.0"

_PLACES = {
    "procstop.api": ("Run", "run", "run_async", "run_module", "start"),
    "procstop.errors": ("EngineError", "GuestError", "InternalError", "InvalidValue", "JobFileError", "ProcstopError"),
    "procstop.jobfile": ("load_job",),
    "procstop.model": (
        "Containment",
        "Dir",
        "Job",
        "Level",
        "Limits",
        "OnInterrupt",
        "OnInterruptKind",
        "Outcome",
        "Reason",
        "Rung",
        "Spawn",
        "Stdin",
        "StopPolicy",
        "Strategy",
        "StrategyKind",
        "Task",
        "Workers",
    ),
    "procstop.records": (
        "AttemptRecord",
        "Contained",
        "Phases",
        "RunRecord",
        "StoppingPoints",
        "StreamRecord",
        "TaskRecord",
        "Tree",
    ),
    "procstop.stopping": ("Exit",),
}
_PLACE = {name: module for module, names in _PLACES.items() for name in names}
__all__ = ["__version__", *sorted(_PLACE)]

if TYPE_CHECKING:
    from procstop.api import Run, run, run_async, run_module, start
    from procstop.errors import EngineError, GuestError, InternalError, InvalidValue, JobFileError, ProcstopError
    from procstop.jobfile import load_job
    from procstop.model import (
        Containment,
        Dir,
        Job,
        Level,
        Limits,
        OnInterrupt,
        OnInterruptKind,
        Outcome,
        Reason,
        Rung,
        Spawn,
        Stdin,
        StopPolicy,
        Strategy,
        StrategyKind,
        Task,
        Workers,
    )
    from procstop.records import (
        AttemptRecord,
        Contained,
        Phases,
        RunRecord,
        StoppingPoints,
        StreamRecord,
        TaskRecord,
        Tree,
    )
    from procstop.stopping import Exit


def __getattr__(name: str) -> Any:
    if name not in _PLACE:
        raise AttributeError(f"module 'procstop' has no attribute {name!r}")
    check_platform()
    value = getattr(importlib.import_module(_PLACE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
