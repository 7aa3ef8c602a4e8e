"""Write docs/lifecycle.md from the table of procstop/lifecycle.py, so that picture and code cannot differ.

python docs/generate.py            write it
python docs/generate.py --check    write nothing; exit 1 if it is not what would be written
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from procstop.lifecycle import (  # noqa: E402
    EXIT_GRACE_S,
    TABLE,
    Abilities,
    Attempt,
    Event,
    Gone,
    Ready,
    Reported,
    Spawned,
    State,
    Stop,
    step,
)
from procstop.model import Limits, Outcome, Reason, Rung, StopPolicy  # noqa: E402
from procstop.records import Report  # noqa: E402

TARGET = ROOT / "docs" / "lifecycle.md"

EVENTS = {
    "Spawned": "spawned",
    "SpawnFailed": "spawn failed",
    "Ready": "ready",
    "Reported": "reported",
    "Stop": "stop",
    "Deadline": "deadline",
    "Gone": "gone",
    "Freed": "free",
}

# Every grace and limit has another value here, so that the deadline of a state tells which one it is.
_POLICY = StopPolicy(interrupt=2.0, preempt=3.0, terminate=5.0, kill_wait=7.0)
_LIMITS = Limits(start=11.0, time=13.0)
_GRACES = {
    _POLICY.interrupt: "`stop.interrupt`",
    _POLICY.preempt: "`stop.preempt`",
    _POLICY.terminate: "`stop.terminate`",
    _POLICY.kill_wait: "`stop.kill_wait`",
    _LIMITS.start: "`limits.start`",
    _LIMITS.time: "`limits.time`",
    EXIT_GRACE_S: f"{EXIT_GRACE_S:g} s",
    None: "none",
}


def _paths() -> dict[State, tuple[Event, ...]]:
    """Return events that lead to each state."""
    running = (Spawned(), Ready())
    paths: dict[State, tuple[Event, ...]] = {
        State.PENDING: (),
        State.STARTING: running[:1],
        State.RUNNING: running,
        State.EXITING: (*running, Reported(Report(Outcome.COMPLETED))),
        State.OVER: (*running, Gone(("exit", 0), 0.0)),
    }
    rungs = {
        Rung.INTERRUPT: State.INTERRUPTING,
        Rung.PREEMPT: State.PREEMPTING,
        Rung.TERMINATE: State.TERMINATING,
        Rung.KILL: State.KILLING,
    }
    for rung, state in rungs.items():
        paths[state] = (*running, Stop(Reason.USER, rung))
    return paths


def deadlines() -> dict[State, str]:
    """Return which grace or limit ends each state, found by going there."""
    found = {}
    for state, events in _paths().items():
        attempt = Attempt(_POLICY, _LIMITS, Abilities(interrupt=True, preempt=True))
        for event in events:
            attempt, _ = step(attempt, event, 0.0)
        assert attempt.state is state, f"no way to {state.value}"
        found[state] = _GRACES[attempt.deadline]
    return found


def diagram() -> Iterator[str]:
    """Draw the table; an event that leads back to its own state is left to the table below."""
    yield "stateDiagram-v2"
    yield f"    [*] --> {State.PENDING.value}"
    for state, rules in TABLE.items():
        arrows: dict[State, list[str]] = {}
        for event, rule in rules.items():
            for target in State:
                if target in rule.leads_to and target is not state:
                    arrows.setdefault(target, []).append(EVENTS[event.__name__])
        for target, events in arrows.items():
            yield f"    {state.value} --> {target.value}: {', '.join(events)}"
    yield f"    {State.OVER.value} --> [*]"


def table() -> Iterator[str]:
    """Write a line for each event in each state."""
    ends = deadlines()
    yield "| state | event | leads to | deadline of the state |"
    yield "|---|---|---|---|"
    for state, rules in TABLE.items():
        for event, rule in rules.items():
            targets = [_target(state, target) for target in State if target in rule.leads_to]
            yield f"| {state.value} | {EVENTS[event.__name__]} | {', '.join(targets)} | {ends[state]} |"


def _target(state: State, target: State) -> str:
    return f"{target.value} (stays)" if target is state else target.value


_PAGE = """\
<!-- Written by docs/generate.py from procstop/lifecycle.py. Change that, then run `make docs`. -->

# The life of an attempt

An attempt is one worker that runs one task's guest once; a worker may go on to another attempt. The whole
life of one is a table in [procstop/lifecycle.py](../procstop/lifecycle.py): which event may come in which
state, and where that leads.
The supervisor feeds in facts, sleeps until the state's deadline, and carries out what the step says. An
event that is not in the table is illegal and changes nothing; if a worker's message caused it, the worker is
killed.

```mermaid
{diagram}
```

The four states interrupting, preempting, terminating and killing are the rungs of the ladder. A rung that
cannot work for a task, or whose grace is `0s`, is skipped at once; that is why one event can lead to several
states. Before the guest runs (starting) there is nothing that could hear an interrupt, so a stop begins with
terminate. Starting begins with whatever the attempt needs first: a compiler for its module, then a worker.
"reported" is the worker's one report. "gone" comes when the worker was reaped, its pipes are drained and
nothing that it started is left; "free" when it said with its report that it can host another attempt, and its
pipes are drained. [workers.md](workers.md) says how attempts get their workers.

{table}

What the rungs do, and how long their graces last, is in [stopping.md](stopping.md).
"""


def page() -> str:
    """Return the whole page."""
    return _PAGE.format(diagram="\n".join(diagram()), table="\n".join(table()))


def main(arguments: list[str]) -> int:
    """Write the page, or check it; return the exit code."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    wanted = page()
    if arguments:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != wanted:
            print("docs/lifecycle.md is not what procstop/lifecycle.py says; run `make docs`", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
