"""Run one guest through the Python API."""

from __future__ import annotations

from typing import Any

import procstop
from procstop import AttemptRecord, Job, Limits, Outcome, RunRecord, StopPolicy, Task
from procstop.model import HOST_ALLOWABLE

ANY = tuple(Outcome)
"""For `expect`: the test looks at the outcome itself."""

QUICK = StopPolicy(interrupt=0.2, preempt=0.1, terminate=0.2, kill_wait=20.0)
"""Graces for guests that will use up each of them."""
PATIENT = StopPolicy(interrupt=30.0, preempt=30.0, terminate=30.0, kill_wait=30.0)
"""Graces for guests that leave before they are over, however slow the machine is."""


def task(module: str, call: str = "_start", *args: Any, name: str = "guest", **options: Any) -> Task:
    """Make a task that may end as it likes, and whose host functions may do what they like."""
    options.setdefault("expect", ANY)
    # What tests do in host functions is nobody's business but theirs.
    options.setdefault("host_allow", HOST_ALLOWABLE if options.get("host") is not None else ())
    return Task(name, module, call, args, **options)


def run_record(*tasks: Task, observers: Any = (), output_dir: str | None = None, **options: Any) -> RunRecord:
    """Run tasks in one job."""
    return procstop.run(Job("test", tasks, **options), observers=observers, output_dir=output_dir)


def run_guest(module: str, call: str = "_start", *args: Any, observers: Any = (), **options: Any) -> AttemptRecord:
    """Run one guest and return its last attempt. `time` and `output` are limits."""
    time, output, start = options.pop("time", None), options.pop("output", None), options.pop("start", 120.0)
    limits = Limits(start=start, time=time, **({} if output is None else {"output": output}))
    directory = options.pop("output_dir", None)
    of_job = {key: options.pop(key) for key in ("containment", "workers") if key in options}
    guest = task(module, call, *args, **options)
    record = run_record(guest, limits=limits, observers=observers, output_dir=directory, **of_job)
    last = record.tasks[0].last
    assert last is not None, record
    return last
