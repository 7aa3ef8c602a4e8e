"""Print the measurements of README.md beside this file; ratios in one run."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import procstop
from procstop.preflight import engine_status

HERE = os.path.dirname(os.path.abspath(__file__))
TRIVIAL = '(module (func (export "run")))'
POLITE = '(module (import "procstop" "checkpoint" (func $c)) (func (export "run") (loop $l (call $c) (br $l))))'
SPINS = '(module (func (export "run") (loop $l (br $l))))'


def main() -> None:
    """Run the chosen rows."""
    rows: dict[str, Callable[[int], None]] = {
        "start": start,
        "interrupt": interrupt,
        "kill": kill,
        "check": check,
        "memory": memory,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(rows)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    options = parser.parse_args()
    unknown = set(options.rows) - set(rows)
    if unknown:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
    for name in options.rows or rows:
        rows[name](20 if options.quick else 200)


def engines() -> list[str]:
    """The engines that are here."""
    return [name for name, status in engine_status().items() if status.why_not is None]


def start(rounds: int) -> None:
    """Compare starting an attempt with starting the smallest process there is."""
    floor = [_spawn_true() for _ in range(rounds)]
    show("start", "posix_spawn(/bin/true)", floor)
    for engine in engines():
        records = attempts(TRIVIAL, engine, rounds)
        show("start", engine, [record.phases.start or 0.0 for record in records], against=floor)


def interrupt(rounds: int) -> None:
    """Measure the polite way out."""
    for engine in engines():
        records = attempts(POLITE, engine, rounds, limits=procstop.Limits(time=0.05))
        show("interrupt", engine, [(r.phases.interrupt or 0.0) + (r.phases.reap or 0.0) for r in records])


def kill(rounds: int) -> None:
    """Measure the hard way out."""
    policy = procstop.StopPolicy(interrupt=0, terminate=0)
    for engine in engines():
        records = attempts(SPINS, engine, rounds, limits=procstop.Limits(time=0.05), stop=policy)
        assert all(record.outcome is procstop.Outcome.KILLED for record in records)
        show("kill", engine, [(r.phases.kill or 0.0) + (r.phases.reap or 0.0) for r in records])


def check(rounds: int) -> None:
    """Measure a stopping point; each engine in a process of its own, both functions in turn."""
    for engine in engines():
        command = [sys.executable, os.path.join(HERE, "checks.py"), engine, str(max(5, rounds // 10))]
        figures = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        empty, point = statistics.median(figures["empty"]), statistics.median(figures["checkpoint"])
        print(
            f"check      {engine:24} empty {empty:7.1f} ns   checkpoint {point:7.1f} ns   "
            f"{point - empty:+6.1f} ns   {point / empty:.2f}x"
        )


def memory(rounds: int) -> None:
    """Compare the supervisor's peak memory with 1,000 tasks and with one."""
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "trivial.wat"), "w", encoding="ascii") as file:
            file.write(TRIVIAL)
        count = 1000 if rounds > 20 else 100
        one, many = _supervisor_peak(folder, 1), _supervisor_peak(folder, count)
    print(
        f"memory     supervisor               1 task {one / 2**20:.1f} MiB   {count} tasks {many / 2**20:.1f} MiB   "
        f"{many / one:.2f}x"
    )


def attempts(
    wat: str,
    engine: str,
    rounds: int,
    *,
    limits: procstop.Limits | None = None,
    stop: procstop.StopPolicy | None = None,
) -> list[procstop.AttemptRecord]:
    """Run one module many times, one attempt after the other; return the records."""
    with tempfile.TemporaryDirectory() as folder:
        module = os.path.join(folder, "guest.wat")
        with open(module, "w", encoding="ascii") as file:
            file.write(wat)
        tasks = [
            procstop.Task(f"{number}", module, "run", engine=engine, limits=limits, stop=stop)
            for number in range(rounds)
        ]
        record = procstop.run(procstop.Job("bench", tasks, concurrency=1))
    return [task.attempts[-1] for task in record.tasks]


def show(row: str, name: str, seconds: Sequence[float], against: Sequence[float] | None = None) -> None:
    """Print median and 99th percentile, and the ratio of the medians."""
    ordered = sorted(seconds)
    p50, p99 = statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    ratio = f"   {p50 / statistics.median(against):.1f}x" if against is not None else ""
    print(f"{row:10} {name:24} p50 {p50 * 1000:7.2f} ms   p99 {p99 * 1000:7.2f} ms{ratio}")


def _spawn_true() -> float:
    began = time.perf_counter()
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    return time.perf_counter() - began


def _supervisor_peak(folder: str, count: int) -> int:
    path = os.path.join(folder, "job.toml")
    with open(path, "w", encoding="ascii") as file:
        for number in range(count):
            file.write(f'[[task]]\nname = "t{number}"\nmodule = "trivial.wat"\ncall = "run"\n')
    # The child measures itself: getrusage of a child counts what its parent had before the exec.
    code = (
        "import sys\nfrom procstop.cli.run import RunOptions, run_command\nfrom pathlib import Path\n"
        "run_command(RunOptions(Path(sys.argv[1]), quiet=True))\n"
        "print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])"
    )
    answer = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True)
    return int(answer.stdout.split()[-1]) * 1024


if __name__ == "__main__":
    main()
