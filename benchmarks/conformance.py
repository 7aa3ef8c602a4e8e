"""Run real WASI programs on every engine and say which do what they should. Usage: conformance.py DIR [NAME ...]

See README.md beside this file for the form of a case. Directories that may be changed are copied first.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from typing import Any

import procstop
from procstop.preflight import engine_status


def main() -> int:
    """Print a line for each program and engine; return 1 if any failed."""
    root, names = sys.argv[1], sys.argv[2:]
    engines = [name for name, status in engine_status().items() if status.why_not is None]
    passed = dict.fromkeys(engines, 0)
    cases = sorted(entry.path for entry in os.scandir(root) if os.path.exists(os.path.join(entry.path, "case.json")))
    chosen = [path for path in cases if not names or os.path.basename(path) in names]
    for path in chosen:
        with open(os.path.join(path, "case.json"), encoding="utf-8") as file:
            case = json.load(file)
        for engine in engines:
            fault, seconds = run_case(path, case, engine)
            passed[engine] += fault is None
            print(f"{case['name']:28} {engine:9} {seconds:7.2f} s  {'ok' if fault is None else fault}", flush=True)
    print(", ".join(f"{engine}: {count} of {len(chosen)}" for engine, count in passed.items()))
    return 0 if all(count == len(chosen) for count in passed.values()) else 1


def run_case(path: str, case: dict[str, Any], engine: str) -> tuple[str | None, float]:
    """Run one program; return what is wrong with what it did, None if nothing, and how long it took in seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = os.path.join(scratch, "case")
        shutil.copytree(path, copy, symlinks=True)
        # argv[0] is the module's file name, and some programs are several in one.
        module = os.path.join(copy, case["wasm"])
        if case.get("argv0"):
            module = os.path.join(copy, os.path.basename(case["argv0"]))
            shutil.copyfile(os.path.join(copy, case["wasm"]), module)
        writable = set(case.get("writable") or ())
        dirs = [
            procstop.Dir(guest, os.path.join(copy, host), guest in writable)
            for guest, host in (case.get("dirs") or {}).items()
        ]
        stdin = case.get("stdin")
        task = procstop.Task(
            case["name"],
            module,
            args=case["args"],
            env=case.get("env") or {},
            stdin=procstop.Stdin(path=os.path.join(copy, stdin)) if stdin else None,
            dirs=dirs,
            engine=engine,
            limits=procstop.Limits(start=600, time=300),
        )
        output = os.path.join(scratch, "out")
        try:
            record = procstop.run(procstop.Job("case", [task]), output_dir=output)
        except procstop.JobFileError as error:
            why = str(error).replace(copy, "").replace("\n", "; ")[:200]
            return (None if case.get("negative") else f"refused: {why}"), 0.0
        attempt = record.tasks[0].attempts[-1]
        stdout = ""
        if attempt.stdout.path:
            with open(attempt.stdout.path, encoding="utf-8", errors="replace", newline="") as file:
                stdout = file.read()
        seconds = (attempt.phases.start or 0) + (attempt.phases.run or 0)
        return judge(case, attempt, stdout, copy), seconds


def judge(case: dict[str, Any], attempt: procstop.AttemptRecord, stdout: str, folder: str) -> str | None:
    """Say what is not as the case expects."""
    if case.get("negative"):
        clear = attempt.outcome not in (procstop.Outcome.CRASHED, procstop.Outcome.KILLED, procstop.Outcome.LOST)
        return None if clear else f"{attempt.outcome.value} {attempt.message or ''}"
    code = attempt.exit_code or 0
    said = attempt.stderr.tail.decode("utf-8", "replace").strip().splitlines()[-1:]
    if attempt.outcome not in (procstop.Outcome.COMPLETED, procstop.Outcome.EXITED) or code != case["expect_exit"]:
        return f"{attempt.outcome.value} {attempt.exit_code} {attempt.message or ''} {''.join(said)}"[:300]
    if case.get("expect_stdout") is not None and stdout != case["expect_stdout"]:
        return f"stdout differs: {stdout[:100]!r}"
    if case.get("expect_stdout_contains") and case["expect_stdout_contains"] not in stdout:
        return f"stdout lacks {case['expect_stdout_contains']!r}: {stdout[-200:]!r}"
    for name, text in (case.get("expect_files") or {}).items():
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                if text not in file.read():
                    return f"{name} lacks {text!r}"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return None


if __name__ == "__main__":
    sys.exit(main())
